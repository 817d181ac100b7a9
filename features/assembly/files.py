"""How a table is laid into files: each of one split and fold, one row group, rows shuffled by hash."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from features.contract.paths import Location
from features.contract.schemas import Table
from features.lake import write_table

MINIMUM_ROWS = 64
MAXIMUM_ROWS = 65_536
MAXIMUM_BYTES = 128 * 2**20
ROW_GROUP_BYTES = 512 * 2**20
FILES_PER_RANK = 4
# A hash fills a file to its mean, give or take a root; this far below the maximum none runs over.
HEADROOM = 0.95
UNSET = "0"

Group = tuple[str, int, int]


def rows_per_file(rows: int, ranks: int, row_bytes: int) -> int:
    """Files small enough that every rank has several, large enough to be worth opening."""
    wanted = max(MINIMUM_ROWS, ceil(rows / (ranks * FILES_PER_RANK)))
    return max(1, int(min(wanted, MAXIMUM_ROWS * HEADROOM, MAXIMUM_BYTES / row_bytes)))


def place(frame: DataFrame, groups: Sequence[Group], per_file: int, seed: int) -> DataFrame:
    """`frame` (with `person_key, split, fold`) in one shuffle, a partition for each file to be.

    Files and the order in them follow from the person keys and the seed alone.
    """
    shuffle = sf.xxhash64(sf.lit(f"file:{seed}"), sf.col("person_key"))
    first, file = 0, sf.lit(None).cast("int")
    for split, fold, count in groups:
        files = ceil(count / per_file)
        mine = (sf.col("split") == split) & (sf.col("fold") == fold)
        file = sf.coalesce(file, sf.when(mine, sf.pmod(shuffle, sf.lit(files)).cast("int") + first))
        first += files
    pins = sf.array([sf.lit(pin) for pin in _pins(frame.sparkSession, first)])
    placed = frame.withColumn("_order", shuffle).withColumn("_pin", sf.get(pins, file))
    return placed.repartition(first, "_pin").sortWithinPartitions("_order", "person_key")


def write_files(placed: DataFrame, lake: Location, table: Table) -> int:
    """Write each partition as one file of one row group; the table's new version."""
    with _exact_files(placed.sparkSession):
        return write_table(placed, lake, table, reshape=True)


def one_group(frame: DataFrame) -> DataFrame:
    """A table without splits, as `place` wants it."""
    return frame.withColumn("split", sf.lit("")).withColumn("fold", sf.lit(-1))


def count_groups(people: DataFrame) -> list[Group]:
    """Split, fold and how many people; at most a few dozen."""
    counted = people.groupBy("split", "fold").count().collect()
    return sorted((row["split"], row["fold"], row["count"]) for row in counted)


def _pins(spark: SparkSession, partitions: int) -> list[int]:
    """For each partition a number that Spark's hash partitioning sends to it.

    `repartition(n, column)` puts a row into pmod(murmur3(column), n); two files' rows would often
    meet in one partition. With these numbers as the column each file has its own.
    """
    numbers = spark.range(64 * partitions).select(sf.col("id").cast("int").alias("pin"))
    home = sf.pmod(sf.hash("pin"), sf.lit(partitions)).alias("home")
    pins = numbers.groupBy(home).agg(sf.min("pin").alias("pin")).collect()
    return [row["pin"] for row in sorted(pins, key=lambda row: row["home"])]


@contextmanager
def _exact_files(spark: SparkSession) -> Iterator[None]:
    """Row groups as large as files; a partition that would run over is cut into two files."""
    wanted = {
        "spark.sql.files.maxRecordsPerFile": str(MAXIMUM_ROWS),
        "parquet.block.size": str(ROW_GROUP_BYTES),
    }
    before = {key: spark.conf.get(key, UNSET) or UNSET for key in wanted}
    for key, value in wanted.items():
        spark.conf.set(key, value)
    try:
        yield
    finally:
        for key, old in before.items():
            spark.conf.unset(key) if old == UNSET else spark.conf.set(key, old)
