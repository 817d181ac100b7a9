"""Batches of one fixed size from a rank's share, padded with rows of weight 0."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.contract.manifest import Manifest, Statistics
from models.feed.arrays import inputs, targets, weights
from models.feed.plan import Shard
from models.feed.reader import read_ordered


@dataclass(frozen=True, slots=True)
class Batch:
    """`arrays`: inputs, targets and `weight`, all [batch_rows, ...]; the first `rows` rows are people.
    `person_key` is there when asked for."""

    arrays: dict[str, npt.NDArray[Any]]
    rows: int
    person_key: pa.ChunkedArray | None


@dataclass(frozen=True, slots=True)
class Feed:
    """What of a table goes to a network, and how."""

    manifest: Manifest
    statistics: dict[str, Statistics]
    modalities: list[str]

    def columns(self) -> list[str]:
        outcome = f"y_{self.manifest.outcome}"
        outcomes = [outcome] if self.manifest.kind == "binary" else [f"{outcome}_time", f"{outcome}_event"]
        return [f"{kind}_{name}" for name in self.modalities for kind in ("x", "has")] + [*outcomes, "weight"]

    def batches(self, share: Shard, person_key: bool = False) -> Iterator[Batch]:
        """As many batches as the shard has steps."""
        columns = self.columns() + (["person_key"] if person_key else [])
        for table in _tables(share, columns):
            yield self._batch(table, share.batch_rows, person_key)

    def _batch(self, table: pa.Table, batch_rows: int, person_key: bool) -> Batch:
        arrays: dict[str, npt.NDArray[Any]] = inputs(table, self.manifest, self.statistics, self.modalities)
        arrays |= targets(table, self.manifest)
        arrays["weight"] = weights(table)
        padded = {name: _pad(array, batch_rows) for name, array in arrays.items()}
        return Batch(padded, table.num_rows, table["person_key"] if person_key else None)


def _tables(share: Shard, columns: list[str]) -> Iterator[pa.Table]:
    """One table per step: the next `lane_rows` rows of each lane, fewer at the end."""
    order = share.reading_order()
    arriving = zip([lane for lane, _ in order], read_ordered([piece for _, piece in order], columns), strict=True)
    unread = [sum(piece.rows for piece in lane) for lane in share.lanes]
    held: list[pa.Table | None] = [None] * len(share.lanes)
    for _ in range(share.steps):
        taken = []
        for lane in range(len(share.lanes)):
            rows = min(share.lane_rows, unread[lane])
            unread[lane] -= rows
            while rows and _rows(held[lane]) < rows:
                at, table = next(arriving)
                held[at] = _append(held[at], table)
            if rows:
                taken.append(held[lane].slice(0, rows))  # type: ignore[union-attr]
                held[lane] = held[lane].slice(rows)  # type: ignore[union-attr]
        yield pa.concat_tables(taken) if taken else _empty(columns)
    # Lets the reader see its end, so that its threads stop now and not with the garbage.
    next(arriving, None)


def _empty(columns: list[str]) -> pa.Table:
    """No rows, for a step in which only other ranks still have some."""
    kinds = {"x": pa.list_(pa.float32()), "has": pa.bool_(), "person": pa.string()}
    types = {name: kinds.get(name.partition("_")[0], pa.float32()) for name in columns}
    types |= {"x_imaging": pa.binary()} if "x_imaging" in types else {}
    return pa.schema(list(types.items())).empty_table()


def _rows(table: pa.Table | None) -> int:
    return 0 if table is None else int(table.num_rows)


def _append(held: pa.Table | None, table: pa.Table) -> pa.Table:
    return pa.concat_tables([held, table]) if _rows(held) else table


def _pad(array: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    if len(array) == rows:
        return array
    padded = np.zeros((rows, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    return padded
