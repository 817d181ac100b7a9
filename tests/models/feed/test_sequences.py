"""Sequences of differing length: padded, their ends known, fed in the order of the plan."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.contract.errors import DataGateError
from models.feed.columns import Columns, decode
from models.feed.plan import Part, shard
from models.feed.reader import Kept, batches, check_part
from models.feed.schema import Schema, SequenceShape

VISITS = Schema(scalars={"row": pa.float32()}, sequences={"visits": SequenceShape(longest=3, width=2)})
FLOATS = pa.list_(pa.float32())


def decoded(*rows: list[float | None], kind: pa.DataType = FLOATS) -> Columns:
    return decode(
        pa.table({"row": pa.array(range(len(rows)), pa.float32()), "visits": pa.array(rows, kind)}), VISITS
    )


@pytest.mark.parametrize("kind", [FLOATS, pa.large_list(pa.float32())])
def test_a_sequence_is_padded_with_zeros_behind_its_last_step(kind):
    found = decoded([1, 2, 3, 4], [], [5, 6, 7, 8, 9, 10], kind=kind)
    assert found["visits_steps"].tolist() == [2, 0, 3]
    assert found["visits"].tolist() == [
        [[1, 2], [3, 4], [0, 0]],
        [[0, 0], [0, 0], [0, 0]],
        [[5, 6], [7, 8], [9, 10]],
    ]


def test_a_null_inside_a_sequence_is_a_missing_value():
    np.testing.assert_array_equal(decoded([None, 2])["visits"][0], [[np.nan, 2], [0, 0], [0, 0]])


@pytest.mark.parametrize("values", [3, 8])
def test_a_broken_step_or_one_too_many_is_refused(values):
    with pytest.raises(
        DataGateError, match=f"column visits: a row has {values} values, expected at most 3 steps of 2"
    ):
        decoded([1, 2], [1] * values)


def test_a_sequence_that_is_null_is_refused():
    with pytest.raises(DataGateError, match="column visits: a row is null"):
        decoded([1, 2], None)


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float32(), 6), pa.float32()])
def test_a_column_of_another_type_is_named(tmp_path, kind):
    table = pa.table({"row": pa.array([], pa.float32()), "visits": pa.array([], kind)})
    with pytest.raises(DataGateError, match=r"column visits is .*, expected a list of float of any length"):
        check_part(written(tmp_path, table, 1)[0], VISITS)


def test_a_name_for_two_things_is_refused():
    with pytest.raises(ValueError, match="a name stands for two things"):
        Schema(scalars={"visits_steps": pa.float32()}, sequences=VISITS.sequences)


def test_each_row_is_fed_once_with_its_own_steps_on_one_rank_and_on_two(tmp_path):
    random = np.random.default_rng(3)
    rows = [random.normal(size=2 * n).astype(np.float32).tolist() for n in random.integers(0, 4, 100)]
    table = pa.table({"row": pa.array(range(100), pa.float32()), "visits": pa.array(rows, FLOATS)})
    parts = written(tmp_path, table, 17)
    for ranks in (1, 2):
        found = {}
        for rank in range(ranks):
            for columns in batches(shard(parts, rank, ranks, 1, 0, 8), VISITS, Kept()):
                for i in range(len(columns)):
                    steps = int(columns["visits_steps"][i])
                    assert not columns["visits"][i, steps:].any()
                    assert int(columns["row"][i]) not in found
                    found[int(columns["row"][i])] = columns["visits"][i, :steps].ravel().tolist()
        assert [found[i] for i in range(100)] == rows


def written(folder, table: pa.Table, row_group: int) -> list[Part]:
    """The table as one file; its parts."""
    path = folder / "visits.parquet"
    pq.write_table(table, path, row_group_size=row_group)
    groups = range(max(1, -(-len(table) // row_group)))
    return [Part(f"file://{path}", i, min(row_group, len(table) - i * row_group)) for i in groups]
