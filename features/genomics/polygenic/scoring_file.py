"""Scoring files: the PGS Catalog's format 2.0 and what has its columns.

Format: https://www.pgscatalog.org/downloads/#dl_ftp_scoring. Of a harmonised file the harmonised
positions (`hm_chr`, `hm_pos`) are taken, which have a build of their own. Those of another build are lifted
over where there are chains from it. A file is read by one task; nothing of it comes to the driver but the
header.

Lines are read many at once, a column at a time: a hundred scores have ten million of them. What has few distinct
texts, as alleles, contigs and flags have, is made of each text once.
"""

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from operator import methodcaller
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv
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
_LINES = 1 << 16
_TASKS = 4
"""A core: what many scores ask for is brought together in a task first."""
_TEXT = pa.string()
_PLAIN = re.compile("[ACGT]+")
_COMPLEX = ("is_haplotype", "is_diplotype", "is_interaction")
_OTHER = ("other_allele", "reference_allele", "hm_inferOtherAllele")
_DOSAGES = ("dosage_0_weight", "dosage_1_weight", "dosage_2_weight")
_WEIGHT = ("effect_weight", "effect_type", "is_dominant", "is_recessive", *_DOSAGES)

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
PROBLEMS = (WRONG_COLUMNS, WRONG_WEIGHT, COMPLEX, UNPLACED, WRONG_POSITION)
"""Of several that a line has, the first is told."""
Cells = Mapping[str, pa.StringArray]
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


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

    @property
    def place(self) -> tuple[str, str]:
        """The columns of contig and position."""
        return ("hm_chr", "hm_pos") if self.harmonised else ("chr_name", "chr_position")


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

    tasks = spark.range(0, len(opened), 1, min(len(opened), _TASKS * spark.sparkContext.defaultParallelism))
    return list(opened), tasks.mapInArrow(rows, from_arrow_schema(SCHEMA))


def open_scoring_file(
    root: Location, file: FileStat, keyer: PersonKeyer, build: str, liftovers: Mapping[str, Liftover]
) -> ScoringFile:
    """Read as far as the line of column names, and check that it is a scoring file of this build, or of one from
    which there is a liftover."""
    (split,) = plan_splits(root, [(file, keyer.path_digest(file.path))], WHOLE)
    about: dict[str, str] = {}
    number, line = 0, "#"
    for number, line in _numbered(split):  # noqa: B007  both are used where it stops
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
    if not missing and not ({"effect_weight"} & columns.keys() or set(_DOSAGES) <= columns.keys()):
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
    for first, lines in _lines(file.split):
        numbers = np.arange(first, first + len(lines))
        told = (numbers > file.header_line) & (np.fromiter(map(len, lines), np.int64, len(lines)) > 0)
        if told.any():
            yield _batch([lines[row] for row in np.flatnonzero(told)], numbers[told], file)


def _batch(lines: list[bytes], numbers: npt.NDArray[np.int64], file: ScoringFile) -> pa.RecordBatch:
    cells, too_long = _read(lines, file)
    contig, at = (cells[name] for name in file.place)
    effect, other = _each(cells["effect_allele"], str.upper), _other(cells)
    weights, position = _weights(cells), _position(at)
    plain = _flags(_each(effect, _is_plain, pa.bool_())) & _flags(_each(other, _is_plain, pa.bool_()), True)
    problems = (
        too_long,
        ~np.isfinite(weights).all(1),
        ~plain | _any_is_true(cells, *_COMPLEX),
        _flags(pc.or_(_is_empty(contig), _is_empty(at))),
        _flags(position.is_null()),
    )
    problem = np.select(problems, range(len(problems)), -1)
    placed, known = problem < 0, (problem < 0) | (problem > PROBLEMS.index(WRONG_WEIGHT))
    position, other, effect = _trimmed(position, other, effect, placed)
    columns = {
        "score": pa.repeat(file.score, len(lines)),
        "line": pa.array(numbers),
        "contig": _where(placed, _each(contig, harmonise)),
        "position": _where(placed, position),
        "effect_allele": _where(known, effect),
        "other_allele": _where(known, other),
        "weights": pa.ListArray.from_arrays(
            pa.array(np.arange(len(lines) + 1, dtype=np.int32) * 3), weights.ravel(), mask=pa.array(~known)
        ),
        "problem": pa.array(PROBLEMS).take(pa.array(problem, mask=placed)),
        "lifted_strand": pa.nulls(len(lines), pa.string()),
    }
    return pa.RecordBatch.from_pydict(columns, schema=SCHEMA)


