"""Who is in a study, and when each person's clock starts."""

from datetime import date, timedelta
from enum import StrEnum

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from features.contract.settings import CohortSettings

DAYS_PER_YEAR = 365.25


class Reason(StrEnum):
    """Why a person is not in a cohort, or not eligible for scoring."""

    NO_INDEX_EVENT = "no index event"
    NOT_OBSERVED = "not observed long enough"
    AGE_UNKNOWN = "age unknown"
    TOO_YOUNG = "too young"
    OUTCOME_BEFORE = "outcome before index"
    NOT_FOLLOWED = "not followed to the horizon"
    NO_FOLLOW_UP = "not observed after the index"
    NO_GENOME = "no genome"


def index_times(
    persons: DataFrame,
    observation_periods: DataFrame,
    events: DataFrame,
    cohort: CohortSettings,
    as_of: date | None = None,
) -> DataFrame:
    """`person_key, index_time, reason`, one row per person; a null reason means in the cohort.

    The clock starts at midnight UTC of `index_date` (of `as_of` where that is given), or at the
    person's first `index_event`; with `as_of`, at the first that was known by the end of that day.
    Days are calendar days: a period that ends on the index day covers it. A person without any
    observation period passes only where no observed days are asked for.
    """
    clock = _clock(persons, events, cohort, as_of)
    checked = clock.join(_coverage(clock, observation_periods, cohort.observed_days_before), "person_key", "left")
    return checked.select("person_key", "index_time", _reason(cohort).alias("reason"))


def known_by(events: DataFrame, as_of: date) -> DataFrame:
    """The events that had happened and were known by the end of a day."""
    tomorrow = midnight(as_of + timedelta(days=1))
    return events.filter((sf.col("time") < tomorrow) & (sf.col("available_at") < tomorrow))


def midnight(day: date) -> Column:
    """The first moment of a day, UTC."""
    return sf.lit(day).cast("timestamp")


def age_years() -> Column:
    """Age at `index_time` in years of 365.25 days; null without a birth date."""
    return sf.datediff("index_time", "birth_date") / DAYS_PER_YEAR


def _clock(persons: DataFrame, events: DataFrame, cohort: CohortSettings, as_of: date | None) -> DataFrame:
    people = persons.select("person_key", "birth_date")
    if cohort.index_event is None:
        day = as_of or cohort.index_date
        assert day is not None  # noqa: S101 - the settings demand one of the two
        return people.withColumn("index_time", midnight(day))
    known = events if as_of is None else known_by(events, as_of)
    first = known.filter(sf.col("code") == cohort.index_event).groupBy("person_key")
    return people.join(first.agg(sf.min("time").alias("index_time")), "person_key", "left")


def _coverage(clock: DataFrame, observation_periods: DataFrame, days: int) -> DataFrame:
    """`person_key, covered`: whether one period holds all of [index - days, index]."""
    begins = sf.to_date("start") <= sf.date_sub("index_time", days)
    lasts = sf.to_date("end") >= sf.to_date("index_time")
    periods = clock.join(observation_periods, "person_key")
    return periods.groupBy("person_key").agg(sf.max(begins & lasts).alias("covered"))


def _reason(cohort: CohortSettings) -> Column:
    covered = sf.coalesce("covered", sf.lit(cohort.observed_days_before == 0))
    unknown = sf.col("birth_date").isNull() & sf.lit(cohort.minimum_age_years > 0)
    return (
        sf.when(sf.col("index_time").isNull(), Reason.NO_INDEX_EVENT.value)
        .when(~covered, Reason.NOT_OBSERVED.value)
        .when(unknown, Reason.AGE_UNKNOWN.value)
        .when(age_years() < cohort.minimum_age_years, Reason.TOO_YOUNG.value)
    )
