"""From a network's logits to a calibrated risk, its uncertainty, and weights for censored people."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from features.contract.errors import TrainingError
from models.evaluate.bootstrap import LEVEL, resamples
from models.evaluate.metrics import Floats, Statistic, Weightings

REFITS = 200
MINIMUM_SLOPE = 0.01
NEWTON_STEPS = 60
TOLERANCE = 1e-9
TINY = 1e-12
LOGIT_LIMIT = 30.0
PROBABILITY_LIMIT = 1e-7
ROWS_PER_BLOCK = 50_000
MINIMUM_UNCENSORED = 0.02


class Calibrator(BaseModel):
    """risk = expit(intercept + slope x logit), slope > 0, so that the order of people is kept.

    `refits` [[intercept, slope]] were fitted to redrawn tuning people. The interval that they give
    says how sure the calibration is, and nothing of the network's own uncertainty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    intercept: float
    slope: float
    refits: list[tuple[float, float]]
    n: int
    events: int

    @classmethod
    def fit(cls, logits: Any, labels: Any, weights: Any = None, refits: int = REFITS, seed: int = 1) -> Self:
        """Platt (1999) scaling on tuning people; `weights` [n] are 0 for those of unknown status."""
        x, y = _bounded(logits), np.asarray(labels, float)
        w = np.ones(len(x)) if weights is None else np.asarray(weights, float)
        known = w > 0
        if not known.any():
            raise TrainingError(
                "calibration: the status of no tuning person is known at the horizon; enlarge split.tuning"
            )
        intercept, slope = _rising(x, y, w[None, :])[0]
        again = np.concatenate(
            [np.empty((0, 2)), *(_rising(x, y, draws * w) for draws in resamples(len(x), refits, seed))]
        )
        pairs = [(float(a), float(b)) for a, b in again if np.isfinite(a)]
        return cls(intercept=intercept, slope=slope, refits=pairs, n=int(known.sum()), events=int(y[known].sum()))

    def risk(self, logits: Any) -> Floats:
        """Calibrated probability of the outcome within the horizon, [N]."""
        return np.asarray(expit(self.intercept + self.slope * _bounded(logits)))

    def interval(self, logits: Any) -> tuple[Floats, Floats]:
        """2.5th and 97.5th percentile of the refits' risks, never on the wrong side of `risk`."""
        x = _bounded(logits)
        intercepts, slopes = np.array(self.refits or [(self.intercept, self.slope)]).T
        blocks = [x[i : i + ROWS_PER_BLOCK] for i in range(0, len(x), ROWS_PER_BLOCK)]
        bounds = [np.percentile(intercepts + slopes * block[:, None], LEVEL, axis=1) for block in blocks]
        low, high = expit(np.concatenate([np.empty((2, 0)), *bounds], axis=1))
        risk = self.risk(logits)
        return np.minimum(low, risk), np.maximum(high, risk)


def logit_of_risk(hazard_logits: Any) -> Floats:
    """log(risk / (1 - risk)) of risk = 1 - prod(1 - sigmoid(logit)), [N, K] -> [N].

    With a = sum(softplus(logit)) it is log(exp(a) - 1), exact where the risk itself would round to
    0 or 1; for K = 1 it is the logit.
    """
    minus_log_survival = np.logaddexp(0, np.asarray(hazard_logits, float)).sum(axis=1)
    with np.errstate(divide="ignore"):
        return np.asarray(minus_log_survival + np.log(-np.expm1(-minus_log_survival)))


def logit(probability: Any) -> Floats:
    """log(p / (1 - p)) of probabilities held away from 0 and 1."""
    p = np.clip(np.asarray(probability, float), PROBABILITY_LIMIT, 1 - PROBABILITY_LIMIT)
    return np.asarray(np.log(p) - np.log1p(-p))


