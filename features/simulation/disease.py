"""The disease: its true risk is a sum of what genome, history and image say, with known weights.

logit(risk) = INTERCEPT + genomic + clinical + imaging

Each part is centred and spreads by about 1. What was never recorded about a person adds nothing,
so that a model which sees what the raw zone holds can, in principle, reach the true risk.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from features.simulation.genomes import PANEL_SITES, rsid
from features.simulation.people import YEAR, Floats, Ints, People, Study
from features.simulation.records import FAMILY_HISTORY, SMOKING, Events, has_event, last_is, last_value

INTERCEPT = -1.5

# Log odds per copy of ALT; the other twelve variants of the published panel do nothing.
LOG_ODDS = (0.65, -0.55, 0.45, -0.40, 0.40, 0.35, -0.60, 0.50, -0.35, 0.45, -0.45, 0.40)
GENOMIC_WEIGHTS = dict(zip(PANEL_SITES[::2], LOG_ODDS, strict=True))


@dataclass(frozen=True, slots=True)
class Effect:
    """`weight` is the change of the logit per `scale` above `centre`."""

    centre: float
    scale: float
    weight: float

    def of(self, values: Floats) -> Floats:
        """The part of the logit; 0 where the value is missing."""
        return np.nan_to_num(self.weight * (values - self.centre) / self.scale)


CLINICAL_WEIGHTS = {
    "hba1c": Effect(5.6, 0.5, 0.65),
    "bmi": Effect(27.5, 4.5, 0.50),
    "age": Effect(52.5, 16.0, 0.35),
    "smokes": Effect(0.27, 1.0, 1.00),
    "family_history": Effect(0.28, 1.0, 0.90),
}
IMAGING_WEIGHT = Effect(4.0, 3.0, 1.20)


@dataclass(frozen=True, slots=True)
class Risk:
    """The true logit of each person, and the three parts of it."""

    genomic: Floats
    clinical: Floats
    imaging: Floats

    @property
    def logit(self) -> Floats:
        return INTERCEPT + self.genomic + self.clinical + self.imaging

    @property
    def risk(self) -> Floats:
        """The probability of the outcome within the horizon."""
        return 1 / (1 + np.exp(-self.logit))


def true_risk(dosages: Floats, clinical: dict[str, Floats], burden: Floats) -> Risk:
    """From ALT counts of the panel (people x 24, NaN without a genome), `clinical_inputs` and lesion burden."""
    weights = np.zeros(len(PANEL_SITES))
    weights[::2] = list(GENOMIC_WEIGHTS.values())
    genomic = (dosages - np.nanmean(dosages, axis=0)) @ weights
    parts = [effect.of(clinical[name]) for name, effect in CLINICAL_WEIGHTS.items()]
    return Risk(np.nan_to_num(genomic), np.sum(parts, axis=0), IMAGING_WEIGHT.of(burden))


def clinical_inputs(people: People, history: Events, study: Study) -> dict[str, Floats]:
    """What the records say about each person on the index date, NaN where they say nothing."""
    count = len(people)
    return {
        "hba1c": last_value(history, "LAB//hba1c", count),
        "bmi": last_value(history, "VITAL//bmi", count),
        "age": (study.index - people.birth) / YEAR,
        "smokes": last_is(history, SMOKING, "current", count),
        "family_history": has_event(history, FAMILY_HISTORY, count).astype(np.float64),
    }


def draw_onset(risk: Floats, study: Study, rng: np.random.Generator) -> Ints:
    """The day each person falls ill: within the horizon by the true risk, some later, the others never."""
    count = len(risk)
    within = study.index + rng.integers(1, study.horizon_days + 1, count)
    later = study.index + study.horizon_days + rng.integers(1, 366, count)
    never = np.full(count, study.last + 1)
    ill_later = rng.random(count) < 0.08
    return np.where(rng.random(count) < risk, within, np.where(ill_later, later, never))


def weights() -> dict[str, Any]:
    """Every weight of the true logit, for `truth.json`."""
    return {
        "intercept": INTERCEPT,
        "genomic": {rsid(site): weight for site, weight in GENOMIC_WEIGHTS.items()},
        "clinical": {name: _as_dict(effect) for name, effect in CLINICAL_WEIGHTS.items()},
        "imaging": {"lesion_burden": _as_dict(IMAGING_WEIGHT)},
    }


def _as_dict(effect: Effect) -> dict[str, float]:
    return {"centre": effect.centre, "scale": effect.scale, "weight": effect.weight}
