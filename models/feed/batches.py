"""Batches of one fixed size from a rank's share, padded with rows of weight 0."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.contract.manifest import Manifest, Statistics
from models.feed.arrays import network_inputs, targets
from models.feed.columns import Columns, empty
from models.feed.plan import Part, Shard
from models.feed.reader import Memory, Reader, check_part
from models.feed.schema import Schema, training_schema


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
    memory: Memory = field(default_factory=Memory, compare=False)

    def check(self, part: Part) -> None:
        """Whether the table is what the manifest says, by the footer of one file, before training starts.

        One is enough, and all would be slow: one job wrote the files in one commit, and each is checked
        in the same way when its turn comes. Raises DataGateError naming file and column.
        """
        check_part(part, training_schema(self.manifest, self.modalities))

    def batches(self, share: Shard, person_key: bool = False) -> Iterator[Batch]:
        """As many batches as the shard has steps."""
        schema = training_schema(self.manifest, self.modalities, person_key)
        for columns in steps(share, schema, self.memory):
            yield self._batch(columns, share.batch_rows, person_key)

    def _batch(self, columns: Columns, batch_rows: int, person_key: bool) -> Batch:
        arrays: dict[str, npt.NDArray[Any]] = network_inputs(
            columns, self.manifest, self.statistics, self.modalities
        )
        arrays |= targets(columns, self.manifest)
        arrays["weight"] = columns["weight"]
        padded = {name: _pad(array, batch_rows) for name, array in arrays.items()}
        keys = pa.chunked_array([pa.array(columns["person_key"], pa.string())]) if person_key else None
        return Batch(padded, len(columns), keys)


def steps(share: Shard, schema: Schema, memory: Memory) -> Iterator[Columns]:
    """For each step the next `lane_rows` rows of each lane, fewer at the end."""
    pieces = [piece for _, piece in share.reading_order()]
    unread = [sum(piece.rows for piece in lane) for lane in share.lanes]
    with Reader(pieces, schema, in_use=len(share.lanes), memory=memory) as reader:
        lanes = [_Lane(reader) for _ in share.lanes]
        for _ in range(share.steps):
            wanted = [min(share.lane_rows, rows) for rows in unread]
            unread = [rows - taken for rows, taken in zip(unread, wanted, strict=True)]
            batch, at = empty(schema, sum(wanted)), 0
            for lane, rows in zip(lanes, wanted, strict=True):
                lane.fill(batch, at, at + rows)
                at += rows
            yield batch


class _Lane:
    """Hands on a lane's rows, holding one piece at a time.

    Lanes are filled in turn, step by step, which is the order in which the reader has their pieces.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader, self._left, self._at = reader, 0, 0
        self._piece: Columns | None = None

    def fill(self, batch: Columns, start: int, stop: int) -> None:
        while start < stop:
            if self._piece is None:
                (self._piece, self._left), self._at = self._reader.next(), 0
            rows = min(stop - start, self._left)
            self._piece.copy(self._at, rows, batch, start)
            start, self._at, self._left = start + rows, self._at + rows, self._left - rows
            if not self._left:
                self._reader.release(self._piece)
                self._piece = None


def _pad(array: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    if len(array) == rows:
        return array
    padded = np.zeros((rows, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    return padded
