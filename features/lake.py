"""The one session factory, and how a Spark job opens and writes the lake's tables."""

import json
import os
import sys
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

import deltalake
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction
from pyspark import SparkContext
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.errors import ClusterError, DataGateError
from features.contract.paths import Location
from features.contract.runs import Runs, lake_uri, open_delta
from features.contract.schemas import DECLARED, Table
from features.contract.settings import SparkSettings

DEFAULTS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    # A value that cannot be parsed is null, for us to refuse with its rule; it does not end the job.
    "spark.sql.ansi.enabled": "false",
    "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    # INT96 timestamps turn year 9999 into 1816 in pyarrow; and Spark must not move old dates.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInWrite": "CORRECTED",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.python.daemon.module": "features.python_daemon",
    # The rows of a table are written as Parquet below its folder, and then committed. It lets a folder be read as
    # Parquet too, with all versions at once: nothing here does that.
    "spark.databricks.delta.formatCheck.enabled": "false",
    # Lakes here have few, small commits: Delta's default of 50 tasks to read a log costs more.
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
LOCAL_DEFAULTS = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}

_Mode = Literal["append", "overwrite"]
ARROW_BATCH_BYTES = 16 << 20
MOST_BROADCAST_ROWS = 1_000_000


@dataclass(frozen=True, slots=True)
class Written:
    """What a job wrote: tables by version, files by digest, and the counts that `runs` keeps."""

    tables: dict[str, int]
    counts: dict[str, Any]
    digests: dict[str, str] = field(default_factory=dict)


