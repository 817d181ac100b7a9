"""A bundle and a population to one prediction per person, on Spark."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.errors import ModelGateError
from features.contract.manifest import Manifest, read_manifest
from features.contract.paths import Location
from features.contract.runs import Runs
from features.contract.schemas import PREDICTIONS
from features.contract.settings import Settings, TaskSettings, TrustSettings
from models.evaluate.calibration import logit_of_risk
from models.evaluate.metrics import Floats
from models.explain.reasons import explainer, reason_names, top_reasons
from models.feed.arrays import inputs
from models.registry import Bundle, open_bundle

BATCH_BYTES = 32_000_000
BATCH_ROWS = (16, 10_000)
DECIMALS = 7


@dataclass(frozen=True)
class ScoringRun:
    """What every executor must know, in small picklable values: where the bundle lies, how it is
    trusted, how risks are banded, and what each row says of its origin."""

    lake_uri: str
    task: str
    model_version: str
    public_keys: tuple[str, ...]
    bands: tuple[tuple[str, float], ...]
    reasons: int
    feature_version: str
    run_id: str
    scored_at: datetime


def score_population(
    people: DataFrame,
    lake: Location,
    runs: Runs,
    settings: Settings,
    task: TaskSettings,
    run_id: str,
    scored_at: datetime,
    bundle_digest: str,
) -> DataFrame:
    """Predictions (schema PREDICTIONS) for each of `people`, the published `population/<task>`, lazily.

    Raises ModelGateError for a bundle that fails its checks or was trained on other columns.
    """
    table = f"population/{task.name}"
    manifest, manifest_digest = read_manifest(lake, runs, table)
    bundle = open_bundle(lake, task.name, bundle_digest, settings.trust)
    _check_vocabulary(bundle, manifest, table)
    run = ScoringRun(
        lake_uri=lake.uri,
        task=task.name,
        model_version=bundle_digest,
        public_keys=tuple(settings.trust.public_keys),
        bands=tuple(sorted(task.scoring.bands.items(), key=lambda band: band[1])),
        reasons=task.scoring.reasons,
        feature_version=f"{manifest_digest}:{runs.version(table)}",
        run_id=run_id,
        scored_at=scored_at,
    )
    # Images make rows large: without this, ten thousand of them would be one Arrow batch.
    rows = str(_rows_per_batch(manifest))
    people.sparkSession.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", rows)
    return people.mapInArrow(partial(score_batches, run), from_arrow_schema(PREDICTIONS.schema))


def score_batches(run: ScoringRun, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """On an executor: the bundle is opened and verified once per Python worker."""
    score = _scorer(run.lake_uri, run.task, run.model_version, run.public_keys)
    for batch in batches:
        if batch.num_rows:
            yield score_batch(run, score, pa.table(batch))


def score_batch(run: ScoringRun, score: "Scorer", people: pa.Table) -> pa.RecordBatch:
    """One row out for each row in: scored, ineligible or refused, in the same order."""
    reasons = np.array(why_not(people, score.bundle.manifest, score.bundle.settings.modalities), object)
    ineligible = people["ineligible_reason"].is_valid().to_numpy()
    tried = np.flatnonzero((reasons == None) & ~ineligible)  # noqa: E711
    risks, because = score(people.take(tried), run.reasons)
    reasons[tried[np.isnan(risks[0])]] = "the network gives no finite risk"
    usable = (reasons == None) & ~ineligible  # noqa: E711
    place = np.zeros(len(people), np.int64)
    place[tried] = np.arange(len(tried))
    spread = pa.array(place, mask=~usable)
    names, thresholds = zip(*run.bands, strict=True)
    band = np.array(names)[np.maximum(np.searchsorted(thresholds, risks[0], side="right") - 1, 0)]
    low_to_high = zip(("risk", "risk_low", "risk_high"), risks, strict=True)
    return _predictions(
        run,
        score.bundle.manifest,
        people,
        {
            "status": pa.array(np.where(ineligible, "ineligible", np.where(usable, "scored", "refused")).tolist()),
            "reason": pc.coalesce(people["ineligible_reason"], pa.array(reasons.tolist(), pa.string())),
            "band": pa.array(band.tolist(), pa.string()).take(spread),
            "top_reasons": pa.array([because[i] if ok else [] for i, ok in zip(place, usable, strict=True)]),
            **{name: pa.array(values).take(spread) for name, values in low_to_high},
        },
    )


def _predictions(
    run: ScoringRun, manifest: Manifest, people: pa.Table, columns: dict[str, pa.Array]
) -> pa.RecordBatch:
    """The columns of PREDICTIONS, in order: those given, those of the person, those of the run."""
    constants = {
        "model": run.task,
        "model_version": run.model_version,
        "outcome": manifest.outcome,
        "horizon_days": manifest.horizon_days,
        "feature_version": run.feature_version,
        "run_id": run.run_id,
        "scored_at": run.scored_at,
    }
    found = {"person_key": people["person_key"], "as_of": people["as_of"], **columns}
    found |= {name: pa.repeat(pa.scalar(value), len(people)) for name, value in constants.items()}
    arrays = [_as_array(found[field.name], field.type) for field in PREDICTIONS.schema]
    return pa.RecordBatch.from_arrays(arrays, schema=PREDICTIONS.schema)


def why_not(people: pa.Table, manifest: Manifest, modalities: list[str]) -> list[str | None]:
    """Per person, why the features cannot be used; None where they can."""
    reasons: NDArray[np.object_] = np.full(len(people), None, object)
    present = [pc.fill_null(people[f"has_{modality}"], False).to_numpy() for modality in modalities]
    reasons[~np.any(present, axis=0)] = "no modality is present"
    for modality in modalities:
        column = people[f"x_{modality}"].combine_chunks()
        if modality in manifest.vocabulary:
            expected, lengths = len(manifest.vocabulary[modality]), pc.list_value_length(column)
            infinite = pc.is_inf(column.flatten())
            rows = pc.list_parent_indices(column).filter(infinite).to_numpy()
            reasons[np.unique(rows)] = f"{modality}: an infinite value"
        else:
            expected, lengths = int(np.prod(manifest.image_shape or [])), pc.binary_length(column)
        wrong = pc.fill_null(pc.not_equal(lengths, expected), True).to_numpy(zero_copy_only=False)
        reasons[wrong] = f"{modality}: not of the expected length {expected}"
    return list(reasons)


@dataclass(frozen=True)
class Scorer:
    """A verified bundle with its network compiled for one thread."""

    bundle: Bundle
    explain: Callable[[dict[str, Any]], Any]

    def __call__(self, people: pa.Table, k: int) -> tuple[Floats, list[list[str]]]:
        """Calibrated risk, its low and its high, [3, N] (NaN where the network gives nothing finite), and
        the k strongest reasons of N people."""
        if not len(people):
            return np.empty((3, 0)), []
        settings, manifest = self.bundle.settings, self.bundle.manifest
        statistics = manifest.statistics[settings.statistics_key]
        hazards, contributions = self.explain(inputs(people, manifest, statistics, settings.modalities))
        finite = np.isfinite(hazards.numpy()).all(axis=1)
        logits = np.where(finite, logit_of_risk(hazards.numpy()), np.nan)
        names = reason_names(manifest, settings.modalities)
        risks = np.stack([self.bundle.calibrator.risk(logits), *self.bundle.calibrator.interval(logits)])
        return np.asarray(np.round(risks, DECIMALS), float), top_reasons(contributions.numpy(), names, k)


@lru_cache(maxsize=2)
def _scorer(lake_uri: str, task: str, digest: str, public_keys: tuple[str, ...]) -> Scorer:
    """Kept for the life of the Python worker, which Spark uses again for later partitions."""
    _quiet_single_threaded_tensorflow()
    bundle = open_bundle(Location(lake_uri), task, digest, TrustSettings(public_keys=list(public_keys)))
    return Scorer(bundle, explainer(bundle.network(), bundle.manifest, bundle.settings.modalities))


def _quiet_single_threaded_tensorflow() -> None:
    """One thread per worker: Spark runs a worker per core, and sums keep their order."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf

    with suppress(RuntimeError):  # already running: only where this is no Spark worker
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def _check_vocabulary(bundle: Bundle, manifest: Manifest, table: str) -> None:
    if bundle.manifest.vocabulary_digest != manifest.vocabulary_digest:
        raise ModelGateError(
            f"bundle {bundle.digest[:12]} was trained on other columns, another outcome, another horizon or other "
            f"weights of its own polygenic score than {table} has; build the population from the same feature "
            "settings, or train again"
        )


def _rows_per_batch(manifest: Manifest) -> int:
    floats = sum(len(columns) for columns in manifest.vocabulary.values())
    bytes_per_row = 8 * floats + int(np.prod(manifest.image_shape or [0])) * 5 + 1
    return int(np.clip(BATCH_BYTES // bytes_per_row, *BATCH_ROWS))


def _as_array(column: Any, kind: pa.DataType) -> pa.Array:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.cast(kind)
