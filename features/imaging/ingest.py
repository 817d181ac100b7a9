"""DICOM files to `series`, `images` and what was refused."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as sf
from pyspark.storagelevel import StorageLevel

from features import quality
from features.contract import schemas
from features.contract.errors import DataGateError
from features.contract.paths import FileStat, Location
from features.contract.persons import PersonKeyer
from features.contract.settings import Settings
from features.imaging.read import read_images
from features.lake import Written, write_table

JOB = "ingest_imaging"


def ingest_imaging(
    spark: SparkSession, lake: Location, settings: Settings, keyer: PersonKeyer, files: Sequence[FileStat]
) -> Written:
    """Read each file once, judge it, write each table once. Raises DataGateError without files."""
    if not files:
        raise DataGateError("imaging.paths: no raw file matches; check --raw and the globs")
    read = read_images(spark, Location(settings.raw), files, keyer).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        judged = merged_images(read)
        counts = _counts(judged, len(files))
        return Written(_write(lake, read, judged), counts)
    finally:
        read.unpersist()


def merged_images(read: DataFrame) -> DataFrame:
    """`place, rule, copy, conflicting`, a row per file and no pixels: `copy` 1 is the first file of its
    SOPInstanceUID; `conflicting` ones hold other pixels, or name another person, than that first."""
    order = Window.partitionBy("image_key", "rule").orderBy("place")
    other = sf.first("content").over(order) != sf.col("content")
    refused = sf.col("rule").isNotNull()
    return read.select(
        "place",
        "rule",
        sf.when(refused, 0).otherwise(sf.row_number().over(order)).alias("copy"),
        (~refused & other).alias("conflicting"),
    )


def series_of(images: DataFrame) -> DataFrame:
    """One row a series: its first time, its number of images, and the header of its first image."""
    first = sf.min_by(sf.struct("modality", "series_description", "header"), sf.col("place")).alias("first")
    grouped = images.groupBy("series_key", "person_key")
    found = grouped.agg(sf.min("time").alias("time"), sf.count(sf.lit(1)).cast("int").alias("n_images"), first)
    return found.select("*", "first.*").select(schemas.SERIES.schema.names)


def _write(lake: Location, read: DataFrame, judged: DataFrame) -> dict[str, int]:
    # Copies are few: broadcast, so that no pixel is shuffled.
    copies = sf.broadcast(judged.filter("copy > 1").select("place"))
    used = read.filter("rule IS NULL").join(copies, "place", "left_anti")
    refused = quality.refused(read.filter("rule IS NOT NULL"), JOB)
    tables = [
        (schemas.SERIES, series_of(used)),
        (schemas.IMAGES, used.select(schemas.IMAGES.schema.names)),
        (schemas.quarantine(JOB), refused),
    ]
    return {table.path: write_table(frame, lake, table) for table, frame in tables}


def _counts(judged: DataFrame, files: int) -> dict[str, Any]:
    """The balance, checked against the number of files that were listed."""
    used = merged = conflicting = 0
    refused: Counter[str] = Counter()
    first = (sf.col("copy") == 1).alias("first")
    n = [sf.count(sf.lit(1)).alias("n"), sf.count_if("conflicting").alias("conflicting")]
    for row in judged.groupBy("rule", first).agg(*n).collect():
        if row["rule"] is not None:
            refused[row["rule"]] += row["n"]
        elif row["first"]:
            used += row["n"]
        else:
            merged += row["n"]
        conflicting += row["conflicting"]
    balance = quality.Balance(records=files, used=used, merged=merged, quarantined=dict(refused))
    quality.check({"imaging": balance})
    return {"balances": {"imaging": balance.as_counts()}, "images": used, "images_conflicting": conflicting}
