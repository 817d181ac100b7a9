"""The short way through a line of plain calls gives what the long way gives, or nothing."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from features.genomics.genotype import count_alleles, read_alleles, read_biallelic

PLAIN = [f"{a}{separator}{b}" for a, b in ("00", "01", "10", "11", "..") for separator in "/|"]
OTHERS = ["0/.", "./1", "0", "1", ".", "0/2", "2|2", "10/0", "0/0/1", "0:0", "1-1", "a/b", "", "...", "0/1:9"]


ALIKE = st.sampled_from("/|").flatmap(
    lambda mark: st.lists(st.sampled_from([call for call in PLAIN if mark in call]))
)


@given(st.lists(st.sampled_from(PLAIN), min_size=1, max_size=80) | ALIKE.filter(bool))
def test_plain_calls_are_read_as_one_by_one(calls: list[str]) -> None:
    columns = "\t".join(calls).encode()
    first, second = read_alleles(columns, len(calls), "error")
    found = read_biallelic(columns, len(calls))
    assert found is not None
    assert found.tolist() == count_alleles(first, second, 1).tolist()


@given(st.lists(st.sampled_from(PLAIN), max_size=20), st.sampled_from(OTHERS), st.lists(st.sampled_from(PLAIN)))
def test_any_other_call_is_left_to_a_closer_look(before: list[str], other: str, after: list[str]) -> None:
    calls = [*before, other, *after]
    assert read_biallelic("\t".join(calls).encode(), len(calls)) is None


@given(st.binary(min_size=4, max_size=4))
@example(b"0/0\n")
@example(b"0/0:")
@example(b".//\t")
@example(b"//.\t")
@example(b"///\t")
@example(b"|||\t")
def test_no_other_four_bytes_are_taken_for_a_call(four: bytes) -> None:
    found = read_biallelic(four + b"0/0", 2)
    assert (found is not None) == (four.endswith(b"\t") and four[:3].decode(errors="replace") in PLAIN)


def test_another_number_of_columns_is_left_to_a_closer_look() -> None:
    columns = b"0/0\t0/1\t1/1"
    assert [read_biallelic(columns, samples) is None for samples in (2, 3, 4)] == [True, False, True]


def test_every_pair_of_calls_stands_apart() -> None:
    found = read_biallelic("\t".join(PLAIN).encode(), len(PLAIN))
    assert found is not None
    np.testing.assert_array_equal(found, [0, 0, 1, 1, 1, 1, 2, 2, 3, 3])


@pytest.mark.parametrize("call", ["0/1", "1|1", "1", ".", "./.", "12|3", "./1"])
def test_the_phase_of_the_first_allele_may_stand_before_it(call: str) -> None:
    plain, phased = (read_alleles(f"{text}:9\t0/0".encode(), 2, "reference") for text in (call, f"|{call}"))
    assert [allele.tolist() for allele in plain] == [allele.tolist() for allele in phased]
