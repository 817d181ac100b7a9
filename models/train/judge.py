"""Calibrated risks of every predictor for the people of a round, and their comparison."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from features.contract.manifest import Manifest
from features.contract.paths import Location
from features.contract.settings import TaskSettings
from features.contract.training_settings import BaselineSettings
from models.evaluate.calibration import Calibrator, logit, logit_of_risk
from models.evaluate.metrics import Floats
from models.evaluate.results import Evaluation, Family
from models.evaluate.summary import Outcomes, compare, primary_value, summarise
from models.feed.plan import Part
from models.train.baseline import Scorer, fit_baselines
from models.train.people import designs, modalities_of, read_labels, read_logits, sample_design
from models.train.rounds import JUDGED, Round, single_fit, single_modalities, single_rounds

MODEL = "model"


@dataclass(frozen=True)
class Scored:
    """A predictor's calibrated risks of a round's judged people [N], and how it did on the tuning ones."""

    name: str
    family: Family
    modalities: list[str]
    risk: Floats
    tuning_score: float
    kind: str | None = None


@dataclass(frozen=True)
class Judged:
    """A round's judged people (labels in the order of its parts) and every predictor's risks of them."""

    name: str
    evaluation: Literal["held_out", "cross_validation"]
    people: pa.Table
    scored: dict[str, Scored]
    notes: list[str] = field(default_factory=list)


def judge(
    item: Round,
    all_rounds: list[Round],
    work: Location,
    manifest: Manifest,
    task: TaskSettings,
    settings: BaselineSettings,
) -> Judged:
    """Networks from their predictions; baselines fitted here. Each is calibrated on the tuning people."""
    people, tuning = read_labels(item.judged, manifest), read_labels(item.tuning, manifest)
    outcomes, scored = Outcomes.of(tuning, manifest), dict[str, Scored]()
    for name, fit, family, modalities in _networks(item, all_rounds, manifest, task):
        on_tuning = logit_of_risk(read_logits(work, fit, "tuning", tuning["person_key"]))
        on_judged = logit_of_risk(read_logits(work, fit, JUDGED, people["person_key"]))
        logits = (on_tuning, on_judged)
        scored[name] = _calibrated(name, family, modalities, logits, outcomes, task.model.seed)
    baselines, notes = _judge_baselines(item, tuning, manifest, settings, task.split.seed)
    return Judged(item.name, item.evaluation, people, scored | baselines, notes)


def _networks(
    item: Round, all_rounds: list[Round], manifest: Manifest, task: TaskSettings
) -> Iterator[tuple[str, str, Family, list[str]]]:
    """Predictor name, fit name, family and modalities of each network that this round judges."""
    yield MODEL, item.name, "model", modalities_of(manifest)
    if item in single_rounds(all_rounds):
        for modality in single_modalities(manifest, task):
            yield f"only_{modality}", single_fit(modality, item), "single_modality", [modality]


def evaluate(
    evaluation: Literal["held_out", "cross_validation"], judged: list[Judged], manifest: Manifest, seed: int
) -> Evaluation:
    """All predictors that every round has, on the judged people of all rounds together.

    Folds are pooled after each was calibrated on its own tuning people; order is judged inside each.
    """
    outcomes = Outcomes.of(pa.concat_tables([one.people for one in judged]), manifest)
    if len(judged) > 1:
        outcomes = replace(outcomes, folds=np.repeat(np.arange(len(judged)), [len(one.people) for one in judged]))
    names = [name for name in judged[0].scored if all(name in one.scored for one in judged)]
    risks = {name: np.concatenate([one.scored[name].risk for one in judged]) for name in names}
    predictors = [
        summarise(name, first.family, first.modalities, risks[name], outcomes, _kinds(name, judged), seed)
        for name in names
        for first in [judged[0].scored[name]]
    ]
    differences = [compare(MODEL, name, risks, outcomes, seed) for name in names if name != MODEL]
    return Evaluation(
        evaluation=evaluation,
        n=outcomes.n,
        events=outcomes.n_events,
        censored=outcomes.n_censored,
        primary=outcomes.primary,
        best_baseline=_best(names, judged),
        predictors=predictors,
        differences=[found for found in differences if found is not None],
    )


def evaluation_rows(judged: Judged) -> pa.Table:
    """One row per judged person: key, fold, labels, evaluation, round and `risk_<predictor>` columns."""
    table = judged.people
    for name, value in (("evaluation", judged.evaluation), ("round", judged.name)):
        table = table.append_column(name, pa.array([value] * len(table), pa.string()))
    for name, scored in judged.scored.items():
        table = table.append_column(f"risk_{name}", pa.array(scored.risk))
    return table


def _judge_baselines(
    item: Round, tuning: pa.Table, manifest: Manifest, settings: BaselineSettings, seed: int
) -> tuple[dict[str, Scored], list[str]]:
    """The baselines on all modalities, and each modality's best one (by the tuning people)."""
    design, names, labels = sample_design(item.train, manifest, settings.max_rows, seed)
    train, outcomes = Outcomes.of(labels, manifest), Outcomes.of(tuning, manifest)
    total, notes = sum(part.rows for part in item.train), list[str]()
    if len(design) < total:
        notes.append(f"{item.name}: baselines were fitted on a seeded sample of {len(design)} of {total} people")
    modalities = modalities_of(manifest)
    fitted: list[tuple[str, list[str], Scorer]] = []
    for group in [modalities, *([[modality] for modality in modalities] if len(modalities) > 1 else [])]:
        columns = _columns(names, group)
        found = fit_baselines(design[:, columns], train, manifest.horizon_days, settings, seed)
        notes += [f"{item.name}, {'+'.join(group)}: {note}" for note in found.notes]
        fitted += [(name, group, _of_columns(scorer, columns)) for name, scorer in found.scorers.items()]
    scorers = [scorer for _, _, scorer in fitted]
    on_tuning, on_judged = _logits(scorers, item.tuning, manifest), _logits(scorers, item.judged, manifest)
    scored = [
        _calibrated(name, "baseline", group, logits, outcomes, seed)
        for (name, group, _), *logits in zip(fitted, on_tuning, on_judged, strict=True)
    ]
    whole = {one.name: one for one in scored if one.modalities == modalities}
    alone = [_best_alone([one for one in scored if one.modalities == [modality]]) for modality in modalities]
    return whole | {one.name: one for one in alone if one is not None and len(modalities) > 1}, notes


