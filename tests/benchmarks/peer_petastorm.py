"""Stock Petastorm as it is installed, in its own environment: answers one JSON line for each it reads.

Its reader gives a row group at a time as NumPy columns; they are stacked and cut into the same
batches here, which is less work than `make_petastorm_dataset` with `unbatch` would be. It shuffles
row groups and leaves rows as they stand; ten reader threads. Both are its defaults.
"""

import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
from petastorm import make_batch_reader

from tests.benchmarks.feed_step import compiled, every_row_once, seconds, seconds_to_first
from tests.benchmarks.feed_tables import BATCH_ROWS, MANY, TABLES, Fed


def batches(table: Fed) -> Iterator[Any]:
    with make_batch_reader(f"file://{table.folder.absolute()}", num_epochs=1) as reader:
        held = np.empty((0, table.width), table.dtype)
        for columns in reader:
            rows = stacked(table, columns)
            held = np.concatenate([held, rows]) if len(held) else rows
            while len(held) >= BATCH_ROWS:
                yield held[:BATCH_ROWS]
                held = held[BATCH_ROWS:]
        if len(held):
            yield held


def stacked(table: Fed, columns: Any) -> Any:
    if table.name == "images":
        return np.frombuffer(b"".join(columns.x), np.uint8).reshape(-1, table.width)
    return columns.x if table.name == "lists" else np.stack(columns, axis=1)


def answer(task: str, name: str, step: Any) -> Any:
    table = MANY if name == MANY.name else TABLES[name]
    if task == "rows":
        return every_row_once(table, batches)
    return (seconds_to_first if task == "first" else seconds)(table, batches, step)


def say(something: Any) -> None:
    sys.stdout.write(f"{json.dumps(something)}\n")
    sys.stdout.flush()


def main() -> None:
    """Reads `task table` lines until the input ends."""
    about = f"{version('petastorm')} on pyarrow {version('pyarrow')}, TensorFlow {version('tensorflow-cpu')}"
    say(about)
    steps = {table.name: compiled(table) for table in (*TABLES.values(), MANY)}
    for line in sys.stdin:
        task, name = line.split()
        say(answer(task, name, steps[name]))


if __name__ == "__main__":
    main()
