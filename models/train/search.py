"""A search for better `model` settings: trials learn from the training people and are scored on the tuning people.

The score is the tuning loss at the best epoch: it is what early stopping watches, it moves with every
person's risk, and on few people it is steadier than AUROC or the c-index, which stand beside it with their
intervals. The held-out people are for the judgement of what comes out, and no trial reads them.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from features.contract.errors import TrainingError
from features.contract.manifest import Manifest, read_manifest, read_plan
from features.contract.paths import Location
from features.contract.runs import Runs
from features.contract.settings import Settings, TaskSettings
from features.contract.training_settings import SearchSettings
from models.evaluate.bootstrap import estimate
from models.evaluate.calibration import logit_of_risk
from models.evaluate.results import Estimate
from models.evaluate.summary import Outcomes
from models.registry import HISTORY
from models.train.fit import Fit, TrainJob
from models.train.launch import launch
from models.train.people import modalities_of, read_labels, read_logits
from models.train.rounds import Round, rounds
from models.train.suggest import suggest
from models.train.trials import Search, Trial, best_of

log = logging.getLogger("riskloom")
TUNING = "tuning"
# How the ranks' own message tells a hopeless setting from a lost rank or bad data, which end the search.
DIVERGED = "lower model.learning_rate"


@dataclass(frozen=True)
class Bench:
    """Where trials are run: on which people (the tuning ones' keys and labels by round), with which
    launcher, below which folder."""

    manifest: Manifest
    task: TaskSettings
    rounds: list[Round]
    tuning: list[pa.Table]
    work: Location
    train: Callable[[list[Fit]], None]


def search_task(
    lake: Location, runs: Runs, settings: Settings, task: TaskSettings, work: Location, spark: Any = None
) -> Search:
    """Run the trials of `task.search` one after the other, each with all ranks.

    `work` is a folder that all ranks can reach. The trials that an earlier attempt finished there are not
    run again, the one that it was in goes on from its checkpoint, and the end is the same as without the
    interruption. Raises TrainingError where no trial has a finite loss, or a rank is lost.
    """
    search = _wanted(task)
    table = f"training/{task.name}"
    manifest, manifest_digest = read_manifest(lake, runs, table)
    final, *folds = rounds(lake, read_plan(lake, runs, table), task)
    seconds = settings.launch.checkpoint_seconds

    def train(fits: list[Fit]) -> None:
        launch(TrainJob(manifest, fits, work.uri, checkpoint_seconds=seconds), settings.launch, spark)

    tried = [replace(item, judged=[]) for item in folds[: search.rounds] or [final]]
    tuning = [read_labels(item.tuning, manifest) for item in tried]
    bench = Bench(manifest, task, tried, tuning, work, train)
    return Search(
        task=task.name,
        outcome=manifest.outcome,
        primary=_outcomes(bench).primary,
        training_version=runs.version(table),
        manifest_digest=manifest_digest,
        search=search,
        rounds=[item.name for item in tried],
        trained_on=[sum(part.rows for part in item.train) for item in tried],
        tuned_on=[len(people) for people in tuning],
        trials=_run_trials(bench, search),
    )


def _wanted(task: TaskSettings) -> SearchSettings:
    if task.search is None:
        raise ValueError(f"task {task.name} has no search section")
    return task.search


def _run_trials(bench: Bench, search: SearchSettings) -> list[Trial]:
    trials: list[Trial] = []
    while len(trials) < search.trials:
        number = len(trials) + 1
        record = bench.work / f"trials/{number}.json"
        if record.exists():
            trials.append(Trial.model_validate_json(record.read_bytes()))
            continue
        settings = suggest(search, bench.task.model, trials)
        log.info(
            "%s: trial %d of %d, %s%s", bench.task.name, number, search.trials, _words(settings), _so_far(trials)
        )
        trials.append(_trial(bench, number, settings, trials))
        record.write_bytes(trials[-1].model_dump_json().encode())
        for item in bench.rounds:
            (bench.work / _fit_name(number, item)).delete()
    return trials


def _trial(bench: Bench, number: int, settings: dict[str, Any], trials: Sequence[Trial]) -> Trial:
    """The same settings give the same weights, and are not trained twice."""
    for earlier in trials:
        if earlier.settings == settings:
            return earlier.model_copy(update={"number": number, "seconds": 0})
    fits = [_fit(bench, number, item, settings) for item in bench.rounds]
    try:
        bench.train(fits)
        return _scored(bench, number, settings, fits)
    except TrainingError as error:
        if DIVERGED not in str(error):
            raise
        why = next(line for line in str(error).splitlines() if DIVERGED in line)
        log.warning("%s: trial %d has no score: %s", bench.task.name, number, why)
        return Trial(number=number, settings=settings)


def _fit(bench: Bench, number: int, item: Round, settings: dict[str, Any]) -> Fit:
    return Fit(
        name=_fit_name(number, item),
        train=item.train,
        tuning=item.tuning,
        evaluate={TUNING: item.tuning},
        statistics_key=item.statistics_key,
        modalities=modalities_of(bench.manifest),
        model=bench.task.model.model_copy(update=settings),
    )


def _fit_name(number: int, item: Round) -> str:
    return f"trial_{number}_{item.name}"


def _scored(bench: Bench, number: int, settings: dict[str, Any], fits: list[Fit]) -> Trial:
    histories = [json.loads((bench.work / f"{fit.name}/{HISTORY}").read_bytes()) for fit in fits]
    best = [min(history, key=lambda epoch: epoch["tuning_loss"]) for history in histories]
    return Trial(
        number=number,
        settings=settings,
        score=float(np.mean([epoch["tuning_loss"] for epoch in best])),
        primary=_primary(bench, fits),
        epochs=tuple(len(history) for history in histories),
        best_epochs=tuple(epoch["epoch"] + 1 for epoch in best),
        seconds=sum(epoch["seconds"] for history in histories for epoch in history),
    )


def _primary(bench: Bench, fits: list[Fit]) -> Estimate | None:
    outcomes = _outcomes(bench)
    logits = [
        read_logits(bench.work, fit.name, TUNING, people["person_key"])
        for fit, people in zip(fits, bench.tuning, strict=True)
    ]
    return estimate(
        outcomes.statistic(outcomes.primary, logit_of_risk(np.concatenate(logits))),
        outcomes.n,
        outcomes.n_events,
        outcomes.metric_weights(outcomes.primary),
    )


def _outcomes(bench: Bench) -> Outcomes:
    """Of the tuning people of all rounds, who are compared inside their round."""
    rounds_of = np.repeat(np.arange(len(bench.tuning)), [len(people) for people in bench.tuning])
    return replace(Outcomes.of(pa.concat_tables(bench.tuning), bench.manifest), folds=rounds_of)


def _words(settings: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in settings.items()
    )


def _so_far(trials: Sequence[Trial]) -> str:
    scored = [trial for trial in trials if trial.score is not None]
    return f"; best so far {(best := best_of(scored)).score:.4f} in trial {best.number}" if scored else ""
