"""A table that takes a new shape keeps its history, and what must hold; and the workers of a session."""

import zipimport
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake.transaction import AddAction
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from features import lake as lake_module
from features import task_files as task_files_module
from features.contract.errors import ClusterError, DataGateError
from features.contract.paths import Location
from features.contract.runs import Run, Runs, open_delta
from features.contract.schemas import VARIANTS, Table, _schema
from features.lake import data_files, files_of_tasks, read_table, read_version, write_table
from features.task_files import task_files

CHECKS = {"a_is_there": "length(a) > 0"}
ONE = Table("t", _schema(("a", pa.string())), CHECKS)
TWO = Table("t", _schema(("a", pa.string()), ("b", pa.int64())), CHECKS)


def test_a_table_takes_a_new_shape_and_its_checks_hold(spark: SparkSession, lake: Location) -> None:
    first = write_table(spark.createDataFrame([("x",)], "a string"), lake, ONE)
    second = write_table(spark.createDataFrame([("y", 1)], "a string, b bigint"), lake, TWO, reshape=True)
    assert read_version(spark, lake, "t", first).collect() == [("x",)]
    assert read_version(spark, lake, "t", second).collect() == [("y", 1)]
    for row, told in ((("", 1), "a_is_there"), (("y", None), "NOT_NULL")):
        with pytest.raises(Py4JJavaError, match=told):
            write_table(spark.createDataFrame([row], "a string, b bigint"), lake, TWO, reshape=True)


def test_a_version_is_read_whatever_its_folder_is_called(spark: SparkSession, tmp_path: Path) -> None:
    lake = Location.parse(str(tmp_path / "100% of *{a,b}[0-9] é\"'"))
    shape = "a string, b bigint"
    first = write_table(spark.createDataFrame([("x", 1), ("y", 2)], shape).repartition(2), lake, TWO)
    second = write_table(spark.createDataFrame([], shape), lake, TWO)
    assert sorted(read_version(spark, lake, "t", first).collect()) == [("x", 1), ("y", 2)]
    empty = read_version(spark, lake, "t", second)
    assert empty.collect() == [] and empty.columns == ["a", "b"]


def test_a_version_that_lost_a_file_is_not_read_as_less(spark: SparkSession, lake: Location) -> None:
    version = write_table(spark.createDataFrame([("x",), ("y",)], "a string").repartition(2), lake, ONE)
    gone = next(iter(data_files(lake, "t", version)))
    (lake / f"t/{gone}").delete()
    with pytest.raises(ClusterError, match=f"table t: a file of version {version} is gone"):
        read_version(spark, lake, "t", version)
    with pytest.raises(ClusterError, match="table u is not in this lake"):
        read_version(spark, lake, "u", 0)


