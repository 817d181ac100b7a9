"""What ranks cost: two against one, and Horovod against none, on a network of about a million weights.

One core and one thread a rank, the same rows a rank and step (weak scaling), runs of one and of two ranks in
turn. The figures are the training's own rows per second, the first epoch (which compiles) left out.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa

from features.contract.training_settings import LaunchSettings, ModelSettings
from models.train.fit import Fit, TrainJob
from models.train.launch import launch
from tests.benchmarks.claims import Row
from tests.models.feed import tiny

HOME = Path("build/bench/scaling")

COLUMNS = 512
UNITS = 900
ROWS_PER_STEP = 4096
STEPS = 16
EPOCHS = 4
ROUNDS = 5
# The same training in one process that never asks Horovod for a sum.
WITHOUT_HOROVOD = """
import sys
import horovod.tensorflow as hvd
hvd.allreduce = lambda tensor, **_: tensor
from models.train import step
step._summed = list
from models.train.rank import train_rank
train_rank(open(sys.argv[1]).read())
"""


def run() -> list[Row]:
    """What two ranks give beside one, what Horovod costs one rank, and whether an epoch's time is explained."""
    shutil.rmtree(HOME, ignore_errors=True)
    rounds = [_round(HOME / str(number)) for number in range(ROUNDS)]
    what = f"a network of {_weights() / 1e6:.1f} million weights, {ROWS_PER_STEP} rows a step and one core a rank"
    name = f"Horovod {version('horovod')}"
    return [
        _row(f"two ranks beside twice one ({name}), {what}", [r["two"] / 2 / r["one"] for r in rounds], 0.9),
        _row(f"one rank beside no {name} at all, {what}", [r["one"] / r["alone"] for r in rounds], 0.97),
        _row("waiting for data + updating, as a share of the epoch", [r["explained"] for r in rounds], 0.95),
    ]


def _row(what: str, shares: list[float], limit: float) -> Row:
    figure = f"{median(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})"
    return Row(what, f"at least {limit:.2f}", figure, median(shares) >= limit)


def _round(home: Path) -> dict[str, float]:
    """Rows per second by one rank, by one process without Horovod's sums, and by two ranks together; and the
    share of two ranks' epochs that waiting for data and updating explain."""
    epochs = {name: _train(home / name, ranks) for name, ranks in (("one", 1), ("alone", 0), ("two", 2))}
    speeds = {name: median(epoch["rows_per_second"] for epoch in found) for name, found in epochs.items()}
    return speeds | {"explained": median(e["feed_wait_share"] + e["update_share"] for e in epochs["two"])}


def _weights() -> int:
    inputs = 2 * COLUMNS
    return (inputs + 1) * UNITS + (UNITS + inputs + 1) + 1


def _train(folder: Path, ranks: int) -> list[dict[str, float]]:
    """One training; 0 ranks is a process of its own, without Horovod's sums."""
    folder.mkdir(parents=True)
    job = _job(folder, max(ranks, 1))
    with _cores(max(ranks, 1)):
        _start(job, folder, ranks)
    return json.loads((folder / "work/final/history.json").read_text())[1:]


def _start(job: TrainJob, folder: Path, ranks: int) -> None:
    if ranks:
        launch(job, LaunchSettings(ranks=ranks))
    else:
        file = folder / "job.json"
        file.write_text(job.to_json())
        # As the rank itself would say, were TensorFlow not imported before it can.
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "TF_ENABLE_ONEDNN_OPTS": "0"}
        subprocess.run([sys.executable, "-c", WITHOUT_HOROVOD, str(file)], check=True, env=environment)


@contextmanager
def _cores(count: int) -> Iterator[None]:
    """Processes started inside may use so many cores; a rank takes one thread for each of its cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


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
