"""Years of clinical events: measurements, habits and diagnoses, before and after the index date.

After the index date the measurements of people who fall ill rise with the disease: a feature that
looks past the index date will seem to predict wonderfully, and is wrong.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.simulation.people import Flags, Floats, Ints, People, Study

OUTCOME = "DIAGNOSIS//T2D"
TREATMENT = "MEDICATION//metformin"
FAMILY_HISTORY = "FAMILY_HISTORY//disease"
HYPERTENSION = "DIAGNOSIS//hypertension"
SMOKING = "SMOKING"
HABITS = ("never", "former", "current")

# Nothing is recorded this near the index date, so that no lag decides what was known by then.
QUIET_DAYS = 14


@dataclass(frozen=True, slots=True)
class Measure:
    """A measured code: level in the population, spread between people and between visits."""

    code: str
    unit: str
    mean: float
    between: float
    within: float
    possible: tuple[float, float]
    per_year: float
    rise: float


MEASURES = (
    Measure("LAB//hba1c", "%", 5.6, 0.45, 0.2, (4.0, 14.0), 0.8, 1.6),
    Measure("VITAL//bmi", "kg/m2", 27.5, 4.5, 0.8, (15.0, 60.0), 1.0, 1.0),
    Measure("LAB//ldl", "mmol/L", 3.2, 0.8, 0.3, (0.5, 9.0), 0.6, 0.0),
    Measure("VITAL//sbp", "mmHg", 130.0, 14.0, 8.0, (80.0, 230.0), 1.2, 4.0),
)


@dataclass(frozen=True, slots=True)
class Events:
    """One entry per event: index of the person, day since 1970-01-01, code, value (or NaN), unit, text."""

    person: Ints
    day: Ints
    code: NDArray[np.str_]
    value: Floats
    unit: NDArray[np.str_]
    text: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.person)


@dataclass(frozen=True, slots=True)
class Constitution:
    """What stays the same in a person: own level of each measure (people x measures), habits, ills."""

    levels: Floats
    habit: Ints
    family_history: Flags
    hypertension: Flags


def draw_constitution(people: People, rng: np.random.Generator) -> Constitution:
    count = len(people)
    between = np.array([measure.between for measure in MEASURES])
    means = np.array([measure.mean for measure in MEASURES])
    levels = means + between * rng.standard_normal((count, len(MEASURES)))
    return Constitution(
        levels=levels,
        habit=rng.choice(3, count, p=(0.5, 0.25, 0.25)),
        family_history=rng.random(count) < 0.3,
        hypertension=levels[:, 3] + rng.normal(0, 10, count) > 145,
    )


def draw_history(people: People, life: Constitution, study: Study, rng: np.random.Generator) -> Events:
    """Everything recorded up to two weeks before the index date."""
    until = np.minimum(people.observed_to, study.index - QUIET_DAYS)
    never = np.full(len(people), study.last + 1)
    parts = [_measured(i, people, life, people.observed_from, until, never, rng) for i in range(len(MEASURES))]
    parts.append(_smoking(people, life, until, rng))
    parts.append(_once(FAMILY_HISTORY, life.family_history, people, until, rng))
    parts.append(_once(HYPERTENSION, life.hypertension, people, until, rng))
    return join_events(parts)


def draw_prevalent(people: People, study: Study, rng: np.random.Generator) -> Events:
    """The outcome in people who had it before the index date: they belong in no cohort."""
    ill = rng.random(len(people)) < 0.03
    until = np.minimum(people.observed_to, study.index - QUIET_DAYS)
    return _with_treatment(_once(OUTCOME, ill, people, until, rng), until)


def draw_aftermath(
    people: People, life: Constitution, onset: Ints, study: Study, rng: np.random.Generator
) -> Events:
    """Everything recorded after the index date; `onset` is the day of the outcome, beyond `last` for none."""
    since = np.maximum(people.observed_from, study.index + QUIET_DAYS)
    until = people.observed_to
    parts = [_measured(i, people, life, since, until, onset, rng) for i in range(len(MEASURES))]
    seen = np.flatnonzero((onset <= until) & (onset >= people.observed_from))
    parts.append(_with_treatment(_events(OUTCOME, seen, onset[seen]), until))
    return join_events(parts)


def last_value(events: Events, code: str, people: int) -> Floats:
    """The latest value of a code for each person; NaN without one."""
    return _last(events, code, people, events.value)


def last_is(events: Events, code: str, text: str, people: int) -> Floats:
    """1 where the latest text of a code equals `text`, 0 where another; NaN without one."""
    return _last(events, code, people, (events.text == text).astype(np.float64))


def has_event(events: Events, code: str, people: int) -> Flags:
    """Who has an event of this code."""
    return np.bincount(events.person[events.code == code], minlength=people) > 0


def join_events(parts: list[Events]) -> Events:
    """All parts, one after the other."""
    fields = ("person", "day", "code", "value", "unit", "text")
    return Events(*(np.concatenate([getattr(part, field) for part in parts]) for field in fields))


def _last(events: Events, code: str, people: int, values: Floats) -> Floats:
    chosen = np.flatnonzero(events.code == code)
    chosen = chosen[np.argsort(events.day[chosen], kind="stable")]
    result = np.full(people, np.nan)
    result[events.person[chosen]] = values[chosen]
    return result


def _measured(
    number: int,
    people: People,
    life: Constitution,
    since: Ints,
    until: Ints,
    onset: Ints,
    rng: np.random.Generator,
) -> Events:
    measure = MEASURES[number]
    # A tenth of the people never have this measure taken.
    eager = people.has_records & (rng.random(len(people)) < 0.9)
    person, day = _visits(since, until, np.where(eager, measure.per_year, 0.0), rng)
    ill = onset[person] - day < 365
    value = life.levels[person, number] + rng.normal(0, measure.within, len(person)) + measure.rise * ill
    return _events(measure.code, person, day, np.clip(value, *measure.possible).round(1), measure.unit)


def _visits(since: Ints, until: Ints, per_year: Floats, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Persons and days of visits, no two of a person on one day."""
    days = np.maximum(until - since, 0)
    person = np.repeat(np.arange(len(days)), rng.poisson(per_year * days / 365.25))
    day = since[person] + (rng.random(len(person)) * days[person]).astype(np.int64)
    person, day = np.unique(np.stack([person, day]), axis=1)
    return person, day


