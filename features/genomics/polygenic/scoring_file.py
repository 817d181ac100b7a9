"""Scoring files: the PGS Catalog's format 2.0 and what has its columns.

Format: https://www.pgscatalog.org/downloads/#dl_ftp_scoring. Of a harmonised file the harmonised
positions (`hm_chr`, `hm_pos`) are taken, which have a build of their own. Those of another build are lifted
over where there are chains from it. Each file is read by one task; nothing of it comes to the driver but the
header.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.errors import DataGateError
from features.contract.paths import FileStat, Location
from features.contract.persons import PersonKeyer
from features.genomics.clean import trim
from features.genomics.contigs import harmonise
from features.genomics.liftover import Liftover
from features.genomics.polygenic.lift import lift_lines
from features.raw_text import Split, plan_splits, read_chunks

BUILDS = {
    **dict.fromkeys(("ncbi36", "hg18"), "NCBI36"),
    **dict.fromkeys(("grch37", "hg19", "ncbi37"), "GRCh37"),
    **dict.fromkeys(("grch38", "hg38"), "GRCh38"),
}
WHOLE = 1 << 62
MOST_DIGITS = 10
_ROWS = 1 << 16
_PLAIN = re.compile("[ACGT]+")

SCHEMA = pa.schema(
    [
        ("score", pa.string()),
        ("line", pa.int64()),
        ("contig", pa.string()),
        ("position", pa.int64()),
        ("effect_allele", pa.string()),
        ("other_allele", pa.string()),
        ("weights", pa.list_(pa.float64())),
        ("problem", pa.string()),
        ("lifted_strand", pa.string()),
    ]
)
"""A line's position and alleles, trimmed to what differs; `weights` of 0, 1 and 2 effect alleles. `problem`
is set, and the rest but the line may be null, where a line cannot be scored (COMPLEX, UNPLACED, an Unlifted) or
is wrong (WRONG_...). `lifted_strand` is + or - where the line was lifted over, - where that complemented it."""
COMPLEX, UNPLACED = "complex", "unplaced"
WRONG = WRONG_COLUMNS, WRONG_WEIGHT, WRONG_POSITION = "wrong_columns", "wrong_weight", "wrong_position"
Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class ScoringFile:
    """A file, the score it holds, where each column lies, the number of its header's last line, and what leads
    from its build to the study's, where that is another."""

    split: Split
    score: str
    columns: Mapping[str, int]
    harmonised: bool
    header_line: int
    liftover: Liftover | None


def read_scoring_files(
    spark: SparkSession,
    root: Location,
    files: Sequence[FileStat],
    keyer: PersonKeyer,
    build: str,
    liftovers: Mapping[str, Liftover],
) -> tuple[list[str], DataFrame]:
    """The scores' names, and SCHEMA rows of all files, lifted over where `liftovers` has their build.
    DataGateError for a file that is none, is of any other build or has the score of another file, by name."""
    if not files:
        raise DataGateError("genomics.scores.paths: no file below the raw root matches; check raw and the globs")
    opened: dict[str, ScoringFile] = {}
    for file in files:
        found = open_scoring_file(root, file, keyer, build, liftovers)
        if found.score in opened:
            other = opened[found.score].split.path
            raise DataGateError(f"{file.path}: holds the score {found.score}, as {other} does; leave one out")
        opened[found.score] = found
    shared = spark.sparkContext.broadcast(list(opened.values()))

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for index in batch["id"].to_pylist():
                yield from parse(shared.value[index])

    tasks = spark.range(0, len(opened), 1, len(opened))
    return list(opened), tasks.mapInArrow(rows, from_arrow_schema(SCHEMA))


def open_scoring_file(
    root: Location, file: FileStat, keyer: PersonKeyer, build: str, liftovers: Mapping[str, Liftover]
) -> ScoringFile:
    """Read as far as the line of column names, and check that it is a scoring file of this build, or of one from
    which there is a liftover."""
    (split,) = plan_splits(root, [(file, keyer.path_digest(file.path))], WHOLE)
    about: dict[str, str] = {}
    number, line = 0, "#"
    for number, line in _lines(split):  # noqa: B007  both are used where it stops
        if not line.startswith("#"):
            break
        key, equals, value = line.lstrip("#").partition("=")
        if equals:
            about[key.strip()] = value.strip()
    if line.startswith("#"):
        raise DataGateError(f"{file.path}: it has no line of column names; is it a PGS Catalog scoring file?")
    columns = {name.strip(): place for place, name in enumerate(line.split("\t"))}
    harmonised = "HmPOS_build" in about and {"hm_chr", "hm_pos"} <= columns.keys()
    found = _build(
        file.path, about.get("HmPOS_build" if harmonised else "genome_build"), {build, *liftovers}, build
    )
    placed = ("hm_chr", "hm_pos") if harmonised else ("chr_name", "chr_position")
    missing = [name for name in (*placed, "effect_allele") if name not in columns]
    if not missing and not ({"effect_weight"} & columns.keys() or _dosage_columns() <= columns.keys()):
        missing = ["effect_weight"]
    if missing:
        raise DataGateError(
            f"{file.path}, line {number}: there is no column {', '.join(missing)}; take the harmonised file of "
            "the PGS Catalog, in which every variant has a position"
        )
    score = about.get("pgs_id") or PurePosixPath(file.path).name.split(".")[0]
    return ScoringFile(split, score, columns, harmonised, number, liftovers.get(found))


