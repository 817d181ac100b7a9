"""From risks and outcomes of the same people to the results that a bundle keeps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.contract.manifest import Manifest
from models.evaluate import metrics
from models.evaluate.bootstrap import difference, estimate
from models.evaluate.calibration import calibration_slope_statistic, censoring_weights
from models.evaluate.metrics import Floats, Statistic
from models.evaluate.results import (
    CalibrationBin,
    Difference,
    Estimate,
    Family,
    Predictor,
    RiskHistogram,
    RocPoint,
)

MEASURES_OF_ORDER = ("auroc", "c_index")
CALIBRATION_BINS = 10
HISTOGRAM_BINS = 20
ROC_POINTS = 200
Z95 = 1.959964


@dataclass(frozen=True)
class Outcomes:
    """What happened to n people by the horizon, [n] each.

    `case` is an event by then, `weights` 0 for unknown status and IPCW otherwise (all 1 for a binary
    outcome). `times` (days, cut at the horizon) and `events` are there for survival only. With `folds`,
    measures of order (AUROC, c-index) compare people of one fold only.
    """

    case: NDArray[np.bool_]
    weights: Floats
    times: Floats | None = None
    events: NDArray[np.bool_] | None = None
    folds: NDArray[np.intp] | None = None

    @classmethod
    def of(cls, table: pa.Table, manifest: Manifest) -> Self:
        """From the label columns of a training table."""
        name = f"y_{manifest.outcome}"
        if manifest.kind == "binary":
            case = table[name].to_numpy().astype(float) > 0
            return cls(case, np.ones(len(case)))
        times = table[f"{name}_time"].to_numpy().astype(float)
        events = table[f"{name}_event"].to_numpy().astype(float) > 0
        case, weights = censoring_weights(times, events, manifest.horizon_days)
        return cls(case, weights, np.minimum(times, manifest.horizon_days), case)

    @property
    def n(self) -> int:
        return len(self.case)

    @property
    def n_events(self) -> int:
        return int(self.case.sum())

    @property
    def n_censored(self) -> int:
        return int((self.weights == 0).sum())

    @property
    def primary(self) -> str:
        """The metric by which predictors are compared."""
        return "auroc" if self.times is None else "c_index"

    def statistic(self, metric: str, risk: Floats) -> Statistic:
        """A metric of this risk, ready for `bootstrap.estimate` with `metric_weights`."""

        def of(rows: NDArray[np.intp]) -> Statistic:
            if metric == "c_index" and self.times is not None and self.events is not None:
                return metrics.concordance_statistic(self.times[rows], self.events[rows], risk[rows])
            return AT_HORIZON[metric](self.case[rows], risk[rows])

        if self.folds is not None and metric in MEASURES_OF_ORDER:
            return metrics.within(self.folds, of)
        return of(np.arange(self.n))

    def metric_weights(self, metric: str) -> Floats | None:
        """The c-index handles censoring by its pairs; the others by IPCW."""
        return None if metric == "c_index" else self.weights


AT_HORIZON: dict[str, Callable[[Any, Any], Statistic]] = {
    "auroc": metrics.auroc_statistic,
    "auprc": metrics.auprc_statistic,
    "brier": metrics.brier_statistic,
    "observed_over_expected": metrics.observed_over_expected_statistic,
    "calibration_slope": calibration_slope_statistic,
}


def summarise(
    name: str,
    family: Family,
    modalities: list[str],
    risk: Floats,
    outcomes: Outcomes,
    kind: str | None = None,
    seed: int = 1,
) -> Predictor:
    """Every metric with its interval, and the curves, of one predictor's calibrated risks [n]."""
    names = [*(["c_index"] if outcomes.times is not None else []), *AT_HORIZON]
    estimates = {metric: _estimate(metric, risk, outcomes, seed) for metric in names}
    return Predictor(
        name=name,
        family=family,
        modalities=modalities,
        kind=kind,
        metrics={metric: found for metric, found in estimates.items() if found is not None},
        roc=roc_points(outcomes, risk),
        calibration=calibration_bins(outcomes, risk),
        histogram=risk_histogram(outcomes, risk),
    )


