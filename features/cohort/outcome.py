"""What is predicted: labels from the first event after the index, or from the genes carried."""

from datetime import date

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from features.cohort.cohort import Reason, known_by
from features.contract.settings import OutcomeSettings


def label_types(outcome: OutcomeSettings) -> dict[str, pa.DataType]:
    """The `y_` columns of a training table and their types."""
    if outcome.kind == "binary":
        return {f"y_{outcome.name}": pa.int8()}
    return {f"y_{outcome.name}_time": pa.float32(), f"y_{outcome.name}_event": pa.int8()}


def positive_column(outcome: OutcomeSettings) -> str:
    """The label column that is 1 for people who had the outcome."""
    return list(label_types(outcome))[-1]


def event_labels(
    index: DataFrame, observation_periods: DataFrame, events: DataFrame, outcome: OutcomeSettings
) -> DataFrame:
    """`person_key, label_reason, y_...` of the people in `index` (`person_key, index_time`).

    Time is counted in calendar days: an event on the index day counts as before it. A period of
    observation counts up to its end when it has begun by the index day.
    """
    named = events.filter(sf.col("code") == sf.lit(outcome.code)).select("person_key", "time")
    days = sf.datediff("time", "index_time")
    first = index.join(named, "person_key").groupBy("person_key").agg(sf.min(days).alias("first"))
    begun = index.join(observation_periods, "person_key").filter(sf.to_date("start") <= sf.to_date("index_time"))
    until = sf.max(sf.datediff("end", "index_time"))
    followed = begun.groupBy("person_key").agg(until.alias("followed"))
    known = index.select("person_key").join(first, "person_key", "left").join(followed, "person_key", "left")
    label = _binary if outcome.kind == "binary" else _survival
    return known.select("person_key", *label(outcome))


def gene_labels(index: DataFrame, carriers: DataFrame, outcome: OutcomeSettings) -> DataFrame:
    """`person_key, label_reason, y_...` from `carriers` (`person_key, carries`), who have genomes."""
    known = index.select("person_key").join(carriers, "person_key", "left")
    reason = sf.when(sf.col("carries").isNull(), Reason.NO_GENOME.value).alias("label_reason")
    return known.select("person_key", reason, _flag(sf.col("carries")).alias(positive_column(outcome)))


def had_outcome(events: DataFrame, outcome: OutcomeSettings, as_of: date) -> DataFrame:
    """The distinct `person_key` of people known on a day to have had the outcome."""
    return known_by(events, as_of).filter(sf.col("code") == sf.lit(outcome.code)).select("person_key").distinct()


def _binary(outcome: OutcomeSettings) -> list[Column]:
    """An event counts while the person is under observation; who is lost before the horizon counts when
    the event had come by then (PatientLevelPrediction's `includeAllOutcomes`), else has no label."""
    stop = sf.least(sf.col("followed"), sf.lit(outcome.horizon_days))
    happened = sf.coalesce(sf.col("first") <= stop, sf.lit(False))
    followed = sf.coalesce(sf.col("followed") >= outcome.horizon_days, sf.lit(False))
    reason = sf.when(sf.col("first") <= 0, Reason.OUTCOME_BEFORE.value)
    reason = reason.when(~happened & ~followed, Reason.NOT_FOLLOWED.value)
    return [reason.alias("label_reason"), _flag(happened).alias(positive_column(outcome))]


def _survival(outcome: OutcomeSettings) -> list[Column]:
    """The earliest of event, end of observation and horizon, and whether it was the event."""
    stop = sf.least(sf.col("followed"), sf.lit(outcome.horizon_days))
    happened = sf.coalesce(sf.col("first") <= stop, sf.lit(False))
    reason = sf.when(sf.col("first") <= 0, Reason.OUTCOME_BEFORE.value)
    reason = reason.when(sf.coalesce("followed", sf.lit(0)) <= 0, Reason.NO_FOLLOW_UP.value)
    time = sf.least(sf.col("first"), stop).cast("float")
    names = list(label_types(outcome))
    return [reason.alias("label_reason"), time.alias(names[0]), _flag(happened).alias(names[1])]


def _flag(condition: Column) -> Column:
    return condition.cast("tinyint")
