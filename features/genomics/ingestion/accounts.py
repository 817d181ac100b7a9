"""What became of every line and of every sample column, as `runs` keeps it. Lines must add up before anything is
written."""

import logging
from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame

from features.contract.errors import DataGateError
from features.contract.settings import GenomicsSettings
from features.genomics.clean import Rule
from features.genomics.contigs import Region, RegionCounts
from features.genomics.ingestion.accepted import Tally
from features.genomics.ingestion.batch import Batch
from features.genomics.ingestion.roster import NOBODY, Roster
from features.quality import Balance

log = logging.getLogger("riskloom")
MOST_REFERENCE_MISMATCHES = 0.1
MOST_ABSENT = 0.1


def count_lines(
    tallies: Sequence[Tally], doubles: DataFrame | None, order: Mapping[str, int]
) -> dict[str, Balance]:
    """What became of each file's lines, by digest. A refused line is one record that expands to nothing. `order`
    has the number of each file, which is the source of its doubles."""
    by_source = doubles.groupBy("source").count().collect() if doubles else []
    merged = {row["source"]: row["count"] for row in by_source}
    balances = {}
    for digest, source in order.items():
        own = [tally for tally in tallies if tally.source_digest == digest]
        records = sum(tally.lines for tally in own)
        balances[digest] = Balance(
            records=records,
            expanded=sum(tally.items for tally in own) - records,
            used=sum(tally.items for tally in own if tally.rule is None) - merged.get(source, 0),
            merged=merged.get(source, 0),
            quarantined={tally.rule: tally.items for tally in own if tally.rule is not None},
        )
    return balances


def check_reference(balances: dict[str, Balance], genomics: GenomicsSettings) -> None:
    """A file of another build disagrees nearly everywhere; a stray record or two is quarantined."""
    for digest, balance in balances.items():
        refused = balance.quarantined.get(Rule.REFERENCE, 0)
        if refused > MOST_REFERENCE_MISMATCHES * balance.records:
            raise DataGateError(
                f"file {digest}: REF of {refused:,} of {balance.records:,} records is not what genomics.reference "
                f"has there; is this file, or {genomics.reference}, of another build than {genomics.build}?"
            )


def tell_of_no_dosages(tallies: Sequence[Tally], genomics: GenomicsSettings) -> None:
    if genomics.dosages and not any(tally.with_dosages for tally in tallies):
        log.warning(
            "genomics.dosages: %s tells nothing of any variant that its calls do not; do the files have that key?",
            genomics.dosages,
        )


def count_all(
    batch: Batch,
    balances: Mapping[str, Balance],
    contigs: Mapping[str, Sequence[str]],
    regions: RegionCounts,
    rows: Mapping[str, int],
    samples: DataFrame,
) -> dict[str, object]:
    """What `runs` keeps of an ingest and of those before. `contigs` are of the blocks that were called jointly,
    `regions` tell how many variants there are where, `rows` how many are new of each block, and `samples` is as
    written. `samples_refused` and `samples_merged` are columns, counted in every file."""
    by_sex, roster = batch.by_sex(), batch.roster
    before = batch.earlier.counts if batch.earlier else {}
    new = {
        "files_without_samples": _without_samples(roster),
        "samples_refused": len(roster.refused),
        "samples_merged": roster.merged,
    }
    return {name: number + before.get(name, 0) for name, number in new.items()} | {
        "balances": {digest: balance.as_counts() for digest, balance in balances.items()},
        "samples": by_sex[""],
        "sample_blocks": len(batch.sizes),
        "samples_without_sex": by_sex[""] - by_sex["_female"] - by_sex["_male"],
        "samples_of_other_sex": _of_other_sex(samples) if regions[Region.X] else 0,
        "regions": {region.name.lower(): regions[region] for region in Region},
        "blocks": _blocks(batch, balances, contigs, regions.total(), rows),
    }


def _blocks(
    batch: Batch,
    balances: Mapping[str, Balance],
    contigs: Mapping[str, Sequence[str]],
    variants: int,
    rows: Mapping[str, int],
) -> dict[str, object]:
    """Of each block its files, how many of all `variants` it has, and of how many others it has no line: those
    that were made REF are among its variants."""
    before, found = batch.earlier.blocks if batch.earlier else {}, dict[str, object]()
    for block, files in batch.files_by_block().items():
        have = rows.get(block, 0) + (before[block]["variants"] if block in before else 0)
        absent = variants - sum(balances[digest].used for digest in files)
        if block in batch.roster.people and variants - have > MOST_ABSENT * variants:
            _tell_of_absent(files[0], batch.sizes[block], variants - have, variants)
        found[block] = {
            "samples": batch.sizes[block],
            "files": files,
            "jointly_called": block in contigs,
            "contigs": contigs.get(block, []),
            "variants": have,
            "absent": absent,
            "absent_is_reference": absent - (variants - have),
        }
    return found


def _tell_of_absent(file: str, people: int, absent: int, variants: int) -> None:
    log.warning(
        "the %d people of file %s have no line of %d of %d variants, which are missing in them: bring the files "
        "of their other chromosomes before qc_genomes, or, if all were called together, name theirs in "
        "genomics.jointly_called",
        *(people, file, absent, variants),
    )


def _of_other_sex(samples: DataFrame) -> int:
    """How many samples' X tells another sex than is recorded: a swapped tube, or a wrong record."""
    known = samples.filter("sex != 'unknown' and sex_imputed != 'unknown'")
    other = known.filter("sex != sex_imputed").count()
    if other:
        log.warning("%d samples: X tells another sex than is recorded (samples: sex, sex_imputed)", other)
    return other


def _without_samples(roster: Roster) -> int:
    """How many files list sites alone."""
    files = [digest for digest, columns in roster.columns.items() if columns.block == NOBODY]
    if files:
        log.warning(
            "%d files have no sample columns; their variants are left out: %s", len(files), ", ".join(files)
        )
    return len(files)
