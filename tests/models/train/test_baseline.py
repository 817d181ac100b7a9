"""Baselines on little tables whose truth is in sight."""

import numpy as np
import pyarrow as pa
import pytest

from features.contract.training_settings import BaselineSettings
from models.evaluate.metrics import auroc, concordance
from models.evaluate.summary import Outcomes
from models.train.baseline import design_matrix, fit_baselines


def separable(n=300, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 3))
    x[random.uniform(size=n) < 0.2, 1] = np.nan
    return x, random


def test_binary_baselines_find_what_separates():
    x, random = separable()
    case = x[:, 0] + random.normal(0, 0.3, 300) > 0
    found = fit_baselines(x[:200], Outcomes(case[:200], np.ones(200)), 365, BaselineSettings())
    assert set(found.scorers) == {"logistic", "gradient_boosting"}
    for scorer in found.scorers.values():
        assert auroc(case[200:], scorer(x[200:])) > 0.9


def test_survival_baselines_find_who_comes_first():
    x, random = separable()
    times = random.exponential(100 * np.exp(-1.5 * x[:, 0]))
    outcomes = Outcomes((times < 200)[:200], np.ones(200), np.minimum(times, 200)[:200], (times < 200)[:200])
    found = fit_baselines(x[:200], outcomes, 200, BaselineSettings())
    assert set(found.scorers) == {"cox", "gradient_boosting"}
    for scorer in found.scorers.values():
        risk = scorer(x[200:])
        assert ((risk >= 0) & (risk <= 1)).all()
        assert concordance(np.minimum(times, 200)[200:], (times < 200)[200:], risk) > 0.7


def test_constant_and_empty_columns_do_not_stop_cox():
    x, random = separable()
    awkward = np.column_stack([x, np.ones(300), np.full(300, np.nan)])
    times = random.exponential(100 * np.exp(-x[:, 0]))
    found = fit_baselines(
        awkward, Outcomes(times < 100, np.ones(300), times, times < 100), 100, BaselineSettings()
    )
    assert np.isfinite(found.scorers["cox"](awkward)).all()


def test_one_kind_of_outcome_is_said_and_not_hidden():
    x, _ = separable()
    found = fit_baselines(x, Outcomes(np.zeros(300, bool), np.ones(300)), 365, BaselineSettings())
    assert not found.scorers
    assert "only one kind of outcome" in found.notes[0]


def test_an_image_becomes_its_summary_and_an_absent_modality_is_missing(little_manifest):
    manifest = little_manifest()
    image = np.arange(4 * 4 * 2, dtype=np.uint8).reshape(4, 4, 2)
    table = pa.table(
        {
            "x_clinical": pa.array([[1.0, float("nan")], [0.0, 0.0]], pa.list_(pa.float32())),
            "has_clinical": [True, False],
            "x_imaging": [image.tobytes(), bytes(32)],
            "has_imaging": [True, False],
        }
    )
    x, names = design_matrix(table, manifest, ["clinical", "imaging"])
    row = dict(zip(names, x[0], strict=True))
    assert row["clinical:age"] == 1
    assert np.isnan(row["clinical:hba1c_last"])
    assert row["imaging:mean_1"] == pytest.approx(image[..., 1].mean())
    assert row["imaging:q50_0"] == pytest.approx(np.median(image[..., 0]))
    absent = dict(zip(names, x[1], strict=True))
    assert absent["has_clinical"] == absent["has_imaging"] == 0
    assert np.isnan(absent["clinical:age"])
    assert np.isnan(absent["imaging:mean_0"])
