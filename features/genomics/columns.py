"""Arrow's columns, many rows at once: what pyarrow says in several words."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

MOST_BYTES = 16 << 20
Flags = npt.NDArray[np.bool_]
CODED = pa.dictionary(pa.int32(), pa.string())
"""Of texts that come many times: each once, and which of these a row has."""


def each(texts: pa.Array, make: Callable[[str], Any], kind: pa.DataType = pa.string()) -> pa.Array:  # noqa: B008
    """What is made of each text, CODED or not; of the same once."""
    coded = texts.dictionary_encode()
    return pa.array(map(make, coded.dictionary.to_pylist()), kind).take(coded.indices)


def recoded(texts: pa.Array, make: Callable[[str], str | None]) -> pa.DictionaryArray:
    """What is made of each text, CODED."""
    coded = texts.dictionary_encode()
    made = pa.array(map(make, coded.dictionary.to_pylist()), pa.string()).dictionary_encode()
    return pa.DictionaryArray.from_arrays(made.indices.take(coded.indices), made.dictionary)


def where(chosen: Flags, column: pa.Array) -> pa.Array:
    """Null elsewhere."""
    if chosen.all():
        return column
    return pc.if_else(pa.array(chosen), column, pa.scalar(None, column.type))


def filled(column: pa.Array, empty: float) -> npt.NDArray[Any]:
    """With this value in the place of null."""
    found: npt.NDArray[Any] = column.fill_null(empty).to_numpy(zero_copy_only=False)
    return found


def flags(column: pa.BooleanArray, unknown: bool = False) -> Flags:
    return filled(column, unknown)


def by_name(rows: pa.RecordBatch) -> dict[str, pa.Array]:
    return dict(zip(rows.schema.names, rows.columns, strict=True))


def batch_of(columns: Iterable[Any], schema: pa.Schema) -> pa.RecordBatch:
    """Rows of a schema from its columns, in order."""
    arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def sparse(schema: pa.Schema, **columns: Any) -> pa.RecordBatch:
    """Rows of a schema, null but for these columns."""
    rows = len(next(iter(columns.values())))
    arrays = [
        pa.array(columns[own.name], own.type) if own.name in columns else pa.nulls(rows, own.type)
        for own in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def at_least(rows: int, batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Batches that have so many rows, or MOST_BYTES, together, but for the last."""
    held: list[pa.RecordBatch] = []
    number = size = 0
    for batch in filter(len, batches):
        held.append(batch)
        # Not `nbytes`, which reads offsets of keys, and Java sends none with maps that have no entry at all.
        number, size = number + len(batch), size + batch.get_total_buffer_size()
        if number >= rows or size >= MOST_BYTES:
            yield held
            held, number, size = [], 0, 0
    if held:
        yield held
