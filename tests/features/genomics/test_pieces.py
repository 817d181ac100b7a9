"""Overlapping regions cut to pieces: each place has the region of the lowest number, as a search of all says."""

from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from features.genomics.pieces import cut

spans = st.tuples(st.integers(0, 30), st.integers(0, 12)).map(lambda drawn: (drawn[0], sum(drawn)))


@given(st.lists(spans, min_size=1, max_size=10))
def test_each_place_has_the_region_of_the_lowest_number(found: list[tuple[int, int]]) -> None:
    pieces = cut([(start, end, number) for number, (start, end) in enumerate(found)], len(found))
    assert pieces.cuts == sorted(set(pieces.cuts))
    for place in range(45):
        holding = [number for number, (start, end) in enumerate(found) if start <= place < end]
        at = bisect_right(pieces.cuts, place) - 1
        assert (pieces.regions[at] if at >= 0 else len(found)) == min(holding, default=len(found))
