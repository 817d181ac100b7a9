"""What an earlier ingest wrote and still holds, so that a later one reads new files alone: a new batch of samples
is a new block, a new chromosome is new rows, and no row of `genotypes` is written again.

It holds where reading all files anew would give the same rows. Where it would not, all are read anew: a file went
or changed, a sex was corrected, a new file has variants that count before those of an earlier one.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from features.contract.paths import FileStat, Location
from features.contract.persons import PersonKeyer
from features.contract.runs import Runs
from features.contract.schemas import GENOTYPES, SAMPLES, VARIANTS
from features.genomics.contigs import Region, RegionCounts
from features.genomics.ingestion.roster import Columns
from features.genomics.spans import Spans
from features.lake import read_table
from features.quality import Balance

log = logging.getLogger("riskloom")
DESCRIBED = (
    *("variant_key", "contig", "position", "ref", "alt", "rsid", "filters", "gene", "consequence"),
    *("info", "info_text"),
)
"""What `variants` has as the files do."""
Stats = dict[str, list[int]]


class OutdatedError(Exception):
    """What is new changes rows that an earlier ingest wrote."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """The tables of an earlier ingest, the versions of all that it wrote, and what it counted."""

    variants: DataFrame
    genotypes: DataFrame
    samples: DataFrame
    versions: dict[str, int]
    counts: Mapping[str, Any]

    @property
    def files(self) -> Stats:
        found: Stats = self.counts["files"]
        return found

    @property
    def blocks(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.counts["blocks"]
        return found

    @property
    def info(self) -> dict[str, str]:
        """The kinds of the INFO keys that are kept."""
        found: dict[str, str] = self.counts["info"]
        return found

    @property
    def regions(self) -> RegionCounts:
        """How many of its variants are where."""
        return Counter({Region[name.upper()]: number for name, number in self.counts["regions"].items()})

    @property
    def balances(self) -> dict[str, Balance]:
        return {digest: Balance(**counted) for digest, counted in self.counts["balances"].items()}

    @property
    def spans(self) -> Spans:
        """Between which positions of each contig its variants lie."""
        found: Spans = self.counts["spans"]
        return found

    def check_joint(self, blocks: Iterable[str]) -> None:
        """OutdatedError where its blocks that were called jointly are others among `blocks`."""
        before = {block for block, told in self.blocks.items() if told["jointly_called"]}
        if before != self.blocks.keys() & set(blocks):
            raise OutdatedError("other batches are said to be called jointly")

    def is_apart(self, spans: Spans) -> bool:
        """Whether variants within these lie where it has none, as those of another chromosome do."""
        own = self.spans
        return all(last < own[on][0] or own[on][1] < first for on, (first, last) in spans.items() if on in own)

    def has_none_of(self, rows: DataFrame) -> bool:
        """Whether all variants of `rows` are others than its own."""
        keys = rows.select("variant_key")
        return keys.join(self.variants, "variant_key", "left_semi").limit(1).count() == 0

    def with_calls(self, rows: DataFrame) -> DataFrame:
        """`rows` and those of `genotypes`, null where it has no such column."""
        return beside(rows, self.genotypes)

    def with_descriptions(self, rows: DataFrame) -> DataFrame:
        """`rows` and a row of each variant, of what `variants` has as the files do."""
        return beside(rows, self.variants.select(*DESCRIBED))


def beside(rows: DataFrame, others: DataFrame) -> DataFrame:
    """`rows` and those of others, of their columns alone; null where these have no such column."""
    shared = [name for name in others.columns if name in rows.columns]
    return rows.unionByName(others.select(*shared), allowMissingColumns=True)


def file_stats(files: Sequence[FileStat], keyer: PersonKeyer) -> Stats:
    """Size and time of each file, by its digest."""
    return {keyer.path_digest(file.path): [file.size, file.mtime] for file in files}


def open_earlier(
    spark: SparkSession, lake: Location, runs: Runs, basis: str, files: Sequence[FileStat], keyer: PersonKeyer
) -> Earlier | None:
    """What holds, if anything does; why it does not is told."""
    made = runs.publisher(GENOTYPES.path)
    if made is None:
        return None
    if reason := outdated(made.counts, basis, files, keyer):
        log.info("all genomes are read anew: %s", reason)
        return None
    variants, genotypes, samples = (
        read_table(spark, lake, runs, table.path) for table in (VARIANTS, GENOTYPES, SAMPLES)
    )
    versions = {table: int(version) for table, version in made.wrote.items()}
    return Earlier(variants, genotypes, samples, versions, made.counts)


def outdated(counts: Mapping[str, Any], basis: str, files: Sequence[FileStat], keyer: PersonKeyer) -> str | None:
    """Why what a run with these counts wrote does not hold; None where it does."""
    if counts.get("basis") != basis:
        return "other settings, another key, reference or genes, or another Riskloom"
    now, before = file_stats(files, keyer), counts["files"]
    if gone := [digest for digest in before if digest not in now]:
        return f"{len(gone)} files are no longer there, {gone[0]} among them"
    if changed := [digest for digest, stat in before.items() if now[digest] != stat]:
        return f"{len(changed)} files have changed, {changed[0]} among them"
    paths = {keyer.path_digest(file.path): file.path for file in files}
    names = {name for digest in before for name in (paths[digest], _stem(paths[digest]))}
    if any(_stem(paths[digest]) in names for digest in now if digest not in before):
        return "a new file has the name of an earlier one, but for its end"
    return None


def _stem(path: str) -> str:
    """What the names of a fileset's files share; one may be nothing else. One that comes later changes what the
    others are."""
    return str(PurePosixPath(path).with_suffix(""))


def check_order(
    earlier: Earlier, repeating: Iterable[str], columns: Mapping[str, Columns], order: Mapping[str, int]
) -> None:
    """OutdatedError where a `repeating` new file, with variants that an earlier file of its block has too, would
    count: the first by its path does, and any before what was filled in."""
    for digest in repeating:
        block = earlier.blocks[columns[digest].block]
        if block["jointly_called"] or order[digest] < max(order[other] for other in block["files"]):
            raise OutdatedError(f"file {digest} has variants that an earlier file of the same samples has too")
