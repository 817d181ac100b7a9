"""Which people train, tune and are held out: decided by a keyed hash of each person alone."""

from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from features.contract.manifest import Certificate
from features.contract.settings import SplitSettings

UNIFORM_BITS = 53


def assign_split(people: DataFrame, split: SplitSettings, families: DataFrame | None = None) -> DataFrame:
    """Adds `split` and `fold` (-1 for the held out, or without folds) to rows with `person_key`.

    A person's place depends on the key and the seed alone, so it stays when others come or go. With
    `families` (`person_key, family`) that of a family depends on its name.
    """
    if families is not None:
        people = people.join(families.select("person_key", "family"), "person_key", "left")
        people = people.withColumn("unit", sf.coalesce("family", "person_key")).drop("family")
    unit = "person_key" if families is None else "unit"
    place = uniform("split", split.seed, unit)
    name = sf.when(place < split.held_out, "held_out")
    name = name.when(place < split.held_out + split.tuning, "tuning").otherwise("train")
    fold = sf.lit(-1)
    if split.folds:
        turn = sf.floor(uniform("fold", split.seed, unit) * split.folds).cast("int")
        fold = sf.when(sf.col("split") == "held_out", -1).otherwise(turn)
    return people.withColumn("split", name).withColumn("fold", fold).drop("unit")


def uniform(purpose: str, seed: int, unit: str = "person_key") -> Column:
    """A number in [0, 1) from the seed and the column `unit`; independent between purposes."""
    digest = sf.xxhash64(sf.lit(f"{purpose}:{seed}"), sf.col(unit))
    return digest.bitwiseAND(sf.lit(2**UNIFORM_BITS - 1)) / sf.lit(float(2**UNIFORM_BITS))


def certify(rows: DataFrame, pairs: DataFrame | None = None) -> Certificate:
    """Count the people on two sides of a split, which is fatal, and rows that are the same on two
    sides (all `x_` columns equal, some modality present), which chance can bring about. With `pairs`
    (`person_key_1, person_key_2`) of relatives, those on two sides, or in two folds, are fatal too."""
    by_person = rows.groupBy("person_key").agg(sf.count("*").alias("n"), _crosses().alias("crosses"))
    persons = _first(by_person.agg(sf.sum("n"), sf.count("*"), sf.sum(sf.col("crosses").cast("int"))))
    certificate = Certificate(
        persons=persons[0] or 0,
        distinct_persons=persons[1],
        persons_in_two_splits=persons[2] or 0,
        identical_rows_across_splits=_identical_rows(rows),
        relatives_across_splits=None if pairs is None else _parted(rows, pairs),
    )
    if certificate.persons_in_two_splits or certificate.persons != certificate.distinct_persons:
        raise AssertionError(f"the split is not person-disjoint: {certificate}")
    if certificate.relatives_across_splits:
        raise AssertionError(f"the split parts relatives: {certificate}")
    return certificate


def _parted(rows: DataFrame, pairs: DataFrame) -> int:
    """How many pairs have an end in each of two places."""
    for end in (1, 2):
        place = sf.struct("split", "fold").alias(f"place_{end}")
        pairs = pairs.join(
            rows.select(sf.col("person_key").alias(f"person_key_{end}"), place), f"person_key_{end}"
        )
    return pairs.filter("place_1 != place_2").count()


def _identical_rows(rows: DataFrame) -> int:
    values = [name for name in rows.columns if name.startswith("x_")]
    present = [sf.col(name) for name in rows.columns if name.startswith("has_")]
    if not values:
        return 0
    seen = rows.filter(sf.greatest(*present, sf.lit(False))).groupBy(sf.xxhash64(*values).alias("row"))
    twice = seen.agg(sf.count("*").alias("n"), _crosses().alias("crosses")).filter("crosses")
    return _first(twice.agg(sf.sum("n")))[0] or 0


def _crosses() -> Column:
    return sf.min("split") != sf.max("split")


def _first(frame: DataFrame) -> Any:
    """The one row of an aggregate over everything."""
    return frame.collect()[0]
