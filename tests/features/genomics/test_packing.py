"""Sample i lies in bits 2(i mod 4) of byte i // 4."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.genomics.packing import pack, packed_size, unpack


@given(st.lists(st.integers(0, 3), max_size=600))
def test_what_is_packed_comes_back(codes: list[int]) -> None:
    packed = pack(np.array(codes, np.uint8))
    assert len(packed) == packed_size(len(codes))
    assert unpack(packed, len(codes)).tolist() == codes


def test_the_first_sample_lies_in_the_lowest_bits_and_padding_is_zero() -> None:
    assert pack(np.array([1, 2, 3, 0, 2], np.uint8)).tobytes() == bytes([0b00_11_10_01, 0b00_00_00_10])


def test_rows_are_packed_and_unpacked_side_by_side() -> None:
    codes = np.array([[0, 1, 2, 3, 1], [3, 2, 1, 0, 0]], np.uint8)
    assert pack(codes).tolist() == [pack(row).tolist() for row in codes]
    assert unpack(pack(codes), 5).tolist() == codes.tolist()
