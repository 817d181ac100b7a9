"""Parquet files that a task writes itself, of rows in Arrow's form; `lake.files_of_tasks` commits them."""

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from features.contract.paths import Location
from features.contract.schemas import Table

_COMPARISON = re.compile(r"\w+ (<|<=|>|>=) [\w.]+")
FILE_BYTES, GROUP_BYTES = 128 << 20, 16 << 20
"""Of rows in Arrow's form, in a file and in a row group of it, about."""


@contextmanager
def task_files(folder: Location, table: Table, options: Mapping[str, Any]) -> Iterator["TaskFiles"]:
    """`options` are those of pyarrow's ParquetWriter. Files are whole, and have their `names`, at the end."""
    for expression in table.checks.values():
        if not _COMPARISON.fullmatch(expression):
            raise AssertionError(f"{table.path}: pandas may read CHECK {expression} otherwise than Spark")
    files = TaskFiles(folder, table, options)
    try:
        yield files
        files.flush()
    finally:
        files.close()


@dataclass(slots=True)
class TaskFiles:
    """Rows of a table for files below `folder`, each begun when there are rows for it. ValueError for a row that
    breaks NOT NULL or a CHECK, with no value of it, as `lake.write_table` has it."""

    folder: Location
    table: Table
    options: Mapping[str, Any]
    names: list[str] = field(default_factory=list)
    _held: list[pa.Table] = field(default_factory=list)
    _held_bytes: int = 0
    _written: int = 0
    _stack: ExitStack = field(default_factory=ExitStack)
    _writer: pq.ParquetWriter | None = None

    def write(self, rows: pa.Table) -> None:
        """Rows of the table's columns, in order; texts may be coded, all of a column's in one way."""
        if len(rows):
            self._held.append(rows)
            self._held_bytes += rows.get_total_buffer_size()
        if self._held_bytes >= GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held as a row group."""
        if not self._held:
            return
        rows = pa.concat_tables(self._held)
        self._held, self._held_bytes = [], 0
        _check(rows, self.table)
        if self._writer is None:
            self.names.append(f"{uuid.uuid4().hex}.parquet")
            stream = self._stack.enter_context((self.folder / self.names[-1]).open("wb"))
            schema = pa.schema([_stored(own, rows.schema.field(own.name).type) for own in self.table.schema])
            self._writer = self._stack.enter_context(
                pq.ParquetWriter(stream, schema, store_schema=False, **self.options)
            )
        self._writer.write_table(rows.cast(self._writer.schema).unify_dictionaries())
        self._written += rows.get_total_buffer_size()
        if self._written >= FILE_BYTES:
            self.close()

    def close(self) -> None:
        """End the file that is open, if one is."""
        self._stack.close()
        self._writer, self._written = None, 0


def _stored(column: pa.Field, kind: pa.DataType) -> pa.Field:
    """As it is written: coded where it came so, for then no text is looked at again."""
    return column.with_type(kind) if pa.types.is_dictionary(kind) else column


def _check(rows: pa.Table, table: Table) -> None:
    for own in table.schema:
        if not own.nullable and rows[own.name].null_count:
            raise ValueError(f"{table.path}: NOT_NULL: {own.name}")
    for name, expression in table.checks.items():
        columns = [column for column in table.schema.names if re.search(rf"\b{column}\b", expression)]
        if not rows.select(columns).to_pandas().eval(expression).all():
            raise ValueError(f"{table.path}: CHECK {name}: {expression}")
