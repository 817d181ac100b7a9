"""A search learns from the training people, is scored on the tuning people, and survives a kill."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from features.contract.config import resolved_yaml
from features.contract.errors import ExitCode, TrainingError
from features.contract.paths import Location
from features.contract.runs import Runs, append_run
from features.contract.training_settings import ModelSettings, SearchSettings
from jobs import search_model
from jobs.frame import pending, run_job
from models.registry import HISTORY
from models.train import search as search_module
from models.train.launch import launch
from models.train.people import read_part
from models.train.search import search_task
from models.train.suggest import suggest
from models.train.trials import Search, Trial
from tests.chaos.test_kills import wait_for_the_end_of_ranks
from tests.models.train.test_task import table  # noqa: F401

MODEL = {"batch_size": 64, "epochs": 15, "patience": 15, "filters": [4], "dropout": 0.2}
SPACE = {"learning_rate": {"low": 1e-4, "high": 0.1, "log": True}, "tower_units": [[], [8]]}
JOB = """
import sys
from features.contract.config import load_settings
from jobs import search_model
from jobs.frame import run_job
print(run_job(search_model.JOB, load_settings(sys.argv[1])).to_json())
"""


def wanted(space=SPACE, **changes) -> SearchSettings:
    return SearchSettings.model_validate({"trials": 3, "space": space} | changes)


def tried(score_of, search: SearchSettings, trials: int) -> list[Trial]:
    """What a search over a formula tries."""
    done: list[Trial] = []
    for number in range(1, trials + 1):
        settings = suggest(search, ModelSettings(), done)
        done.append(Trial(number=number, settings=settings, score=score_of(settings)))
    return done


def distance(settings) -> float:
    """Best at a learning rate of 0.02 without hidden layers."""
    return abs(math.log10(settings["learning_rate"] / 0.02)) + len(settings["tower_units"])


def test_the_first_trial_is_what_is_configured():
    configured = ModelSettings(learning_rate=0.7)
    assert suggest(wanted(), configured, []) == {"learning_rate": 0.7, "tower_units": [16]}


def test_a_suggestion_depends_on_the_seed_and_the_trials_before_it_alone():
    first, again = (tried(distance, wanted(), 25) for _ in range(2))
    assert first == again
    assert suggest(wanted(), ModelSettings(), first[:20]) == first[20].settings
    assert tried(distance, wanted(seed=2), 5)[1:] != first[1:5]


def test_the_search_closes_in_on_the_better_settings():
    space = wanted(
        {"learning_rate": SPACE["learning_rate"], "tower_units": [[], [8]], "epochs": {"low": 3, "high": 9}}
    )
    trials = tried(distance, space, 60)
    assert all(1e-4 <= trial.settings["learning_rate"] <= 0.1 for trial in trials)
    assert all(3 <= trial.settings["epochs"] <= 9 for trial in trials[1:])
    late = [distance(trial.settings) for trial in trials[30:]]
    assert np.median(late) < 0.5 * np.median([distance(trial.settings) for trial in trials[1:11]])


def test_settings_without_a_finite_loss_are_left():
    trials = tried(lambda s: None if s["learning_rate"] > 1e-3 else 1.0, wanted(), 60)
    hopeless = [trial.score is None for trial in trials]
    assert sum(hopeless[1:11]) > 2 * sum(hopeless[-10:])


@pytest.fixture
def study(lake, little_study, table):  # noqa: F811
    """Publishes `training/little` and gives the settings of a search on it."""

    def settings(**changes):
        append_run(lake, table("binary").rows[0])
        task = {"model": MODEL, "search": wanted().model_dump()} | changes
        found = little_study(lake.uri, **task)
        return found.model_copy(update={"launch": found.launch.model_copy(update={"checkpoint_seconds": 0})})

    return settings


def published(lake: Location) -> Search:
    digest = Runs.read(lake).published("searches/little")
    return Search.model_validate_json((lake / f"searches/little/{digest}/search.json").read_bytes())


def untimed(search: Search) -> list[Trial]:
    return [trial.model_copy(update={"seconds": 0}) for trial in search.trials]


def held_out_file(lake: Location) -> Path:
    (found,) = Path(lake.path).glob("training/little/held_out-*.parquet")
    return found


def test_a_search_is_published_and_needs_no_held_out_people(lake, study):
    settings = study()
    held_out_file(lake).unlink()
    assert pending(search_model.JOB, settings) == "run"
    summary = run_job(search_model.JOB, settings)
    assert summary.exit_code == ExitCode.DONE, summary.message
    found = published(lake)
    assert [trial.number for trial in found.trials] == [1, 2, 3]
    assert found.trials[0].settings == {"learning_rate": ModelSettings().learning_rate, "tower_units": [16]}
    assert found.best.score == min(trial.score for trial in found.trials)
    assert (found.tuned_on, found.best.primary.n, found.trained_on) == ([90], 90, [270])
    assert 0.7 < found.best.primary.value <= 1

    folder = Path(lake.path) / f"searches/little/{summary.wrote['searches/little']}"
    assert yaml.safe_load((folder / "best.yaml").read_text()) == found.best.settings
    assert (folder / "trials.svg").read_text().startswith("<svg")
    left = [path.name for path in (Path(lake.path) / "_work/search-little").rglob("*") if path.is_file()]
    assert sorted(left) == ["1.json", "2.json", "3.json", "key"]
    assert run_job(search_model.JOB, settings).status == "nothing new"


def test_killed_in_the_middle_a_search_ends_as_if_nothing_had_happened(tmp_path, lake, study, launches):
    settings = study(model=MODEL | {"epochs": 30, "patience": 30})
    config = tmp_path / "study.yaml"
    config.write_text(resolved_yaml(settings))
    work = Path(lake.path) / "_work/search-little"
    searching = subprocess.Popen([sys.executable, "-c", JOB, str(config)], env=os.environ)
    while not (work / "trial_2_final/checkpoint.npz").exists():
        assert searching.poll() is None
        time.sleep(0.01)
    searching.kill()
    searching.wait()
    wait_for_the_end_of_ranks(searching.pid)
    assert (work / "trials/1.json").exists() and not (work / "trials/2.json").exists()

    assert run_job(search_model.JOB, settings).exit_code == ExitCode.DONE
    assert [fit for fit, _ in launches] == ["trial_2_final", "trial_3_final"]
    assert "goes on in epoch" in launches[0][1] and "goes on" not in launches[1][1]
    undisturbed = Location.parse(str(tmp_path / "undisturbed"))
    expected = search_task(lake, Runs.read(lake), settings, settings.task("little"), undisturbed)
    assert untimed(published(lake)) == untimed(expected)
    assert (published(lake).best.number, len(launches)) == (expected.best.number, 5)


def uris(job) -> list[str]:
    return [
        part.uri for fit in job.fits for parts in (fit.train, fit.tuning, *fit.evaluate.values()) for part in parts
    ]


@pytest.fixture
def launches(monkeypatch):
    """The fit of each launch, and what rank 0 wrote meanwhile."""
    found: list[tuple[str, str]] = []

    def spied(job, settings, spark=None):
        launch(job, settings, spark)
        assert not any("held_out" in uri for uri in uris(job))
        found.append((job.fits[0].name, (Location(job.work_uri) / "logs/rank-0.log").read_bytes().decode()))

    monkeypatch.setattr(search_module, "launch", spied)
    return found


def test_a_setting_that_diverges_is_a_trial_without_a_score(study, lake):
    settings = study(search=wanted({"learning_rate": [1e30]}, trials=2).model_dump())
    assert run_job(search_model.JOB, settings).exit_code == ExitCode.DONE
    first, second = published(lake).trials
    assert (second.score, second.primary, second.settings) == (None, None, {"learning_rate": 1e30})
    assert published(lake).best == first


@pytest.fixture
def played(monkeypatch):
    """Ranks played by a formula: the fits of each launch, the loss being the learning rate, all people alike."""
    found = []

    def play(job, settings, spark=None):
        found.append(job.fits)
        for fit in job.fits:
            folder = Location(job.work_uri) / fit.name
            loss = fit.model.learning_rate
            entries = [
                {"epoch": i, "tuning_loss": loss + abs(i - 2), "seconds": 2.0, "auroc": 0.5} for i in range(5)
            ]
            (folder / HISTORY).write_bytes(json.dumps(entries).encode())
            keys = pa.concat_tables([read_part(part, ["person_key"]) for part in fit.tuning])["person_key"]
            sink = pa.BufferOutputStream()
            pq.write_table(pa.table({"person_key": keys, "logits": [[0.0]] * len(keys)}), sink)
            (folder / "predictions/tuning-0.parquet").write_bytes(bytes(sink.getvalue()))

    monkeypatch.setattr(search_module, "launch", play)
    return found


def test_with_folds_a_trial_trains_the_first_rounds(lake, study, played):
    settings = study(search=wanted(rounds=2).model_dump(), split={"folds": 3})
    assert run_job(search_model.JOB, settings).exit_code == ExitCode.DONE
    for number, fits in enumerate(played, 1):
        assert [fit.name for fit in fits] == [f"trial_{number}_fold_0", f"trial_{number}_fold_1"]
        assert [fit.statistics_key for fit in fits] == ["fold_0", "fold_1"]
        for fit in fits:
            assert not {part.uri for part in fit.train} & {part.uri for part in fit.tuning}
            assert set(fit.evaluate) == {"tuning"}
    best = published(lake).best
    assert best.score == best.settings["learning_rate"]
    assert (best.epochs, best.best_epochs, best.seconds) == ((5, 5), (3, 3), 20.0)
    assert (best.primary.n, best.primary.value) == (sum(published(lake).tuned_on), 0.5)


def test_a_stopped_search_goes_on_and_an_ended_one_when_more_trials_are_wanted(study, lake, played, monkeypatch):
    play = search_module.launch

    def stopped(job, settings, spark=None):
        if len(played) == 2:
            raise TrainingError("rank 1 was killed by signal 9")
        play(job, settings)

    monkeypatch.setattr(search_module, "launch", stopped)
    assert run_job(search_model.JOB, study()).exit_code == ExitCode.TRAINING
    assert Runs.read(lake).published("searches/little") is None
    monkeypatch.setattr(search_module, "launch", play)
    settings = study(search=wanted(trials=5).model_dump())
    assert run_job(search_model.JOB, settings).exit_code == ExitCode.DONE
    assert [fits[0].name for fits in played] == [f"trial_{number}_final" for number in (1, 2, 3, 4, 5)]
    first = published(lake).trials
    settings = study(search=wanted(trials=6).model_dump())
    assert run_job(search_model.JOB, settings).exit_code == ExitCode.DONE
    assert (len(played), published(lake).trials[:5]) == (6, first)


def test_the_same_settings_are_not_trained_twice(study, lake, played):
    settings = study(search=wanted({"epochs": [15]}, trials=4).model_dump())
    assert run_job(search_model.JOB, settings).exit_code == ExitCode.DONE
    assert len(played) == 1
    assert [(trial.number, trial.settings) for trial in published(lake).trials] == [
        (number, {"epochs": 15}) for number in (1, 2, 3, 4)
    ]
