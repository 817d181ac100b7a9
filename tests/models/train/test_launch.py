"""Ranks as real processes: they agree with one process, and none outlives a failure."""

import hashlib
import json
import os
import signal
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import models
from features.contract.errors import DataGateError, TrainingError
from features.contract.paths import Location
from features.contract.training_settings import LaunchSettings, ModelSettings
from models.train.fit import Fit, TrainJob
from models.train.heartbeat import last_beat
from models.train.launch import launch
from models.train.processes import TOKEN
from tests.models.feed import tiny

EDGES = (100.0, 200.0, 365.0)
ROWS = {"train": 101, "tuning": 33}


def job_in(folder: Path, **changes) -> TrainJob:
    """Two epochs over 101 people in three row groups, with no dropout, so that ranks can agree."""
    meaning = tiny.manifest("survival", EDGES)
    parts = {
        split: tiny.write(folder, split, tiny.people(rows, meaning, seed), 40)
        for seed, (split, rows) in enumerate(ROWS.items())
    }
    model = ModelSettings(**{"dropout": 0, "batch_size": 32, "epochs": 2, "filters": [4], **changes})
    modalities = ["clinical", "genomics", "imaging"]
    fit = Fit("final", parts["train"], parts["tuning"], {"tuning": parts["tuning"]}, "train", modalities, model)
    return TrainJob(meaning, [fit], f"file://{folder}/work")