def spark_session(settings: SparkSettings, application: str) -> SparkSession:
    """Get or start the session; under spark-submit the master and the submitted settings stay."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(application)
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    options = dict(DEFAULTS)
    if not submitted:
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        # Else Spark greets with warnings before anybody can set its level.
        quiet = f"-Dlog4j2.configurationFile={resources.files('conf') / 'log4j2.properties'}"
        os.environ.setdefault("SPARK_SUBMIT_OPTS", quiet)
        builder = builder.master(settings.master)
        options |= LOCAL_DEFAULTS | {"spark.driver.memory": settings.driver_memory}
    options |= {"spark.sql.shuffle.partitions": str(settings.shuffle_partitions)} | settings.conf
    for key, value in options.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def stop_spark(at_once: bool = False) -> None:
    """Stop the session, if one was started; `at_once` with its Java, which else tells of each task it ends."""
    gateway = SparkContext._gateway
    # Under spark-submit Java is the parent, and ends with us.
    if at_once and gateway is not None and gateway.proc is not None:
        gateway.proc.kill()
        return
    session = SparkSession.getActiveSession()
    if session is not None:
        session.stop()


def read_table(spark: SparkSession, lake: Location, runs: Runs, table: str) -> DataFrame:
    """The published version of a table. DataGateError for one without a column that it should have."""
    version = runs.version(table)
    frame = read_version(spark, lake, table, version)
    known = DECLARED.get(table)
    missing = [name for name in known.schema.names if name not in frame.columns] if known else []
    if missing:
        made = runs.publisher(table)
        raise DataGateError(
            f"table {table}: version {version} has no {', '.join(missing)}, for an older Riskloom wrote it; run "
            f"{made.job if made else 'its job'} again"
        )
    return frame


def read_version(spark: SparkSession, lake: Location, table: str, version: int) -> DataFrame:
    """A table at one version: what a job reads of its own writing, before that is published.

    delta-rs names the version's files and Spark reads them as Parquet: to read Delta's log Spark starts five
    jobs of its own, which for most tables here take longer than the rows do. `open_delta` lets no table pass
    whose files would not be its rows.
    """
    found = _open(lake, table, version)
    shape = from_arrow_schema(pa.schema(found.schema().to_arrow()))
    files = [f"{lake.uri}/{table}/{file}" for file in _sizes(found)]
    if not files:
        return spark.createDataFrame([], shape)
    try:
        return spark.read.schema(shape).option("__globPaths__", "false").parquet(*files)
    except AnalysisException as error:
        raise ClusterError(f"table {table}: a file of version {version} is gone ({error}); restore it") from None


def data_files(lake: Location, table: str, version: int) -> dict[str, int]:
    """The size in bytes of each file of a version, by its path below the table, in order."""
    return _sizes(_open(lake, table, version))


def write_table(
    frame: DataFrame,
    lake: Location,
    table: Table,
    reshape: bool = False,
    replace_where: str | None = None,
    append: bool = False,
) -> int:
    """Replace a table's rows in one commit and return its new version, not yet published.

    The columns' names, types and order must be the declared ones. `reshape` lets a table that is
    written whole each time take a new shape; `replace_where` replaces only the rows that satisfy it,
    and all new rows must; `append` replaces none. That nobody else writes the table is for its lease to
    see to; who did is found here, by the version.
    """
    _create(lake, table, reshape)
    found = _open(lake, table.path)
    before = int(found.version())
    _check_columns(frame, table)
    checked = _checked(frame, table)
    if replace_where is None:
        _commit(checked, found, lake / table.path, "append" if append else "overwrite")
    else:
        writer = checked.write.format("delta").mode("overwrite").option("replaceWhere", replace_where)
        writer.save(f"{lake.uri}/{table.path}")
    return _version_after(before, lake, table)


@contextmanager
def files_of_tasks(lake: Location, table: Table, append: bool = False) -> Iterator["FilesOfTasks"]:
    """For tasks that write a table's rows themselves, by `task_files`: of rows in Arrow's form Spark makes its own
    first, which takes several times as long. They replace the table, its shape too, if they do not `append`."""
    files = FilesOfTasks(lake, table, append, _version_now(lake, table), uuid.uuid4().hex)
    try:
        files.folder.filesystem.makedirs(files.folder.path)
        yield files
    finally:
        if not files.is_handed_over:
            with suppress(OSError):
                files.folder.delete()


@dataclass(slots=True)
class FilesOfTasks:
    """Parquet files in a `folder` below a table's, of which nobody knows until `commit`; the table's version when
    they were begun."""

    lake: Location
    table: Table
    append: bool
    begun: int | None
    below: str
    is_handed_over: bool = False

    @property
    def folder(self) -> Location:
        return self.lake / f"{self.table.path}/{self.below}"

    def commit(self, names: Collection[str]) -> int:
        """The table's new version, not yet published, of the files with these names and of no others, as of tasks
        that ran twice. ClusterError where one is not there, or where another job wrote the table."""
        if _version_now(self.lake, self.table) != self.begun:
            raise ClusterError(f"table {self.table.path}: another writer committed beside this job; run it again")
        sizes = {file.path: file.size for file in self.folder.files()}
        if missing := set(names) - sizes.keys():
            raise ClusterError(
                f"{self.folder.uri}: {len(missing)} files that tasks wrote are not there; do all nodes share this "
                "file system?"
            )
        added = [_action(f"{self.below}/{name}", sizes[name], _rows(self.folder / name)) for name in sorted(names)]
        _create(self.lake, self.table, reshape=not self.append)
        found = _open(self.lake, self.table.path)
        before = int(found.version())
        self.is_handed_over = True
        mode: _Mode = "append" if self.append else "overwrite"
        _commit_files(added, found, self.lake / self.table.path, self.below, mode)
        for name in sizes.keys() - set(names):
            (self.folder / name).delete()
        return _version_after(before, self.lake, self.table)


def _version_now(lake: Location, table: Table) -> int | None:
    found = open_delta(lake, table.path)
    return None if found is None else int(found.version())


def _version_after(before: int, lake: Location, table: Table) -> int:
    after = newest_version(lake, table.path)
    if after > before + 1:  # no rows over no rows makes no commit at all
        raise ClusterError(f"table {table.path}: another writer committed beside this job; run it again")
    return after


def _commit(frame: DataFrame, found: deltalake.DeltaTable, folder: Location, mode: _Mode) -> None:
    """Spark writes the rows as Parquet, and delta-rs commits the files: Delta's own writer takes three to five
    times as long over a small table, for snapshots and statistics that nobody here reads (`make bench`).

    `found` is the table in `folder` as it was. What is surely not committed is deleted; what a killed job leaves
    stays, and no version names it.
    """
    below = uuid.uuid4().hex
    writer = frame.write.option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
    # Of a task that ran twice one attempt's files are seen.
    writer = writer.option("mapreduce.fileoutputcommitter.algorithm.version", "1")
    try:
        writer.parquet(f"{folder.uri}/{below}")
        added = _added(folder, below)
    except BaseException:
        with suppress(OSError):
            (folder / below).delete()
        raise
    _commit_files(added, found, folder, below, mode)


def _commit_files(
    added: list[AddAction],
    found: deltalake.DeltaTable,
    folder: Location,
    below: str,
    mode: _Mode,
) -> None:
    if not added and (mode == "append" or not _sizes(found)):
        (folder / below).delete()
        return
    try:
        found.create_write_transaction(added, mode, found.schema())
    except CommitFailedError:
        (folder / below).delete()
        raise ClusterError(f"{folder.uri}: another writer committed beside this job; run it again") from None


def _added(folder: Location, below: str) -> list[AddAction]:
    """Delta's words for the files there; one without rows is deleted."""
    found = []
    for file in (folder / below).files():
        if not file.path.endswith(".parquet"):
            continue
        path = f"{below}/{file.path}"
        if rows := _rows(folder / path):
            found.append(_action(path, file.size, rows))
        else:
            (folder / path).delete()
    return found


def _rows(file: Location) -> int:
    with file.open() as stream:
        return int(pq.read_metadata(stream).num_rows)


def _action(path: str, size: int, rows: int) -> AddAction:
    return AddAction(path, size, {}, int(time.time() * 1000), True, json.dumps({"numRecords": rows}))