def test_a_writer_beside_another_finds_out(
    spark: SparkSession, lake: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who commits while rows are written, over an empty table and over one with rows."""
    frame = spark.createDataFrame([("x", 1)], "a string, b bigint")
    whole = lake_module._added

    def late(folder: Location, below: str) -> list[AddAction]:
        monkeypatch.setattr(lake_module, "_added", whole)
        write_table(frame, lake, TWO)
        return whole(folder, below)

    for _ in range(2):
        monkeypatch.setattr(lake_module, "_added", late)
        with pytest.raises(ClusterError, match="another writer committed beside this job"):
            write_table(frame, lake, TWO)


def test_what_is_not_committed_leaves_no_files(spark: SparkSession, lake: Location) -> None:
    shape = "a string, b bigint"
    write_table(spark.createDataFrame([], shape), lake, TWO)
    with pytest.raises(Py4JJavaError, match="CHECK a_is_there"):
        write_table(spark.createDataFrame([("x", 1), ("", 2)], shape).repartition(2), lake, TWO)
    assert [path.name for path in Path((lake / "t").path).iterdir()] == ["_delta_log"]


def test_files_of_tasks_are_a_table_once_they_are_named(spark: SparkSession, lake: Location) -> None:
    """Those of tasks that ran twice are not, and of a job that fails none stay."""
    table = Table("t", _schema(("a", pa.string()), ("b", pa.int64(), True)))
    write_table(spark.createDataFrame([("old",)], "a string"), lake, ONE)
    with files_of_tasks(lake, table) as files:
        for name, row in (("x.parquet", {"a": "x", "b": 1}), ("again.parquet", {"a": "x", "b": None})):
            with (files.folder / name).open("wb") as stream:
                pq.write_table(pa.Table.from_pylist([row], table.schema), stream)
        version = files.commit({"x.parquet"})
    assert read_version(spark, lake, "t", version).collect() == [("x", 1)]
    (only,) = data_files(lake, "t", version)
    assert [file.path for file in files.folder.files()] == [only.partition("/")[2]] == ["x.parquet"]

    with pytest.raises(ClusterError, match="1 files that tasks wrote"), files_of_tasks(lake, table) as files:
        files.commit({"gone.parquet"})
    assert not files.folder.exists()
    with pytest.raises(RuntimeError), files_of_tasks(lake, table) as others:
        (others.folder / "x.parquet").write_bytes(b"half")
        raise RuntimeError
    assert not others.folder.exists()


def test_files_of_tasks_stand_beside_those_before_where_they_are_appended(
    spark: SparkSession, lake: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each is bounded, as are its row groups."""
    table = Table("t", _schema(("a", pa.int64())))
    write_table(spark.createDataFrame([(-1,)], "a bigint"), lake, table)
    monkeypatch.setattr(task_files_module, "GROUP_BYTES", 100 * 8)
    monkeypatch.setattr(task_files_module, "FILE_BYTES", 300 * 8)
    with files_of_tasks(lake, table, append=True) as files:
        with task_files(files.folder, table, {}) as rows:
            for start in range(0, 1000, 50):
                rows.write(pa.table({"a": range(start, start + 50)}))
        version = files.commit(rows.names)
    assert sorted(row["a"] for row in read_version(spark, lake, "t", version).collect()) == list(range(-1, 1000))
    found = [pq.read_metadata((files.folder / name).path) for name in rows.names]
    assert [own.num_rows for own in found] == [300, 300, 300, 100]
    assert {own.row_group(group).num_rows for own in found for group in range(own.num_row_groups)} == {100}


def test_tasks_write_coded_texts_as_they_would_others(
    spark: SparkSession, lake: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose codes are others each time, in one row group and from one to the next; and some have none."""
    monkeypatch.setattr(task_files_module, "GROUP_BYTES", 100)
    table = Table("t", _schema(("a", pa.string(), True)))
    told = [["x", "y", "x"], ["y"] * 9, [None, None], ["z", None, "x"], ["w"] * 40, ["x", "z"]]
    every = list(chain.from_iterable(told))
    with files_of_tasks(lake, table) as files:
        with task_files(files.folder, table, {}) as rows:
            for texts in told:
                rows.write(pa.table({"a": pa.array(texts, pa.string()).dictionary_encode()}))
        version = files.commit(rows.names)
    (name,) = rows.names
    with pq.ParquetFile((files.folder / name).path) as stored:
        assert stored.schema_arrow.field("a").type == pa.string()
        assert stored.num_row_groups > 1
        assert stored.read()["a"].to_pylist() == every
    found = [row["a"] for row in read_version(spark, lake, "t", version).collect()]
    assert Counter(found) == Counter(every)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"a": None, "b": 1}, "t: NOT_NULL: a"),
        ({"a": 7, "b": 5}, "t: CHECK in_order: a <= b"),
        ({"a": 7, "b": None}, "t: CHECK in_order: a <= b"),
    ],
)
def test_a_task_writes_no_row_that_breaks_a_rule_of_the_table(
    lake: Location, row: dict[str, int | None], told: str
) -> None:
    table = Table("t", _schema(("a", pa.int64()), ("b", pa.int64(), True)), {"in_order": "a <= b"})
    loose = pa.schema([own.with_nullable(True) for own in table.schema])
    (lake / "below").filesystem.makedirs((lake / "below").path)
    with task_files(lake / "below", table, {}) as rows:
        rows.write(pa.Table.from_pylist([{"a": 1, "b": 1}], loose))
        rows.write(pa.Table.from_pylist([{"a": 1, "b": 1}, row], loose))
        with pytest.raises(ValueError, match=f"^{told}$"):
            rows.flush()
    assert rows.names == []


def test_tasks_write_no_table_with_a_rule_that_pandas_may_read_otherwise(lake: Location) -> None:
    with pytest.raises(AssertionError, match="CHECK"), task_files(lake / "below", ONE, {}):
        pass


def test_who_commits_files_of_tasks_beside_another_finds_out(spark: SparkSession, lake: Location) -> None:
    table = Table("t", _schema(("a", pa.string())))
    with pytest.raises(ClusterError, match="another writer"), files_of_tasks(lake, table) as files:
        with (files.folder / "x.parquet").open("wb") as stream:
            pq.write_table(pa.table({"a": ["x"]}, table.schema), stream)
        write_table(spark.createDataFrame([("y",)], "a string"), lake, table)
        files.commit({"x.parquet"})


def test_a_table_of_delta_s_own_writer_takes_a_new_shape(spark: SparkSession, lake: Location) -> None:
    """As older lakes have them: it keeps the protocol that CHECKs need, and its history."""
    table = f"delta.`{lake.uri}/t`"
    spark.sql(
        f"CREATE TABLE {table} (a STRING NOT NULL) USING delta TBLPROPERTIES ('delta.constraints.c' = 'a > 0')"
    )
    spark.sql(f"INSERT INTO {table} VALUES ('7')")
    version = write_table(spark.createDataFrame([("y", 1)], "a string, b bigint"), lake, TWO, reshape=True)
    found = open_delta(lake, "t")
    assert found is not None and found.protocol().min_writer_version == 3
    checks = {name: value for name, value in found.metadata().configuration.items() if "constraints" in name}
    assert checks == {"delta.constraints.a_is_there": "length(a) > 0"}
    assert read_version(spark, lake, "t", version).collect() == [("y", 1)]
    assert read_version(spark, lake, "t", 1).collect() == [("7",)]
    assert spark.read.format("delta").load(f"{lake.uri}/t").collect() == [("y", 1)]


def test_a_table_of_an_older_version_names_the_job_to_run(spark: SparkSession, lake: Location) -> None:
    shape = [name for name in VARIANTS.schema.names if name not in ("mach_r2", "impute_info")]
    older = Table("variants", pa.schema([VARIANTS.schema.field(name) for name in shape]))
    arrow = older.schema.empty_table().to_pandas()
    frame = spark.createDataFrame(arrow, from_arrow_schema(older.schema))
    write_table(frame, lake, older)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    run = Run("a", "ingest_genomics", start, "c", "i", "v", wrote={"variants": "0"}, finished=start)
    told = "table variants: version 0 has no mach_r2, impute_info.*run ingest_genomics again"
    with pytest.raises(DataGateError, match=told):
        read_table(spark, lake, Runs((run,)), "variants")


def test_a_worker_does_not_read_its_zips_anew_for_each_task(spark: SparkSession) -> None:
    def invalidating(_: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pydict(
            {"module": [zipimport.zipimporter.invalidate_caches.__code__.co_filename]}
        )

    found = spark.range(1, numPartitions=1).mapInArrow(invalidating, "module string").collect()
    assert [row["module"].endswith("features/python_daemon.py") for row in found] == [True]
