"""Lines of a scoring file to rows: read many at once, a column at a time.

A hundred scores have ten million lines. What has few distinct texts, as alleles, contigs and flags have, is made
of each text once.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from operator import methodcaller

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from features.genomics.columns import CODED, Flags, each, flags, recoded, where
from features.genomics.contigs import harmonise
from features.genomics.normalise import trim

MOST_DIGITS = 10
_PLAIN = re.compile("[ACGT]+")
_COMPLEX = ("is_haplotype", "is_diplotype", "is_interaction")
_OTHER = ("other_allele", "reference_allele", "hm_inferOtherAllele")
DOSAGES = ("dosage_0_weight", "dosage_1_weight", "dosage_2_weight")
_TEXTS = ("effect_allele", *_OTHER, *_COMPLEX, "effect_type", "is_dominant", "is_recessive")
_NUMBERS = ("effect_weight", *DOSAGES)

SCHEMA = pa.schema(
    [
        ("score", pa.string()),
        ("line", pa.int64()),
        ("contig", pa.string()),
        ("position", pa.int64()),
        ("effect_allele", pa.string()),
        ("other_allele", pa.string()),
        ("weight", pa.float64()),
        ("others", pa.list_(pa.float64())),
        ("problem", pa.string()),
        ("lifted_strand", pa.string()),
    ]
)
"""A line's position and alleles, trimmed to what differs; the `weight` of one effect allele, and the `others`, of
none and of two, where these are not nothing and twice as much. `problem` is set, and the rest but the line may be
null, where a line cannot be scored (COMPLEX, UNPLACED, an Unlifted) or is wrong (WRONG_...). `lifted_strand` is +
or - where the line was lifted over, - where that complemented it."""
COMPLEX, UNPLACED = "complex", "unplaced"
WRONG = WRONG_COLUMNS, WRONG_WEIGHT, WRONG_POSITION = "wrong_columns", "wrong_weight", "wrong_position"
PROBLEMS = (WRONG_COLUMNS, WRONG_WEIGHT, COMPLEX, UNPLACED, WRONG_POSITION)
"""Of several that a line has, the first is told."""
Cells = Mapping[str, pa.Array]
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
    cells, too_long = _read(text, count, columns, [place[0], *_TEXTS], [place[1], *_NUMBERS])
    contig, at = cells[place[0]], cells[place[1]]
    effect, other = recoded(cells["effect_allele"], str.upper), _other(cells, count)
    (none, one, two), position = _weights(cells, count), _position(at)
    plain = flags(each(effect, _is_plain, pa.bool_())) & flags(each(other, _is_plain, pa.bool_()), True)
    problems = (
        too_long,
        ~(np.isfinite(none) & np.isfinite(one) & np.isfinite(two)),
        ~plain | _any(cells, count, _is_true, *_COMPLEX),
        flags(each(contig, _is_empty, pa.bool_())) | flags(pc.equal(pc.binary_length(at), 0)),
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
        "weight": pa.array(one, mask=~known),
        "others": _others(none, one, two, known),
        "problem": pa.array(PROBLEMS).take(pa.array(problem, mask=placed)),
        "lifted_strand": pa.nulls(count, pa.string()),
    }
    return pa.RecordBatch.from_pydict(told, schema=SCHEMA)


def _read(
    text: bytes, count: int, columns: Mapping[str, int], texts: Sequence[str], numbers: Sequence[str]
) -> tuple[Cells, Flags]:
    """The stripped cells of those of these columns that the file has, of `texts` CODED, "" where a line has none;
    and which of the `count` lines have too many cells, of which none is read."""
    last, most = max(columns.values()), len(columns) - 1
    kinds = {str(columns[name]): CODED for name in texts if name in columns}
    kinds |= {str(columns[name]): pa.string() for name in numbers if name in columns}
    too_long = np.zeros(count, bool)
    try:
        table = _table(text, last, kinds) if last == most else None
    except pa.ArrowInvalid:  # lines are of several lengths, or no UTF-8
        table = None
    if table is None:
        even, too_long = _evened(text, count, last, most)
        table = _table(even, last, kinds)
    found = {name: table[str(columns[name])].chunk(0) for name in (*texts, *numbers) if name in columns}
    return {
        name: recoded(cells, str.strip) if name in texts else pc.utf8_trim_whitespace(cells)
        for name, cells in found.items()
    }, too_long


def _table(text: bytes, last: int, kinds: Mapping[str, pa.DataType]) -> pa.Table:
    """In one chunk, the columns of these places, of these kinds. ArrowInvalid where a line has not as many cells
    as there are."""
    header = "\t".join(map(str, range(last + 1))).encode()
    data = header + b"\n" + text
    return csv.read_csv(
        io.BytesIO(data),
        csv.ReadOptions(use_threads=False, block_size=len(data)),
        csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
        csv.ConvertOptions(
            include_columns=list(kinds),
            column_types=kinds,
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


def _weights(cells: Cells, count: int) -> list[Floats]:
    """What 0, 1 and 2 effect alleles weigh; one is no finite number where there is none."""
    weight = _numbers(cells["effect_weight"]) if "effect_weight" in cells else np.full(count, np.nan)
    dominant, recessive = (
        _any(cells, count, _is_true, f"is_{kind}") | _any(cells, count, kind.__eq__, "effect_type")
        for kind in ("dominant", "recessive")
    )
    with np.errstate(over="ignore"):
        two = np.where(dominant | recessive, weight, 2 * weight)
    found = [np.zeros(count), np.where(recessive & ~dominant, 0, weight), two]
    if cells.keys() >= set(DOSAGES):
        by_dosage = np.logical_and.reduce([flags(pc.not_equal(cells[name], "")) for name in DOSAGES])
        told = (_numbers(cells[name]) for name in DOSAGES)
        found = [np.where(by_dosage, own, usual) for own, usual in zip(told, found, strict=True)]
    return found


def _others(none: Floats, one: Floats, two: Floats, known: Flags) -> pa.ListArray:
    """What no and two effect alleles weigh, where that is not nothing and twice as much as one."""
    with np.errstate(over="ignore"):
        chosen = known & ((none != 0) | (two != 2 * one))
    starts = np.append(0, np.cumsum(chosen, dtype=np.int32) * 2).astype(np.int32)
    values = np.column_stack([none[chosen], two[chosen]]).ravel()
    return pa.ListArray.from_arrays(pa.array(starts), pa.array(values), mask=pa.array(~chosen))


def _other(cells: Cells, count: int) -> pa.DictionaryArray:
    """The other allele, where one is told; of several inferred ones none is."""
    told = [recoded(cells[name], lambda allele: allele or None) for name in _OTHER if name in cells]
    first = told[0] if told else pa.nulls(count, pa.string())
    if first.null_count and len(told) > 1:
        first = pc.coalesce(*(own.dictionary_decode() for own in told))
    return recoded(first, lambda allele: None if "/" in allele else allele.upper())


def _position(at: pa.StringArray) -> pa.Int64Array:
    """Null where there is no number, or too long a one."""
    digits = pc.and_(pc.ascii_is_decimal(at), pc.less_equal(pc.binary_length(at), MOST_DIGITS))
    return where(flags(digits), at).cast(pa.int64())


def _trimmed(
    position: pa.Int64Array, other: pa.DictionaryArray, effect: pa.DictionaryArray, placed: Flags
) -> list[pa.Array]:
    """Without the bases that both alleles share, where two that differ are told."""
    columns = (position, other.dictionary_decode(), effect.dictionary_decode())
    both_long = [flags(each(alleles, _is_long, pa.bool_())) for alleles in (other, effect)]
    chosen = np.logical_and.reduce([placed, *both_long])
    if not chosen.any():
        return list(columns)
    mask = pa.array(chosen)
    told = zip(*(column.filter(mask).to_pylist() for column in columns), strict=True)
    found = zip(*(trim(*own) if own[1] != own[2] else own for own in told), strict=True)
    return [
        pc.replace_with_mask(column, mask, pa.array(new, column.type))
        for column, new in zip(columns, found, strict=True)
    ]


def _numbers(texts: pa.StringArray) -> Floats:
    """Not a number where there is none. Python reads what Arrow does not, as +1 and 1."""
    try:
        found: Floats = texts.cast(pa.float64()).to_numpy()
        return found
    except pa.ArrowInvalid:
        return np.array([_number(text) for text in texts.to_pylist()])


def _number(text: str) -> float:
    try:
        return float("nan" if "_" in text else text)
    except ValueError:
        return float("nan")


def _is_empty(text: str) -> bool:
    return not text


def _is_long(text: str) -> bool:
    return len(text) > 1


def _is_plain(allele: str) -> bool:
    return _PLAIN.fullmatch(allele) is not None


def _any(cells: Cells, count: int, test: Callable[[str], bool], *names: str) -> Flags:
    """Whether a cell of one of these columns passes the test; none does of a column that the file has not."""
    found = np.zeros(count, bool)
    for name in names:
        if name in cells:
            found |= flags(each(cells[name], test, pa.bool_()))
    return found


def _is_true(text: str) -> bool:
    return text.casefold() in ("true", "1", "yes")
