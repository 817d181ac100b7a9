"""Rows of a table as arrays: decoded from Arrow, held, and moved row by row."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.contract.errors import DataGateError
from models.feed.memory import aligned
from models.feed.schema import REBUILD, Schema, SequenceShape

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows of the columns of a schema.

    `scalars` is float32 [rows, k], side by side in the order of `names`; `wide` has float32
    [rows, length] for a list, uint8 [rows, length] for an image, object [rows] for a text. A sequence
    is float32 [rows, longest, width], 0 after its end, and `<name>_steps`, int32 [rows], says where that is.
    """

    names: tuple[str, ...]
    scalars: npt.NDArray[np.float32]
    wide: dict[str, Array]

    def __getitem__(self, name: str) -> Array:
        """One column, [rows, ...]."""
        return self.wide[name] if name in self.wide else self.scalars[:, self.names.index(name)]

    def __len__(self) -> int:
        return len(self.scalars)

    def fits(self, schema: Schema, rows: int) -> bool:
        """Whether there is room for so many rows of this schema."""
        return (
            self.names == tuple(schema.scalars) and _kinds(self) == _kinds(empty(schema, 0)) and len(self) >= rows
        )

    def rows(self, start: int, stop: int) -> "Columns":
        """Some of the rows, in the same memory."""
        wide = {name: array[start:stop] for name, array in self.wide.items()}
        return Columns(self.names, self.scalars[start:stop], wide)

    def scatter(self, chosen: Any, to: "Columns", at: npt.NDArray[np.int64]) -> None:
        """The chosen rows (a slice or a mask), each to its own row of `to`."""
        for source, target in self._beside(to):
            target[at] = source[chosen]

    def _beside(self, other: "Columns") -> Iterator[tuple[Array, Array]]:
        yield self.scalars, other.scalars
        yield from ((array, other.wide[name]) for name, array in self.wide.items())


def _kinds(columns: Columns) -> dict[str, Any]:
    return {name: (array.shape[1:], array.dtype) for name, array in columns.wide.items()}


def empty(schema: Schema, rows: int) -> Columns:
    """Room for so many rows; what it holds is undefined."""
    wide: dict[str, Array] = {name: aligned((rows, n), np.float32) for name, n in schema.lists.items()}
    for name, sequence in schema.sequences.items():
        wide[name] = aligned((rows, sequence.longest, sequence.width), np.float32)
        wide[f"{name}_steps"] = np.empty(rows, np.int32)
    wide |= {name: aligned((rows, n), np.uint8) for name, n in schema.images.items()}
    wide |= {name: np.empty(rows, object) for name in schema.texts}
    return Columns(tuple(schema.scalars), aligned((rows, len(schema.scalars)), np.float32), wide)


def decode(rows: Any, schema: Schema) -> Columns:
    """The rows as arrays, without a copy where Arrow's memory will do.

    Raises DataGateError that names the column which is missing, has a null where none may be, or a
    row of another length than declared.
    """
    wide: dict[str, Array] = {name: _list(rows, name, n) for name, n in schema.lists.items()}
    for name, sequence in schema.sequences.items():
        wide[name], wide[f"{name}_steps"] = _sequence(rows, name, sequence)
    wide |= {name: _image(rows, name, n) for name, n in schema.images.items()}
    wide |= {name: _column(rows, name).to_numpy(zero_copy_only=False) for name in schema.texts}
    scalars = np.empty((rows.num_rows, len(schema.scalars)), np.float32)
    for i, name in enumerate(schema.scalars):
        scalars[:, i] = _scalar(rows, name)
    return Columns(tuple(schema.scalars), scalars, wide)


def _scalar(rows: Any, name: str) -> Array:
    column = _column(rows, name)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    array: Array = column.to_numpy(zero_copy_only=False)
    return array


def _list(rows: Any, name: str, length: int) -> Array:
    column = _column(rows, name)
    _check_lengths(name, pc.list_value_length(column), length, "values")
    return _floats(column).reshape(len(column), length)


def _sequence(rows: Any, name: str, declared: SequenceShape) -> tuple[Array, npt.NDArray[np.int32]]:
    column = _column(rows, name)
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    wrong = lengths[(lengths % declared.width > 0) | (lengths > declared.values)]
    if len(wrong):
        expected = f"at most {declared.longest} steps of {declared.width}"
        raise DataGateError(f"column {name}: a row has {wrong[0]} values, expected {expected}; {REBUILD}")
    padded = np.zeros((len(column), declared.values), np.float32)
    padded[np.arange(declared.values) < lengths[:, None]] = _floats(column)
    return padded.reshape(-1, declared.longest, declared.width), (lengths // declared.width).astype(np.int32)


def _floats(column: pa.Array) -> npt.NDArray[np.float32]:
    """The values of all rows one after the other; a null is NaN."""
    return np.asarray(column.flatten().cast(pa.float32()).to_numpy(zero_copy_only=False), np.float32)


def _image(rows: Any, name: str, length: int) -> Array:
    column = _column(rows, name)
    _check_lengths(name, pc.binary_length(column), length, "bytes")
    _, offsets, data = column.buffers()
    width = np.int64 if pa.types.is_large_binary(column.type) else np.int32
    first = int(np.frombuffer(offsets, width)[column.offset]) if len(column) else 0
    pixels = np.frombuffer(data or b"", np.uint8, count=len(column) * length, offset=first)
    return pixels.reshape(len(column), length)


def _column(rows: Any, name: str) -> pa.Array:
    if name not in rows.schema.names:
        raise DataGateError(f"column {name} is missing; {REBUILD}")
    column = rows.column(name)
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if column.null_count:
        raise DataGateError(f"column {name}: a row is null, expected none; {REBUILD}")
    return column


def _check_lengths(name: str, lengths: pa.Array, expected: int, what: str) -> None:
    found = pc.min_max(lengths)
    for length in (found["min"].as_py(), found["max"].as_py()):
        if length is not None and length != expected:
            raise DataGateError(f"column {name}: a row has {length} {what}, expected {expected}; {REBUILD}")