def _checked(frame: DataFrame, table: Table) -> DataFrame:
    """The same rows; one that breaks NOT NULL or a CHECK ends the job with an error that names the rule. Unlike
    Delta's own, it has no value of the row."""
    columns = []
    for field_ in table.schema:
        column = sf.col(field_.name)
        if not field_.nullable:
            told = sf.lit(f"{table.path}: NOT_NULL: {field_.name}")
            column = sf.coalesce(column, sf.raise_error(told).cast(frame.schema[field_.name].dataType))
        columns.append(column.alias(field_.name))
    for name, expression in table.checks.items():
        # A CHECK that is null holds no more than one that is false.
        told = sf.lit(f"{table.path}: CHECK {name}: {expression}")
        first = table.schema.names[0]
        broken = sf.raise_error(told).cast(frame.schema[first].dataType)
        columns[0] = sf.when(sf.expr(expression), columns[0]).otherwise(broken).alias(first)
    return frame.select(columns)


def few_rows(spark: SparkSession, rows: Iterable[tuple[object, ...]], **types: str) -> DataFrame:
    """Rows that lie on the driver, of these columns. Of a list of tuples, or of none, Spark makes rows by Python
    workers of another kind than tasks have, with a daemon of their own that takes two seconds to start."""
    frame = pd.DataFrame(list(rows), columns=list(types), dtype=object)
    if frame.empty:
        return spark.range(0).select([sf.lit(None).cast(kind).alias(name) for name, kind in types.items()])
    return spark.createDataFrame(frame, ", ".join(f"{name} {kind}" for name, kind in types.items()))


def broadcast_if_few(keys: DataFrame, number: int) -> DataFrame:
    """So many keys: few go to every task, so that what they are joined to is not shuffled."""
    return sf.broadcast(keys) if number <= MOST_BROADCAST_ROWS else keys


@contextmanager
def bounded_arrow_batches(spark: SparkSession, row_bytes: int) -> Iterator[None]:
    """Spark bounds the batches it hands to Python by rows alone: let large rows be fewer."""
    key = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = str(spark.conf.get(key))
    spark.conf.set(key, str(min(int(before), max(1, ARROW_BATCH_BYTES // row_bytes))))
    try:
        yield
    finally:
        spark.conf.set(key, before)


def newest_version(lake: Location, table: str) -> int:
    """The newest version there is, published or not."""
    return int(_open(lake, table).version())


def restore_leftover(lake: Location, runs: Runs, table: str) -> bool:
    """Undo what a killed job left unpublished; True when there was something."""
    published, found = runs.published(table), open_delta(lake, table)
    if found is None or (published is not None and found.version() == int(published)):
        return False
    if published is None:
        found.delete()
    else:
        found.restore(int(published))
    return True


def _open(lake: Location, table: str, version: int | None = None) -> deltalake.DeltaTable:
    found = open_delta(lake, table, version)
    if found is None:
        raise ClusterError(f"table {table} is not in this lake")
    return found


def _sizes(table: deltalake.DeltaTable) -> dict[str, int]:
    actions = pa.table(table.get_add_actions(flatten=True))
    return dict(sorted(zip(actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), strict=True)))


def _create(lake: Location, table: Table, reshape: bool) -> None:
    """Create the table, with NOT NULL and its CHECKs, if it is not there; for `reshape`, one of another shape
    gives way to an empty one, behind its history."""
    found, uri = open_delta(lake, table.path), lake_uri(lake, table.path)
    if found is None:
        found = deltalake.DeltaTable.create(uri, table.schema, configuration=_PROPERTIES)
    elif reshape and _shape(pa.schema(found.schema().to_arrow())) != _shape(table.schema):
        kept = dict(found.metadata().configuration).items()
        plain = {name: value for name, value in kept if not name.startswith(_CHECK)}
        found = deltalake.DeltaTable.create(uri, table.schema, mode="overwrite", configuration=_PROPERTIES | plain)
    checks = {f"{_CHECK}{name}": expression for name, expression in table.checks.items()}
    if not checks.items() <= dict(found.metadata().configuration).items():
        # delta-rs does not know the names of checks, nor its own `add_constraint` all of Spark's functions.
        found.alter.set_table_properties(checks, raise_if_not_exists=False)


_CHECK = "delta.constraints."
# Years of history must stay readable for the auditor; `maintain_lake` decides otherwise. Version 3 has CHECKs.
_PROPERTIES = {
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.deletedFileRetentionDuration": "interval 3650 days",
    "delta.minWriterVersion": "3",
}


def _shape(schema: pa.Schema) -> str:
    return from_arrow_schema(schema).simpleString()


def _check_columns(frame: DataFrame, table: Table) -> None:
    declared = table.schema.names
    if declared != frame.columns:
        missing = sorted(set(declared) - set(frame.columns))
        surplus = sorted(set(frame.columns) - set(declared))
        raise AssertionError(f"{table.path}: missing columns {missing}, undeclared {surplus}, or another order")
    for column in from_arrow_schema(table.schema).fields:
        found, expected = frame.schema[column.name].dataType.simpleString(), column.dataType.simpleString()
        if found != expected:
            raise AssertionError(f"{table.path}.{column.name}: expected {expected}, found {found}")
