"""The lines of a chunk as arrays, and as cells: every line is a row or a refusal, none is lost."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from features.clinical.mapping import field_name
from features.contract.settings import ClinicalSource
from features.raw_text import Chunk

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

LONGEST_LINE = 1 << 20
NEWLINE, RETURN = 10, 13


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file's text becomes cells: its number of columns, and the place of each wanted one."""

    delimiter: str
    nulls: list[str]
    columns: int
    wanted: list[int]

    @classmethod
    def of(cls, source: ClinicalSource, header: list[str], mapped: list[str]) -> "Layout":
        return cls(source.delimiter, list(source.nulls), len(header), [header.index(name) for name in mapped])

    @property
    def cells(self) -> pa.DataType:
        return cells_type(len(self.wanted))


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines [start, end) of `data`, newline included; `stored` is where each lies in the file."""

    data: bytes
    starts: Ints
    ends: Ints
    stored: Ints

    @classmethod
    def of(cls, chunk: Chunk, skip: int = 0) -> "Lines":
        """All but the first `skip` lines and the blank ones."""
        data = chunk.data if chunk.data.endswith(b"\n") else chunk.data + b"\n"
        ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == NEWLINE) + 1
        starts = np.concatenate([[0], ends[:-1]])
        at, offset = np.array(chunk.anchors, dtype=np.int64).reshape(-1, 2).T
        anchor = np.searchsorted(at, starts, side="right") - 1
        lines = cls(data, starts, ends, offset[anchor] + starts - at[anchor]).take(slice(skip, None))
        return lines.take(lines.lengths > 0)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> Ints:
        """Bytes of each line without its line end."""
        raw = np.frombuffer(self.data, dtype=np.uint8)
        lengths = self.ends - self.starts - 1
        returned = (lengths > 0) & (raw[np.maximum(self.ends - 2, 0)] == RETURN)
        return np.asarray(lengths - returned, dtype=np.int64)

    def take(self, which: Flags | slice) -> "Lines":
        return Lines(self.data, self.starts[which], self.ends[which], self.stored[which])

    def locations(self) -> pa.Array:
        """`<offset>+<length>` of each line, as quarantine writes it."""
        offset, length = (pa.array(values).cast(pa.string()) for values in (self.stored, self.lengths))
        return pc.binary_join_element_wise(offset, length, "+")

    def runs(self) -> Iterator[bytes]:
        """The bytes of the lines, neighbours together."""
        if len(self):
            breaks = np.flatnonzero(self.ends[:-1] != self.starts[1:])
            firsts, lasts = np.concatenate([[0], breaks + 1]), np.append(breaks, len(self) - 1)
            for first, last in zip(firsts, lasts, strict=True):
                yield self.data[self.starts[first] : self.ends[last]]


def cells_type(columns: int) -> pa.DataType:
    return pa.struct([pa.field(field_name(place), pa.string()) for place in range(columns)])


def judge(lines: Lines, layout: Layout) -> Iterator[tuple[Lines, str | None, pa.Array]]:
    """The same lines in groups: each with the rule that refuses it, or with its cells."""
    sound = lines
    for rule, found in (("columns", _misshapen), ("encoding", _undecodable)):
        refused = found(sound)
        yield _refused(sound.take(refused), rule, layout)
        sound = sound.take(~refused)
    for group, table in _parse(sound, layout):
        yield _refused(group, "columns", layout) if table is None else (group, None, _cells(table, layout))


def _refused(lines: Lines, rule: str, layout: Layout) -> tuple[Lines, str | None, pa.Array]:
    return lines, rule, pa.nulls(len(lines), layout.cells)


def _misshapen(lines: Lines) -> Flags:
    """Too long to be a row, or with a carriage return that does not end it."""
    raw = np.frombuffer(lines.data, dtype=np.uint8)
    returns = np.flatnonzero(raw == RETURN)
    inner = returns[raw[np.minimum(returns + 1, len(raw) - 1)] != NEWLINE]
    holds = np.searchsorted(inner, lines.ends) > np.searchsorted(inner, lines.starts)
    return np.asarray(holds | (lines.lengths > LONGEST_LINE), dtype=np.bool_)


def _undecodable(lines: Lines) -> Flags:
    """Not UTF-8. Looked at line by line only where the whole is not."""
    if _decodes(lines.data):
        return np.zeros(len(lines), dtype=np.bool_)
    pieces = (lines.data[start:end] for start, end in zip(lines.starts, lines.ends, strict=True))
    return np.array([not _decodes(piece) for piece in pieces], dtype=np.bool_)


def _decodes(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parse(lines: Lines, layout: Layout) -> Iterator[tuple[Lines, pa.Table | None]]:
    """Groups of lines with their cells, or None where a line is no row.

    An open quote swallows the lines after it. It shows: rows and refusals are then fewer than lines.
    So halve the lines until the culprit stands alone.
    """
    if not len(lines):
        return
    table, refused = _read_csv(lines, layout)
    if table is not None:
        good = np.ones(len(lines), dtype=np.bool_)
        good[refused] = False
        yield lines.take(good), table
        yield lines.take(~good), None
    elif len(lines) == 1:
        yield lines, None
    else:
        half = len(lines) // 2
        yield from _parse(lines.take(slice(None, half)), layout)
        yield from _parse(lines.take(slice(half, None)), layout)


def _read_csv(lines: Lines, layout: Layout) -> tuple[pa.Table | None, list[int]]:
    """The rows and the places of refused lines; None when they do not add up to the lines.

    A good line is put last, which an open quote in the line before would swallow.
    """
    refused: list[int] = []

    def refuse(row: Any) -> str:
        refused.append(row.number - 1)
        return "skip"

    last = layout.delimiter.encode() * (layout.columns - 1) + (b"\n" if layout.columns > 1 else b"x\n")
    data = b"".join([*lines.runs(), last])
    names = [str(place) for place in range(layout.columns)]
    wanted = [str(place) for place in layout.wanted]
    try:
        table = csv.read_csv(
            io.BytesIO(data),
            csv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
            csv.ParseOptions(delimiter=layout.delimiter, ignore_empty_lines=False, invalid_row_handler=refuse),
            csv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(wanted, pa.string()),
                null_values=layout.nulls,
                strings_can_be_null=True,
                include_columns=wanted,
            ),
        )
    except pa.ArrowInvalid:
        return None, []
    if table.num_rows + len(refused) != len(lines) + 1:
        return None, []
    return table.slice(0, table.num_rows - 1), refused


def _cells(table: pa.Table, layout: Layout) -> pa.Array:
    columns = [pa.concat_arrays([pa.array([], pa.string()), *column.chunks]) for column in table.columns]
    return pa.StructArray.from_arrays(columns, fields=list(layout.cells))
