"""A table's write beside Delta's own writer: the first of a session, and those after it.

Each side is a process of its own with its own Java, one after the other in each round; it writes tables of a
thousand rows. Delta's are created before the clock starts, ours are not. A scheduled job is a new process: what
its first table costs, it pays each time.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from features.contract.paths import Location
from features.contract.schemas import Table
from features.contract.settings import SparkSettings
from features.lake import spark_session, write_table
from tests.benchmarks.claims import Row

HOME = Path("build/bench/writing")
ROUNDS = 3
TABLES = 4
ROWS = 1_000
CHECKS = {"a_is_not_negative": "a >= 0"}


def run() -> list[Row]:
    """The ratio of seconds for the first table and for a later one."""
    rounds = [{side: _seconds(side) for side in ("delta", "ours")} for _ in range(ROUNDS)]
    version = subprocess.run(
        [sys.executable, "-c", "import importlib.metadata as m; print(m.version('delta-spark'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    what = {"the first table of a session": 0, "a later table": -1}
    return [_row(f"writing {name}, beside delta-spark {version}", rounds, place) for name, place in what.items()]


def _row(what: str, rounds: list[dict[str, list[float]]], place: int) -> Row:
    ratios = [found["ours"][place] / found["delta"][place] for found in rounds]
    ours, theirs = (median(found[side][place] for found in rounds) for side in ("ours", "delta"))
    figure = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}; {ours:.2f} s beside {theirs:.2f} s)"
    return Row(what, "at most 0.6 times its time", figure, median(ratios) <= 0.6)


def _seconds(side: str) -> list[float]:
    """Of each table, in a process that writes by one side."""
    shutil.rmtree(HOME, ignore_errors=True)
    ended = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.writing", side], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise SystemExit(f"{side} ended with {ended.returncode}: {ended.stderr[-2000:]}")
    found: list[float] = json.loads(ended.stdout.splitlines()[-1])
    return found


def _frame(spark: SparkSession, rows: int) -> DataFrame:
    return spark.range(0, rows, 1, 2).selectExpr("id a", "cast(id as string) b")


def _write(side: str) -> list[float]:
    spark = spark_session(SparkSettings(), "writing")
    lake = Location.parse(str(HOME))
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False), pa.field("b", pa.string())])
    found = []
    _frame(spark, ROWS).groupBy("b").count().collect()
    for number in range(TABLES):
        table = Table(f"table_{number}", schema, CHECKS)
        if side == "delta":
            spark.sql(
                f"CREATE TABLE delta.`{lake.uri}/{table.path}` (a BIGINT NOT NULL, b STRING) USING delta "
                "TBLPROPERTIES ('delta.constraints.a_is_not_negative' = 'a >= 0')"
            )
        started = time.monotonic()
        if side == "delta":
            _frame(spark, ROWS).write.format("delta").mode("overwrite").save(f"{lake.uri}/{table.path}")
        else:
            write_table(_frame(spark, ROWS), lake, table)
        found.append(time.monotonic() - started)
    return found


if __name__ == "__main__":
    sys.stdout.write(f"{json.dumps(_write(sys.argv[1]))}\n")
