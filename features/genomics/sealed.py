"""Rows as Arrow writes them, many in one value of bytes that Java moves from task to task and does not read."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema


def seal(batches: Iterable[pa.RecordBatch]) -> pa.BinaryArray:
    """A value of each."""
    values = [rows.serialize() for rows in batches]
    return joined(b"".join(values), [value.size for value in values])


def joined(values: bytes, sizes: npt.ArrayLike) -> pa.BinaryArray:
    """Values of these sizes, one behind the other, which are not copied again."""
    ends = np.cumsum(sizes, dtype=np.int64)
    if len(values) > np.iinfo(np.int32).max:
        raise OverflowError(f"{len(values)} bytes are more than an array of Arrow's has")
    offsets = pa.py_buffer(np.append(0, ends).astype(np.int32))
    return pa.BinaryArray.from_buffers(pa.binary(), len(ends), [None, offsets, pa.py_buffer(values)])


def unseal(value: pa.BinaryScalar, schema: pa.Schema) -> pa.RecordBatch:
    """The rows, as they were, of what has this schema."""
    return pa.ipc.read_record_batch(value.as_buffer(), schema)


def unsealed(found: DataFrame, kind: str, schema: pa.Schema) -> DataFrame:
    """The rows of this kind, as they were, of a frame with `kind` and sealed `rows`."""

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for value in batch["rows"]:
                yield unseal(value, schema)

    return found.filter(found["kind"] == kind).select("rows").mapInArrow(rows, from_arrow_schema(schema))
