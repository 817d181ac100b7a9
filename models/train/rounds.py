"""Who is trained on, tuned on and judged: once for the final model, once per fold."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from features.contract.errors import ConfigError, DataGateError
from features.contract.manifest import Manifest
from features.contract.paths import Location
from features.contract.settings import TaskSettings
from models.feed.plan import Part
from models.train.fit import Fit
from models.train.people import modalities_of

FINAL = "final"
JUDGED = "held_out"


@dataclass(frozen=True)
class Round:
    """One training: disjoint people to train on, to tune and calibrate on, and to judge."""

    name: str
    evaluation: Literal["held_out", "cross_validation"]
    train: list[Part]
    tuning: list[Part]
    judged: list[Part]
    statistics_key: str


def rounds(lake: Location, plan: pa.Table, task: TaskSettings) -> list[Round]:
    """`final`, then `fold_<k>`: judged on fold k, tuned on fold k + 1, trained on the others.

    Held-out people (fold -1) are in no fold's training.
    """
    rows = plan.to_pylist()

    def parts(wanted: Callable[[dict[str, Any]], bool]) -> list[Part]:
        chosen = [row for row in rows if wanted(row) and row["rows"]]
        root = f"{lake.uri}/training/{task.name}"
        return [Part(f"{root}/{row['file']}", row["row_group"], row["rows"]) for row in chosen]

    def of_split(split: str) -> list[Part]:
        return parts(lambda row: row["split"] == split)

    final = Round(FINAL, "held_out", of_split("train"), of_split("tuning"), of_split(JUDGED), "train")
    folds = [_fold(k, task.split.folds, parts) for k in range(task.split.folds)]
    _check(task, [final, *folds])
    return [final, *folds]


def judged_rounds(all_rounds: list[Round]) -> list[Round]:
    """Those that judge anybody (without held-out people the final one does not)."""
    return [item for item in all_rounds if item.judged]


def fits_of(all_rounds: list[Round], manifest: Manifest, task: TaskSettings) -> list[Fit]:
    """Every network to train: all modalities in each round and, where asked, each modality alone."""
    modalities = modalities_of(manifest)
    whole = [_fit(item.name, item, modalities, task) for item in all_rounds]
    alone = single_rounds(all_rounds) if single_modalities(manifest, task) else []
    return whole + [
        _fit(single_fit(modality, item), item, [modality], task) for modality in modalities for item in alone
    ]


def single_modalities(manifest: Manifest, task: TaskSettings) -> list[str]:
    """The modalities that get a network of their own; none where there is but one."""
    modalities = modalities_of(manifest)
    return modalities if task.model.single_modality and len(modalities) > 1 else []


def single_rounds(all_rounds: list[Round]) -> list[Round]:
    """Networks of one modality are judged on the held-out people; without those, in each fold."""
    judged = judged_rounds(all_rounds)
    return [item for item in judged if item.evaluation == "held_out"] or judged


def single_fit(modality: str, item: Round) -> str:
    return f"only_{modality}" if item.name == FINAL else f"only_{modality}_{item.name}"


def _fold(k: int, folds: int, parts: Callable[[Callable[[dict[str, Any]], bool]], list[Part]]) -> Round:
    tuning = (k + 1) % folds
    return Round(
        f"fold_{k}",
        "cross_validation",
        parts(lambda row: row["fold"] not in (-1, k, tuning)),
        parts(lambda row: row["fold"] == tuning),
        parts(lambda row: row["fold"] == k),
        f"fold_{k}",
    )


def _fit(name: str, item: Round, modalities: list[str], task: TaskSettings) -> Fit:
    evaluate = {"tuning": item.tuning}
    if item.judged:
        evaluate[JUDGED] = item.judged
    if name == FINAL:
        evaluate["train"] = item.train
    return Fit(
        name=name,
        train=item.train,
        tuning=item.tuning,
        evaluate=evaluate,
        statistics_key=item.statistics_key,
        modalities=modalities,
        model=task.model,
    )


def _check(task: TaskSettings, all_rounds: list[Round]) -> None:
    for item in all_rounds:
        if not item.train or not item.tuning:
            raise DataGateError(
                f"training/{task.name}: nobody to train or to tune on in {item.name}; "
                f"enlarge tasks.{task.name}.split.tuning or the cohort"
            )
    if not judged_rounds(all_rounds):
        raise ConfigError(
            f"tasks.{task.name}.split: nobody is held out and there are no folds, so nothing could be judged"
        )
