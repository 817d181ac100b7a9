"""The same person never sits on both sides of a split."""

from collections import Counter

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from features.cohort.split import assign_split, certify
from features.contract.settings import SplitSettings
from tests.features.assembly.rows import by_person, key

SPLIT = SplitSettings(held_out=0.2, tuning=0.1, folds=4, seed=7)


def _people(spark: SparkSession, number: int) -> DataFrame:
    return spark.createDataFrame([(key(str(i)),) for i in range(number)], "person_key string")


def test_a_place_depends_on_the_person_alone_and_stays_when_others_come(spark: SparkSession) -> None:
    few = by_person(assign_split(_people(spark, 500), SPLIT), "split", "fold")
    many = by_person(assign_split(_people(spark, 3000), SPLIT), "split", "fold")
    assert few.items() <= many.items()
    shares = Counter(split for split, _ in many.values())
    assert abs(shares["held_out"] / 3000 - 0.2) < 0.03
    assert abs(shares["tuning"] / 3000 - 0.1) < 0.03


def test_another_seed_gives_another_split(spark: SparkSession) -> None:
    other = SPLIT.model_copy(update={"seed": 8})
    people = _people(spark, 300)
    assert by_person(assign_split(people, SPLIT), "split") != by_person(assign_split(people, other), "split")


def test_only_people_to_learn_from_have_a_fold(spark: SparkSession) -> None:
    placed = by_person(assign_split(_people(spark, 2000), SPLIT), "split", "fold").values()
    assert {fold for split, fold in placed if split == "held_out"} == {-1}
    folds = Counter(fold for split, fold in placed if split != "held_out")
    assert set(folds) == {0, 1, 2, 3}
    assert min(folds.values()) > 0.8 * max(folds.values())
    without = assign_split(_people(spark, 50), SPLIT.model_copy(update={"folds": 0}))
    assert set(by_person(without, "fold").values()) == {-1}


def test_the_certificate_counts_rows_that_are_the_same_on_both_sides(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [
            ("a", "train", [1.0, float("nan")], True),
            ("b", "held_out", [1.0, float("nan")], True),
            ("c", "held_out", [2.0, 1.0], True),
            ("d", "held_out", [2.0, 1.0], True),
            ("e", "train", [0.0, 0.0], False),
            ("f", "held_out", [0.0, 0.0], False),
        ],
        "person_key string, split string, x_clinical array<float>, has_clinical boolean",
    )
    found = certify(rows)
    assert (found.persons, found.distinct_persons, found.persons_in_two_splits) == (6, 6, 0)
    assert found.identical_rows_across_splits == 2


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_a_person_twice_is_fatal(spark: SparkSession, split: str) -> None:
    rows = spark.createDataFrame([("a", "train"), ("a", split)], "person_key string, split string")
    rows = rows.withColumn("x_clinical", sf.lit("x")).withColumn("has_clinical", sf.lit(True))
    with pytest.raises(AssertionError, match="not person-disjoint"):
        certify(rows)


def test_a_family_stays_together_and_others_stay_where_they_are(spark: SparkSession) -> None:
    people = _people(spark, 600)
    alone = by_person(assign_split(people, SPLIT), "split", "fold")
    rows = [(key(str(i)), key(str(i - i % 3)), True) for i in range(300)]
    families = spark.createDataFrame(rows, "person_key string, family string, unrelated boolean")
    together = by_person(assign_split(people, SPLIT, families), "split", "fold")
    for i in range(0, 300, 3):
        assert {together[key(str(i + k))] for k in range(3)} == {alone[key(str(i))]}
    assert all(together[key(str(i))] == alone[key(str(i))] for i in range(300, 600))


def test_the_certificate_counts_pairs_of_relatives_whom_the_split_parts(spark: SparkSession) -> None:
    schema = "person_key string, split string, fold int, x_clinical array<float>, has_clinical boolean"
    people = [("a", "train", 0), ("b", "train", 0), ("c", "train", 1), ("d", "held_out", -1)]
    rows = spark.createDataFrame([(*person, [float(i)], True) for i, person in enumerate(people)], schema)

    def pairs(*found: tuple[str, str]) -> DataFrame:
        return spark.createDataFrame(found, "person_key_1 string, person_key_2 string")

    assert certify(rows).relatives_across_splits is None
    assert certify(rows, pairs(("a", "b"), ("a", "not in the cohort"))).relatives_across_splits == 0
    for apart in (("a", "c"), ("b", "d")):
        with pytest.raises(AssertionError, match=r"parts relatives.*relatives_across_splits=1"):
            certify(rows, pairs(apart, ("a", "b")))
