"""Sums of floats that hang neither on the order in which a shuffle brings them nor on the number of tasks."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

BUCKETS = 32
"""Fixed, unlike the number of tasks of a cluster: what is summed in each is the same everywhere."""


def in_buckets(rows: DataFrame) -> DataFrame:
    """Rows with a `variant_key` in BUCKETS partitions, in the order of the keys in each."""
    return rows.repartition(BUCKETS, "variant_key").sortWithinPartitions("variant_key")


def ordered_sum(value: str | Column) -> Column:
    """The sum over a group, the smallest first."""
    return sf.aggregate(sf.array_sort(sf.collect_list(value)), sf.lit(0.0), lambda total, one: total + one)
