"""The people of a task before their features: in or out and why, label, split, fold."""

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from features.assembly.inputs import FAMILIES, Inputs
from features.cohort.cohort import Reason, index_times, midnight
from features.cohort.outcome import event_labels, gene_labels, had_outcome
from features.cohort.split import assign_split
from features.contract.settings import Settings, TaskSettings
from features.genomics.features import carriers


def training_people(inputs: Inputs, settings: Settings, task: TaskSettings) -> DataFrame:
    """`person_key, index_time, reason, y_..., split, fold`, one row per person; a null reason is in."""
    clock = _clock(inputs, task, None)
    index = clock.filter(sf.col("reason").isNull()).select("person_key", "index_time")
    labelled = clock.join(_labels(index, inputs, settings, task), "person_key", "left")
    reason = sf.coalesce("reason", "label_reason")
    families = inputs[FAMILIES] if task.split.relatives_together else None
    return assign_split(labelled.withColumn("reason", reason).drop("label_reason"), task.split, families)


def population_people(inputs: Inputs, task: TaskSettings, as_of: date) -> DataFrame:
    """`person_key, index_time, reason`, one row per person; the ineligible have `as_of` as index."""
    clock = _clock(inputs, task, as_of)
    if task.outcome.code is not None:
        ill = had_outcome(inputs["events"], task.outcome, as_of).withColumn("ill", sf.lit(True))
        had = sf.when(sf.col("ill"), Reason.OUTCOME_BEFORE.value)
        clock = clock.join(ill, "person_key", "left").withColumn("reason", sf.coalesce("reason", had)).drop("ill")
    start = sf.when(sf.col("reason").isNull(), sf.col("index_time")).otherwise(midnight(as_of))
    return clock.withColumn("index_time", start)


def count_reasons(people: DataFrame) -> dict[str, int]:
    """People by reason; `""` are those in the cohort."""
    return {row["reason"] or "": row["count"] for row in people.groupBy("reason").count().collect()}


def _clock(inputs: Inputs, task: TaskSettings, as_of: date | None) -> DataFrame:
    return index_times(inputs["persons"], inputs["observation_periods"], inputs["events"], task.cohort, as_of)


def _labels(index: DataFrame, inputs: Inputs, settings: Settings, task: TaskSettings) -> DataFrame:
    if task.outcome.code is not None:
        return event_labels(index, inputs["observation_periods"], inputs["events"], task.outcome)
    somatic = settings.genomics is not None and settings.genomics.somatic
    carried = carriers(inputs["variants"], inputs["genotypes"], inputs["samples"], task.outcome, somatic)
    return gene_labels(index, carried, task.outcome)