def expit(logits: Any) -> Floats:
    """1 / (1 + exp(-x)) without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0, -np.asarray(logits, float))))


def platt(x: Floats, y: Floats, weightings: Weightings) -> Floats:
    """Intercept and slope of logistic regressions of y [n] on x [n], one per weighting: [B, 2].

    Platt's targets (N+ + 1) / (N+ + 2) and 1 / (N- + 2) replace 1 and 0, which keeps a small or
    separable sample from an infinite slope. NaN for a weighting that is 0 everywhere.
    """
    cases, others = weightings @ y, weightings @ (1 - y)
    target = np.where(y > 0, ((cases + 1) / (cases + 2))[:, None], (1 / (others + 2))[:, None])
    centre, spread = x.mean(), x.std() or 1.0
    fits = _newton((x - centre) / spread, target, weightings)
    slope = fits[:, 1] / spread
    return np.stack([fits[:, 0] - slope * centre, slope], axis=1)


def calibration_slope_statistic(labels: Any, risks: Any) -> Statistic:
    """The slope of the outcome on the logit of the risk (Cox 1958); 1 is right, below 1 is overfitted."""
    x, y = logit(risks), np.asarray(labels, float)

    def statistic(weightings: Weightings) -> Floats:
        both = (weightings @ y > 0) & (weightings @ (1 - y) > 0)
        return np.asarray(np.where(both, platt(x, y, weightings)[:, 1], np.nan))

    return statistic


def censoring_weights(times: Any, events: Any, horizon: float) -> tuple[NDArray[np.bool_], Floats]:
    """Status at the horizon and inverse-probability-of-censoring weights, [n] each.

    An event by the horizon weighs 1 / G(t-), being event-free there 1 / G(h-), a person censored
    before it 0; G is the Kaplan-Meier survival of censoring (Graf et al. 1999), held above 0.02.
    """
    times, events = np.asarray(times, float), np.asarray(events, bool)
    case = events & (times <= horizon)
    known = case | (times >= horizon)
    uncensored = _survival_of_censoring(times, events, np.minimum(times, horizon))
    return case, np.where(known, 1 / np.maximum(uncensored, MINIMUM_UNCENSORED), 0.0)


def _survival_of_censoring(times: Floats, events: NDArray[np.bool_], at: Floats) -> Floats:
    """Kaplan-Meier of the time to censoring just before `at`; of equal times events come first."""
    moments, place = np.unique(times, return_inverse=True)
    censored = np.bincount(place, weights=~events, minlength=len(moments))
    had_event = np.bincount(place, weights=events, minlength=len(moments))
    at_risk = len(times) - np.searchsorted(np.sort(times), moments) - had_event
    factors = 1 - np.divide(censored, at_risk, out=np.zeros(len(moments)), where=at_risk > 0)
    before = np.concatenate([[1.0], np.cumprod(factors)])
    return np.asarray(before[np.searchsorted(moments, at)])


def _rising(x: Floats, y: Floats, weightings: Weightings) -> Floats:
    """`platt`; where the best slope is not positive, the smallest allowed one stands in and the
    intercept gives the mean."""
    fits = platt(x, y, weightings)
    total = weightings.sum(1)
    mean_risk = (weightings @ y + 1) / (total + 2)
    centre = np.divide(weightings @ x, total, out=np.full(len(total), np.nan), where=total > 0)
    flat = np.stack([logit(mean_risk) - MINIMUM_SLOPE * centre, np.full(len(fits), MINIMUM_SLOPE)], axis=1)
    return np.asarray(np.where(fits[:, 1:] >= MINIMUM_SLOPE, fits, flat))


def _newton(z: Floats, target: Weightings, weightings: Weightings) -> Floats:
    """Logistic regressions on standardised z [n] by Newton's method with bounded steps, [B, 2]."""
    fits = np.zeros((len(weightings), 2))
    for _ in range(NEWTON_STEPS):
        p = expit(fits[:, :1] + fits[:, 1:] * z)
        error, curvature = weightings * (target - p), weightings * p * (1 - p)
        slope_error, mixed, square = error @ z, curvature @ z, curvature @ z**2 + TINY
        level_error, level = error.sum(1), curvature.sum(1) + TINY
        determinant = level * square - mixed**2 + TINY
        step = np.stack([square * level_error - mixed * slope_error, level * slope_error - mixed * level_error], 1)
        step = np.clip(step / determinant[:, None], -1, 1)
        fits += step
        if np.abs(step).max() < TOLERANCE:
            break
    fits[weightings.sum(1) <= 0] = np.nan
    return fits


def _bounded(logits: Any) -> Floats:
    return np.asarray(np.clip(np.asarray(logits, float), -LOGIT_LIMIT, LOGIT_LIMIT))
