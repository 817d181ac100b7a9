"""Rows as Arrow writes them, many in one value of bytes that Java moves from task to task and does not read."""

from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema


def seal(rows: pa.RecordBatch) -> bytes:
    return bytes(rows.serialize())


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