def _read(lines: list[bytes], file: ScoringFile) -> tuple[Cells, Flags]:
    """The stripped cells of the columns that are known, "" where the file or a line has none; and which lines have
    too many cells, of which none is read."""
    last, most = max(file.columns.values()), len(file.columns) - 1
    tabs = np.fromiter(map(methodcaller("count", b"\t"), lines), np.int64, len(lines))
    for row in np.flatnonzero((tabs != last) | (tabs > most)):
        lines[row] = lines[row] + b"\t" * (last - tabs[row]) if tabs[row] <= most else b"\t" * last
    wanted = [*file.place, "effect_allele", *_OTHER, *_COMPLEX, *_WEIGHT]
    places = {name: str(file.columns[name]) for name in wanted if name in file.columns}
    header = "\t".join(map(str, range(last + 1))).encode()
    text = b"\n".join([header, *lines]).decode(errors="replace").encode()
    table = csv.read_csv(
        io.BytesIO(text),
        csv.ReadOptions(use_threads=False, block_size=len(text)),
        csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
        csv.ConvertOptions(
            include_columns=list(places.values()),
            column_types=dict.fromkeys(places.values(), pa.string()),
            strings_can_be_null=False,
        ),
    ).combine_chunks()
    none = pa.repeat("", len(lines))
    found = {name: pc.utf8_trim_whitespace(table[place].chunk(0)) for name, place in places.items()}
    return {name: found.get(name, none) for name in wanted}, tabs > most


def _weights(cells: Cells) -> Floats:
    """What 0, 1 and 2 effect alleles weigh: (lines, 3); one is no finite number where there is none."""
    weight, kind = _numbers(cells["effect_weight"]), cells["effect_type"]
    dominant = _any_is_true(cells, "is_dominant") | _flags(pc.equal(kind, "dominant"))
    recessive = _any_is_true(cells, "is_recessive") | _flags(pc.equal(kind, "recessive"))
    with np.errstate(over="ignore"):
        two = np.where(dominant | recessive, weight, 2 * weight)
    found = np.column_stack([np.zeros_like(weight), np.where(recessive & ~dominant, 0, weight), two])
    by_dosage = ~np.any([_flags(_is_empty(cells[name])) for name in _DOSAGES], axis=0)
    if by_dosage.any():
        found[by_dosage] = np.column_stack([_numbers(cells[name]) for name in _DOSAGES])[by_dosage]
    return found


def _other(cells: Cells) -> pa.StringArray:
    """The other allele, where one is told; of several inferred ones none is."""
    told = pc.coalesce(*(_where(~_flags(_is_empty(cells[name])), cells[name]) for name in _OTHER))
    return _each(told, lambda allele: None if "/" in allele else allele.upper())


def _position(at: pa.StringArray) -> pa.Int64Array:
    """Null where there is no number, or too long a one."""
    digits = pc.and_(pc.ascii_is_decimal(at), pc.less_equal(pc.binary_length(at), MOST_DIGITS))
    return _where(_flags(digits), at).cast(pa.int64())


def _trimmed(
    position: pa.Int64Array, other: pa.StringArray, effect: pa.StringArray, placed: Flags
) -> list[pa.Array]:
    """Without the bases that both alleles share, where two that differ are told."""
    long = pc.greater(pc.min_element_wise(*map(pc.binary_length, (other, effect)), skip_nulls=False), 1)
    chosen = _flags(pc.and_(long, pc.not_equal(other, effect))) & placed
    columns, mask = (position, other, effect), pa.array(chosen)
    told = zip(*(column.filter(mask).to_pylist() for column in columns), strict=True)
    found = list(zip(*(trim(*alleles) for alleles in told), strict=True)) or [()] * 3
    return [
        pc.replace_with_mask(column, mask, pa.array(new, column.type))
        for column, new in zip(columns, found, strict=True)
    ]


def _numbers(texts: pa.StringArray) -> Floats:
    """Not a number where there is none. Python reads what Arrow does not, as 1_000."""
    try:
        found: Floats = texts.cast(pa.float64()).to_numpy()
        return found
    except pa.ArrowInvalid:
        return np.array([_number(text) for text in texts.to_pylist()])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _each(texts: pa.StringArray, make: Callable[[str], Any], kind: pa.DataType = _TEXT) -> pa.Array:
    """What is made of each text; of the same once."""
    coded = texts.dictionary_encode()
    return pa.array(map(make, coded.dictionary.to_pylist()), kind).take(coded.indices)


def _where(chosen: Flags, column: pa.Array) -> pa.Array:
    """Null elsewhere."""
    return pc.if_else(pa.array(chosen), column, pa.scalar(None, column.type))


def _flags(column: pa.BooleanArray, unknown: bool = False) -> Flags:
    found: Flags = column.fill_null(unknown).to_numpy(zero_copy_only=False)
    return found


def _is_empty(texts: pa.StringArray) -> pa.BooleanArray:
    return pc.equal(pc.binary_length(texts), 0)


def _is_plain(allele: str) -> bool:
    return _PLAIN.fullmatch(allele) is not None


def _any_is_true(cells: Cells, *names: str) -> Flags:
    found: Flags = np.any([_flags(_each(cells[name], _is_true, pa.bool_())) for name in names], axis=0)
    return found


def _is_true(text: str) -> bool:
    return text.casefold() in ("true", "1", "yes")


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


def _lines(split: Split) -> Iterator[tuple[int, list[bytes]]]:
    """Some lines at once, without their ends, and the number of the first."""
    number = 1
    for chunk in read_chunks(split):
        lines = chunk.data.splitlines()
        for first in range(0, len(lines), _LINES):
            yield number + first, lines[first : first + _LINES]
        number += len(lines)


def _numbered(split: Split) -> Iterator[tuple[int, str]]:
    for first, lines in _lines(split):
        for number, line in enumerate(lines, first):
            yield number, line.decode(errors="replace")
