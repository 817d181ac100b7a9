"""What is read, in which order, how much of it is held, and what happens to a table that is damaged."""

import re
import threading
from itertools import takewhile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.contract.errors import ClusterError, DataGateError
from features.contract.paths import Location
from models.feed import reader
from models.feed.batches import Feed
from models.feed.columns import Columns
from models.feed.plan import Part, Piece, Shard, shard
from models.feed.reader import Kept, Reader, batches
from models.feed.schema import Schema
from tests.models.feed import tiny

KEYS = Schema(texts=("person_key",))
MODALITIES = ["clinical", "imaging"]


@pytest.fixture
def table() -> pa.Table:
    return tiny.people(50, tiny.manifest())


def share_of(pieces: list[Piece], batch_rows: int = 1) -> Shard:
    """One lane of these pieces."""
    rows = sum(piece.rows for piece in pieces)
    return Shard((tuple(pieces),), batch_rows, -(-rows // batch_rows), rows)


def keys_of(share: Shard, workers: int = 2) -> list[str]:
    return [key for columns in batches(share, KEYS, Kept(), workers) for key in columns["person_key"]]


def feed() -> Feed:
    meaning = tiny.manifest()
    return Feed(meaning, meaning.statistics["train"], MODALITIES)


def test_only_planned_row_groups_are_read(tmp_path, table, monkeypatch):
    parts = tiny.write(tmp_path, "train", table, row_group=10)
    opened, read = [], pq.ParquetFile.iter_batches

    def watched(self, rows, groups, *arguments, **options):
        opened.extend(groups)
        return read(self, rows, groups, *arguments, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watched)
    found = keys_of(shard(parts[1:3], 0, 1, 1, 0, 8))
    assert set(opened) == {1, 2}
    assert sorted(found) == sorted(table["person_key"].to_pylist()[10:30])


def test_the_order_does_not_depend_on_the_number_of_workers(tmp_path, table):
    share = shard(tiny.write(tmp_path, "train", table, row_group=3), 0, 1, 4, 0, 8)
    assert keys_of(share, workers=1) == keys_of(share, workers=3)


def test_rows_come_in_the_order_of_the_plan_however_they_are_decoded(tmp_path, table, monkeypatch):
    monkeypatch.setattr(reader, "CHUNK_ROWS", 4)
    parts = tiny.write(tmp_path, "train", table, row_group=25)
    pieces = [Piece(parts[1], 3, 21, (7, 0, 1)), Piece(parts[0], 2, 9, None)]
    written = np.array(table["person_key"].to_pylist())
    shuffled = np.random.default_rng((7, 0, 1)).permutation(25)[3:21]
    for batch_rows in (1, 4, 30):
        assert keys_of(share_of(pieces, batch_rows)) == [*written[25:][shuffled], *written[2:9]]


def test_batches_hold_each_person_once_and_padding_weighs_nothing(tmp_path, table):
    parts = tiny.write(tmp_path, "train", table, row_group=7)
    keys = []
    for rank in range(3):
        for batch in feed().batches(shard(parts, rank, 3, 1, 0, 8), person_key=True):
            assert {len(array) for array in batch.arrays.values()} == {8}
            assert not batch.arrays["weight"][batch.rows :].any()
            keys += batch.person_key.to_pylist()
    assert sorted(keys) == sorted(table["person_key"].to_pylist())


def test_one_two_four_and_eight_ranks_are_fed_the_same_global_batches(tmp_path, table):
    parts = tiny.write(tmp_path, "train", table, row_group=7)

    def people(size):
        ranks = [batches(shard(parts, rank, size, 3, 1, 16 // size), KEYS, Kept()) for rank in range(size)]
        return [sorted(key for batch in step for key in batch["person_key"]) for step in zip(*ranks, strict=True)]

    assert all(people(size) == people(1) for size in (2, 4, 8))


def test_no_row_group_is_lost_between_the_pools_threads(tmp_path):
    """200 passes through Petastorm's pool, with other ranks, batches and workers each time."""
    random, total = np.random.default_rng(3), 0
    sizes = random.integers(1, 9, 24).tolist()
    parts, numbers = [], Schema(scalars={"row": pa.float32()})
    for number, rows in enumerate(sizes):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"row": pa.array(range(total, total + rows), pa.float32())}), path)
        parts.append(Part(f"file://{path}", 0, rows))
        total += rows
    for epoch in range(200):
        size, batch_rows = int(random.integers(1, 9)), int(random.integers(1, 33))
        seen = [
            [
                batch.scalars[:, 0].copy()
                for batch in batches(shard(parts, rank, size, 1, epoch, batch_rows), numbers, Kept())
            ]
            for rank in range(size)
        ]
        assert len({len(one) for one in seen}) == 1
        rows = np.concatenate([rows for one in seen for rows in one])
        np.testing.assert_array_equal(np.sort(rows), np.arange(total))


def test_a_rank_without_rows_still_makes_its_steps(tmp_path):
    meaning = tiny.manifest("survival", (100.0, 200.0))
    parts = tiny.write(tmp_path, "train", tiny.people(1, meaning), row_group=1)
    given = Feed(meaning, meaning.statistics["train"], ["clinical", "genomics", "imaging"])
    found = [list(given.batches(shard(parts, rank, 2, 1, 0, 4), person_key=True)) for rank in range(2)]
    assert [len(batches) for batches in found] == [1, 1]
    assert sum(batch.rows for batches in found for batch in batches) == 1


@pytest.mark.parametrize("workers", [1, 4])
def test_what_is_read_ahead_of_a_user_that_stalls_fits_in_the_ring(tmp_path, table, monkeypatch, workers):
    """At each step the user waits until all is being read that there is room for; more must never be."""
    share = shard(tiny.write(tmp_path, "train", table, row_group=2), 0, 1, 1, 0, 8)
    begun, changed, read, at = [], threading.Condition(), reader.read_piece, 0
    order = {s.piece: share.step_of(s.start + s.piece.rows - 1) for s in share.reading_order()}

    def watched(piece, *arguments):
        with changed:
            begun.append(piece)
            assert order[piece] < at + reading.window
            changed.notify_all()
        read(piece, *arguments)

    def all_begun() -> bool:
        return set(takewhile(lambda piece: order[piece] < at + reading.window, order)) <= set(begun)

    monkeypatch.setattr(reader, "read_piece", watched)
    reading = Reader(share, KEYS, Kept(), workers)
    assert reading.window < share.steps
    with reading:
        for at in range(share.steps):
            reading.read(at)
            with changed:
                assert changed.wait_for(all_begun, timeout=30)
    assert sorted(begun, key=repr) == sorted(order, key=repr)


def test_a_pass_uses_the_memory_of_the_one_before(tmp_path, table, monkeypatch):
    made, make = [], reader.empty

    def counted(schema: Schema, rows: int) -> Columns:
        made.append(rows)
        return make(schema, rows)

    monkeypatch.setattr(reader, "empty", counted)
    share, kept = shard(tiny.write(tmp_path, "train", table, row_group=2), 0, 1, 1, 0, 8), Kept()
    found = [
        sorted(key for columns in batches(share, KEYS, kept) for key in columns["person_key"]) for _ in range(3)
    ]
    assert found == [sorted(table["person_key"].to_pylist())] * 3
    # Twice a row group of each of the eight lanes, and one row of each.
    assert made == [(2 * 2 + 1) * 8]


def test_checksums_are_verified_when_a_row_group_is_first_read(tmp_path, table, monkeypatch):
    asked, opened = [], pq.ParquetFile

    def watched(*arguments, page_checksum_verification, **options):
        asked.append(page_checksum_verification)
        return opened(*arguments, page_checksum_verification=page_checksum_verification, **options)

    parts, kept = tiny.write(tmp_path, "train", table, row_group=25), Kept()
    monkeypatch.setattr(pq, "ParquetFile", watched)
    for epoch in range(2):
        asked.clear()
        for _ in batches(shard(parts, 0, 1, 1, epoch, 8), KEYS, kept):
            pass
        assert asked.count(True) >= len(parts) if epoch == 0 else not any(asked)


def read_all(parts: list[Part]) -> None:
    for _ in feed().batches(shard(parts, 0, 1, 1, 0, 8)):
        pass


def feed_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if type(thread).__module__.startswith("petastorm")]


def flip(path: Path) -> None:
    """Every byte of a stretch in the middle of the data pages, as a bad disk would."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 64] = bytes(byte ^ 0xFF for byte in data[middle : middle + 64])
    path.write_bytes(data)


DAMAGE = {
    "gone": (Path.unlink, r"people-2\.parquet: the plan names this file but it is gone; run build_features"),
    "flipped": (flip, r"people-2\.parquet: row group 0 cannot be read, the file is damaged; run build_features"),
    "cut": (
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        r"people-2\.parquet: row group 0 cannot be read, the file is damaged",
    ),
    "empty": (lambda path: path.write_bytes(b""), r"people-2\.parquet: row group 0 cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_and_no_thread_is_left(tmp_path, table, damage):
    parts = [tiny.write(tmp_path, f"people-{i}", table, row_group=50)[0] for i in range(6)]
    act, message = DAMAGE[damage]
    act(tmp_path / "people-2.parquet")
    with pytest.raises(DataGateError, match=message):
        read_all(parts)
    assert not feed_threads()


def test_a_file_of_other_row_groups_than_planned_is_named(tmp_path, table):
    parts = tiny.write(tmp_path, "train", table, row_group=50)
    for wrong, found in (
        (Part(parts[0].uri, 0, 60), "50 rows, the plan says 60"),
        (Part(parts[0].uri, 3, 5), "0 rows"),
    ):
        with pytest.raises(DataGateError, match=f"train.parquet: row group {wrong.row_group} has {found}"):
            read_all([wrong])


def test_a_cluster_that_does_not_answer_is_not_a_damaged_table(monkeypatch):
    """What hdfs-native raises, after minutes of trying again, where no name node listens."""

    def refused(self, mode="rb"):
        raise OSError("Connection refused (os error 111)")

    monkeypatch.setattr(Location, "open", refused)
    for check in (lambda parts: feed().check(parts[0]), read_all):
        with pytest.raises(ClusterError, match=r"HDFS does not answer \(Connection refused"):
            check([Part("hdfs://127.0.0.1:1/t/a.parquet", 0, 5)])


@pytest.mark.parametrize("workers", [1, 4])
def test_a_workers_own_error_ends_the_pass_and_its_threads(tmp_path, table, monkeypatch, workers):
    share = shard(tiny.write(tmp_path, "train", table, row_group=2), 0, 1, 1, 0, 8)

    def fail(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(reader, "read_piece", fail)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        keys_of(share, workers)
    assert not feed_threads()


def test_an_error_is_told_while_another_worker_waits_for_room(tmp_path, monkeypatch):
    """The user is far behind: the one worker fails, the other has to wait for the user."""
    table = tiny.people(200, tiny.manifest())
    share = shard(tiny.write(tmp_path, "train", table, row_group=2), 0, 1, 1, 0, 8)
    failing, read, waiting = share.reading_order()[40].piece, reader.read_piece, threading.Event()
    wait_for = reader._Room.wait_for

    def fail(piece, *arguments):
        if piece == failing:
            assert waiting.wait(30)
            raise MemoryError
        read(piece, *arguments)

    def watched(self, step):
        if step >= self._step + self._window:
            waiting.set()
        return wait_for(self, step)

    monkeypatch.setattr(reader, "read_piece", fail)
    monkeypatch.setattr(reader._Room, "wait_for", watched)
    with pytest.raises(MemoryError):
        keys_of(share)
    assert not feed_threads()


def test_a_row_group_that_gives_fewer_rows_than_it_has_is_named(tmp_path, table, monkeypatch):
    """Else rows of the pass before would stand in for them."""
    whole = pq.ParquetFile.iter_batches
    monkeypatch.setattr(reader, "CHUNK_ROWS", 4)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *given, **named: list(whole(*given, **named))[:-1])
    parts = tiny.write(tmp_path, "train", table, row_group=25)
    with pytest.raises(DataGateError, match=r"train.parquet: row group \d gave 24 of its 25 rows"):
        read_all(parts)


def test_a_damaged_file_on_a_cluster_that_answers_is_damaged(tmp_path, table, monkeypatch):
    parts = tiny.write(tmp_path, "people", table, row_group=50)
    flip(tmp_path / "people.parquet")
    local = fsspec.filesystem("file")
    monkeypatch.setattr(Location, "open", lambda self: local.open(self.path))
    there = Part(f"hdfs://nowhere{tmp_path}/people.parquet", 0, parts[0].rows)
    with pytest.raises(DataGateError, match="row group 0 cannot be read, the file is damaged"):
        read_all([there])


def test_a_file_that_may_not_be_read_is_not_damaged(tmp_path, table, monkeypatch):
    parts = tiny.write(tmp_path, "train", table, row_group=25)

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pq, "ParquetFile", refused)
    with pytest.raises(PermissionError):
        read_all(parts)


def test_a_pass_broken_off_leaves_no_thread(tmp_path, table):
    parts = tiny.write(tmp_path, "train", table, row_group=2)
    fed = feed().batches(shard(parts, 0, 1, 1, 0, 8))
    next(fed)
    assert feed_threads()
    fed.close()
    assert not feed_threads()


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("x_clinical", None, "column x_clinical is missing"),
        ("has_imaging", pa.array([1] * 50), "column has_imaging is int64, expected bool"),
        ("weight", pa.array(["1"] * 50), "column weight is string, expected float"),
        ("y_death", pa.array([1.0] * 50), "column y_death is double, expected int8"),
        ("x_clinical", pa.array([[1, 2]] * 50), "column x_clinical is list<.*int64>, expected a list of 2 float"),
        (
            "x_clinical",
            pa.array([[1.0] * 3] * 50, pa.list_(pa.float32(), 3)),
            "column x_clinical is .*, expected a list of 2 float",
        ),
        ("x_imaging", pa.array(["a"] * 50), "column x_imaging is string, expected binary"),
    ],
)
def test_a_column_of_another_type_is_named_before_training(tmp_path, table, name, column, message):
    at = table.column_names.index(name)
    other = table.remove_column(at) if column is None else table.set_column(at, name, column)
    parts = tiny.write(tmp_path, "train", other, row_group=25)
    for check in (lambda parts: feed().check(parts[0]), read_all):
        with pytest.raises(DataGateError, match=rf"train\.parquet: {message}"):
            check(parts)


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        (
            "x_clinical",
            pa.array([[1.0, 2.0]] * 49 + [[1.0]], pa.list_(pa.float32())),
            "a row has 1 values, expected 2",
        ),
        (
            "x_clinical",
            pa.array([[1.0, 2.0]] * 49 + [None], pa.list_(pa.float32())),
            "a row is null, expected none",
        ),
        ("x_imaging", pa.array([bytes(64)] * 49 + [bytes(63)]), "a row has 63 bytes, expected 64"),
        ("x_imaging", pa.array([bytes(64)] * 49 + [None]), "a row is null, expected none"),
        ("has_clinical", pa.array([True] * 49 + [None]), "a row is null, expected none"),
        ("weight", pa.array([1.0] * 49 + [None], pa.float32()), "a row is null, expected none"),
    ],
)
def test_a_row_that_is_not_as_declared_is_refused_by_its_column_and_file(tmp_path, table, name, column, message):
    other = table.set_column(table.column_names.index(name), name, column)
    parts = tiny.write(tmp_path, "train", other, row_group=25)
    with pytest.raises(DataGateError, match=re.escape(f"train.parquet: column {name}: {message}")):
        read_all(parts)


def test_a_null_inside_a_list_is_a_missing_value(tmp_path, table):
    at = table.column_names.index("x_clinical")
    other = table.set_column(at, "x_clinical", pa.array([[None, 0.5]] * 50, pa.list_(pa.float32())))
    other = other.set_column(table.column_names.index("has_clinical"), "has_clinical", pa.array([True] * 50))
    parts = tiny.write(tmp_path, "train", other, row_group=25)
    for batch in feed().batches(shard(parts, 0, 1, None, 0, 10)):
        np.testing.assert_array_equal(batch.arrays["clinical"], [[0.0, 0.0, 1.0, 0.0]] * 10)
