"""Feeding a compiled no-op step: ours beside a plain pyarrow loop, stock Petastorm and TFRecord.

Ours runs as in training: rows and row groups shuffled, page checksums verified in the first pass, which is
not timed; no peer verifies any. Each ratio is the median over rounds; in a round all sides run once, one
after the other, so that a busy machine is busy for all. Before, each side shows that it delivers every row
once.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import tensorflow as tf

from models.feed.memory import tensor
from models.feed.plan import Part, shard
from models.feed.reader import Kept, batches
from models.feed.schema import Schema
from tests.benchmarks import feed_tables
from tests.benchmarks.claims import Row
from tests.benchmarks.feed_step import compiled, every_row_once, seconds, seconds_to_first
from tests.benchmarks.feed_tables import BATCH_ROWS, MANY, TABLES, Fed

PEER = Path("build/peers/petastorm/bin/python")
ROUNDS = 5
PLAN = "_plan.parquet"
# Kept between the passes over a table, as a feed keeps it between epochs.
KEPT = {name: Kept() for name in (*TABLES, MANY.name)}
# What ours must reach of each peer's rows per second.
LIMITS = {"plain": 0.85, "petastorm": 1.5, "tfrecord": 1.0}


def run() -> list[Row]:
    """Simulate the tables, measure, and say what holds."""
    if not PEER.exists():
        raise SystemExit(f"{PEER} is missing: run `make peers`")
    _simulate()
    with _petastorm() as ask:
        names = {
            "plain": f"a plain pyarrow {version('pyarrow')} scan, not shuffled",
            "petastorm": f"stock Petastorm {ask()}, row groups shuffled",
            "tfrecord": f"tf.data {tf.__version__} from TFRecord, not shuffled",
        }
        rows = [row for table in TABLES.values() for row in _ratios(table, ask, names)]
        return [*rows, _first(ask)]


def ours(table: Fed) -> Iterator[Any]:
    """Shuffled rows of shuffled row groups, from the plan."""
    plan = pq.read_table(table.folder / PLAN).to_pylist()
    parts = [Part(row["file"], row["row_group"], row["rows"]) for row in plan]
    schema = _schema(table)
    for columns in batches(shard(parts, 0, 1, 1, 0, BATCH_ROWS), schema, KEPT[table.name]):
        yield tensor(columns["x"] if schema.lists or schema.images else columns.scalars)


def plain(table: Fed) -> Iterator[Any]:
    """Arrow's own scanner on all cores, rows as they stand."""
    for batch in ds.dataset(table.parquet()).scanner(batch_size=BATCH_ROWS).to_batches():
        yield table.stack(batch.columns)


def tfrecord(table: Fed) -> Iterator[Any]:
    """Parsed a batch at a time on all cores, read and prefetched in parallel, rows as they stand."""
    auto, image = tf.data.AUTOTUNE, table.dtype == "uint8"
    kind = tf.io.FixedLenFeature([], tf.string) if image else tf.io.FixedLenFeature([table.width], tf.float32)

    def parse(records: Any) -> Any:
        x = tf.io.parse_example(records, {"x": kind})["x"]
        return tf.io.decode_raw(x, tf.uint8, fixed_length=table.width) if image else x

    files = tf.data.TFRecordDataset(table.records(), buffer_size=2**20, num_parallel_reads=2)
    yield from files.batch(BATCH_ROWS).map(parse, num_parallel_calls=auto, deterministic=False).prefetch(auto)


def _ratios(table: Fed, ask: Any, names: dict[str, str]) -> list[Row]:
    step, own = compiled(table), {"ours": ours, "plain": plain, "tfrecord": tfrecord}
    once = {name: every_row_once(table, batches) for name, batches in own.items()}
    once["petastorm"] = ask(f"rows {table.name}")
    wrong = [name for name, right in once.items() if not right]
    if wrong:
        raise SystemExit(f"{wrong[0]}, {table.what}: not every row was fed exactly once")
    found = []
    for _ in range(ROUNDS):
        taken = {name: seconds(table, batches, step) for name, batches in own.items()}
        found.append(taken | {"petastorm": ask(f"pass {table.name}")})
    speed = table.total / median(round_["ours"] for round_ in found)
    return [
        _row(
            f"fed {table.what} ({table.files} row groups of {table.rows:,}, batches of {BATCH_ROWS:,}, "
            f"{speed:,.0f} rows/s) beside {names[peer]}",
            [round_[peer] / round_["ours"] for round_ in found],
            limit,
        )
        for peer, limit in LIMITS.items()
    ]


def _row(what: str, ratios: list[float], limit: float) -> Row:
    middle = median(ratios)
    figure = f"{middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return Row(what, f"at least {limit:.2f} times", figure, middle >= limit)


def _first(ask: Any) -> Row:
    step = compiled(MANY)
    ratios = [seconds_to_first(MANY, ours, step) / ask(f"first {MANY.name}") for _ in range(3)]
    what = f"time to the first batch of {MANY.what}, beside stock Petastorm"
    figure = f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    return Row(what, "at most 0.20 times", figure, median(ratios) <= 0.2)


@contextmanager
def _petastorm() -> Iterator[Any]:
    """Ask the peer's process: a task in, its answer out; the first answer are its versions."""
    command = [str(PEER), "-W", "ignore", "-m", "tests.benchmarks.peer_petastorm"]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sys.stderr, text=True, env=environment
    )
    assert process.stdin and process.stdout

    def ask(task: str = "") -> Any:
        if task:
            process.stdin.write(f"{task}\n")
            process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"the peer ended with {process.wait()} at: {task or 'its start'}")
        return json.loads(line)

    try:
        yield ask
    finally:
        process.stdin.close()
        process.wait()


def _simulate() -> None:
    shutil.rmtree(feed_tables.HOME, ignore_errors=True)
    for table in (*TABLES.values(), MANY):
        feed_tables.write_parquet(table)
        files = [f"file://{path.absolute()}" for path in table.parquet()]
        plan = {"file": files, "row_group": [0] * table.files, "rows": [table.rows] * table.files}
        pq.write_table(pa.table(plan), table.folder / PLAN)
    for table in TABLES.values():
        for number, path in enumerate(table.records()):
            _write_records(table, number, path)


def _write_records(table: Fed, number: int, path: str) -> None:
    with tf.io.TFRecordWriter(path) as writer:
        for row in feed_tables.values(table, number):
            if table.dtype == "uint8":
                feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[row.tobytes()]))
            else:
                feature = tf.train.Feature(float_list=tf.train.FloatList(value=row))
            example = tf.train.Example(features=tf.train.Features(feature={"x": feature}))
            writer.write(example.SerializeToString())


def _schema(table: Fed) -> Schema:
    if table.name == "lists":
        return Schema(lists={"x": table.width})
    if table.name == "images":
        return Schema(images={"x": table.width})
    return Schema(scalars={f"c{i:02}": pa.float32() for i in range(table.width)})
