"""Calibration: monotone, honest about its uncertainty, and the same after JSON."""

import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from sklearn.linear_model import LogisticRegression

from features.contract.errors import TrainingError
from models.evaluate.calibration import Calibrator, censoring_weights, logit_of_risk, platt


def tuned(n=500, slope=0.5, intercept=-1.0, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(0, 2, n)
    return x, random.uniform(size=n) < 1 / (1 + np.exp(-(intercept + slope * x)))


def test_platt_agrees_with_sklearn_on_the_same_targets():
    x, y = tuned()
    weights = np.random.default_rng(1).integers(0, 3, len(x)).astype(float)
    cases, others = weights @ y, weights @ ~y
    target = np.where(y, (cases + 1) / (cases + 2), 1 / (others + 2))
    model = LogisticRegression(C=1e9, tol=1e-10, max_iter=1000)
    both = np.r_[weights * target, weights * (1 - target)]
    model.fit(np.r_[x, x][:, None], np.repeat([1, 0], len(x)), both)
    intercept, slope = platt(x, y.astype(float), weights[None, :])[0]
    assert (intercept, slope) == pytest.approx((model.intercept_[0], model.coef_[0, 0]), abs=1e-4)


def test_calibration_recovers_the_truth_and_keeps_the_order():
    x, y = tuned(5000)
    calibrator = Calibrator.fit(x, y)
    assert calibrator.slope == pytest.approx(0.5, abs=0.06)
    grid = np.linspace(-8, 8, 200)
    risk = calibrator.risk(grid)
    low, high = calibrator.interval(grid)
    assert (np.diff(risk) > 0).all()
    assert ((low <= risk) & (risk <= high) & (low >= 0) & (high <= 1)).all()
    assert calibrator.risk(x).mean() == pytest.approx(y.mean(), abs=0.005)


@pytest.mark.parametrize("labels", ["reversed", "separable", "all", "none"])
def test_awkward_tuning_people_still_give_a_rising_finite_calibration(labels):
    x, y = tuned(60)
    awkward = {"reversed": x < 0, "separable": x > 0, "all": y | True, "none": y & False}[labels]
    calibrator = Calibrator.fit(x, awkward)
    assert calibrator.slope > 0
    assert all(slope > 0 and np.isfinite(intercept) for intercept, slope in calibrator.refits)
    low, high = calibrator.interval(x)
    assert np.isfinite(low).all() and np.isfinite(high).all()


def test_a_calibrator_survives_json():
    calibrator = Calibrator.fit(*tuned(80))
    again = Calibrator.model_validate_json(calibrator.model_dump_json())
    assert again == calibrator
    assert (again.risk([0.3]) == calibrator.risk([0.3])).all()


def test_without_known_status_there_is_no_calibration():
    with pytest.raises(TrainingError, match=r"split\.tuning"):
        Calibrator.fit([0.0, 1.0], [0, 0], [0.0, 0.0])


def test_the_logit_of_the_horizon_risk_is_exact_at_the_ends():
    assert logit_of_risk([[-40.0], [0.5], [40.0]]) == pytest.approx([-40, 0.5, 40])
    hazards = np.array([[-1.0, -2.0, 0.3]])
    risk = 1 - np.prod(1 - 1 / (1 + np.exp(-hazards)))
    assert logit_of_risk(hazards) == pytest.approx([np.log(risk / (1 - risk))])


def test_censoring_weights_agree_with_kaplan_meier_and_restore_the_censored():
    random = np.random.default_rng(0)
    event_time, censor_time = random.exponential(100, 3000), random.exponential(120, 3000)
    times, events = np.minimum(event_time, censor_time), event_time <= censor_time
    case, weights = censoring_weights(times, events, 60)
    censoring = KaplanMeierFitter().fit(times, ~events)
    i = np.flatnonzero(case)[0]
    before = float(censoring.predict(np.nextafter(times[i], 0)))
    assert weights[i] == pytest.approx(1 / before, rel=1e-6)
    assert (weights[(times < 60) & ~events] == 0).all()
    assert np.average(case, weights=weights) == pytest.approx(1 - np.exp(-0.6), abs=0.03)
    assert weights.sum() == pytest.approx(3000, rel=0.02)
