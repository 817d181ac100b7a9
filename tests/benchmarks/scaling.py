"""What ranks cost: two against one, and Horovod against none, on a network of about a million weights.

One thread a rank, the same rows a rank and step (weak scaling), runs of one and of two ranks in turn. The
figures are the training's own rows per second, the first epoch (which compiles) left out.
"""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from features.contract.settings import LaunchSettings, ModelSettings
from models.train.fit import Fit, TrainJob
from models.train.launch import launch
from tests.models.feed import tiny

COLUMNS = 512
UNITS = 900
ROWS_PER_STEP = 512
STEPS = 24
EPOCHS = 5
ROUNDS = 3
# The same training in one process that never asks Horovod for a sum.
WITHOUT_HOROVOD = """
import sys
import horovod.tensorflow as hvd
hvd.grouped_allreduce = lambda tensors, op: tensors
from models.train.rank import train_rank
train_rank(open(sys.argv[1]).read())
"""


def measure(home: Path) -> dict[str, float]:
    """Rows per second: `one`, `two` (both ranks together) and `alone` (without Horovod's sums); and the
    share of an epoch that waiting for data and updating explain, `explained`."""
    found: dict[str, list[float]] = {"one": [], "two": [], "alone": [], "explained": []}
    for i in range(ROUNDS):
        for name, ranks in (("one", 1), ("alone", 0), ("two", 2)):
            epochs = _train(home / f"{name}{i}", ranks)
            found[name].append(statistics.median(epoch["rows_per_second"] for epoch in epochs))
            found["explained"] += [epoch["feed_wait_share"] + epoch["update_share"] for epoch in epochs]
    return {name: statistics.median(values) for name, values in found.items()}


def _train(folder: Path, ranks: int) -> list[dict[str, float]]:
    """One training; 0 ranks is a process of its own, without Horovod's sums."""
    folder.mkdir(parents=True)
    job = _job(folder, max(ranks, 1))
    if ranks:
        launch(job, LaunchSettings(ranks=ranks))
    else:
        file = folder / "job.json"
        file.write_text(job.to_json())
        # As the rank itself would say, were TensorFlow not imported before it can.
        environment = {**os.environ, "PYTHONPATH": os.getcwd(), "TF_ENABLE_ONEDNN_OPTS": "0"}
        subprocess.run([sys.executable, "-c", WITHOUT_HOROVOD, str(file)], check=True, env=environment)
    return json.loads((folder / "work/final/history.json").read_text())[1:]


def _job(folder: Path, ranks: int) -> TrainJob:
    meaning = tiny.manifest(clinical=COLUMNS)
    table = _people(meaning, ranks * ROWS_PER_STEP * STEPS)
    parts = tiny.write(folder, "train", table, 2048)
    tuning = tiny.write(folder, "tuning", table.slice(0, 256), 256)
    model = ModelSettings(
        tower_units=[UNITS], dropout=0, epochs=EPOCHS, patience=EPOCHS, batch_size=ranks * ROWS_PER_STEP
    )
    fit = Fit("final", parts, tuning, {"tuning": tuning}, "train", ["clinical"], model)
    return replace(TrainJob(meaning, [fit], f"file://{folder.absolute()}/work"), checkpoint_seconds=1e9)


def _people(meaning, rows: int) -> pa.Table:
    """Only what this network reads."""
    random = np.random.default_rng(1)
    flat = pa.array(random.normal(size=rows * COLUMNS).astype(np.float32))
    x = pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * COLUMNS, flat)
    return pa.table(
        {
            "person_key": [str(i) for i in range(rows)],
            "x_clinical": x,
            "has_clinical": np.ones(rows, bool),
            "y_death": (random.uniform(size=rows) < 0.3).astype(np.int8),
            "weight": np.ones(rows, np.float32),
        }
    )