def _logits(scorers: list[Scorer], parts: list[Part], manifest: Manifest) -> list[Floats]:
    """Each scorer's logits of all people, in one scan."""
    blocks = [[logit(scorer(design)) for scorer in scorers] for design in designs(parts, manifest)]
    return [np.concatenate(column) for column in zip(*blocks, strict=True)]


def _of_columns(scorer: Scorer, columns: list[int]) -> Scorer:
    return lambda design: scorer(design[:, columns])


def _best_alone(found: list[Scored]) -> Scored | None:
    if not found:
        return None
    best = max(found, key=lambda one: np.nan_to_num(one.tuning_score))
    name = f"baseline_{best.modalities[0]}"
    return replace(best, name=name, family="single_modality_baseline", kind=best.name)


def _calibrated(
    name: str, family: Family, modalities: list[str], logits: Sequence[Floats], tuning: Outcomes, seed: int
) -> Scored:
    on_tuning, on_judged = logits
    calibrator = Calibrator.fit(on_tuning, tuning.case, tuning.weights, refits=0, seed=seed)
    return Scored(name, family, modalities, calibrator.risk(on_judged), primary_value(tuning, on_tuning))


def _columns(names: list[str], modalities: list[str]) -> list[int]:
    return [i for i, name in enumerate(names) if name.partition(":")[0].removeprefix("has_") in modalities]


def _kinds(name: str, judged: list[Judged]) -> str | None:
    kinds = sorted({kind for one in judged if (kind := one.scored[name].kind) is not None})
    return ", ".join(kinds) or None


def _best(names: list[str], judged: list[Judged]) -> str | None:
    """The baseline with the best mean score on the tuning people."""
    baselines = [name for name in names if judged[0].scored[name].family == "baseline"]
    if not baselines:
        return None
    return max(baselines, key=lambda name: np.nansum([one.scored[name].tuning_score for one in judged]))
