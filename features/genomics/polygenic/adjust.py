"""Polygenic scores beside what is usual for a person's ancestry.

A score's mean and spread differ between populations for reasons that are no risk: which variants were found where,
and what drift did. In the people of reference both are regressed on the principal components, the mean by least
squares and the variance as that of a gamma distribution with a logarithmic link (of n people and k coefficients,
times n / (n - k)); `adjusted_z` is how many standard deviations a person lies from the mean of those alike (Khan
et al., Nat Med 2022;28:1412; Z_norm2 of the PGS Catalog's pgsc_calc).
"""

import logging

import numpy as np
import numpy.typing as npt
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf
from scipy.optimize import minimize

from features.genomics.draw import drawn

log = logging.getLogger("riskloom")
FEWEST_A_COEFFICIENT = 20
"""People of reference: of fewer the variance is taken to be the same along all components, for a regression of it
would follow chance."""
MOST_REFERENCE = 50_000
"""So many people know a mean and a variance well enough, and fit a task."""

Matrix = npt.NDArray[np.float64]


def with_adjusted(totals: DataFrame, ancestry: DataFrame) -> DataFrame:
    """`totals` (`person_key, score, total`) with `adjusted_z`; null for who is not placed, and for a score that
    does not vary among the people of reference. `ancestry` has `person_key, reference, components`."""
    placed = ancestry.filter(sf.col("components").isNotNull()).select("person_key", "reference", "components")
    joined = totals.join(placed, "person_key", "left")
    reference = placed.filter("reference")
    most = sf.coalesce(sf.max(sf.size("components")), sf.lit(0))
    number, components = reference.agg(sf.count("*"), most).collect()[0]
    if number < FEWEST_A_COEFFICIENT * (components + 1):
        log.warning(
            "adjusted_z: %d people of reference are few for %d components, so that spread is taken to be the same "
            "along all; more people, or fewer genomics.ancestry.components, tell more",
            *(number, components),
        )
    some = drawn(reference, number, MOST_REFERENCE, "adjusted_z", "person_key")
    fitted = totals.join(some, "person_key").groupBy("score").applyInPandas(_fitted, _FITTED)
    found = joined.join(sf.broadcast(fitted), "score", "left")
    spread = sf.exp(_along("log_variance") / 2)
    return found.withColumn("adjusted_z", (sf.col("total") - _along("mean")) / spread)


_FITTED = "score string, mean array<double>, log_variance array<double>"


def _along(coefficients: str) -> Column:
    """The first coefficient, and each of the others times its component."""
    slopes = sf.slice(coefficients, 2, sf.size(coefficients) - 1)
    products = sf.zip_with("components", slopes, lambda component, slope: component * slope)
    return sf.aggregate(products, sf.element_at(coefficients, 1), lambda total, one: total + one)


def _fitted(rows: pd.DataFrame) -> pd.DataFrame:
    found = fit(np.stack(rows["components"].to_list()), rows["total"].to_numpy())
    of = [] if found is None else [(rows["score"].iloc[0], *found)]
    return pd.DataFrame(of, columns=["score", "mean", "log_variance"], dtype=object)


def fit(components: Matrix, totals: Matrix) -> tuple[Matrix, Matrix] | None:
    """Intercept and slopes of the mean, and of the logarithm of the variance; None where nothing varies, or there
    are too few people for so many numbers."""
    centre, scale = components.mean(0), components.std(0)
    if len(totals) <= 2 * (components.shape[1] + 1) or not (scale > 0).all():
        return None
    design = np.column_stack([np.ones(len(totals)), (components - centre) / scale])
    mean = np.linalg.lstsq(design, totals, rcond=None)[0]
    squares = (totals - design @ mean) ** 2
    usual = squares.mean()
    if usual <= 1e-20 * max((totals**2).mean(), np.finfo(float).tiny):
        return None
    log_variance = np.zeros(design.shape[1])
    if len(totals) >= FEWEST_A_COEFFICIENT * len(mean):
        log_variance = gamma_regression(design, squares / usual)
    log_variance[0] += np.log(usual * len(totals) / (len(totals) - len(mean)))
    return _unscaled(mean, centre, scale), _unscaled(log_variance, centre, scale)


def gamma_regression(design: Matrix, values: Matrix) -> Matrix:
    """Coefficients of the logarithm of the mean of `values`, none negative, by greatest likelihood; convex."""

    def loss(slopes: Matrix) -> tuple[float, Matrix]:
        along = design @ slopes
        ratio = values * np.exp(-along)
        return float((ratio + along).mean()), design.T @ (1 - ratio) / len(values)

    def curvature(slopes: Matrix) -> Matrix:
        ratio = values * np.exp(-(design @ slopes))
        found: Matrix = (design * ratio[:, None]).T @ design / len(values)
        return found

    start = np.zeros(design.shape[1])
    found: Matrix = minimize(loss, start, jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-9}).x
    return found


def _unscaled(coefficients: Matrix, centre: Matrix, scale: Matrix) -> Matrix:
    """For components as they are, of coefficients for standardised ones."""
    slopes = coefficients[1:] / scale
    return np.array([coefficients[0] - slopes @ centre, *slopes])
