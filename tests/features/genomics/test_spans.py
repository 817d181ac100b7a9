"""Which parts of the files may have variants of which another has one too."""

from itertools import combinations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from features.genomics.spans import spans_of, suspects_of

PLACES = st.tuples(st.sampled_from(["a", "b"]), st.sampled_from("12"), st.integers(0, 30), st.integers(0, 8))


@given(st.lists(st.tuples(st.integers(0, 6), PLACES), unique_by=lambda span: (span[0], *span[1][:2])))
def test_parts_that_overlap_are_suspect_and_no_others(spans: list[tuple[int, tuple[str, str, int, int]]]) -> None:
    rows = [
        {"part": part, "sample_block": block, "contig": contig, "first": first, "last": first + more}
        for part, (block, contig, first, more) in spans
    ]
    overlapping = {
        part["part"]
        for pair in combinations(rows, 2)
        for part in pair
        if all(pair[0][name] == pair[1][name] for name in ("sample_block", "contig"))
        and not (pair[0]["last"] < pair[1]["first"] or pair[1]["last"] < pair[0]["first"])
    }
    assert suspects_of(_table(rows)) == sorted(overlapping)
    by_contig = {on: [span for _, span in spans if span[1] == on] for on in "12"}
    assert spans_of(_table(rows)) == {
        on: [min(first for *_, first, _ in own), max(first + more for *_, first, more in own)]
        for on, own in by_contig.items()
        if own
    }


def test_a_part_that_has_a_variant_twice_is_suspect() -> None:
    rows = [
        {"part": part, "sample_block": "a", "contig": "1", "first": 10 * part, "last": 10 * part + 9}
        for part in range(3)
    ]
    assert suspects_of(_table([row | {"is_doubled": row["part"] == 1} for row in rows])) == [1]


def _table(rows: list[dict[str, object]]) -> pa.Table:
    names = ["part", "sample_block", "contig", "first", "last", "is_doubled"]
    columns = {name: [row.get(name, False) for row in rows] for name in names}
    kinds = [pa.int32(), pa.string(), pa.string(), pa.int64(), pa.int64(), pa.bool_()]
    return pa.table({name: pa.array(columns[name], kind) for name, kind in zip(names, kinds, strict=True)})
