"""Killed at any step, a training goes on where it was, and ends as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from features.contract.errors import TrainingError
from features.contract.paths import Location
from features.contract.settings import LaunchSettings
from models.feed.plan import Progress
from models.train.checkpoint import Keeper, State, encode, identity_of
from models.train.fit import TrainJob
from models.train.launch import launch
from tests.models.train.test_launch import ROWS, job_in, ranks_of_this_launch, weights

LAUNCHER = """
import sys
from pathlib import Path
from features.contract.settings import LaunchSettings
from models.train.fit import TrainJob
from models.train.launch import launch
launch(TrainJob.from_json(Path(sys.argv[1]).read_text()), LaunchSettings(ranks=2))
"""


def long_job(folder: Path) -> TrainJob:
    """160 steps with dropout, a checkpoint after each."""
    return replace(job_in(folder, epochs=40, patience=40, dropout=0.3), checkpoint_seconds=0)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    launch(long_job(folder), LaunchSettings(ranks=2))
    return folder


def history(folder: Path) -> list[dict[str, float]]:
    timed = ("seconds", "rows_per_second", "feed_wait_share", "steps")
    entries = json.loads((folder / "work/final/history.json").read_text())
    return [{name: value for name, value in entry.items() if name not in timed} for entry in entries]


def after_a_checkpoint(folder: Path, act: object, seed: int) -> threading.Thread:
    """Call `act` at a random moment after the next checkpoint."""
    file, began = folder / "work/final/checkpoint.npz", time.time()

    def wait() -> None:
        while not file.exists() or file.stat().st_mtime < began:
            time.sleep(0.01)
        time.sleep(random.Random(seed).uniform(0, 0.5))
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def kill_rank(number: str) -> None:
    for process in ranks_of_this_launch():
        if process.environ().get("HOROVOD_RANK") == number:
            process.send_signal(signal.SIGKILL)


def assert_nothing_happened(folder: Path, undisturbed: Path) -> None:
    assert history(folder) == history(undisturbed)
    found, expected = weights(folder), weights(undisturbed)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_killed_ranks_and_a_killed_launcher_change_no_bit_of_the_result(tmp_path: Path, undisturbed: Path) -> None:
    job = long_job(tmp_path)
    for seed, rank in enumerate("01"):
        after_a_checkpoint(tmp_path, lambda rank=rank: kill_rank(rank), seed)
        with pytest.raises(TrainingError, match=f"rank {rank} was killed by signal 9"):
            launch(job, LaunchSettings(ranks=2))
    (tmp_path / "job.json").write_text(job.to_json())
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(tmp_path / "job.json")], env=os.environ)
    after_a_checkpoint(tmp_path, launcher.kill, 2).join(120)
    launcher.wait()
    wait_for_the_end_of_ranks(launcher.pid)
    assert not (tmp_path / "work/final/finished").exists()
    launch(job, LaunchSettings(ranks=2))
    assert "goes on in epoch" in (tmp_path / "work/logs/rank-0.log").read_text()
    assert_nothing_happened(tmp_path, undisturbed)


def wait_for_the_end_of_ranks(launcher: int) -> None:
    def left() -> list[psutil.Process]:
        return [p for p in psutil.process_iter(["cmdline"]) if "models.train.rank" in (p.info["cmdline"] or [])]

    deadline = time.monotonic() + 20
    while any(process.environ().get("RISKLOOM_LAUNCHER_PID") == str(launcher) for process in left()):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_another_number_of_ranks_finishes_the_epoch_with_every_row_once(tmp_path: Path) -> None:
    job = long_job(tmp_path)
    after_a_checkpoint(tmp_path, lambda: kill_rank("1"), 5)
    with pytest.raises(TrainingError):
        launch(job, LaunchSettings(ranks=2))
    launch(job, LaunchSettings(ranks=3))
    assert [entry["rows"] for entry in history(tmp_path)] == [ROWS["train"]] * 40
    files = sorted(file.name for file in (tmp_path / "work/final/predictions").iterdir())
    assert files == ["tuning-0.parquet", "tuning-1.parquet", "tuning-2.parquet"]


def test_a_finished_fit_is_not_trained_again(undisturbed: Path) -> None:
    file = undisturbed / "work/final/model.weights.h5"
    before = file.stat().st_mtime_ns
    launch(long_job(undisturbed), LaunchSettings(ranks=2))
    assert file.stat().st_mtime_ns == before


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    keeper = Keeper(Location.parse(str(tmp_path / "checkpoint.npz")), "mine", 0)
    state = State(3, [Progress(8, 12), Progress(3, 4)], [1.5, 2.0, 3.0], 0.5, 1, False, [{"loss": 1.0}])
    arrays = {"weight_0": np.arange(3, dtype=np.float32), "draws_0": np.uint32(7)}
    assert keeper.read() == b""
    keeper.write(state, arrays)
    found, back = keeper.decode(keeper.read())
    assert found == state
    assert back.keys() == arrays.keys()
    np.testing.assert_array_equal(back["weight_0"], arrays["weight_0"])


@pytest.mark.parametrize("data", [b"PK\x03\x04 cut short", b"not a checkpoint", b"\x80\x04K\x01."])
def test_a_damaged_checkpoint_is_named_and_never_unpickled(tmp_path: Path, data: bytes) -> None:
    keeper = Keeper(Location.parse(str(tmp_path / "checkpoint.npz")), "mine", 0)
    with pytest.raises(TrainingError, match=r"checkpoint\.npz is damaged"):
        keeper.decode(data)


def test_a_checkpoint_of_another_fit_is_refused(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    mine = identity_of(job.manifest, job.fits[0])
    assert mine == identity_of(job.manifest, TrainJob.from_json(job.to_json()).fits[0])
    other = replace(job.fits[0], model=job.fits[0].model.model_copy(update={"learning_rate": 0.5}))
    theirs = encode(State(), {}, identity_of(job.manifest, other))
    with pytest.raises(TrainingError, match="another fit"):
        Keeper(Location.parse(str(tmp_path / "c")), mine, 0).decode(theirs)
