"""Batches of one fixed size from a rank's share, padded with rows of weight 0."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.contract.manifest import Manifest, Statistics
from models.feed.arrays import network_inputs, targets
from models.feed.columns import Columns
from models.feed.plan import Part, Shard
from models.feed.reader import Kept, batches, check_part
from models.feed.schema import training_schema


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
    kept: Kept = field(default_factory=Kept, compare=False)

    def check(self, part: Part) -> None:
        """Whether the table is what the manifest says, by the footer of one file, before training starts.

        One is enough, and all would be slow: one job wrote the files in one commit, and each is checked
        in the same way when its turn comes. Raises DataGateError naming file and column.
        """
        check_part(part, training_schema(self.manifest, self.modalities))

    def batches(self, share: Shard, person_key: bool = False) -> Iterator[Batch]:
        """As many batches as the shard has steps."""
        schema = training_schema(self.manifest, self.modalities, person_key)
        for columns in batches(share, schema, self.kept):
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


def _pad(array: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    if len(array) == rows:
        return array
    padded = np.zeros((rows, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    return padded
