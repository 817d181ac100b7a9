"""What is read, and in which order."""

import re

import pyarrow as pa
import pytest

from features.contract.errors import DataGateError
from models.feed import reader
from models.feed.batches import Feed
from models.feed.plan import Part, shard
from models.feed.reader import read_ordered
from tests.models.feed import tiny


@pytest.fixture
def table():
    return tiny.people(50, tiny.manifest())


def test_only_planned_row_groups_are_read(tmp_path, table, monkeypatch):
    parts = tiny.write(tmp_path, "train", table, row_group=10)
    opened, read = [], reader.pq.ParquetFile.read_row_group

    def watched(self, number, **options):
        opened.append(number)
        return read(self, number, **options)

    monkeypatch.setattr(reader.pq.ParquetFile, "read_row_group", watched)
    pieces = [piece for _, piece in shard(parts[1:3], 0, 1, 1, 0, 1).reading_order()]
    found = pa.concat_tables(read_ordered(pieces, ["person_key"]))
    assert set(opened) == {1, 2}
    assert sorted(found["person_key"].to_pylist()) == sorted(table["person_key"].to_pylist()[10:30])


def test_the_order_does_not_depend_on_the_number_of_workers(tmp_path, table):
    parts = tiny.write(tmp_path, "train", table, row_group=3)
    pieces = [piece for _, piece in shard(parts, 0, 1, 4, 0, 8).reading_order()]
    one, three = (pa.concat_tables(read_ordered(pieces, ["person_key"], workers)) for workers in (1, 3))
    assert one.equals(three)


def test_batches_hold_each_person_once_and_padding_weighs_nothing(tmp_path, table):
    meaning = tiny.manifest()
    parts = tiny.write(tmp_path, "train", table, row_group=7)
    feed = Feed(meaning, meaning.statistics["train"], ["clinical", "imaging"])
    keys = []
    for rank in range(3):
        for batch in feed.batches(shard(parts, rank, 3, 1, 0, 8), person_key=True):
            assert {len(array) for array in batch.arrays.values()} == {8}
            assert not batch.arrays["weight"][batch.rows :].any()
            keys += batch.person_key.to_pylist()
    assert sorted(keys) == sorted(table["person_key"].to_pylist())


def test_a_rank_without_rows_still_makes_its_steps(tmp_path):
    meaning = tiny.manifest("survival", (100.0, 200.0))
    parts = tiny.write(tmp_path, "train", tiny.people(1, meaning), row_group=1)
    feed = Feed(meaning, meaning.statistics["train"], ["clinical", "genomics", "imaging"])
    found = [list(feed.batches(shard(parts, rank, 2, 1, 0, 4), person_key=True)) for rank in range(2)]
    assert [len(batches) for batches in found] == [1, 1]
    assert sum(batch.rows for batches in found for batch in batches) == 1


def test_a_file_that_is_not_what_the_plan_says_is_named(tmp_path, table):
    parts = tiny.write(tmp_path, "train", table, row_group=50)
    wrong = Part(parts[0].uri, 0, 60)
    pieces = [piece for _, piece in shard([wrong], 0, 1, 1, 0, 1).reading_order()]
    with pytest.raises(DataGateError, match=re.escape("row group 0 has 50 rows, the plan says 60")):
        list(read_ordered(pieces, ["person_key"]))
