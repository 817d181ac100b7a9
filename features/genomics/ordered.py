"""Sums of floats that do not hang on the order in which a shuffle brings them."""

from pyspark.sql import Column
from pyspark.sql import functions as sf


def ordered_sum(value: str | Column) -> Column:
    """The sum over a group, the smallest first."""
    return sf.aggregate(sf.array_sort(sf.collect_list(value)), sf.lit(0.0), lambda total, one: total + one)
