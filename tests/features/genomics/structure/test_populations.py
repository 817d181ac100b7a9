"""Probabilities and typicality hold for people who had no part in axes or descriptions."""

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession
from scipy import stats

from features.contract.errors import DataGateError
from features.genomics.structure.populations import Populations, check_people, classify, collected, populations
from features.genomics.structure.principal_components import Axes, leading, place, standardised


def drifted(variants: int, number: int, fst: float) -> np.ndarray:
    """Allele frequencies of populations that drifted apart by so much (Balding, Nichols)."""
    rng = np.random.default_rng(5)
    ancestral = rng.uniform(0.1, 0.9, (variants, 1))
    shape = (1 - fst) / fst
    return rng.beta(ancestral * shape, (1 - ancestral) * shape, (variants, number))


def test_new_people_are_as_typical_as_chance_has_it() -> None:
    """The axes of few people and many variants: those who made them lie far further out than anyone else."""
    rng = np.random.default_rng(6)
    frequency = drifted(6000, 3, 0.02)
    own = np.repeat(np.arange(3), 100)
    draw = [rng.binomial(2, frequency[:, own]).astype(np.uint8) for _ in range(3)]
    mean = draw[0].mean(1)
    scale = np.where((mean > 0.02) & (mean < 1.98), 1 / np.sqrt(np.maximum(mean * (1 - mean / 2), 1e-9)), 0)
    z = standardised(draw[0], mean, scale).astype(float)
    values, loadings = leading(lambda vectors: z @ (z.T @ vectors), 6000, 6)
    axes = Axes(mean, scale, loadings, values / 6000)
    made, described, new = (place({0: codes}, 300, axes)[1] for codes in draw)
    groups = [described[own == at] for at in range(3)]
    among = Populations(
        ["a", "b", "c"],
        [len(group) for group in groups],
        np.array([group.mean(0) for group in groups]),
        np.array([np.cov(group.T) for group in groups]),
    )
    probability, typicality = classify(new, among)
    assert (probability.argmax(1) == own).all()
    assert stats.kstest(typicality, "uniform").pvalue > 0.001
    assert np.median(classify(made, among)[1]) < 0.001  # why they do not describe populations


def test_density_and_typicality_of_one_axis_by_hand() -> None:
    among = Populations(["a", "b"], [10, 10], np.array([[0.0], [4.0]]), np.array([[[1.0]], [[4.0]]]))
    probability, typicality = classify(np.array([[1.0]]), among)
    # A new value of a sample of n is its mean + s sqrt(1 + 1/n) t with n - 1 degrees of freedom.
    spread = np.sqrt(1.1)
    density = np.array([stats.t.pdf(1 / spread, 9) / spread, stats.t.pdf(3 / (2 * spread), 9) / (2 * spread)])
    np.testing.assert_allclose(probability[0], density / density.sum(), rtol=1e-9)
    np.testing.assert_allclose(typicality[0], 2 * stats.t.sf(1 / spread, 9), rtol=1e-9)


def test_a_population_of_few_or_without_spread_is_refused(spark: SparkSession) -> None:
    check_people({"a": 5}, 2)
    with pytest.raises(DataGateError, match="b has 4, expected more than twice the components, 4"):
        check_people({"a": 5, "b": 4}, 2)
    rows = pd.DataFrame({"population": ["flat"] * 8, "components": [[float(at), 2.0] for at in range(8)]})
    with pytest.raises(DataGateError, match="flat does not vary along some axis"):
        collected(populations(spark.createDataFrame(rows)))
