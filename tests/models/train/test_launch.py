"""Ranks as real processes: they agree with one process, and none outlives a failure."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.contract.errors import ConfigError, TrainingError
from features.contract.paths import Location
from features.contract.settings import LaunchSettings, ModelSettings
from models.train.fit import Fit, TrainJob
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The same job by one rank, by two, and by two under horovodrun."""
    folders = {}
    for name, launcher, ranks in [("one", "local", 1), ("two", "local", 2), ("horovodrun", "horovodrun", 2)]:
        folders[name] = tmp_path_factory.mktemp(name)
        launch(job_in(folders[name]), LaunchSettings(launcher=launcher, ranks=ranks))
    return folders


def test_two_ranks_learn_what_one_learns(trained):
    one, two = weights(trained["one"]), weights(trained["two"])
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(two[name], one[name], atol=1e-5)


def test_horovodrun_gives_the_same_weights_as_our_own_launcher(trained):
    own, theirs = weights(trained["two"]), weights(trained["horovodrun"])
    for name in own:
        np.testing.assert_array_equal(own[name], theirs[name])


def test_the_ranks_predict_each_person_once(trained):
    files = sorted((trained["two"] / "work/final/predictions").iterdir())
    assert [file.name for file in files] == ["tuning-0.parquet", "tuning-1.parquet"]
    found = pa.concat_tables([pq.read_table(file) for file in files])
    assert sorted(found["person_key"].to_pylist()) == sorted(f"1-{i}" for i in range(ROWS["tuning"]))
    assert {len(row) for row in found["logits"].to_pylist()} == {len(EDGES)}


def test_the_history_counts_every_row(trained):
    for folder in trained.values():
        history = json.loads((folder / "work/final/history.json").read_text())
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


def test_more_ranks_than_rows_in_a_batch_are_refused_before_anything_starts(tmp_path):
    with pytest.raises(ConfigError, match=r"launch\.ranks"):
        launch(job_in(tmp_path, batch_size=1), LaunchSettings(ranks=2))


def test_a_job_survives_json(tmp_path):
    job = job_in(tmp_path)
    assert TrainJob.from_json(job.to_json()) == job
    assert not Location(job.work_uri).exists()
