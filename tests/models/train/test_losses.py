"""The losses against second formulas: the likelihood person by person, and lifelines."""

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from scipy.special import expit

from models.feed.arrays import survival_targets
from models.train.losses import nll_cox, nll_logistic_hazard, risk_from_logits

EDGES = np.array([100.0, 200.0, 300.0])


def likelihood(hazard: np.ndarray, day: float, happened: bool) -> float:
    """Survive each interval before, then have the event, or half of the last one."""
    survived = 1.0
    for k, end in enumerate(EDGES):
        start = 0.0 if k == 0 else EDGES[k - 1]
        if day <= end:
            if happened:
                return survived * hazard[k]
            return survived * ((1 - hazard[k]) if day > (start + end) / 2 else 1.0)
        survived *= 1 - hazard[k]
    return survived


def test_the_loss_is_the_weighted_negative_log_likelihood():
    random = np.random.default_rng(2)
    logits = random.normal(size=(200, 3)).astype(np.float32)
    days, happened = random.uniform(1, 400, 200), random.uniform(size=200) < 0.6
    weight = random.uniform(0, 2, 200).astype(np.float32)
    expected = sum(
        -w * np.log(likelihood(expit(row.astype(float)), day, event))
        for row, day, event, w in zip(logits, days, happened, weight, strict=True)
    )
    arrays = survival_targets(days, happened, EDGES)
    found = nll_logistic_hazard(logits, arrays["events"], arrays["at_risk"], weight)
    np.testing.assert_allclose(float(found), expected, rtol=1e-5)


def test_risk_is_one_minus_the_chance_to_pass_every_interval():
    logits = np.random.default_rng(3).normal(size=(50, 4))
    np.testing.assert_allclose(risk_from_logits(logits), 1 - np.prod(1 - expit(logits), axis=1), rtol=1e-12)
    assert risk_from_logits(np.full((1, 4), -40.0))[0] > 0


def followed(people: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Days of which many are shared, who died, and a score."""
    random = np.random.default_rng(seed)
    days = random.integers(1, people // 3, people).astype(float)
    return days, (random.uniform(size=people) < 0.5).astype(float), 3 * random.normal(size=people)


def efron(days: np.ndarray, died: np.ndarray, score: np.ndarray) -> float:
    """The partial likelihood as Efron writes it, death by death."""
    total = 0.0
    for day in np.unique(days[died > 0]):
        tied = score[(days == day) & (died > 0)]
        at_risk = np.exp(score[days >= day]).sum()
        compared = [at_risk - place / len(tied) * np.exp(tied).sum() for place in range(len(tied))]
        total += tied.sum() - np.log(compared).sum()
    return -total


def test_cox_is_efrons_formula_written_out():
    days, died, score = followed(120, 4)
    found = float(nll_cox(score, days, died, np.ones(120)))
    assert found == pytest.approx(efron(days, died, score), rel=1e-12)


def test_cox_at_its_best_slope_is_lifelines_likelihood():
    days, died, score = followed(120, 8)
    fitted = CoxPHFitter().fit(pd.DataFrame({"days": days, "died": died, "x": score}), "days", "died")
    found = float(nll_cox(float(fitted.params_["x"]) * score, days, died, np.ones(120)))
    assert found == pytest.approx(-fitted.log_likelihood_, rel=1e-9)


def test_cox_weighs_people_as_lifelines_does():
    """Without ties, as lifelines weighs tied deaths by a rule of its own."""
    _, died, score = followed(80, 5)
    days, weight = np.random.default_rng(1).permutation(80) + 1.0, np.random.default_rng(2).uniform(0.2, 2, 80)
    frame = pd.DataFrame({"days": days, "died": died, "x": score, "w": weight})
    fitted = CoxPHFitter().fit(frame, "days", "died", weights_col="w", robust=True)
    beta = float(fitted.params_["x"])
    assert float(nll_cox(beta * score, days, died, weight)) == pytest.approx(-fitted.log_likelihood_, rel=1e-9)


def test_a_padding_row_is_in_no_risk_set():
    days, died, score = followed(50, 6)
    padded = [np.append(values, extra) for values, extra in ((score, 40.0), (days, 0.0), (died, 1.0))]
    without = nll_cox(score, days, died, np.ones(50))
    assert float(nll_cox(*padded, np.append(np.ones(50), 0.0))) == pytest.approx(float(without), rel=1e-12)


def test_an_event_that_counts_twice_is_two_events():
    random = np.random.default_rng(7)
    logits, events = random.normal(size=(60, 1)), (random.uniform(size=(60, 1)) < 0.4).astype(float)
    twice = np.concatenate([np.arange(60), np.flatnonzero(events)])
    ones = np.ones((len(twice), 1))
    expected = nll_logistic_hazard(logits[twice], events[twice], ones, ones[:, 0])
    found = nll_logistic_hazard(logits, events, ones[:60], ones[:60, 0], positive_weight=2.0)
    assert float(found) == pytest.approx(float(expected), rel=1e-12)
