"""How good a risk is: discrimination and calibration, for complete labels and for censored ones.

Each measure comes twice: a function of scores, and a `*_statistic` that is prepared once (sorting,
pairs) and then evaluated on many weightings of the same people, which is what makes a bootstrap
fast. A weighting is one row of an array [B, n]: how often each person was drawn, times the weight.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Weightings = NDArray[np.float64]
Statistic = Callable[[Weightings], Floats]

PAIRS_IN_MEMORY = 2000
ROWS_PER_BLOCK = 256


def auroc(labels: Any, scores: Any, weights: Any = None) -> float:
    """The chance that a case scores above a non-case; ties count half. NaN without both kinds."""
    return _once(auroc_statistic(labels, scores), len(labels), weights)


def auprc(labels: Any, scores: Any, weights: Any = None) -> float:
    """Average precision: the sum of precision x gain in recall over falling thresholds."""
    return _once(auprc_statistic(labels, scores), len(labels), weights)


def brier(labels: Any, risks: Any, weights: Any = None) -> float:
    """Mean squared difference of risk and outcome (Brier 1950)."""
    return _once(brier_statistic(labels, risks), len(labels), weights)


def observed_over_expected(labels: Any, risks: Any, weights: Any = None) -> float:
    """Cases seen over cases predicted; 1 is calibration in the large."""
    return _once(observed_over_expected_statistic(labels, risks), len(labels), weights)


def concordance(times: Any, events: Any, scores: Any) -> float:
    """Harrell's c: among pairs whose order of events is known, the share where the earlier one had
    the higher score; ties count half (Harrell 1996; the pairs are those of lifelines).

    In n log^2 n: people stand in order of time, and of each pair of neighbouring blocks the earlier one's
    cases are counted against the later one's scores; blocks then double, as in a merge sort.
    """
    times, case = np.asarray(times, float), np.asarray(events, bool)
    score = np.unique(np.asarray(scores, float), return_inverse=True)[1]
    # Of equal times events come before censorings; those of one moment stand by rising score, so that none
    # is above another that stands later.
    order = np.lexsort((score, ~case, times))
    times, case, score = times[order], case[order], score[order]
    moment = np.cumsum(np.r_[True, (times[1:] != times[:-1]) | (case[1:] != case[:-1])][: len(times)])
    known = int((len(moment) - np.searchsorted(moment, moment, side="right"))[case].sum())
    below, equal = _later_and_lower(score, case)
    # Two events of one moment are not ordered, though one stands later.
    together = np.unique(moment[case] * (len(score) + 1) + score[case], return_counts=True)[1]
    equal -= int((together * (together - 1) // 2).sum())
    return (below + 0.5 * equal) / known if known else float("nan")


def _later_and_lower(score: NDArray[np.intp], case: NDArray[np.bool_]) -> tuple[int, int]:
    """Pairs of a case and someone later in the order with a lower, and with an equal score (integers [n])."""
    n = len(score)
    place, span = np.arange(n), int(score.max(initial=0)) + 1
    below = equal = 0
    half = 1
    while half < n:
        block, right = place // (2 * half), (place // half) % 2 == 1
        keys = block * span + score
        rights = np.sort(keys[right])
        lefts = np.flatnonzero(~right & case)
        start = np.searchsorted(rights, block[lefts] * span)
        first, last = (np.searchsorted(rights, keys[lefts], side=side) for side in ("left", "right"))
        below += int((first - start).sum())
        equal += int((last - first).sum())
        half *= 2
    return below, equal


def auroc_statistic(labels: Any, scores: Any) -> Statistic:
    """Mann-Whitney on groups of equal scores, in rising order."""
    cases, order, starts = _by_score(labels, np.asarray(scores, float))

    def statistic(weightings: Weightings) -> Floats:
        sorted_weights = weightings[:, order]
        positive = np.add.reduceat(sorted_weights * cases, starts, axis=1)
        negative = np.add.reduceat(sorted_weights * (1 - cases), starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative / 2
        return _ratio((positive * below).sum(1), positive.sum(1) * negative.sum(1))

    return statistic


def auprc_statistic(labels: Any, scores: Any) -> Statistic:
    """Precision at each distinct score, weighted by the cases that it adds."""
    cases, order, starts = _by_score(labels, -np.asarray(scores, float))

    def statistic(weightings: Weightings) -> Floats:
        sorted_weights = weightings[:, order]
        positive = np.add.reduceat(sorted_weights * cases, starts, axis=1)
        everyone = np.cumsum(np.add.reduceat(sorted_weights, starts, axis=1), axis=1)
        precision = np.cumsum(positive, axis=1) / np.maximum(everyone, np.finfo(float).tiny)
        return _ratio((precision * positive).sum(1), positive.sum(1))

    return statistic


def brier_statistic(labels: Any, risks: Any) -> Statistic:
    error = (np.asarray(labels, float) - np.asarray(risks, float)) ** 2
    return lambda weightings: _ratio(weightings @ error, weightings.sum(1))


def observed_over_expected_statistic(labels: Any, risks: Any) -> Statistic:
    observed, expected = np.asarray(labels, float), np.asarray(risks, float)
    return lambda weightings: _ratio(weightings @ observed, weightings @ expected)


def concordance_statistic(times: Any, events: Any, scores: Any) -> Statistic:
    """All pairs for up to `PAIRS_IN_MEMORY` people; above, the first-order (Hajek) projection around
    the sample, whose value at weight 1 is exact and whose cost does not grow with B."""
    data = (np.asarray(times, float), np.asarray(events, bool), np.asarray(scores, float))
    if len(data[0]) > PAIRS_IN_MEMORY:
        return _projected_concordance(*data)
    comparable, concordant = _pairs(*data, np.arange(len(data[0])))

    def statistic(weightings: Weightings) -> Floats:
        known = ((weightings @ comparable) * weightings).sum(1)
        return _ratio(((weightings @ concordant) * weightings).sum(1), known)

    return statistic


def within(groups: NDArray[np.intp], statistic_of: Callable[[NDArray[np.intp]], Statistic]) -> Statistic:
    """The mean over groups [n] of `statistic_of(rows)`, where it is defined: people are compared only with
    those of their own fold, whose risks come from the same fit (LeDell, Petersen and van der Laan 2015).

    Pooled, a predictor that gives all people of a fold one risk falls below 0.5: a fit that saw more cases
    gives higher risks, and left a fold with fewer of them.
    """
    parts = [(rows, statistic_of(rows)) for g in np.unique(groups) for rows in [np.flatnonzero(groups == g)]]

    def statistic(weightings: Weightings) -> Floats:
        values = np.stack([part(weightings[:, rows]) for rows, part in parts])
        defined = np.isfinite(values)
        return _ratio(np.where(defined, values, 0).sum(0), defined.sum(0).astype(float))

    return statistic


def _projected_concordance(times: Floats, events: NDArray[np.bool_], scores: Floats) -> Statistic:
    known, concordant = np.zeros(len(times)), np.zeros(len(times))
    cases = np.flatnonzero(events)
    for start in range(0, len(cases), ROWS_PER_BLOCK):
        rows = cases[start : start + ROWS_PER_BLOCK]
        comparable, ordered = _pairs(times, events, scores, rows)
        known += comparable.sum(0)
        known[rows] += comparable.sum(1)
        concordant += ordered.sum(0)
        concordant[rows] += ordered.sum(1)

    def statistic(weightings: Weightings) -> Floats:
        return _ratio(weightings @ concordant - concordant.sum() / 2, weightings @ known - known.sum() / 2)

    return statistic


def _pairs(
    times: Floats, events: NDArray[np.bool_], scores: Floats, rows: NDArray[np.intp]
) -> tuple[Floats, Floats]:
    """[rows, n] twice: whether the row's person is known to come first; and then scored higher.

    Of two equal times an event comes before a censoring, and two events are not ordered.
    """
    first = (times[rows, None] < times) | ((times[rows, None] == times) & ~events)
    comparable = (first & events[rows, None]).astype(float)
    higher = (scores[rows, None] > scores) + 0.5 * (scores[rows, None] == scores)
    return comparable, comparable * higher


def _by_score(labels: Any, keys: Floats) -> tuple[Floats, NDArray[np.intp], NDArray[np.intp]]:
    """Labels in order of rising keys, that order, and where each group of equal keys starts."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    return np.asarray(labels, float)[order], order, starts


def _once(statistic: Statistic, n: int, weights: Any) -> float:
    weighting = np.ones(n) if weights is None else np.asarray(weights, float)
    return float(statistic(weighting[None, :])[0])


def _ratio(above: Floats, below: Floats) -> Floats:
    """NaN where the denominator is not positive."""
    return np.asarray(np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0))