def compare(
    name: str, against: str, risks: dict[str, Floats], outcomes: Outcomes, seed: int = 1
) -> Difference | None:
    """The primary metric of one predictor minus that of another, paired."""
    metric = outcomes.primary
    found = difference(
        outcomes.statistic(metric, risks[name]),
        outcomes.statistic(metric, risks[against]),
        outcomes.n,
        outcomes.n_events,
        outcomes.metric_weights(metric),
        seed=seed,
    )
    return None if found is None else Difference(name=name, against=against, metric=metric, estimate=found)


def primary_value(outcomes: Outcomes, risk: Floats) -> float:
    """The primary metric without an interval, for choosing; NaN where it is undefined."""
    weights = outcomes.metric_weights(outcomes.primary)
    weighting = np.ones(outcomes.n) if weights is None else weights
    return float(outcomes.statistic(outcomes.primary, risk)(weighting[None, :])[0])


def roc_points(outcomes: Outcomes, risk: Floats) -> list[RocPoint]:
    """From (0, 0) to (1, 1), thinned to about `ROC_POINTS`; empty without cases or non-cases."""
    order = np.argsort(-risk, kind="stable")
    case, weight, ordered = outcomes.case[order], outcomes.weights[order], risk[order]
    found, false = np.cumsum(weight * case), np.cumsum(weight * ~case)
    if not len(risk) or found[-1] <= 0 or false[-1] <= 0:
        return []
    last = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
    kept = last[np.unique(np.linspace(0, len(last) - 1, ROC_POINTS).astype(int))]
    points = [RocPoint(false_positive_rate=0, true_positive_rate=0, threshold=1)]
    return points + [
        RocPoint(
            false_positive_rate=false[i] / false[-1],
            true_positive_rate=found[i] / found[-1],
            threshold=ordered[i],
        )
        for i in kept
    ]


def calibration_bins(outcomes: Outcomes, risk: Floats, bins: int = CALIBRATION_BINS) -> list[CalibrationBin]:
    """Tenths of the people of known status, by rising risk; equal risks stay together."""
    known = np.flatnonzero(outcomes.weights > 0)
    inner = np.quantile(risk[known], np.arange(1, bins) / bins) if len(known) else np.empty(0)
    place = np.searchsorted(inner, risk[known], side="right")
    return [_bin(outcomes, risk, known[place == i]) for i in np.unique(place)]


def risk_histogram(outcomes: Outcomes, risk: Floats, bins: int = HISTOGRAM_BINS) -> RiskHistogram:
    edges = np.linspace(0, max(float(risk.max(initial=0)), 0.01), bins + 1)
    events, _ = np.histogram(risk[outcomes.case], edges)
    others, _ = np.histogram(risk[~outcomes.case], edges)
    return RiskHistogram(edges=edges.tolist(), events=events.tolist(), others=others.tolist())


def _estimate(metric: str, risk: Floats, outcomes: Outcomes, seed: int) -> Estimate | None:
    """None for fewer than one case and one non-case of known status."""
    known = outcomes.weights > 0
    if not outcomes.case[known].any() or outcomes.case[known].all():
        return None
    statistic, weights = outcomes.statistic(metric, risk), outcomes.metric_weights(metric)
    return estimate(statistic, outcomes.n, outcomes.n_events, weights, seed=seed)


def _bin(outcomes: Outcomes, risk: Floats, rows: NDArray[np.intp]) -> CalibrationBin:
    weights, case = outcomes.weights[rows], outcomes.case[rows]
    observed = float(np.average(case, weights=weights))
    low, high = _wilson(observed, float(weights.sum() ** 2 / (weights**2).sum()))
    return CalibrationBin(
        predicted=float(np.average(risk[rows], weights=weights)),
        observed=observed,
        low=low,
        high=high,
        n=len(rows),
        events=int(case.sum()),
    )


def _wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's (1927) 95 % interval of a share among n (effective) people."""
    centre = share + Z95**2 / (2 * n)
    half = Z95 * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    scale = 1 + Z95**2 / n
    return max(0.0, float((centre - half) / scale)), min(1.0, float((centre + half) / scale))