def weights(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(folder / "work/final/model.weights.h5") as file:
        file.visititems(
            lambda name, item: found.update({name: np.array(item)}) if isinstance(item, h5py.Dataset) else None
        )
    return found


@dataclass(frozen=True)
class Trained:
    """Where the same job was trained, who listened where meanwhile (is it a rank, address), and the sets of
    cores that ranks kept to."""

    folder: Path
    listened: set[tuple[bool, str]]
    cores: set[tuple[int, ...]]


LAUNCHES = {
    "one": ("local", 1),
    "one again": ("local", 1),
    "two": ("local", 2),
    "two again": ("local", 2),
    "four": ("local", 4),
    "four again": ("local", 4),
    "horovodrun": ("horovodrun", 2),
    "spark": ("spark", 2),
}
WATCHED = ["two", "horovodrun", "spark"]
# Ranks listen only until they have met, which is too short to be seen for certain: the second of them comes late.
LATE = """
import os, time
if os.environ.get("HOROVOD_RANK") == "1":
    until = time.monotonic() + 60
    while not os.path.exists(os.environ["SEEN"]) and time.monotonic() < until:
        time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory, spark):
    """The same job on one, two and four ranks, twice each, and by every launcher."""
    found = {}
    root = Path(models.__file__).parents[1]
    late = tmp_path_factory.mktemp("late")
    (late / "sitecustomize.py").write_text(LATE)
    with pytest.MonkeyPatch.context() as patch:
        for name, (launcher, ranks) in LAUNCHES.items():
            folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
            paths = [late, root] if name in WATCHED else [root]
            variables = {"PYTHONPATH": os.pathsep.join(map(str, paths)), "SEEN": str(folder / "seen")}
            for variable, value in variables.items():
                patch.setenv(variable, value)
                patch.setitem(spark.sparkContext.environment, variable, value)
            with watching(folder / "seen") as (listened, cores):
                launch(job_in(folder), LaunchSettings(launcher=launcher, ranks=ranks), spark)
            found[name] = Trained(folder, listened, cores)
    return found


@contextmanager
def watching(seen):
    """Who of this process's descendants listens where, and which cores ranks keep to, all through the block;
    the file `seen` is there once a rank was seen to listen."""
    found, cores, done = set(), set(), threading.Event()

    def look():
        while not done.wait(0.05):
            # All sockets in one pass: one process after the other takes longer than a short training.
            sockets = psutil.net_connections("inet")
            family = {process.pid: process for process in psutil.Process().children(recursive=True)}
            for socket_ in sockets:
                with suppress(psutil.Error, KeyError):
                    process = family[socket_.pid]
                    rank = "HOROVOD_RANK" in process.environ()
                    if socket_.status == psutil.CONN_LISTEN:
                        found.add((rank, socket_.laddr.ip))
                        if rank:
                            seen.touch()
                    if rank:
                        cores.add(tuple(process.cpu_affinity()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found, cores
    finally:
        done.set()
        thread.join()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) % 2, reason="two ranks cannot share these cores evenly")
@pytest.mark.parametrize("launcher", ["two", "horovodrun"])
def test_two_ranks_of_this_machine_divide_its_cores(trained, launcher):
    own = sorted(os.sched_getaffinity(0))
    assert {tuple(own[::2]), tuple(own[1::2])} <= trained[launcher].cores


def test_two_ranks_learn_what_one_learns(trained):
    one, two = weights(trained["one"].folder), weights(trained["two"].folder)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(two[name], one[name], atol=1e-5)


def digest(trained):
    """Of every weight's name and bits."""
    parts = [name.encode() + value.tobytes() for name, value in sorted(weights(trained.folder).items())]
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize("ranks", ["one", "two", "four"])
def test_the_same_seed_and_number_of_ranks_give_the_same_weights_to_the_bit(trained, ranks):
    assert digest(trained[ranks]) == digest(trained[f"{ranks} again"])


@pytest.mark.parametrize("launcher", ["horovodrun", "spark"])
def test_every_launcher_gives_the_same_weights_to_the_bit(trained, launcher):
    assert digest(trained[launcher]) == digest(trained["two"])


@pytest.mark.parametrize("launcher", WATCHED)
def test_while_they_train_ranks_listen_on_loopback_only(trained, launcher):
    assert (True, "127.0.0.1") in trained[launcher].listened
    assert {address.removeprefix("::ffff:") for _, address in trained[launcher].listened} == {"127.0.0.1"}


@pytest.mark.parametrize("launcher", ["two", "horovodrun", "spark"])
def test_the_logs_of_all_ranks_are_brought_together(trained, launcher):
    for rank in range(2):
        beat = last_beat(trained[launcher].folder / f"work/logs/rank-{rank}.log")
        assert (beat.rank, beat.host) == (rank, socket.gethostname())


@pytest.mark.parametrize("launcher", ["local", "horovodrun", "spark"])
def test_a_ranks_own_kind_of_error_comes_back(tmp_path, spark, monkeypatch, launcher):
    monkeypatch.setenv("PYTHONPATH", str(Path(models.__file__).parents[1]))
    job = job_in(tmp_path)
    wrong = [replace(part, rows=part.rows - 1) for part in job.fits[0].train]
    job = replace(job, fits=[replace(job.fits[0], train=wrong)])
    with pytest.raises(DataGateError, match=r"rank \d ended with exit code 3 \((.|\n)*the plan says"):
        launch(job, LaunchSettings(launcher=launcher, ranks=2), spark)


def test_the_ranks_predict_each_person_once(trained):
    files = sorted((trained["two"].folder / "work/final/predictions").iterdir())
    assert [file.name for file in files] == ["tuning-0.parquet", "tuning-1.parquet"]
    found = pa.concat_tables([pq.read_table(file) for file in files])
    assert sorted(found["person_key"].to_pylist()) == sorted(f"1-{i}" for i in range(ROWS["tuning"]))
    assert {len(row) for row in found["logits"].to_pylist()} == {len(EDGES)}


def test_the_history_counts_every_row(trained):
    for one in trained.values():
        history = json.loads((one.folder / "work/final/history.json").read_text())
        assert [entry["rows"] for entry in history] == [ROWS["train"]] * 2
        assert history[-1]["tuning_loss"] < history[0]["tuning_loss"]


def ranks_of_this_launch() -> list[psutil.Process]:
    """Processes that a launch of this test process started."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("RISKLOOM_LAUNCHER_PID") == str(os.getpid())
        except psutil.Error:
            continue
        if ours and TOKEN in process.environ():
            found.append(process)
    return found


def kill_rank_one(folder: Path) -> None:
    """Wait until training runs, then kill one rank."""
    while "epoch 1 " not in read(folder / "work/logs/rank-0.log"):
        time.sleep(0.1)
    for process in ranks_of_this_launch():
        if process.environ().get("HOROVOD_RANK") == "1":
            process.send_signal(signal.SIGKILL)


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_a_killed_rank_ends_the_job_and_leaves_no_process(tmp_path):
    job = job_in(tmp_path, epochs=100_000, patience=100_000)
    threading.Thread(target=kill_rank_one, args=(tmp_path,), daemon=True).start()
    with pytest.raises(TrainingError, match="rank 1 was killed by signal 9"):
        launch(job, LaunchSettings(ranks=2))
    assert ranks_of_this_launch() == []


def test_a_job_survives_json(tmp_path):
    job = job_in(tmp_path)
    assert TrainJob.from_json(job.to_json()) == job
    assert not Location(job.work_uri).exists()