def parse(file: ScoringFile) -> Iterator[pa.RecordBatch]:
    """SCHEMA rows of a file, in batches."""
    for batch in _batches(file):
        yield lift_lines(batch, file.liftover) if file.liftover else batch


def _batches(file: ScoringFile) -> Iterator[pa.RecordBatch]:
    rows: list[Row] = []
    for number, line in _lines(file.split):
        if number > file.header_line and line:
            rows.append((file.score, number, *_row(line.split("\t"), file), None))
        if len(rows) == _ROWS:
            yield _batch(rows)
            rows = []
    yield _batch(rows)


def _row(cells: list[str], file: ScoringFile) -> Row:
    if len(cells) > len(file.columns):
        return (*[None] * 5, WRONG_COLUMNS)
    cell = {name: cells[place].strip() if place < len(cells) else "" for name, place in file.columns.items()}
    weights = _weights(cell)
    if weights is None:
        return (*[None] * 5, WRONG_WEIGHT)
    contig, at = (cell["hm_chr"], cell["hm_pos"]) if file.harmonised else (cell["chr_name"], cell["chr_position"])
    effect, other = cell["effect_allele"].upper(), _other(cell)
    flags = ("is_haplotype", "is_diplotype", "is_interaction")
    if any(_is_true(cell.get(flag)) for flag in flags) or not all(
        map(_PLAIN.fullmatch, (effect, other or effect))
    ):
        return (None, None, effect, other, weights, COMPLEX)
    if not contig or not at:
        return (None, None, effect, other, weights, UNPLACED)
    if not (at.isascii() and at.isdigit()) or len(at) > MOST_DIGITS:
        return (None, None, effect, other, weights, WRONG_POSITION)
    position = int(at)
    if other is not None and other != effect:
        position, other, effect = trim(position, other, effect)
    return (harmonise(contig), position, effect, other, weights, None)


def _weights(cell: Mapping[str, str]) -> list[float] | None:
    """What 0, 1 and 2 effect alleles weigh; None where there is no number."""
    dosage = [cell.get(f"dosage_{copies}_weight", "") for copies in range(3)]
    try:
        if all(dosage):
            found = [float(weight) for weight in dosage]
        else:
            weight, kind = float(cell.get("effect_weight", "")), cell.get("effect_type", "")
            if _is_true(cell.get("is_dominant")) or kind == "dominant":
                found = [0.0, weight, weight]
            elif _is_true(cell.get("is_recessive")) or kind == "recessive":
                found = [0.0, 0.0, weight]
            else:
                found = [0.0, weight, 2 * weight]
    except ValueError:
        return None
    return found if all(abs(weight) < float("inf") for weight in found) else None


def _other(cell: Mapping[str, str]) -> str | None:
    """The other allele, where one is told; of several inferred ones none is."""
    told = cell.get("other_allele") or cell.get("reference_allele") or cell.get("hm_inferOtherAllele") or ""
    return told.upper() if told and "/" not in told else None


def _build(path: str, told: str | None, known: Set[str], build: str) -> str:
    found = BUILDS.get((told or "").casefold())
    if found is None:
        raise DataGateError(
            f"{path}: says no genome build ({told or 'no #genome_build line'}); take the harmonised file of the "
            f"PGS Catalog (..._hmPOS_{build}), or add a line #genome_build={build}"
        )
    if found not in known:
        raise DataGateError(
            f"{path}: its positions are of {found}, genomics.build is {build}; take the harmonised file of the "
            f"PGS Catalog (..._hmPOS_{build}), or name a chain file in genomics.scores.chains.{found}"
        )
    return found


def _lines(split: Split) -> Iterator[tuple[int, str]]:
    number = 0
    for chunk in read_chunks(split):
        for line in chunk.data.splitlines():
            number += 1
            yield number, line.decode(errors="replace")


def _dosage_columns() -> set[str]:
    return {f"dosage_{copies}_weight" for copies in range(3)}


def _is_true(text: str | None) -> bool:
    return (text or "").casefold() in ("true", "1", "yes")


def _batch(rows: list[Row]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [[] for _ in SCHEMA]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
