"""Intervals by drawing people again, with replacement (Efron and Tibshirani 1993, chapter 13).

A training table has one row per person, so that rows are people here.
"""

from collections.abc import Iterator

import numpy as np

from models.evaluate.metrics import Floats, Statistic, Weightings
from models.evaluate.results import Estimate

N_BOOT = 500
BLOCK_ELEMENTS = 4_000_000
LEVEL = (2.5, 97.5)


def estimate(
    statistic: Statistic,
    n: int,
    events: int,
    weights: Floats | None = None,
    n_boot: int = N_BOOT,
    seed: int = 1,
) -> Estimate | None:
    """The statistic on everyone and its 95 % percentile interval; None where it is undefined.

    `weights` [n] multiply the draws (IPCW). Draws in which it is undefined (no case among them) are
    left out of the percentiles. The same n and seed draw the same people, so that two statistics
    can be compared in pairs.
    """
    base = np.ones(n) if weights is None else weights
    value = float(statistic(base[None, :])[0])
    replicates = np.concatenate([statistic(draws * base) for draws in resamples(n, n_boot, seed)])
    defined = replicates[np.isfinite(replicates)]
    if not np.isfinite(value) or not len(defined):
        return None
    low, high = np.percentile(defined, LEVEL)
    return Estimate(value=value, low=float(low), high=float(high), n=n, events=events)


def difference(
    statistic: Statistic,
    against: Statistic,
    n: int,
    events: int,
    weights: Floats | None = None,
    n_boot: int = N_BOOT,
    seed: int = 1,
) -> Estimate | None:
    """`statistic` - `against`, both on the same people in every draw."""
    return estimate(lambda w: statistic(w) - against(w), n, events, weights, n_boot, seed)


def resamples(n: int, n_boot: int, seed: int) -> Iterator[Weightings]:
    """Blocks [b, n] of how often each person was drawn, `n_boot` rows in all."""
    random = np.random.default_rng(seed)
    per_block = max(1, BLOCK_ELEMENTS // max(n, 1))
    for start in range(0, n_boot, per_block):
        rows = min(per_block, n_boot - start)
        yield np.stack([np.bincount(random.integers(0, n, n), minlength=n) for _ in range(rows)]).astype(float)
