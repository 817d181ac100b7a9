"""Labels, and the people for whom there is none."""

from datetime import date
from typing import Any

import pytest
from pyspark.sql import SparkSession

from features.cohort.cohort import Reason
from features.cohort.outcome import event_labels, gene_labels, had_outcome
from features.contract.schemas import EVENTS, OBSERVATION_PERIODS, PERSONS
from features.contract.settings import OutcomeSettings
from tests.features.assembly.rows import INDEX, by_person, day, event, frame, key, period, person

# Name: the days of the outcome, and the last day observed; the horizon is 100 days.
PEOPLE: dict[str, tuple[list[float], float | None]] = {
    "before": ([-1, 50], 400),
    "index day": ([0.6], 400),
    "next day": ([1], 400),
    "on the horizon": ([100.7], 400),
    "after the horizon": ([101], 400),
    "followed": ([], 100),
    "lost a day early": ([], 99),
    "lost at the index": ([], 0),
    "never observed": ([], None),
    "event after the last day": ([50], 40),
    "event on the last day": ([40.9], 40),
}


def _labels(spark: SparkSession, kind: str) -> dict[str, Any]:
    outcome = OutcomeSettings(name="ill", kind=kind, code="ILL", horizon_days=100)
    index = [{"person_key": key(name), "time": INDEX} for name in PEOPLE]
    clock = frame(spark, EVENTS, index).select("person_key", "time").withColumnRenamed("time", "index_time")
    events = [event(name, at, "ILL") for name, (days, _) in PEOPLE.items() for at in days]
    events += [event("followed", 10, "OTHER")]
    periods = [period(name, -10, end) for name, (_, end) in PEOPLE.items() if end is not None]
    periods += [period("lost a day early", 200, 500)]
    found = event_labels(clock, frame(spark, OBSERVATION_PERIODS, periods), frame(spark, EVENTS, events), outcome)
    columns = ["y_ill"] if kind == "binary" else ["y_ill_time", "y_ill_event"]
    rows = by_person(found, "label_reason", *columns)
    return {name: rows[key(name)][0] or rows[key(name)][1:] for name in PEOPLE}


def test_a_binary_label_needs_the_event_or_follow_up_to_the_horizon(spark: SparkSession) -> None:
    assert _labels(spark, "binary") == {
        "before": Reason.OUTCOME_BEFORE,
        "index day": Reason.OUTCOME_BEFORE,
        "next day": (1,),
        "on the horizon": (1,),
        "after the horizon": (0,),
        "followed": (0,),
        "lost a day early": Reason.NOT_FOLLOWED,
        "lost at the index": Reason.NOT_FOLLOWED,
        "never observed": Reason.NOT_FOLLOWED,
        "event after the last day": Reason.NOT_FOLLOWED,
        "event on the last day": (1,),
    }


def test_a_survival_label_is_censored_by_the_end_of_observation_and_the_horizon(spark: SparkSession) -> None:
    assert _labels(spark, "survival") == {
        "before": Reason.OUTCOME_BEFORE,
        "index day": Reason.OUTCOME_BEFORE,
        "next day": (1.0, 1),
        "on the horizon": (100.0, 1),
        "after the horizon": (100.0, 0),
        "followed": (100.0, 0),
        "lost a day early": (99.0, 0),
        "lost at the index": Reason.NO_FOLLOW_UP,
        "never observed": Reason.NO_FOLLOW_UP,
        "event after the last day": (40.0, 0),
        "event on the last day": (40.0, 1),
    }


def test_a_gene_label_is_for_people_with_a_genome(spark: SparkSession) -> None:
    outcome = OutcomeSettings(name="idh", kind="binary", genes=["IDH1"], horizon_days=1)
    people = frame(spark, PERSONS, [person("carrier"), person("other"), person("none")])
    carriers = spark.createDataFrame(
        [(key("carrier"), True), (key("other"), False)], "person_key string, carries boolean"
    )
    found = by_person(gene_labels(people, carriers, outcome), "label_reason", "y_idh")
    assert found == {key("carrier"): (None, 1), key("other"): (None, 0), key("none"): (Reason.NO_GENOME, None)}


@pytest.mark.parametrize(("known", "ill"), [(0.5, True), (1, False)])
def test_who_had_the_outcome_is_judged_by_what_was_known_on_the_day(
    spark: SparkSession, known: float, ill: bool
) -> None:
    outcome = OutcomeSettings(name="ill", kind="binary", code="ILL", horizon_days=100)
    events = frame(spark, EVENTS, [event("a", -5, "ILL", available_at=day(known))])
    assert (had_outcome(events, outcome, date(2020, 1, 1)).count() == 1) == ill
