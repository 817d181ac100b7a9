"""Numbers in the sample columns of a VCF line, for all samples at once."""

import re

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class WrongNumberError(ValueError):
    """A value is no number, or there are too many."""


_NUMBER = re.compile(rb"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
_LONGEST = 8
_POWERS = 10.0 ** np.arange(_LONGEST)


def read_numbers(columns: bytes, samples: int, place: int, most: int) -> Floats:
    """(samples, `most`) numbers, separated by commas, of the field at `place` of each of the tab-separated sample
    columns of a VCF line; NaN where there is none. Nearly all are as short as `0.123` or `37`, and those are read
    at once.
    """
    data = np.frombuffer(columns + b"\t" + b"\0" * _LONGEST, np.uint8)
    text = data[: len(columns) + 1]
    ends = np.flatnonzero((text == ord("\t")) | (text == ord(":")) | (text == ord(",")))
    tabs = np.flatnonzero(text[ends] == ord("\t"))
    firsts = np.concatenate([[0], tabs[:-1] + 1])  # of each sample, its first end
    start = _field(text, ends, firsts, tabs, place)
    found = np.full((samples, most), np.nan)
    there = np.flatnonzero(start >= 0)
    at = start[there]  # which end each number has
    for column in range(most):
        begin = np.where(at > 0, ends[np.maximum(at, 1) - 1] + 1, 0)
        found[there, column] = _numbers(columns, data, begin, ends[at])
        more = text[ends[at]] == ord(",")
        there, at = there[more], at[more] + 1
    if len(there):
        raise WrongNumberError
    return found


def _field(
    text: npt.NDArray[np.uint8],
    ends: npt.NDArray[np.int64],
    firsts: npt.NDArray[np.int64],
    tabs: npt.NDArray[np.int64],
    place: int,
) -> npt.NDArray[np.int64]:
    """For each sample the number of the end of the field's first value; -1 where the field was dropped."""
    colons = np.flatnonzero(text[ends] == ord(":"))
    if place == 0:
        return firsts
    number = np.searchsorted(colons, firsts) + place - 1
    found = np.full(len(tabs), -1)
    known = number < len(colons)
    found[known] = colons[number[known]] + 1
    found[found > tabs] = -1
    return found


def _numbers(
    columns: bytes, data: npt.NDArray[np.uint8], begin: npt.NDArray[np.int64], end: npt.NDArray[np.int64]
) -> Floats:
    """The numbers from `begin` to `end`, NaN for `.`; WrongNumberError for anything else."""
    size = end - begin
    letters = data[begin[:, None] + np.arange(_LONGEST)]
    digits = letters - np.uint8(ord("0"))
    inside = np.arange(_LONGEST) < size[:, None]
    is_digit = (digits <= 9) & inside
    has_point = (letters[:, 1] == ord(".")) & (size > 2)
    short = (size <= _LONGEST) & (is_digit.sum(1) == size - has_point)
    mantissa = digits[:, 0] * 1.0
    for place in range(1, _LONGEST):
        mantissa = np.where(is_digit[:, place], mantissa * 10 + digits[:, place], mantissa)
    decimals = np.where(has_point, size - 2, 0)
    found: Floats = mantissa / _POWERS[np.clip(decimals, 0, _LONGEST - 1)]
    absent = (size == 0) | ((size == 1) & (letters[:, 0] == ord(".")))
    found[absent] = np.nan
    for row in np.flatnonzero(~short & ~absent):
        word = columns[begin[row] : end[row]]
        if _NUMBER.fullmatch(word):
            found[row] = float(word)
        else:
            raise WrongNumberError
    return found
