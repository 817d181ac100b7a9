"""A table that takes a new shape keeps its history, and what must hold; and the workers of a session."""

import zipimport
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pytest
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from features.contract.paths import Location
from features.contract.schemas import Table, _schema
from features.lake import read_version, write_table

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


def test_a_worker_does_not_read_its_zips_anew_for_each_task(spark: SparkSession) -> None:
    def invalidating(_: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pydict(
            {"module": [zipimport.zipimporter.invalidate_caches.__code__.co_filename]}
        )

    found = spark.range(1, numPartitions=1).mapInArrow(invalidating, "module string").collect()
    assert [row["module"].endswith("features/python_daemon.py") for row in found] == [True]
