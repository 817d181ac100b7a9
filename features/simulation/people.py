"""Who lives in the simulated world, how they spell their ids, and when they were watched."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

ANCESTRIES = ("coast", "highland", "island")
ANCESTRY_SHARES = (0.6, 0.25, 0.15)
EPOCH = date(1970, 1, 1)
YEAR = 365.25


@dataclass(frozen=True, slots=True)
class Study:
    """The clock of the simulation: ten years of history, an index date, three years of follow-up."""

    index_date: date = date(2020, 1, 1)
    horizon_days: int = 730

    @property
    def index(self) -> int:
        """Days since 1970-01-01."""
        return (self.index_date - EPOCH).days

    @property
    def first(self) -> int:
        return self.index - 3652

    @property
    def last(self) -> int:
        return self.index + 1095


@dataclass(frozen=True, slots=True)
class People:
    """One entry per person in every field; days count from 1970-01-01, `ancestry` indexes ANCESTRIES."""

    ids: tuple[str, ...]
    birth: Ints
    female: Flags
    ancestry: Ints
    observed_from: Ints
    observed_to: Ints
    has_genome: Flags
    has_records: Flags
    has_image: Flags

    def __len__(self) -> int:
        return len(self.ids)


def draw_people(count: int, study: Study, rng: np.random.Generator) -> People:
    """People with their observation periods, and which modalities each of them lacks."""
    observed_from, observed_to = _observation(count, study, rng)
    return People(
        ids=tuple(f"RLM-{number:06d}" for number in rng.choice(900_000, count, replace=False)),
        birth=study.index - (rng.uniform(25, 80, count) * YEAR).astype(np.int64),
        female=rng.random(count) < 0.52,
        ancestry=rng.choice(len(ANCESTRIES), count, p=ANCESTRY_SHARES),
        observed_from=observed_from,
        observed_to=observed_to,
        has_genome=rng.random(count) < 0.90,
        has_records=rng.random(count) < 0.98,
        has_image=rng.random(count) < 0.75,
    )


def spell(person_id: str, rng: np.random.Generator) -> str:
    """The id as a tired clerk writes it: usually right, at times in lower case or with `_`."""
    style = rng.random()
    text = person_id.lower() if style < 0.2 else person_id
    return text.replace("-", "_") if 0.1 < style < 0.3 else text


def iso(day: int) -> str:
    return (EPOCH + timedelta(days=int(day))).isoformat()


def _observation(count: int, study: Study, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Most are watched throughout; about 10 % come late and 4 % are lost to follow-up."""
    start = study.first + rng.integers(0, 120, count)
    late = rng.random(count) < 0.10
    start[late] = rng.integers(study.first + 365, study.index, late.sum())
    end = np.full(count, study.last)
    lost = rng.random(count) < 0.04
    end[lost] = rng.integers(study.index + 1, study.index + study.horizon_days, lost.sum())
    return start, end
