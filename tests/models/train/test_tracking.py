"""What a training leaves in TensorBoard and MLflow is what its bundle says, and speaks of no person."""

import json
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from features.contract.paths import Location
from features.contract.runs import Run, append_run
from features.contract.settings import TrackingSettings
from jobs.tracking import track
from models.registry import HISTORY, open_bundle
from models.train import task as task_module
from models.train.task import train_task
from tests.models.train.test_task import play_ranks, table  # noqa: F401

EPOCHS = [
    {"epoch": 0, "loss": 0.75, "tuning_loss": 0.5, "tuning_auroc": float("nan"), "rows": 270, "note": "text"},
    {"epoch": 1, "loss": 0.25, "tuning_loss": 0.375, "tuning_auroc": 0.875, "rows": 270, "note": "text"},
]


@pytest.fixture
def tracked(lake, little_study, table, monkeypatch, tmp_path):  # noqa: F811
    """A training that was published and tracked: its settings and its bundle."""

    def launch(job, settings, spark=None):
        play_ranks(job, settings)
        for fit in job.fits:
            (Location(job.work_uri) / fit.name / HISTORY).write_bytes(json.dumps(EPOCHS).encode())

    monkeypatch.setattr(task_module, "launch", launch)
    monkeypatch.chdir(tmp_path)
    places = TrackingSettings(uri=f"sqlite:///{tmp_path}/mlflow.db", tensorboard=str(tmp_path / "curves"))
    settings = little_study(lake.uri, split={"folds": 3}).model_copy(update={"tracking": places})
    work = Location.parse(str(tmp_path / "work"))
    digest = train_task(lake, table("binary"), settings, settings.task("little"), work).digest
    now = datetime(2024, 1, 1, tzinfo=UTC)
    append_run(
        lake, Run("train", "train_model", now, "c", "i", "v", wrote={"models/little": digest}, finished=now)
    )
    track(settings, "train")
    return settings, open_bundle(lake, "little", digest, settings.trust)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, make_ndarray(event.tensor_proto).item()) for event in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }


CURVES = {"loss": [(1, 0.75), (2, 0.25)], "tuning_loss": [(1, 0.5), (2, 0.375)], "tuning_auroc": [(2, 0.875)]}
CURVES["rows"] = [(1, 270), (2, 270)]


def test_tensorboard_shows_every_number_of_every_epoch_and_fit(tracked, tmp_path):
    settings, bundle = tracked
    folder = tmp_path / "curves/little" / bundle.digest[:12]
    assert {path.name for path in folder.iterdir()} == {"final", "fold_0", "fold_1", "fold_2"}
    for fit in folder.iterdir():
        assert scalars(fit) == CURVES
    track(settings, "train")
    assert scalars(folder / "final") == CURVES


def test_mlflow_has_settings_data_epochs_results_and_figures(tracked, tmp_path):
    settings, bundle = tracked
    client = mlflow.MlflowClient(settings.tracking.uri)
    experiment = client.get_experiment_by_name("riskloom/study/little")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["learning_rate"] == str(settings.task("little").model.learning_rate)
    assert run.data.tags["training_version"] == "0"
    assert run.data.tags["manifest"] == bundle.settings.manifest_digest
    for fit in ("final", "fold_1"):
        for name, values in CURVES.items():
            found = client.get_metric_history(run.info.run_id, f"{fit}/{name}")
            assert [(metric.step, metric.value) for metric in found] == values
    auroc = bundle.metrics.evaluation("held_out").predictor("model").metrics["auroc"]
    assert run.data.metrics["held_out.model.auroc.low"] == auroc.low
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    kinds = ("held_out", "cross_validation")
    assert names == {"losses.svg"} | {f"{kind}.{what}.svg" for kind in kinds for what in ("roc", "calibration")}
    assert not (tmp_path / "mlruns").exists()


def test_no_person_is_in_what_is_tracked(tracked, tmp_path):
    written = [
        p for folder in ("curves", "mlflow.db.files") for p in (tmp_path / folder).rglob("*") if p.is_file()
    ]
    assert len(written) == 4 + 5
    for path in [*written, tmp_path / "mlflow.db"]:
        assert b"0" * 31 not in path.read_bytes()  # how every key of these people begins


def test_nothing_is_written_where_no_place_is_named(tracked, tmp_path):
    settings, _ = tracked
    before = sorted(tmp_path.rglob("*"))
    track(settings.model_copy(update={"tracking": TrackingSettings(uri=None, tensorboard=None)}), "train")
    assert sorted(tmp_path.rglob("*")) == before
