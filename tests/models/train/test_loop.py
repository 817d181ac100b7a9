"""What a training says when it cannot go on, and what its switches do to the risks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.contract.errors import TrainingError
from features.contract.training_settings import LaunchSettings, ModelSettings
from models.train.fit import Fit, TrainJob
from models.train.launch import launch
from models.train.losses import risk_from_logits
from models.train.step import learning_rate
from tests.models.feed import tiny
from tests.models.train.test_launch import job_in


def with_infinity(folder: Path) -> TrainJob:
    """One of 101 people has a value that no laboratory gives."""
    job = job_in(folder, batch_size=16)
    table = tiny.people(101, job.manifest, 0)
    values = np.array(table["x_clinical"].to_pylist(), np.float32)
    values[60, 1] = np.inf
    column = pa.array(list(values), pa.list_(pa.float32()))
    parts = tiny.write(
        folder, "train", table.set_column(table.column_names.index("x_clinical"), "x_clinical", column), 40
    )
    return replace(job, fits=[replace(job.fits[0], train=parts)], checkpoint_seconds=0)


def test_a_loss_that_is_no_number_names_step_and_column_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"not finite in epoch 1, step \d+: x_clinical column c1 ") as caught:
        launch(with_infinity(tmp_path), LaunchSettings(ranks=2))
    assert "inf" not in str(caught.value).replace("infinity", "")
    with np.load(tmp_path / "work/final/checkpoint.npz") as file:
        assert all(np.isfinite(file[name]).all() for name in file.files if name.startswith("weight_"))


def test_a_learning_rate_that_is_too_high_is_blamed_where_no_input_is_extreme(tmp_path: Path) -> None:
    job = job_in(tmp_path, optimizer="sgd", learning_rate=1e38, clip_norm=1e38, epochs=5)
    with pytest.raises(TrainingError, match=r"not finite in epoch \d, step \d+: no input is extreme; lower model"):
        launch(job, LaunchSettings(ranks=2))


def rare(folder: Path, positive_weight: float | str) -> TrainJob:
    """One person in ten has the outcome, whatever their features."""
    meaning = tiny.manifest().model_copy(update={"rows": {"train": 400}, "positives": {"train": 40}})
    table = tiny.people(400, meaning)
    outcome = pa.array((np.arange(400) % 10 == 0).astype(np.int8))
    parts = tiny.write(
        folder, "all", table.set_column(table.column_names.index("y_death"), "y_death", outcome), 400
    )
    model = ModelSettings(
        tower_units=[],
        dropout=0,
        batch_size=200,
        epochs=60,
        patience=60,
        learning_rate=0.05,
        weight_decay=0.0,
        positive_weight=positive_weight,
    )
    fit = Fit("final", parts, parts, {"tuning": parts}, "train", ["genomics"], model)
    return TrainJob(meaning, [fit], f"file://{folder}/work")


def test_weighed_cases_are_corrected_for_in_the_risks(tmp_path: Path) -> None:
    """The network sees half cases, and must still say one in ten; its loss is that of the people as they are."""
    losses = {}
    for weight in (1.0, "balanced"):
        folder = tmp_path / str(weight)
        folder.mkdir()
        launch(rare(folder, weight), LaunchSettings(ranks=1))
        history = json.loads((folder / "work/final/history.json").read_text())
        losses[weight] = min(entry["tuning_loss"] for entry in history)
        predicted = pq.read_table(folder / "work/final/predictions/tuning-0.parquet")["logits"].to_pylist()
        assert risk_from_logits(np.array(predicted)).mean() == pytest.approx(0.1, abs=0.02)
    entropy = -(0.1 * np.log(0.1) + 0.9 * np.log(0.9))
    assert losses["balanced"] < entropy + 0.005
    assert losses["balanced"] == pytest.approx(losses[1.0], abs=0.01)


def test_a_batch_in_which_nobody_has_the_event_teaches_cox_nothing(tmp_path: Path) -> None:
    """Three events among 101 people in batches of eight, in float32."""
    job = job_in(tmp_path, loss="cox", batch_size=8)
    table = tiny.people(101, job.manifest, 0)
    few = pa.array((np.arange(101) % 40 == 3).astype(np.int8))
    at = table.column_names.index("y_death_event")
    parts = tiny.write(tmp_path, "train", table.set_column(at, "y_death_event", few), 40)
    job = replace(job, fits=[replace(job.fits[0], train=parts)], checkpoint_seconds=0)
    launch(job, LaunchSettings(ranks=2))
    with np.load(tmp_path / "work/final/checkpoint.npz") as file:
        found = [file[name] for name in file.files if name.startswith("weight_")]
    assert all(np.isfinite(weight).all() for weight in found) and any(weight.any() for weight in found)


def test_the_learning_rate_grows_with_the_batch_and_warms_up_in_a_straight_line() -> None:
    settings = ModelSettings(learning_rate=0.1, batch_size=32, reference_batch_size=16, warmup_epochs=2)
    rate = learning_rate(settings, all_rows=32, rows=128)
    assert [float(rate(step)) for step in (0, 4, 8, 100)] == pytest.approx([0.2 / 9, 0.2 * 5 / 9, 0.2, 0.2])
    assert learning_rate(ModelSettings(learning_rate=0.1), all_rows=256, rows=1000) == 0.1
