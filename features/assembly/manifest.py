"""What is said of a training table once it is written: its manifest, its plan and its counts."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from features.assembly.inputs import KINSHIP
from features.assembly.modalities import modality_types, vocabulary
from features.assembly.statistics import Summary, fit_statistics, summarise
from features.assembly.study import Study
from features.cohort.outcome import label_types, positive_column
from features.cohort.split import certify
from features.contract.manifest import PLAN_SCHEMA, Manifest
from features.contract.settings import OutcomeSettings
from features.imaging.features import image_shape
from features.lake import data_files


def read_back(study: Study, table: str, version: int) -> list[Summary]:
    """Every file of a version, each shown to hold one row group of one split and fold."""
    names = vocabulary(study.task.features)
    widths = {modality: len(names.get(modality, [])) for modality in modality_types(study.task.features)}
    sizes = data_files(study.lake, table, version)
    return summarise(study.spark, study.lake / table, sizes, widths, positive_column(study.task.outcome))


def describe(study: Study, rows: DataFrame, files: Sequence[Summary]) -> Manifest:
    """The manifest of a table from its rows and its files' summaries."""
    task, names = study.task, vocabulary(study.task.features)
    outcome, images = task.outcome, task.features.imaging
    splits = by_split(files)
    return Manifest(
        task=task.name,
        outcome=outcome.name,
        kind=outcome.kind,
        horizon_days=outcome.horizon_days,
        edges=interval_edges(rows, outcome),
        read=study.inputs.versions,
        vocabulary=names,
        image_shape=image_shape(images) if images else None,
        statistics=fit_statistics(files, list(names), task.split.folds),
        rows={split: counts["rows"] for split, counts in splits.items()},
        positives={split: counts["events"] for split, counts in splits.items()},
        folds=task.split.folds,
        own_score=study.own_scores.digest if study.own_scores else None,
        certificate=certify(rows, study.inputs[KINSHIP] if task.split.relatives_together else None),
    )


def plan_bytes(files: Sequence[Summary]) -> bytes:
    """The plan (PLAN_SCHEMA) as a Parquet file."""
    rows = [
        {"file": f.path, "row_group": 0, "rows": f.rows, "bytes": f.size, "split": f.split, "fold": f.fold}
        for f in files
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=PLAN_SCHEMA), sink)
    return bytes(sink.getvalue())


def by_split(files: Sequence[Summary]) -> dict[str, dict[str, int]]:
    """People (`rows`), people with the outcome (`events`) and with each modality, by split."""
    counts: dict[str, Counter[str]] = {s: Counter(rows=0, events=0) for s in ("train", "tuning", "held_out")}
    for file in files:
        counts[file.split].update({"rows": file.rows, "events": file.positives, **file.present})
    return {split: dict(counter) for split, counter in counts.items()}


def interval_edges(rows: DataFrame, outcome: OutcomeSettings) -> list[float]:
    """The interval ends in days: for a survival outcome quantiles of the event times in `train`, so
    that about as many events fall into each; the last one is the horizon."""
    horizon = float(outcome.horizon_days)
    if outcome.kind == "binary":
        return [horizon]
    time, event = label_types(outcome)
    shares = [i / outcome.intervals for i in range(1, outcome.intervals)]
    events = rows.filter((sf.col("split") == "train") & (sf.col(event) == 1))
    found: Any = events.agg(sf.percentile(time, shares or [0.5])).collect()[0][0] if shares else None
    return [*sorted({float(edge) for edge in found or [] if 0 < edge < horizon}), horizon]
