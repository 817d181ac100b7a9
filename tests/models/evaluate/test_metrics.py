"""Metrics against sklearn, lifelines and formulas written out."""

import time

import numpy as np
import pytest
from lifelines.utils import concordance_index
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from models.evaluate import metrics
from models.evaluate.bootstrap import difference, estimate


def people(n=300, seed=0, ties=True):
    random = np.random.default_rng(seed)
    scores = random.uniform(size=n).round(1 if ties else 12)
    labels = random.uniform(size=n) < scores
    return labels, scores, random.uniform(0.5, 2, n)


def followed(n=300, seed=0):
    """Times with ties, some censored, longer for lower scores."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=n).round(1)
    times = np.ceil(random.exponential(50 * np.exp(-scores)))
    return times, random.uniform(size=n) < 0.6, scores


@pytest.mark.parametrize("ties", [True, False])
def test_discrimination_and_brier_agree_with_sklearn(ties):
    labels, scores, weights = people(ties=ties)
    for w in (None, weights):
        assert metrics.auroc(labels, scores, w) == pytest.approx(roc_auc_score(labels, scores, sample_weight=w))
        expected = average_precision_score(labels, scores, sample_weight=w)
        assert metrics.auprc(labels, scores, w) == pytest.approx(expected)
        expected = brier_score_loss(labels, scores, sample_weight=w)
        assert metrics.brier(labels, scores, w) == pytest.approx(expected)


def test_auroc_without_both_kinds_is_undefined():
    assert np.isnan(metrics.auroc([1, 1], [0.1, 0.2]))
    assert estimate(metrics.auroc_statistic([1, 1], [0.1, 0.2]), 2, 2) is None


def test_concordance_agrees_with_lifelines_and_with_pairs_written_out():
    times, events, scores = followed()
    assert metrics.concordance(times, events, scores) == pytest.approx(concordance_index(times, -scores, events))
    times, events, scores = followed(40, 3)
    known = concordant = 0.0
    for i in range(40):
        for j in range(40):
            if events[i] and (times[i] < times[j] or (times[i] == times[j] and not events[j])):
                known += 1
                concordant += float(scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
    assert metrics.concordance(times, events, scores) == pytest.approx(concordant / known)


@pytest.mark.parametrize("seed", range(30))
def test_concordance_by_blocks_is_lifelines_with_ties_of_time_and_score(seed):
    random = np.random.default_rng(seed)
    n = int(random.integers(2, 70))
    times, events = random.integers(1, 12, n).astype(float), random.uniform(size=n) < 0.6
    scores = random.integers(0, 6, n).astype(float)
    if not any(events & (times < times.max())):
        events[np.argmin(times)], times[np.argmin(times)] = True, 0.0
    assert metrics.concordance(times, events, scores) == pytest.approx(concordance_index(times, -scores, events))


def test_concordance_without_a_known_pair_is_undefined():
    assert np.isnan(metrics.concordance([1.0, 2.0], [False, False], [0.1, 0.2]))
    assert np.isnan(metrics.concordance([], [], []))


def test_within_folds_is_the_mean_of_each_folds_auroc():
    labels, scores, weights = people()
    folds = np.arange(len(labels)) % 5
    statistic = metrics.within(folds, lambda rows: metrics.auroc_statistic(labels[rows], scores[rows]))
    of_each = [
        roc_auc_score(labels[folds == k], scores[folds == k], sample_weight=weights[folds == k]) for k in range(5)
    ]
    assert statistic(weights[None, :])[0] == pytest.approx(np.mean(of_each))


def test_a_risk_that_is_the_same_for_all_of_a_fold_is_worth_a_half():
    """The risk that a fit without features gives: the share of cases in the other folds."""
    labels, _, _ = people()
    folds = np.arange(len(labels)) % 5
    risk = np.array([labels[folds != k].mean() for k in folds])
    statistic = metrics.within(folds, lambda rows: metrics.auroc_statistic(labels[rows], risk[rows]))
    assert statistic(np.ones((1, len(labels))))[0] == pytest.approx(0.5)
    assert metrics.auroc(labels, risk) < 0.48


def test_a_fold_without_cases_is_left_out_of_the_mean():
    labels, folds = np.array([0, 1, 0, 0]), np.array([0, 0, 1, 1])
    statistic = metrics.within(folds, lambda rows: metrics.auroc_statistic(labels[rows], rows))
    assert statistic(np.ones((1, 4)))[0] == 1.0


def test_many_people_give_the_same_concordance_and_nearly_the_same_interval(monkeypatch):
    times, events, scores = followed(800)
    exact = estimate(metrics.concordance_statistic(times, events, scores), 800, int(events.sum()))
    monkeypatch.setattr(metrics, "PAIRS_IN_MEMORY", 100)
    projected = estimate(metrics.concordance_statistic(times, events, scores), 800, int(events.sum()))
    assert projected.value == pytest.approx(exact.value)
    assert (projected.low, projected.high) == pytest.approx((exact.low, exact.high), abs=0.003)


def test_an_interval_is_the_percentiles_of_redrawn_people():
    labels, scores, _ = people(120)
    found = estimate(metrics.auroc_statistic(labels, scores), 120, int(labels.sum()), n_boot=300, seed=7)
    random = np.random.default_rng(7)
    drawn = [random.integers(0, 120, 120) for _ in range(300)]
    expected = np.percentile([roc_auc_score(labels[i], scores[i]) for i in drawn], [2.5, 97.5])
    assert (found.low, found.high) == pytest.approx(expected)
    assert (found.n, found.events) == (120, labels.sum())


def test_a_paired_difference_is_surer_than_two_intervals():
    labels, scores, _ = people(400, ties=False)
    worse = scores + np.random.default_rng(1).normal(0, 0.05, 400)
    one, two = (metrics.auroc_statistic(labels, s) for s in (scores, worse))
    found = difference(one, two, 400, int(labels.sum()))
    single = estimate(one, 400, int(labels.sum()))
    assert found.value == pytest.approx(metrics.auroc(labels, scores) - metrics.auroc(labels, worse))
    assert found.high - found.low < 0.5 * (single.high - single.low)


def test_500_draws_are_quick():
    labels, scores, _ = people(800, ties=False)
    times, events, risks = followed(500)
    started = time.perf_counter()
    estimate(metrics.auroc_statistic(labels, scores), 800, 1)
    estimate(metrics.concordance_statistic(times, events, risks), 500, 1)
    assert time.perf_counter() - started < 3
