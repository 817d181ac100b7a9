"""Lines of a scoring file to rows: read many at once, a column at a time.

A hundred scores have ten million lines. What has few distinct texts, as alleles, contigs and flags have, is made
of each text once.
"""

import io
import re
from collections.abc import Collection, Mapping, Sequence
from operator import methodcaller

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from features.genomics.clean import trim
from features.genomics.columns import Flags, each, flags, where
from features.genomics.contigs import harmonise

MOST_DIGITS = 10
_PLAIN = re.compile("[ACGT]+")
_COMPLEX = ("is_haplotype", "is_diplotype", "is_interaction")
_OTHER = ("other_allele", "reference_allele", "hm_inferOtherAllele")
DOSAGES = ("dosage_0_weight", "dosage_1_weight", "dosage_2_weight")
_WEIGHT = ("effect_weight", "effect_type", "is_dominant", "is_recessive", *DOSAGES)
_KNOWN = ("effect_allele", *_OTHER, *_COMPLEX, *_WEIGHT)

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
Floats = npt.NDArray[np.float64]


def read_lines(
    text: bytes,
    numbers: npt.NDArray[np.int64],
    score: str,
    columns: Mapping[str, int],
    place: Sequence[str],
) -> pa.RecordBatch:
    """SCHEMA rows of lines that are not empty, with these numbers and a newline between them. `columns` is where
    each column lies; `place` names those of contig and position."""
    count = len(numbers)
    cells, too_long = _read(text, count, columns, [*place, *_KNOWN])
    contig, at = (cells[name] for name in place)
    effect, other = each(cells["effect_allele"], str.upper), _other(cells)
    weights, position = _weights(cells), _position(at)
    plain = flags(each(effect, _is_plain, pa.bool_())) & flags(each(other, _is_plain, pa.bool_()), True)
    problems = (
        too_long,
        ~np.isfinite(weights).all(1),
        ~plain | _any_is_true(cells, *_COMPLEX),
        flags(pc.or_(_is_empty(contig), _is_empty(at))),
        flags(position.is_null()),
    )
    problem = np.select(problems, range(len(problems)), -1)
    placed, known = problem < 0, (problem < 0) | (problem > PROBLEMS.index(WRONG_WEIGHT))
    position, other, effect = _trimmed(position, other, effect, placed)
    told = {
        "score": pa.repeat(score, count),
        "line": pa.array(numbers),
        "contig": where(placed, each(contig, harmonise)),
        "position": where(placed, position),
        "effect_allele": where(known, effect),
        "other_allele": where(known, other),
        "weights": pa.ListArray.from_arrays(
            pa.array(np.arange(count + 1, dtype=np.int32) * 3), weights.ravel(), mask=pa.array(~known)
        ),
        "problem": pa.array(PROBLEMS).take(pa.array(problem, mask=placed)),
        "lifted_strand": pa.nulls(count, pa.string()),
    }
    return pa.RecordBatch.from_pydict(told, schema=SCHEMA)


def _read(text: bytes, count: int, columns: Mapping[str, int], wanted: Sequence[str]) -> tuple[Cells, Flags]:
    """The stripped cells of the `wanted` columns, "" where the file or a line has none; and which of the `count`
    lines have too many cells, of which none is read."""
    last, most = max(columns.values()), len(columns) - 1
    places = {name: str(columns[name]) for name in wanted if name in columns}
    too_long = np.zeros(count, bool)
    try:
        table = _table(text, last, places.values()) if last == most else None
    except pa.ArrowInvalid:  # lines are of several lengths, or no UTF-8
        table = None
    if table is None:
        even, too_long = _evened(text, count, last, most)
        table = _table(even, last, places.values())
    none = pa.repeat("", count)
    found = {name: pc.utf8_trim_whitespace(table[place].chunk(0)) for name, place in places.items()}
    return {name: found.get(name, none) for name in wanted}, too_long


def _table(text: bytes, last: int, places: Collection[str]) -> pa.Table:
    """In one chunk, the columns of these places. ArrowInvalid where a line has not as many cells as there are."""
    header = "\t".join(map(str, range(last + 1))).encode()
    data = header + b"\n" + text
    return csv.read_csv(
        io.BytesIO(data),
        csv.ReadOptions(use_threads=False, block_size=len(data)),
        csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
        csv.ConvertOptions(
            include_columns=list(places),
            column_types=dict.fromkeys(places, pa.string()),
            strings_can_be_null=False,
        ),
    ).combine_chunks()


def _evened(text: bytes, count: int, last: int, most: int) -> tuple[bytes, Flags]:
    """The lines in UTF-8 and with as many cells each, and which had more than `most` tabs: they are left empty."""
    lines = text.split(b"\n")[:count]
    tabs = np.fromiter(map(methodcaller("count", b"\t"), lines), np.int64, count)
    for row in np.flatnonzero((tabs != last) | (tabs > most)):
        lines[row] = lines[row] + b"\t" * (last - tabs[row]) if tabs[row] <= most else b"\t" * last
    return b"\n".join(lines).decode(errors="replace").encode(), tabs > most


def _weights(cells: Cells) -> Floats:
    """What 0, 1 and 2 effect alleles weigh: (lines, 3); one is no finite number where there is none."""
    weight, kind = _numbers(cells["effect_weight"]), cells["effect_type"]
    dominant = _any_is_true(cells, "is_dominant") | flags(pc.equal(kind, "dominant"))
    recessive = _any_is_true(cells, "is_recessive") | flags(pc.equal(kind, "recessive"))
    with np.errstate(over="ignore"):
        two = np.where(dominant | recessive, weight, 2 * weight)
    found = np.column_stack([np.zeros_like(weight), np.where(recessive & ~dominant, 0, weight), two])
    by_dosage = ~np.any([flags(_is_empty(cells[name])) for name in DOSAGES], axis=0)
    if by_dosage.any():
        found[by_dosage] = np.column_stack([_numbers(cells[name]) for name in DOSAGES])[by_dosage]
    return found


def _other(cells: Cells) -> pa.StringArray:
    """The other allele, where one is told; of several inferred ones none is."""
    told = pc.coalesce(*(where(~flags(_is_empty(cells[name])), cells[name]) for name in _OTHER))
    return each(told, lambda allele: None if "/" in allele else allele.upper())


def _position(at: pa.StringArray) -> pa.Int64Array:
    """Null where there is no number, or too long a one."""
    digits = pc.and_(pc.ascii_is_decimal(at), pc.less_equal(pc.binary_length(at), MOST_DIGITS))
    return where(flags(digits), at).cast(pa.int64())


def _trimmed(
    position: pa.Int64Array, other: pa.StringArray, effect: pa.StringArray, placed: Flags
) -> list[pa.Array]:
    """Without the bases that both alleles share, where two that differ are told."""
    long = pc.greater(pc.min_element_wise(*map(pc.binary_length, (other, effect)), skip_nulls=False), 1)
    chosen = flags(pc.and_(long, pc.not_equal(other, effect))) & placed
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


def _is_empty(texts: pa.StringArray) -> pa.BooleanArray:
    return pc.equal(pc.binary_length(texts), 0)


def _is_plain(allele: str) -> bool:
    return _PLAIN.fullmatch(allele) is not None


def _any_is_true(cells: Cells, *names: str) -> Flags:
    found: Flags = np.any([flags(each(cells[name], _is_true, pa.bool_())) for name in names], axis=0)
    return found


def _is_true(text: str) -> bool:
    return text.casefold() in ("true", "1", "yes")
