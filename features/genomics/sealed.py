"""Rows as Arrow writes them, many in one value of bytes that Java moves from task to task and does not read."""

import pyarrow as pa


def seal(rows: pa.RecordBatch) -> bytes:
    return bytes(rows.serialize())


def unseal(value: pa.BinaryScalar, schema: pa.Schema) -> pa.RecordBatch:
    """The rows, as they were, of what has this schema."""
    return pa.ipc.read_record_batch(value.as_buffer(), schema)
