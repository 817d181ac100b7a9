"""The submitting side's MLflow run of a training: parameters, metrics and data version of a bundle.

Ranks and containers never write it: they leave everything in the bundle.
"""

import importlib.util
import logging

from features.contract.paths import Location
from features.contract.runs import Run, Runs
from features.contract.settings import Settings
from models.evaluate.results import Metrics
from models.registry import Bundle, open_bundle

log = logging.getLogger("riskloom")


def track(settings: Settings, run_id: str) -> None:
    """Write what a train_model run published to MLflow, when the settings name one and it is installed."""
    if settings.tracking.uri is None:
        return
    if importlib.util.find_spec("mlflow") is None:
        log.info("MLflow is not installed here, so no tracking run was written")
        return
    lake = Location(settings.lake)
    run = next(run for run in Runs.read(lake).rows if run.run_id == run_id)
    for output, digest in run.wrote.items():
        task = output.removeprefix("models/")
        _write(settings, run, task, open_bundle(lake, task, digest, settings.trust))


def _write(settings: Settings, run: Run, task: str, bundle: Bundle) -> None:
    import mlflow

    mlflow.set_tracking_uri(settings.tracking.uri)
    mlflow.set_experiment(f"riskloom/{settings.name}/{task}")
    with mlflow.start_run(run_name=run.run_id):
        mlflow.log_params({name: str(value) for name, value in bundle.settings.task.model.model_dump().items()})
        mlflow.set_tags(
            {
                "bundle": bundle.digest,
                "training_version": str(bundle.settings.training_version),
                "manifest": bundle.settings.manifest_digest,
                "code_version": run.code_version,
            }
        )
        mlflow.log_metrics(_flat(bundle.metrics))


def _flat(metrics: Metrics) -> dict[str, float]:
    """`held_out.model.auroc`, with its interval's ends beside it."""
    flat: dict[str, float] = {}
    for evaluation in metrics.evaluations:
        for predictor in evaluation.predictors:
            for metric, estimate in predictor.metrics.items():
                name = f"{evaluation.evaluation}.{predictor.name}.{metric}"
                flat |= {name: estimate.value, f"{name}.low": estimate.low, f"{name}.high": estimate.high}
    return flat
