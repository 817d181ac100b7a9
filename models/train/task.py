"""One prediction task from its published training table to a signed bundle."""

import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.contract.manifest import Manifest, read_manifest, read_plan
from features.contract.paths import Location
from features.contract.runs import Runs
from features.contract.settings import Settings, TaskSettings
from models import registry
from models.evaluate.calibration import Calibrator, logit_of_risk
from models.evaluate.results import Metrics
from models.evaluate.summary import Outcomes
from models.registry import BundleSettings
from models.train.fit import Fit, TrainJob
from models.train.judge import Judged, evaluate, evaluation_rows, judge
from models.train.launch import launch
from models.train.people import modalities_of, read_labels, read_logits
from models.train.rounds import FINAL, Round, fits_of, judged_rounds, rounds

POOLED = (
    "cross-validation: each fold's model was calibrated on the next fold; AUROC and c-index compare people of "
    "one fold only and are means over folds, all else is taken on the out-of-fold risks of all folds together"
)


@dataclass(frozen=True)
class TrainedTask:
    """A finished training: the bundle's digest, its metrics, people by split, and the table it read."""

    digest: str
    metrics: Metrics
    rows: dict[str, int]
    read: dict[str, int]


def train_task(
    lake: Location,
    runs: Runs,
    settings: Settings,
    task: TaskSettings,
    work: Location,
    spark: Any = None,
) -> TrainedTask:
    """Train every network of the task in one launch, calibrate, judge, and register a bundle.

    `work` is a folder that all ranks can reach; what an earlier attempt left there is gone on with. Raises
    ConfigError before anything starts where the signing key or the split will not do, and TrainingError
    where training does not end well.
    """
    registry.ensure_signing_key(settings.signing, settings.trust)
    table = f"training/{task.name}"
    manifest, manifest_digest = read_manifest(lake, runs, table)
    all_rounds = rounds(lake, read_plan(lake, runs, table), task)
    fits = fits_of(all_rounds, manifest, task)
    seconds = settings.launch.checkpoint_seconds
    launch(TrainJob(manifest, fits, work.uri, checkpoint_seconds=seconds), settings.launch, spark)

    judged = [
        judge(item, all_rounds, work, manifest, task, settings.baseline) for item in judged_rounds(all_rounds)
    ]
    metrics = _metrics(judged, manifest, task)
    calibrator, quantiles = _calibrate(all_rounds[0], work, manifest, task)
    about = BundleSettings(
        task=task,
        modalities=modalities_of(manifest),
        statistics_key=all_rounds[0].statistics_key,
        training_version=runs.version(table),
        manifest_digest=manifest_digest,
        risk_quantiles=quantiles,
    )
    files = _trained(work, fits) | _described(calibrator, manifest, about, metrics, judged)
    digest = registry.write_bundle(lake, task.name, files, settings.signing)
    registry.open_bundle(lake, task.name, digest, settings.trust)
    return TrainedTask(digest, metrics, dict(manifest.rows), {table: runs.version(table)})


def _described(
    calibrator: Calibrator, manifest: Manifest, about: BundleSettings, metrics: Metrics, judged: list[Judged]
) -> dict[str, bytes]:
    return {
        registry.CALIBRATOR: calibrator.model_dump_json().encode(),
        registry.MANIFEST: manifest.to_bytes(),
        registry.SETTINGS: about.model_dump_json(indent=1).encode(),
        registry.METRICS: metrics.model_dump_json(indent=1).encode(),
        registry.EVALUATION: _parquet([evaluation_rows(one) for one in judged]),
    }


def _trained(work: Location, fits: list[Fit]) -> dict[str, bytes]:
    """The final network as the ranks left it, and every fit's history by its name."""
    history = {fit.name: json.loads((work / f"{fit.name}/{registry.HISTORY}").read_bytes()) for fit in fits}
    network = {name: (work / f"{FINAL}/{name}").read_bytes() for name in (registry.ARCHITECTURE, registry.WEIGHTS)}
    return network | {registry.HISTORY: json.dumps(history, indent=1).encode()}


def _metrics(judged: list[Judged], manifest: Manifest, task: TaskSettings) -> Metrics:
    kinds: list[Literal["held_out", "cross_validation"]] = ["held_out", "cross_validation"]
    groups = {kind: [one for one in judged if one.evaluation == kind] for kind in kinds}
    evaluations = [evaluate(kind, group, manifest, task.split.seed) for kind, group in groups.items() if group]
    notes = [note for one in judged for note in one.notes]
    return Metrics(
        task=task.name,
        outcome=manifest.outcome,
        kind=manifest.kind,
        horizon_days=manifest.horizon_days,
        modalities=modalities_of(manifest),
        evaluations=evaluations,
        notes=[POOLED, *notes] if task.split.folds else notes,
    )


def _calibrate(
    final: Round, work: Location, manifest: Manifest, task: TaskSettings
) -> tuple[Calibrator, list[float]]:
    """The final model's calibrator, and the percentiles of the training people's risks."""
    tuning = read_labels(final.tuning, manifest)
    outcomes = Outcomes.of(tuning, manifest)
    logits = logit_of_risk(read_logits(work, FINAL, "tuning", tuning["person_key"]))
    calibrator = Calibrator.fit(logits, outcomes.case, outcomes.weights, seed=task.model.seed)
    trained = read_labels(final.train, manifest)
    risks = calibrator.risk(logit_of_risk(read_logits(work, FINAL, "train", trained["person_key"])))
    return calibrator, [float(q) for q in np.quantile(risks, np.linspace(0, 1, 101))]


def _parquet(tables: list[pa.Table]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(tables, promote_options="default"), sink)
    return bytes(sink.getvalue())
