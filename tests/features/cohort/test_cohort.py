"""Who is in, and when the clock starts."""

from datetime import date
from typing import Any

import pytest
from pyspark.sql import SparkSession

from features.cohort.cohort import Reason, index_times
from features.contract.schemas import EVENTS, OBSERVATION_PERIODS, PERSONS
from features.contract.settings import CohortSettings
from tests.features.assembly.rows import INDEX, by_person, day, event, frame, key, period, person

ON_DATE = {"index_date": date(2020, 1, 1)}


def _found(
    spark: SparkSession,
    people: list[dict[str, Any]],
    periods: list[dict[str, Any]],
    events: list[dict[str, Any]],
    as_of: date | None = None,
    **settings: Any,
) -> dict[str, Any]:
    tables = (PERSONS, people), (OBSERVATION_PERIODS, periods), (EVENTS, events)
    frames = [frame(spark, table, rows) for table, rows in tables]
    return by_person(index_times(*frames, CohortSettings(**settings), as_of), "index_time", "reason")


def test_the_observation_period_must_cover_the_days_before_the_index_and_the_index(spark: SparkSession) -> None:
    edges = {"covers": (-365, 0), "begins a day late": (-364, 9), "ends a day early": (-400, -1)}
    people = [person(name) for name in (*edges, "two halves", "never observed")]
    periods = [period(name, *edge) for name, edge in edges.items()]
    periods += [period("two halves", -365, -100), period("two halves", -100, 9)]
    found = _found(spark, people, periods, [], observed_days_before=365, **ON_DATE)
    assert [
        name for name in map(str, (*edges, "two halves", "never observed")) if found[key(name)][1] is None
    ] == ["covers"]
    assert found[key("two halves")][1] == Reason.NOT_OBSERVED


def test_every_person_has_one_row_and_the_young_and_unborn_are_left_out(spark: SparkSession) -> None:
    born = {"adult": date(2002, 1, 1), "child": date(2002, 6, 1), "unborn": date(2021, 1, 1), "unknown": None}
    people = [person(name, day) for name, day in born.items()]
    found = _found(spark, people, [], [], minimum_age_years=17.99, **ON_DATE)
    reasons = {name: found[key(name)][1] for name in born}
    assert reasons == {
        "adult": None,
        "child": Reason.TOO_YOUNG,
        "unborn": Reason.TOO_YOUNG,
        "unknown": Reason.AGE_UNKNOWN,
    }
    anyone = _found(spark, people, [], [], **ON_DATE)
    assert [name for name in born if anyone[key(name)][1]] == ["unborn"]


def test_the_clock_starts_at_the_first_index_event(spark: SparkSession) -> None:
    events = [event("a", 5, "DX"), event("a", 3.5, "DX"), event("a", 1, "OTHER"), event("b", 1, "OTHER")]
    found = _found(spark, [person("a"), person("b")], [], events, index_event="DX")
    assert found[key("a")] == (day(3.5).replace(tzinfo=None), None)
    assert found[key("b")] == (None, Reason.NO_INDEX_EVENT)


@pytest.mark.parametrize(("as_of", "eligible"), [(date(2020, 1, 3), False), (date(2020, 1, 4), True)])
def test_on_a_scoring_date_the_index_event_must_be_known_by_its_end(
    spark: SparkSession, as_of: date, eligible: bool
) -> None:
    people, late = [person("a"), person("b")], {"available_at": day(30)}
    events = [event("a", 3.5, "DX"), event("b", 1, "DX", **late)]
    found = _found(spark, people, [], events, as_of, index_event="DX")
    assert (found[key("a")][1] is None) == eligible
    assert found[key("b")] == (None, Reason.NO_INDEX_EVENT)


def test_on_a_scoring_date_an_index_date_gives_way_to_it(spark: SparkSession) -> None:
    found = _found(spark, [person("a")], [], [], INDEX.date().replace(year=2021), **ON_DATE)
    assert found[key("a")][0].date() == date(2021, 1, 1)
