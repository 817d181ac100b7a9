"""Twenty kills at random batches change no bit of what a training gives."""

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from features.contract.errors import TrainingError
from features.contract.training_settings import LaunchSettings
from models.train.fit import TrainJob
from models.train.launch import launch
from tests.chaos.dying_rank import Fate, meets
from tests.models.train.test_launch import job_in, read, weights

KILLS = 20
LAUNCHER = """
import sys
from pathlib import Path
from features.contract.training_settings import LaunchSettings
from models.train.fit import TrainJob
from models.train.launch import launch
from tests.chaos.dying_rank import Fate, meets
with meets(Fate(0, int(sys.argv[2]), "kill launcher")):
    launch(TrainJob.from_json(Path(sys.argv[1]).read_text()), LaunchSettings(ranks=2))
"""


def killed_job(folder: Path) -> TrainJob:
    """Twenty epochs of six batches (four to train, two to tune) with dropout, a checkpoint after each step."""
    return replace(job_in(folder, epochs=20, patience=20, dropout=0.3), checkpoint_seconds=0)


def test_twenty_kills_at_random_batches_change_no_bit_of_the_result(tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        folder.mkdir()
    launch(killed_job(undisturbed), LaunchSettings(ranks=2))
    job, chance, struck = killed_job(killed), random.Random(7), set()
    for number in range(KILLS):
        batch = chance.randint(1, 6)
        if number % 5 == 4:
            kill_launcher(job, killed, batch)
        else:
            struck.add(kill_rank(job, killed, Fate(number % 2, batch, writing=number % 4 == 2)))
    assert len({epoch for epoch, _ in struck}) > 4 and len(struck) > 8
    launch(job, LaunchSettings(ranks=2))
    assert history(killed) == history(undisturbed)
    found, expected = weights(killed), weights(undisturbed)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def history(folder: Path) -> list[dict[str, float]]:
    """What each epoch did, without what depends on the clock or on how often it was begun."""
    changing = ("seconds", "rows_per_second", "feed_wait_share", "update_share", "steps")
    entries = json.loads((folder / "work/final/history.json").read_text())
    return [{name: value for name, value in entry.items() if name not in changing} for entry in entries]


def kill_rank(job: TrainJob, folder: Path, fate: Fate) -> tuple[int, int]:
    """The epoch and step in which the rank was killed; the error must name just these."""
    with meets(fate), pytest.raises(TrainingError) as raised:
        launch(job, LaunchSettings(ranks=2))
    line = next(s for s in read(folder / f"work/logs/rank-{fate.rank}.log").splitlines() if "struck in" in s)
    epoch, step = map(int, line.split()[-2:])
    at = f"fit final, epoch {epoch + 1}, step {step}, on " if line.split()[2] == "final" else ""
    assert f"rank {fate.rank} was killed by signal 9 ({at}" in str(raised.value)
    return epoch, step


def kill_launcher(job: TrainJob, folder: Path, batch: int) -> None:
    """Its ranks see it and end."""
    (folder / "job.json").write_text(job.to_json())
    command = [sys.executable, "-c", LAUNCHER, str(folder / "job.json"), str(batch)]
    with subprocess.Popen(command, env=os.environ) as launcher:
        assert launcher.wait(120) < 0
    wait_for_the_end_of_ranks(launcher.pid)


def wait_for_the_end_of_ranks(launcher: int) -> None:
    deadline = time.monotonic() + 60
    while ranks_under(launcher):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def ranks_under(launcher: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("RISKLOOM_LAUNCHER_PID") == str(launcher):
                found.append(process)
        except psutil.Error:
            continue
    return found
