"""Sites that a batch of samples has no line of: missing there, or, where all batches were called together, REF."""

from collections.abc import Mapping, Sequence

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.errors import ConfigError, DataGateError
from features.contract.paths import FileStat, matches
from features.contract.persons import PersonKeyer
from features.contract.schemas import GENOTYPES
from features.contract.settings import GenomicsSettings
from features.genomics.clean import Rule
from features.genomics.contigs import place_of_key, region_of
from features.genomics.counts import COUNTS, count_calls, members
from features.genomics.ingestion.accepted import columns_of
from features.genomics.ingestion.earlier import Earlier, OutdatedError
from features.genomics.packing import pack
from features.genomics.sexes import Sexes
from features.lake import few_rows
from features.quality import Balance

SECTION = "genomics.jointly_called"


def jointly_called(
    files: Sequence[FileStat],
    genomics: GenomicsSettings,
    keyer: PersonKeyer,
    by_block: Mapping[str, Sequence[str]],
) -> set[str]:
    """The blocks of which all files were called jointly with the others'. ConfigError for a glob of no file, and
    for a block of which only some files are named."""
    for glob in genomics.jointly_called:
        if not any(matches(file.path, glob) for file in files):
            raise ConfigError(f"{SECTION}: no file of genomics.paths matches {glob}; correct it")
    named = {
        keyer.path_digest(file.path)
        for file in files
        if any(matches(file.path, glob) for glob in genomics.jointly_called)
    }
    found = set()
    for block, digests in by_block.items():
        if unnamed := [digest for digest in digests if digest not in named]:
            if len(unnamed) < len(digests):
                raise ConfigError(
                    f"{SECTION}: it does not name file {unnamed[0]}, whose samples are those of one that "
                    "it names; name all files of a batch, or none"
                )
        else:
            found.add(block)
    return found


def check_nothing_refused(
    blocks: set[str], by_block: Mapping[str, Sequence[str]], balances: Mapping[str, Balance]
) -> None:
    """DataGateError where a line was refused: its site would be taken for one that the batch does not vary at, and
    who is not called there for REF."""
    for block in sorted(blocks):
        for digest in by_block[block]:
            refused = {rule: n for rule, n in balances[digest].quarantined.items() if rule != Rule.SYMBOLIC}
            if refused:
                raise DataGateError(
                    f"file {digest}: {sum(refused.values()):,} of its lines were refused "
                    f"({Balance(0, quarantined=refused).refusals}), and {SECTION} would make their sites REF; "
                    "correct the lines, or do not name the file there"
                )


def contigs_by_block(accepted: DataFrame, joint: set[str], earlier: Earlier | None) -> dict[str, list[str]]:
    """The contigs of which each of these blocks has sites. OutdatedError where one has more of a contig than it
    had: what was filled in for it there may now be called."""
    found = {
        block: set(earlier.blocks[block]["contigs"]) for block in joint if earlier and block in earlier.blocks
    }
    placed = columns_of(accepted, ("sample_block", "contig"))
    rows = placed.filter(sf.col("sample_block").isin(*joint)).distinct()
    for block, contig in rows.collect() if joint else ():
        if earlier and contig in earlier.blocks.get(block, {}).get("contigs", ()):
            raise OutdatedError(f"more of contig {contig} has come of people of whom what was absent there is REF")
        found.setdefault(block, set()).add(contig)
    return {block: sorted(contigs) for block, contigs in found.items()}


def reference_calls(
    accepted: DataFrame,
    contigs: Mapping[str, Sequence[str]],
    sexes: Mapping[str, Sexes],
    build: str,
    earlier: Earlier | None,
) -> DataFrame | None:
    """A row of REF calls, as `write_calls` wants it, for each variant that one of these blocks lacks, on a contig
    of which it has some: a chromosome whose file has not come is missing. So is a variant of bases of which
    somebody in the block is not called at one. None where all people are of one block, or of none of these."""
    if not contigs or len(sexes) == 1:
        return None
    rows = [(block, list(names), *_all_reference(sexes[block])) for block, names in contigs.items()]
    types = {"sample_block": "string", "contigs": "array<string>", "calls": "binary"}
    blocks = few_rows(accepted.sparkSession, rows, **types, **dict.fromkeys(COUNTS, "bigint"))
    found = columns_of(accepted, (*_ROW, *_PLACE, "n_missing"))
    placed, present = found.select("variant_key", *_PLACE), found.select(*_ROW, "n_missing")
    if earlier:
        placed, present = earlier.with_descriptions(placed), earlier.with_calls(present)
    pairs = placed.distinct().join(sf.broadcast(blocks.select("sample_block", "contigs")))
    wanted = pairs.filter(sf.array_contains("contigs", sf.col("contig"))).drop("contigs")
    uncalled = _by_base(present.filter("n_missing > 0").withColumns(place_of_key()))
    lacking = wanted.join(present, list(_ROW), "left_anti")
    unknown = _by_base(lacking).join(uncalled.drop("variant_key"), ["sample_block", "contig", "base"], "left_semi")
    lacking = lacking.join(unknown, list(_ROW), "left_anti")
    lacking = lacking.withColumns({"region": region_of(build), "substitution": sf.lit(0)}).drop(*_PLACE)
    filled = lacking.join(sf.broadcast(blocks.drop("contigs")), "sample_block")
    untold = {own.name: sf.lit(None).cast(own.dataType) for own in from_arrow_schema(GENOTYPES.schema)}
    return filled.withColumns({name: null for name, null in untold.items() if name not in filled.columns})


def _by_base(rows: DataFrame) -> DataFrame:
    """A row for each base of REF that these have, as far as the key has them: of a long REF it has a digest."""
    end = sf.col("position") + sf.length(sf.element_at(sf.split("variant_key", ":"), -2)) - 1
    bases = sf.explode(sf.sequence("position", end)).alias("base")
    return rows.select(*_ROW, "contig", bases)


_ROW, _PLACE = ("variant_key", "sample_block"), ("contig", "position")


def _all_reference(sexes: Sexes) -> list[bytes | int]:
    """Packed calls of REF of all samples, and their COUNTS."""
    packed = pack(np.zeros((1, len(sexes)), np.uint8))
    return [packed[0].tobytes(), *count_calls(packed, members(sexes))[0].tolist()]
