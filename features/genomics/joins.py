"""How the rows that tell of one variant become one row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf


@dataclass(frozen=True, slots=True)
class Joins:
    """By aggregates over a `variant_key`, or, where each has but one row, by what that says itself."""

    group: Callable[[DataFrame, Sequence[Column]], DataFrame]
    total: Callable[[Column], Column]
    least: Callable[[Column], Column]
    greatest: Callable[[Column], Column]
    all_items: Callable[[Column], Column]


SEVERAL = Joins(
    lambda rows, columns: rows.groupBy("variant_key").agg(*columns),
    sf.sum,
    sf.min,
    sf.max,
    lambda items: sf.flatten(sf.collect_set(items)),
)
ONE = Joins(lambda rows, columns: rows.select("variant_key", *columns), *[lambda column: column] * 4)
