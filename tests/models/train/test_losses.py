"""The loss against a second formula, the likelihood person by person."""

import numpy as np
from scipy.special import expit

from models.feed.arrays import survival_targets
from models.train.losses import nll_logistic_hazard, risk_from_logits

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
