"""Families are those whom pairs join, and of the unrelated nobody could be added and no two are a pair."""

from itertools import combinations

import numpy as np
import pytest
from pyspark.sql import SparkSession

from features.genomics.structure.families import families, unrelated

SCHEMA = "person_key_1 string, usable_1 boolean, person_key_2 string, usable_2 boolean"


def test_a_chain_of_relatives_is_one_family(spark: SparkSession) -> None:
    pairs = [("c", True, "b", True), ("b", True, "a", True), ("x", False, "y", True)]
    found = families(spark.createDataFrame(pairs, SCHEMA)).collect()
    assert {row["person_key"]: row["family"] for row in found} == {
        "a": "a",
        "b": "a",
        "c": "a",
        "x": "x",
        "y": "x",
    }
    assert {row["person_key"] for row in found if row["unrelated"]} == {"a", "c", "y"}


def test_without_pairs_there_is_no_family(spark: SparkSession) -> None:
    assert families(spark.createDataFrame([], SCHEMA)).count() == 0


@pytest.mark.parametrize("seed", range(20))
def test_the_unrelated_are_independent_and_nobody_can_be_added(seed: int) -> None:
    rng = np.random.default_rng(seed)
    people = int(rng.integers(2, 12))
    pairs = list(combinations(range(people), 2))
    joined = [pair for pair in pairs if rng.uniform() < 0.3] or pairs[:1]
    stay = {int(person) for person in np.flatnonzero(unrelated(people, np.array(joined).T))}
    assert not [pair for pair in joined if stay.issuperset(pair)]
    for person in set(range(people)) - stay:
        assert [pair for pair in joined if person in pair and stay & set(pair)]
    subsets = (set(some) for n in range(people, 0, -1) for some in combinations(range(people), n))
    largest = next(some for some in subsets if not [pair for pair in joined if some.issuperset(pair)])
    assert len(largest) - 1 <= len(stay) <= len(largest)  # greedy, against the largest set there is
