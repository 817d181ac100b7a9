"""A table that takes a new shape keeps its history, and what must hold."""

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