def _smoking(people: People, life: Constitution, until: Ints, rng: np.random.Generator) -> Events:
    """The habit as noted at visits; a tenth of the notes of those who stopped still say current."""
    person, day = _visits(people.observed_from, until, np.where(people.has_records, 0.4, 0.0), rng)
    stale = (life.habit[person] == 1) & (rng.random(len(person)) < 0.1)
    text = np.array(HABITS)[np.where(stale, 2, life.habit[person])]
    return _events(SMOKING, person, day, text=text)


def _once(code: str, who: Flags, people: People, until: Ints, rng: np.random.Generator) -> Events:
    """One event at a random day under observation for each of `who` that has records."""
    person = np.flatnonzero(who & people.has_records & (until > people.observed_from))
    span = until[person] - people.observed_from[person]
    return _events(code, person, people.observed_from[person] + (rng.random(len(person)) * span).astype(int))


def _with_treatment(diagnoses: Events, until: Ints) -> Events:
    """The diagnoses, and two weeks after each the treatment."""
    day = diagnoses.day + 14
    treated = day <= until[diagnoses.person]
    return join_events([diagnoses, _events(TREATMENT, diagnoses.person[treated], day[treated])])


def _events(
    code: str,
    person: Ints,
    day: Ints,
    value: Floats | None = None,
    unit: str = "",
    text: NDArray[np.str_] | None = None,
) -> Events:
    count = len(person)
    return Events(
        person,
        day,
        np.full(count, code),
        np.full(count, np.nan) if value is None else value,
        np.full(count, unit),
        np.full(count, "") if text is None else text,
    )
