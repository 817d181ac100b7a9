"""GT fields of a VCF line as numbers of alleles, for all samples at once.

Most lines have one ALT and nothing but calls of three bytes (`0/1`, `.|.`); those are read as words of four
bytes. Else the first four bytes of a sample's column decide nearly every genotype: they are looked up in a
table of all such four; only what the table does not know, such as allele numbers of two digits, is read one
by one. Phase is not kept.
"""

import re
from functools import cache

import numpy as np
import numpy.typing as npt

from features.contract.settings import HalfCalls
from features.genomics.packing import Codes

MISSING = -1
HALF_CALL = -2
MALFORMED = -3
_CLOSER_LOOK = -4

Alleles = npt.NDArray[np.int16]

_GENOTYPE = re.compile(rb"[/|]?(\d{1,4}|\.)(?:[/|](\d{1,4}|\.))?")
"""Since 4.4 the phase of the first allele may stand before it."""
_DOT, _SEPARATOR, _END, _OTHER = 10, 11, 12, 13


def read_biallelic(columns: bytes, samples: int) -> Codes | None:
    """Codes (n samples) of a line with one ALT; None, and then nothing is known of it, if it has any other
    number of columns, or a call that is not one of `0/0`, `0/1`, `1/0`, `1/1`, `./.` and the phased ones."""
    if len(columns) != 4 * samples - 1:
        return None
    words = np.frombuffer(columns + b"\t", "<u4")
    alike = _HOM_REFS.get(columns[1:2])
    codes = None if alike is None else _alike(words, alike)
    if codes is not None:
        return codes
    places = (words * _SPREAD >> _SHIFT).astype(np.intp)
    if (_WORDS.take(places, mode="clip") != words).any():
        return None
    return _CODES.take(places, mode="clip")


def _alike(words: npt.NDArray[np.uint32], hom_ref: np.uint32) -> Codes | None:
    """Codes of plain calls that are all phased, or all unphased as this call of REF is; None where they are not.

    Beside that a call differs in the last bit of either allele, or it is `./.`.
    """
    differing = words ^ hom_ref
    both = differing >> _SECOND
    both += differing
    codes: Codes = both.astype(np.uint8)
    if np.bitwise_or.reduce(differing) & _NO_ALLELE:
        missing = differing == _NO_CALL
        if not np.array_equal(missing, differing & _NO_ALLELE != 0):
            return None
        codes[missing] = 3
    return codes


def read_alleles(columns: bytes, samples: int, half_calls: HalfCalls) -> tuple[Alleles, Alleles]:
    """First and second allele of each sample, from the tab-separated sample columns of a line.

    0 is REF, k the k-th ALT; a haploid call has its allele twice. Negative, and then in both arrays:
    MISSING (`.`, `./.`), HALF_CALL (`./1`, by rule), MALFORMED (also of more than two alleles).
    """
    starts, words = _first_four(columns, samples)
    pairs = _PAIRS[words.view("<u2")]
    shapes = np.left_shift(pairs[0::2], 8) | pairs[1::2]
    firsts, seconds = _tables(half_calls)
    first, second = firsts[shapes], seconds[shapes]
    for sample in np.flatnonzero(first == _CLOSER_LOOK):
        first[sample], second[sample] = _read_one(columns, int(starts[sample]), half_calls)
    return first, second


