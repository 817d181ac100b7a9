"""What a fit leaves behind: the bare network, its history, and predictions by rank."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features.contract.paths import Location

# Written last, with the fit's identity in it: an attempt that finds it skips the fit.
FINISHED = "finished"
SCHEMA = pa.schema(
    [
        pa.field("person_key", pa.string(), nullable=False),
        pa.field("logits", pa.list_(pa.float32()), nullable=False),
    ]
)


def write_network(folder: Location, network: keras.Model, history: list[dict[str, Any]]) -> None:
    """`architecture.json`, `model.weights.h5` and `history.json` of the uncompiled network."""
    (folder / "architecture.json").write_bytes(network.to_json().encode())
    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch) / "model.weights.h5"
        network.save_weights(weights)
        (folder / "model.weights.h5").write_bytes(weights.read_bytes())
    (folder / "history.json").write_bytes(json.dumps(history, indent=1).encode())


def write_predictions(target: Location, batches: Iterable[tuple[Any, npt.NDArray[np.float32]]]) -> None:
    """A Parquet file, written batch by batch: `person_key` and `logits` (list of K float32)."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "predictions.parquet"
        with pq.ParquetWriter(path, SCHEMA) as writer:
            for keys, logits in batches:
                writer.write_table(pa.table([keys, _lists(logits)], schema=SCHEMA))
        target.write_bytes(path.read_bytes())


def _lists(logits: npt.NDArray[np.float32]) -> pa.Array:
    offsets = np.arange(len(logits) + 1, dtype=np.int32) * logits.shape[1]
    return pa.ListArray.from_arrays(offsets, pa.array(logits.reshape(-1)))
