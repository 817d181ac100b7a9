"""Delimited text of the raw zone to rows of strings, read side by side in splits."""

import csv
import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from features.clinical.lines import Layout, Lines, cells_type, judge
from features.clinical.mapping import mapped_columns
from features.contract.errors import DataGateError
from features.contract.paths import FileStat, Location
from features.contract.persons import PersonKeyer
from features.contract.settings import ClinicalSource
from features.raw_text import Codec, Split, plan_splits, read_chunks

SPLIT_BYTES = 64 << 20
LINES_PER_BATCH = 50_000
Batches = Iterable[pa.RecordBatch]

TASKS = pa.schema(
    [
        ("root", pa.string()),
        ("path", pa.string()),
        ("digest", pa.string()),
        ("codec", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("file", pa.int32()),
        ("header", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True, slots=True)
class File:
    """A file of a source: its place among the source's files in the order of paths, and its header."""

    stat: FileStat
    digest: str
    place: int
    header: list[str]


def read_rows(
    spark: SparkSession,
    root: Location,
    source: ClinicalSource,
    files: Sequence[FileStat],
    keyer: PersonKeyer,
    split_bytes: int = SPLIT_BYTES,
) -> DataFrame:
    """`source_digest, location, file, position, rule, cells`, a row per line below the headers.

    `cells` are the mapped columns as text (`cells_of`); null where `rule` says why a line is none:
    `columns` or `encoding`. Raises DataGateError for a file without a mapped column.
    """
    tasks = []
    for place, stat in enumerate(sorted(files, key=lambda file: file.path)):
        file = _open(root, stat, keyer.path_digest(stat.path), place, source)
        tasks += [_task(split, file) for split in plan_splits(root, [(stat, file.digest)], split_bytes)]
    parts = max(1, min(len(tasks), math.ceil(sum(file.size for file in files) / split_bytes)))
    plan = spark.createDataFrame(spark.sparkContext.parallelize(tasks, parts), from_arrow_schema(TASKS))
    return plan.mapInArrow(_reader(source), from_arrow_schema(row_schema(source)))


def row_schema(source: ClinicalSource) -> pa.Schema:
    return pa.schema(
        [
            ("source_digest", pa.string()),
            ("location", pa.string()),
            ("file", pa.int32()),
            ("position", pa.int64()),
            ("rule", pa.string()),
            ("cells", cells_type(len(mapped_columns(source)))),
        ]
    )


def parse_header(line: bytes, delimiter: str, digest: str) -> list[str]:
    """The names of the columns in a file's first line: UTF-8, with or without a byte order mark."""
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")
        return [name.strip() for name in next(csv.reader([text], delimiter=delimiter, strict=True), [])]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataGateError(
            f"file {digest}: its first line is no header ({type(error).__name__}); expected names in UTF-8"
        ) from None


def check_header(header: Sequence[str], source: ClinicalSource, digest: str) -> None:
    """Every mapped column must be there, once."""
    for name in mapped_columns(source):
        if name not in header:
            nearest = difflib.get_close_matches(name, header, n=1, cutoff=0.6)
            hint = f"; the nearest there is {nearest[0]}" if nearest else ""
            raise DataGateError(
                f"clinical source {source.name}, file {digest}: no column {name}{hint}; correct the mapping, "
                "or the delimiter, or ask for the file again"
            )
        if header.count(name) > 1:
            raise DataGateError(f"clinical source {source.name}, file {digest}: two columns are named {name}")


def _open(root: Location, stat: FileStat, digest: str, place: int, source: ClinicalSource) -> File:
    first = next(read_chunks(plan_splits(root, [(stat, digest)], SPLIT_BYTES)[0]), None)
    header = parse_header(first.data.partition(b"\n")[0] if first else b"", source.delimiter, digest)
    check_header(header, source, digest)
    return File(stat, digest, place, header)


def _task(split: Split, file: File) -> tuple[Any, ...]:
    where = (split.root, split.path, split.digest, split.codec.value, split.start, split.end)
    return (*where, file.place, file.header)


def _reader(source: ClinicalSource) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    schema, mapped = row_schema(source), mapped_columns(source)

    def read(batches: Batches) -> Iterator[pa.RecordBatch]:
        for task in (task for batch in batches for task in batch.to_pylist()):
            layout = Layout.of(source, task.pop("header"), mapped)
            place = task.pop("file")
            yield from read_split(Split(**{**task, "codec": Codec(task["codec"])}), place, layout, schema)

    return read


def read_split(split: Split, place: int, layout: Layout, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of the lines that belong to a split."""
    for number, chunk in enumerate(read_chunks(split)):
        lines = Lines.of(chunk, skip=int(split.start == 0 and number == 0))
        for start in range(0, len(lines), LINES_PER_BATCH):
            for group, rule, cells in judge(lines.take(slice(start, start + LINES_PER_BATCH)), layout):
                yield _batch(group, rule, cells, split.digest, place, schema)


def _batch(
    lines: Lines, rule: str | None, cells: pa.Array, digest: str, place: int, schema: pa.Schema
) -> pa.RecordBatch:
    count = len(lines)
    columns = [
        pa.repeat(digest, count),
        lines.locations(),
        pa.repeat(pa.scalar(place, pa.int32()), count),
        pa.array(lines.stored),
        pa.repeat(pa.scalar(rule, pa.string()), count),
        cells,
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