def _first_four(columns: bytes, samples: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    """Where each sample's column starts, and its first four bytes as one number."""
    buffer = columns + b"\t\t\t\t"
    starts = np.zeros(samples, np.int64)
    starts[1:] = np.flatnonzero(np.frombuffer(columns, np.uint8) == ord("\t")) + 1
    every_byte = np.ndarray(len(buffer) - 3, "<u4", buffer, strides=(1,))
    return starts, every_byte[starts]


def one_copy(columns: bytes, samples: int) -> npt.NDArray[np.bool_]:
    """Whose call is of one allele (`0`, `.`), from the tab-separated sample columns of a line."""
    starts, _ = _first_four(columns, samples)
    text = np.frombuffer(columns + b"\t", np.uint8)
    ends = np.flatnonzero((text == ord("\t")) | (text == ord(":")))
    separators = np.flatnonzero((text == ord("/")) | (text == ord("|")))
    between = np.append(separators, len(text))
    # Since 4.4 a call may begin with a separator.
    found: npt.NDArray[np.bool_] = (
        between[np.searchsorted(separators, starts + 1)] > ends[np.searchsorted(ends, starts)]
    )
    return found


def count_alleles(first: Alleles, second: Alleles, allele: int) -> Codes:
    """Codes (n samples): how many alleles of a call are this ALT, other ALTs counting as REF as in
    `bcftools norm -m -`; 3 where missing."""
    codes: Codes = (first == allele).astype(np.uint8)
    codes += second == allele
    codes[first == MISSING] = 3
    return codes


def _read_one(columns: bytes, start: int, half_calls: HalfCalls) -> tuple[int, int]:
    column = columns[start:].partition(b"\t")[0] if start + 64 > len(columns) else columns[start : start + 64]
    found = _GENOTYPE.fullmatch(column.partition(b"\t")[0].partition(b":")[0])
    if found is None:
        return MALFORMED, MALFORMED
    first, second = found.group(1), found.group(2) or found.group(1)
    if first == second == b".":
        return MISSING, MISSING
    if b"." in (first, second):
        return half_call(int(second if first == b"." else first), half_calls)
    return int(first), int(second)


def half_call(called: int, half_calls: HalfCalls) -> tuple[int, int]:
    """Both alleles of a call of which one is missing, by rule."""
    meaning = {"error": (HALF_CALL, HALF_CALL), "missing": (MISSING, MISSING), "haploid": (called, called)}
    return meaning.get(half_calls, (0, called))


def _classes() -> npt.NDArray[np.uint16]:
    """What each byte means in a genotype: a digit by its value, or one of the four names above."""
    classes = np.full(256, _OTHER, np.uint16)
    classes[np.frombuffer(b"0123456789", np.uint8)] = range(10)
    for text, meaning in ((b".", _DOT), (b"/|", _SEPARATOR), (b":\t", _END)):
        classes[np.frombuffer(text, np.uint8)] = meaning
    return classes


@cache
def _tables(half_calls: HalfCalls) -> tuple[Alleles, Alleles]:
    """Both alleles of every four classes of bytes (65,536 of them)."""
    a, b, c, d = (np.arange(1 << 16) >> shift & 15 for shift in (12, 8, 4, 0))
    haploid = (a <= _DOT) & (b == _END)
    diploid = (a <= _DOT) & (b == _SEPARATOR) & (c <= _DOT) & (d == _END)
    last = np.where(haploid, a, c)
    known = haploid | diploid
    missing = known & (a == _DOT) & (last == _DOT)
    tables = [
        np.select([~known, missing], [_CLOSER_LOOK, MISSING], allele).astype(np.int16) for allele in (a, last)
    ]
    for shape in np.flatnonzero(known & ((a == _DOT) != (last == _DOT))):
        called = int(min(a[shape], last[shape]))
        tables[0][shape], tables[1][shape] = half_call(called, half_calls)
    return tables[0], tables[1]


def _pairs() -> npt.NDArray[np.uint16]:
    """The classes of every two bytes, the first in the low byte of the index."""
    classes = _classes()
    return (np.left_shift(classes[None, :], 4) | classes[:, None]).reshape(-1)


_PAIRS = _pairs()

_HOM_REFS = {call[1:2]: np.uint32(int.from_bytes(call, "little")) for call in (b"0/0\t", b"0|0\t")}
_SECOND, _NO_ALLELE, _NO_CALL = np.uint32(16), ~np.uint32(0x0001_0001), np.uint32(0x001E_001E)
"""Where the second allele begins, what no bit of `0` and `1` differs in, and what `.` differs in from `0`."""
_SPREAD, _SHIFT = np.uint32(0x2CF7_C449), np.uint32(28)
"""Found by trial: the highest four bits of a word times the first differ between the ten plain calls."""


def _plain_calls() -> tuple[npt.NDArray[np.uint32], Codes]:
    """By their place: the ten plain calls as words, and their codes."""
    words, codes = np.zeros(16, np.uint32), np.zeros(16, np.uint8)
    plain = {b"0/0\t": 0, b"0/1\t": 1, b"1/0\t": 1, b"1/1\t": 2, b"./.\t": 3}
    for call, code in plain.items():
        pair = np.frombuffer(call + call.replace(b"/", b"|"), "<u4")
        words[pair * _SPREAD >> _SHIFT] = pair
        codes[pair * _SPREAD >> _SHIFT] = code
    return words, codes


_WORDS, _CODES = _plain_calls()
