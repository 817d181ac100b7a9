"""What a search found: its trials, the best of them, and the files that keep them."""

import math
from collections.abc import Mapping, Sequence
from textwrap import indent
from typing import Any

import yaml

from features.contract.errors import TrainingError
from features.contract.training_settings import SearchSettings
from models.evaluate.results import Estimate, Result

SEARCH = "search.json"
BEST = "best.yaml"
PICTURE = "trials.svg"


class Trial(Result):
    """What a trial set and how it did on the tuning people; a list has an entry per round.

    `score` is the mean over rounds of the tuning loss at the best epoch; without it the loss was not finite,
    and there is nothing else. `primary` is the AUROC or c-index of the people of all rounds, each compared
    with people of the same round only. `best_epochs` counts from 1, `seconds` is the time of all epochs.
    """

    number: int
    settings: dict[str, Any]
    score: float | None = None
    primary: Estimate | None = None
    epochs: tuple[int, ...] = ()
    best_epochs: tuple[int, ...] = ()
    seconds: float = 0


class Search(Result):
    """`search.json`: every trial in order, the first with the settings as configured, and on what it rests."""

    task: str
    outcome: str
    primary: str
    training_version: int
    manifest_digest: str
    search: SearchSettings
    rounds: list[str]
    trained_on: list[int]
    tuned_on: list[int]
    trials: list[Trial]

    @property
    def best(self) -> Trial:
        return best_of(self.trials)

    def ranked(self) -> list[Trial]:
        """The best first; those without a score last."""
        return sorted(self.trials, key=_rank)


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial with the lowest score, of equals the first; raises TrainingError where none has a score."""
    best = min(trials, key=_rank)
    if best.score is None:
        raise TrainingError(f"search: the loss of {len(trials)} trials was not finite; the log says where")
    return best


def _rank(trial: Trial) -> tuple[float, int]:
    return math.inf if trial.score is None else trial.score, trial.number


def files(search: Search) -> Mapping[str, bytes]:
    """What is published: the trials, the best settings, and a picture of both."""
    return {
        SEARCH: search.model_dump_json(indent=1).encode(),
        BEST: fragment(search).encode(),
        PICTURE: _picture(search).encode(),
    }


def fragment(search: Search) -> str:
    """The best settings as YAML that can stand below a task's `model:`, indented as in conf/demo.yaml."""
    best, configured = search.best, search.trials[0]
    lines = [f"Trial {best.number} of {len(search.trials)}: {told(search, best)}"]
    if best is configured:
        lines.append("This is what is configured; no other trial did better.")
    else:
        lines.append(f"As configured: {told(search, configured)}")
    comments = "".join(f"# {line}\n" for line in lines)
    return indent(comments + yaml.safe_dump(best.settings, sort_keys=False, default_flow_style=None), " " * 6)


def told(search: Search, trial: Trial) -> str:
    """How a trial did, in words."""
    if trial.score is None:
        return "the loss was not finite"
    words = f"tuning loss {trial.score:.4f}"
    if found := trial.primary:
        words += f", {search.primary} {found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
        words += f" of {found.n:,} tuning people, {found.events:,} events"
    return words


def _picture(search: Search) -> str:
    from models.report.plots import Frame, trials

    words = f"Tuning loss by trial and by setting; the best is trial {search.best.number}."
    scored = [(trial.number, trial.score, trial.settings) for trial in search.trials if trial.score is not None]
    return trials(Frame("trials", f"Search for {search.task}", words), scored)
