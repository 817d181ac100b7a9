"""A score beside what is usual for a person's ancestry: scikit-learn's regressions, and no difference left."""

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession
from sklearn.linear_model import GammaRegressor, LinearRegression

from features.genomics.polygenic.adjust import fit, with_adjusted


def people(number: int, seed: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Components of three populations, and totals whose mean and spread differ between them."""
    rng = np.random.default_rng(seed)
    centre = np.array([[0.2, 0.0], [-0.1, 0.15], [-0.1, -0.15]])[np.arange(number) % 3]
    components = centre + rng.normal(0, 0.02, (number, 2))
    spread = np.exp(3 * components[:, 0] - 2 * components[:, 1])
    return components, 3 + 10 * components[:, 0] + spread * rng.normal(size=number)


def test_coefficients_are_those_of_scikit_learn() -> None:
    components, totals = people(900)
    found = fit(components, totals)
    assert found is not None
    linear = LinearRegression().fit(components, totals)
    np.testing.assert_allclose(found[0], [linear.intercept_, *linear.coef_], rtol=1e-9)
    squares = (totals - linear.predict(components)) ** 2
    # Its own stopping rule, at the same likelihood, leaves so much.
    gamma = GammaRegressor(alpha=0, solver="newton-cholesky", max_iter=1000, tol=1e-10).fit(components, squares)
    np.testing.assert_allclose(found[1], [gamma.intercept_ + np.log(900 / 897), *gamma.coef_], rtol=1e-5)


@pytest.mark.parametrize(("number", "components"), [(50, 10), (110, 50), (300, 10)])
def test_few_people_of_reference_do_not_spread_those_who_are_compared(number: int, components: int) -> None:
    """A score that goes with no component: in new people z is of standard deviation 1, but for what chance moved
    the mean, which is k of n."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(30):
        known = fit(rng.normal(size=(number, components)), rng.normal(size=number))
        assert known is not None
        others = np.column_stack([np.ones(200), rng.normal(size=(200, components))])
        found.append((rng.normal(size=200) - others @ known[0]) / np.exp(others @ known[1] / 2))
    expected = np.sqrt(1 + (components + 1) / (number - components - 2))
    assert np.std(found) == pytest.approx(expected, rel=0.1)


def test_nothing_is_fitted_to_a_score_that_does_not_vary_or_to_too_few() -> None:
    components, totals = people(60)
    assert fit(components, np.full(60, 0.3)) is None
    assert fit(components, 2 + components @ [1.0, 3.0]) is None
    assert fit(components[:6], totals[:6]) is None
    assert fit(components[:7], totals[:7]) is not None


def test_mean_and_spread_are_the_same_in_every_population(spark: SparkSession) -> None:
    components, totals = people(1500)
    keys = [f"p{at:04}" for at in range(1500)]
    reference = np.arange(1500) < 1200
    ancestry = pd.DataFrame({"person_key": keys, "reference": reference, "components": list(components)})
    ancestry.loc[1499, "components"] = None
    scores = pd.concat(
        pd.DataFrame({"person_key": keys, "score": name, "total": values})
        for name, values in (("own", totals), ("flat", np.ones(1500)), ("again", 5 - 2 * totals))
    )
    schema = "person_key string, reference boolean, components array<double>"
    found = with_adjusted(spark.createDataFrame(scores), spark.createDataFrame(ancestry, schema)).toPandas()
    assert len(found) == 4500
    by_score = {
        name: rows.set_index("person_key")["adjusted_z"].loc[keys] for name, rows in found.groupby("score")
    }
    assert by_score["flat"].isna().all()
    z = by_score["own"].to_numpy()
    assert np.isnan(z[1499]) and np.isfinite(z[:1499]).all()
    np.testing.assert_allclose(by_score["again"], -z, rtol=1e-4, atol=1e-4)
    before, after = ([values[population:1499:3].std() for population in range(3)] for values in (totals, z))
    assert max(before) > 1.5 * min(before) and max(after) < 1.15 * min(after)
    assert max(abs(z[population:1499:3].mean()) for population in range(3)) < 0.15
    # By hand, from numbers that share nothing with it but the people of reference.
    design = np.column_stack([np.ones(1200), components[:1200]])
    mean = np.linalg.lstsq(design, totals[:1200], rcond=None)[0]
    squares = (totals[:1200] - design @ mean) ** 2
    gamma = GammaRegressor(alpha=0, solver="newton-cholesky", max_iter=1000, tol=1e-10)
    gamma.fit(components[:1200], squares)
    expected = (totals[:1499] - mean[0] - components[:1499] @ mean[1:]) / np.sqrt(
        gamma.predict(components[:1499]) * 1200 / 1197
    )
    np.testing.assert_allclose(z[:1499], expected, rtol=1e-4)
