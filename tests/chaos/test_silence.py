"""A rank that is stopped or hangs ends the job in a stated time, by name, and leaves nothing running."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from features.contract.errors import TrainingError
from features.contract.training_settings import LaunchSettings
from models.train import horovod_servers
from models.train import launch as launching
from models.train.launch import launch
from models.train.processes import TOKEN, Group, group
from tests.chaos.dying_rank import Fate, meets
from tests.models.train.test_launch import job_in, read

PROJECT = Path(horovod_servers.__file__).parents[2]


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens that the launches of this test give to their processes."""
    found: list[str] = []

    @contextmanager
    def remembered(logs: Path) -> Iterator[Group]:
        with group(logs) as own:
            found.append(own.token)
            yield own

    monkeypatch.setattr(launching, "group", remembered)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    return found


def running(tokens: list[str]) -> list[psutil.Process]:
    """Processes of these launches, and what Horovod put between them and us."""
    between = psutil.Process().children(recursive=True)
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(TOKEN) in tokens or (
                process in between and "multiprocessing.spawn" in " ".join(process.cmdline())
            ):
                found.append(process)
    return found


def told_of(launcher: str, fate: Fate, folder: Path, spark: object, **limits: int) -> str:
    settings = LaunchSettings(launcher=launcher, ranks=2, **limits)
    job = job_in(folder, epochs=100_000, patience=100_000)
    with meets(fate), pytest.raises(TrainingError) as raised:
        launch(job, settings, spark)
    return str(raised.value)


def struck(folder: Path, rank: int) -> str:
    """Where a rank met its fate, as it says itself and not by its heartbeats."""
    log = read(folder / f"work/logs/rank-{rank}.log")
    fate = re.search(r"struck in (\w+) (\d+) (\d+)", log)
    assert fate, f"rank {rank} was stopped before it met its fate; the end of its log:\n{log[-3000:]}"
    _, epoch, step = fate.groups()
    return f"fit final, epoch {int(epoch) + 1}, step {step}, on "


@pytest.mark.parametrize("launcher", ["local", "horovodrun", "spark"])
def test_a_stopped_rank_is_named_and_not_the_one_that_waits_for_it(launcher, tmp_path, spark, tokens):
    # Longer than a rank takes to load TensorFlow on a busy machine: that holds Python's lock, and no heart beats.
    told = told_of(launcher, Fate(1, 9, "stop"), tmp_path, spark, rank_timeout_seconds=30)
    assert told.startswith(f"rank 1 ({struck(tmp_path, 1)}")
    assert "no sign of life for 30 s" in told and "rank 0" not in told
    assert len(tokens) == 1 and running(tokens) == []


def test_a_rank_that_hangs_while_its_heart_beats_is_named(tmp_path, tokens):
    # Longer than a busy machine takes to the first step, which is no step until it is done.
    told = told_of("local", Fate(0, 9, "hang"), tmp_path, None, stall_timeout_seconds=60)
    assert told.startswith(f"rank 0 ({struck(tmp_path, 0)}")
    assert "no step for 60 s" in told and "rank 1" not in told
    assert running(tokens) == []


@pytest.mark.parametrize("launcher", ["horovodrun", "spark"])
def test_a_killed_rank_is_named_by_every_launcher(launcher, tmp_path, spark, tokens):
    told = told_of(launcher, Fate(1, 9), tmp_path, spark)
    # Under Spark, Horovod tells of the rank that it found ended first, and that may be the other one.
    known = "killed by signal 9" if launcher == "horovodrun" else "(killed by signal 9|lost)"
    assert re.match(rf"rank 1 was {known} \({struck(tmp_path, 1)}", told)
    assert running(tokens) == []
