"""What the submitting side shows of a training: TensorBoard's curves and an MLflow run, both of its bundle.

Ranks and containers never write them: they leave everything in the bundle. Nothing here is of one person.
"""

import importlib.util
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.contract.paths import Location
from features.contract.runs import Run, Runs
from features.contract.settings import Settings
from models.evaluate.results import Metrics
from models.registry import HISTORY, Bundle, open_bundle

log = logging.getLogger("riskloom")
# The most that MLflow's servers take at once.
METRICS_A_CALL = 1000


def track(settings: Settings, run_id: str) -> None:
    """Show what a train_model run published, where the settings name a place and the library is installed."""
    lake, wanted = Location(settings.lake), settings.tracking
    run = next(run for run in Runs.read(lake).rows if run.run_id == run_id)
    for output, digest in run.wrote.items():
        task = output.removeprefix("models/")
        bundle = open_bundle(lake, task, digest, settings.trust)
        if wanted.tensorboard is not None and _installed("tensorboard"):
            write_curves(Path(wanted.tensorboard), task, bundle)
        if wanted.uri is not None and _installed("mlflow"):
            write_run(settings, run, task, bundle)


def write_curves(folder: Path, task: str, bundle: Bundle) -> None:
    """Event files of TensorBoard in `folder`/<task>/<beginning of the bundle's digest>/<fit>, so that the fits
    and trainings of a task lie over each other in one chart."""
    # TensorBoard imports TensorFlow where there is one, which would tell of its build.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tensorboard.summary import Writer

    mine = folder / task / bundle.digest[:12]
    shutil.rmtree(mine, ignore_errors=True)
    for fit, epochs in histories(bundle).items():
        writer = Writer(str(mine / fit))
        for epoch, numbers in epochs:
            for name, value in numbers.items():
                writer.add_scalar(name, value, epoch)
        writer.close()
    log.info("curves: tensorboard --logdir %s", folder)


def write_run(settings: Settings, run: Run, task: str, bundle: Bundle) -> None:
    """MLflow: the model's settings, the data's version, results and their figures, every epoch of every fit."""
    import mlflow

    mlflow.set_tracking_uri(settings.tracking.uri)
    about = bundle.settings
    tags = {"bundle": bundle.digest, "manifest": about.manifest_digest, "code_version": run.code_version}
    with mlflow.start_run(run_name=run.run_id, experiment_id=_experiment(settings, task)) as started:
        mlflow.log_params({name: str(value) for name, value in about.task.model.model_dump().items()})
        mlflow.set_tags(tags | {"training_version": str(about.training_version)})
        mlflow.log_metrics(_flat(bundle.metrics))
        _write_epochs(started.info.run_id, bundle)
        if _installed("matplotlib"):
            for name, figure in _figures(bundle).items():
                mlflow.log_text(figure, f"{name}.svg")


def _write_epochs(mlflow_run: str, bundle: Bundle) -> None:
    """Metrics `final/tuning_loss` by epoch: MLflow draws a section per fit."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    points = [
        Metric(f"{fit}/{name}", value, now, epoch)
        for fit, epochs in histories(bundle).items()
        for epoch, numbers in epochs
        for name, value in numbers.items()
    ]
    for first in range(0, len(points), METRICS_A_CALL):
        MlflowClient().log_batch(mlflow_run, points[first : first + METRICS_A_CALL])


def histories(bundle: Bundle) -> dict[str, list[tuple[int, dict[str, float]]]]:
    """By fit the epochs, from 1, with every finite number that training kept of them."""
    kept: dict[str, list[dict[str, Any]]] = json.loads(bundle.files[HISTORY])
    return {fit: [(entry["epoch"] + 1, _numbers(entry)) for entry in entries] for fit, entries in kept.items()}


def _numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in entry.items()
        if name != "epoch" and isinstance(value, int | float) and math.isfinite(value)
    }


def _experiment(settings: Settings, task: str) -> str:
    """Its id. Files of a local database lie beside it, not where the command happened to run."""
    import mlflow

    name, uri = f"riskloom/{settings.name}/{task}", settings.tracking.uri or ""
    if (found := mlflow.get_experiment_by_name(name)) is not None:
        return str(found.experiment_id)
    local = uri.startswith("sqlite:///")
    place = Path(uri.removeprefix("sqlite:///") + ".files").absolute().as_uri() if local else None
    return str(mlflow.create_experiment(name, artifact_location=place))


def _figures(bundle: Bundle) -> dict[str, str]:
    """SVG by name: the training curves, then ROC and calibration of each evaluation's model."""
    from models.report import plots

    losses = {
        fit: [(epoch, numbers["loss"], numbers["tuning_loss"]) for epoch, numbers in epochs]
        for fit, epochs in histories(bundle).items()
    }
    figures = {"losses": plots.losses(plots.Frame("losses", "Loss by epoch", ", ".join(losses)), losses)}
    for evaluation in bundle.metrics.evaluations:
        model, kind = evaluation.predictor("model"), evaluation.evaluation
        frame = plots.Frame(kind, f"{evaluation.n:,} people, {evaluation.events:,} events", kind)
        if model.roc:
            figures[f"{kind}.roc"] = plots.roc(frame, [plots.Curve("model", model.roc)])
        if model.calibration:
            figures[f"{kind}.calibration"] = plots.calibration(frame, model.calibration, model.histogram)
    return figures


def _flat(metrics: Metrics) -> dict[str, float]:
    """`held_out.model.auroc`, with its interval's ends beside it."""
    flat: dict[str, float] = {}
    for evaluation in metrics.evaluations:
        for predictor in evaluation.predictors:
            for metric, estimate in predictor.metrics.items():
                name = f"{evaluation.evaluation}.{predictor.name}.{metric}"
                flat |= {name: estimate.value, f"{name}.low": estimate.low, f"{name}.high": estimate.high}
    return flat


def _installed(library: str) -> bool:
    if importlib.util.find_spec(library) is not None:
        return True
    log.info("%s is not installed here, so nothing was written to it", library)
    return False
