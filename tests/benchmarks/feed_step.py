"""The step that is fed, the same for every side: compiled, and does nothing with its batch."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tests.benchmarks.feed_tables import Fed

Batches = Callable[[Fed], Iterator[Any]]


def compiled(table: Fed) -> Any:
    signature = [tf.TensorSpec([None, table.width], table.dtype)]
    step = tf.function(lambda batch: tf.shape(batch)[0], input_signature=signature)
    step(np.zeros((1, table.width), table.dtype))
    return step


def seconds(table: Fed, batches: Batches, step: Any) -> float:
    """One pass over the table, into the step."""
    started = time.perf_counter()
    rows = sum(int(step(batch)) for batch in batches(table))
    taken = time.perf_counter() - started
    if rows != table.total:
        raise AssertionError(f"{table.name}: {rows} rows were fed, expected {table.total}")
    return taken


def seconds_to_first(table: Fed, batches: Batches, step: Any) -> float:
    """From nothing open to the first batch in the step."""
    started = time.perf_counter()
    found = batches(table)
    step(next(found))
    taken = time.perf_counter() - started
    found.close()  # type: ignore[attr-defined]
    return taken


def every_row_once(table: Fed, batches: Batches) -> bool:
    """Whether a pass, not timed, delivers each row of the table exactly once."""
    ids = np.concatenate([table.ids(np.asarray(batch)) for batch in batches(table)])
    return np.array_equal(np.sort(ids), np.arange(table.total))
