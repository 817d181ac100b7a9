"""`build_features`: for each task a training table, and the population it will score."""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from features.assembly.files import Group, count_groups, one_group, place, rows_per_file, write_files
from features.assembly.gates import check_codes, check_outcome, check_split
from features.assembly.inputs import check_task, read_inputs
from features.assembly.manifest import by_split, describe, plan_bytes, read_back
from features.assembly.modalities import modality_types, row_bytes, with_features
from features.assembly.own_score import with_own_score
from features.assembly.people import count_reasons, population_people, training_people
from features.assembly.study import Study
from features.cohort.outcome import label_types
from features.contract.errors import DataGateError
from features.contract.manifest import manifest_path, own_score_path, plan_path
from features.contract.paths import Location
from features.contract.runs import Runs
from features.contract.schemas import Table, population, training
from features.contract.settings import Settings
from features.lake import Written, read_version

Counts = dict[str, Any]


def build_features(spark: SparkSession, lake: Location, runs: Runs, settings: Settings) -> Written:
    """Write `training/<task>` and `population/<task>` of all tasks, manifests and plans beside them.

    The scoring date of a population is `scoring.as_of`. Raises ConfigError and DataGateError where
    a task cannot be built as configured.
    """
    for task in settings.tasks:
        check_task(settings, task)
    whole = Written({}, {}, {})
    for task in settings.tasks:
        with ExitStack() as stack:
            inputs = read_inputs(spark, lake, runs, settings, task)
            study = Study(spark, lake, settings, task, inputs, partial(_keep, stack))
            _build_task(study, whole)
    return whole


def _keep(stack: ExitStack, frame: DataFrame) -> DataFrame:
    frame.persist()
    stack.callback(frame.unpersist)
    return frame


def _build_task(study: Study, whole: Written) -> None:
    """Adds the task's two tables to what the job wrote."""
    check_codes(study.inputs["events"], study.task)
    people = study.keep(training_people(study.inputs, study.settings, study.task))
    study = with_own_score(study, people.filter(sf.col("reason").isNull()))
    manifest, counts = _build_training(study, people, whole)
    counts["population"] = _build_population(study, manifest, whole)
    whole.counts[study.task.name] = counts


def _build_training(study: Study, people: DataFrame, whole: Written) -> tuple[bytes, Counts]:
    """The manifest's bytes and the flow of people: all, excluded by reason, cohort, splits."""
    task = study.task
    table = training(task.name, modality_types(task.features), label_types(task.outcome))
    flow = _flow(people, "excluded", "cohort")
    if not flow["cohort"]:
        raise DataGateError(f"task {task.name}: no one is in the cohort; left out: {flow['excluded']}")
    cohort = people.filter(sf.col("reason").isNull())
    frame, counts = with_features(cohort, study)
    version = _write(study, frame.withColumn("weight", sf.lit(1.0).cast("float")), table, count_groups(cohort))
    files = read_back(study, table.path, version)
    splits = by_split(files)
    check_split(splits, task)
    check_outcome(splits, task)
    rows = read_version(study.spark, study.lake, table.path, version)
    manifest = describe(study, rows, files).to_bytes()
    whole.tables[table.path] = version
    _publish(study.lake, whole, manifest_path(table.path, version), manifest)
    _publish(study.lake, whole, plan_path(table.path, version), plan_bytes(files))
    if study.own_scores:
        _publish(study.lake, whole, own_score_path(table.path, version), study.own_scores.to_bytes())
    return manifest, flow | counts | {"splits": splits}


def _build_population(study: Study, manifest: bytes, whole: Written) -> Counts:
    """Everyone in `persons`; scoring compares the training manifest beside it with its bundle's."""
    task, as_of = study.task, study.task.scoring.as_of
    table = population(task.name, modality_types(task.features))
    people = study.keep(one_group(population_people(study.inputs, task, as_of)))
    flow = _flow(people, "ineligible", "eligible")
    frame, counts = with_features(people, study, as_of)
    frame = frame.withColumnRenamed("reason", "ineligible_reason").withColumn("as_of", sf.lit(as_of))
    version = _write(study, frame, table, count_groups(people))
    whole.tables[table.path] = version
    _publish(study.lake, whole, manifest_path(table.path, version), manifest)
    return flow | counts


def _flow(people: DataFrame, left_out: str, kept: str) -> Counts:
    reasons = count_reasons(people)
    inside = reasons.pop("", 0)
    return {"persons": inside + sum(reasons.values()), left_out: reasons, kept: inside}


def _write(study: Study, frame: DataFrame, table: Table, groups: Sequence[Group]) -> int:
    rows, width = sum(count for _, _, count in groups), row_bytes(study.task.features)
    per_file = rows_per_file(rows, study.settings.launch.ranks, width)
    placed = place(frame, groups, per_file, study.task.split.seed)
    return write_files(placed.select(table.schema.names), study.lake, table)


def _publish(lake: Location, whole: Written, path: str, data: bytes) -> None:
    (lake / path).write_bytes(data)
    whole.digests[path] = hashlib.sha256(data).hexdigest()
