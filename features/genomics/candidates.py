"""The records of all files, parsed side by side: one row per biallelic candidate or refusal.

This frame carries the packed calls and feeds every table, so it is parsed once and persisted.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.settings import GenomicsSettings
from features.genomics.clean import FIXED_COLUMNS, Layout, RefusedLineError, Rule, Variant, clean_line
from features.genomics.contigs import region
from features.genomics.counts import COUNTS, count_codes, sole_carrier
from features.genomics.packing import pack
from features.genomics.read import data_lines
from features.genomics.reference import Reference
from features.genomics.roster import Columns
from features.genomics.sexes import Sexes
from features.raw_text import Split

BATCH_BYTES = 8 << 20
BATCH_ROWS = 8192
_ROW_OVERHEAD = 512

PLACE = ("source", "offset", "allele")
"""Which file (by path), where in it and which ALT of the line: the order in which records came."""

SCHEMA = pa.schema(
    [
        ("source", pa.int32()),
        ("offset", pa.int64()),
        ("allele", pa.int32()),
        ("source_digest", pa.string()),
        ("location", pa.string()),
        ("rule", pa.string()),
        ("variant_key", pa.string()),
        ("contig", pa.string()),
        ("position", pa.int64()),
        ("ref", pa.string()),
        ("alt", pa.string()),
        ("rsid", pa.string()),
        ("filters", pa.list_(pa.string())),
        ("gene", pa.string()),
        ("consequence", pa.string()),
        ("sample_block", pa.string()),
        ("calls", pa.binary()),
        *((name, pa.int64()) for name in COUNTS),
        ("sole_carrier", pa.int32()),
        ("region", pa.int32()),
    ]
)
Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """What every task needs to know: the splits, the files' sample columns and their order, the sexes of
    each block, and the reference genome."""

    splits: Sequence[Split]
    columns: Mapping[str, Columns]
    order: Mapping[str, int]
    sexes: Mapping[str, Sexes]
    reference: Reference | None
    settings: GenomicsSettings


def candidates(spark: SparkSession, work: Work) -> DataFrame:
    """SCHEMA rows, one partition per split. `rule` is null for variants; `location` is set for refusals."""
    shared = spark.sparkContext.broadcast(work)
    splits = spark.range(0, len(work.splits), 1, len(work.splits))
    return splits.mapInArrow(_Parser(shared), from_arrow_schema(SCHEMA))


@dataclass(frozen=True)
class _Parser:
    """The function that each task runs: ids of splits in, batches of rows out."""

    shared: Broadcast[Work]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        work = self.shared.value
        for batch in batches:
            for index in batch["id"].to_pylist():
                yield from parse_split(work, work.splits[index])


def parse_split(work: Work, split: Split) -> Iterator[pa.RecordBatch]:
    """The rows of a split, in batches bounded by rows and by bytes."""
    rows: list[Row] = []
    size = 0
    columns = work.columns[split.digest]
    source = work.order[split.digest]
    layout = _layout(work, columns)
    sexes = work.sexes[columns.block]
    for line, location in data_lines(split):
        made = _line_rows(line, location, layout, (source, split.digest, columns.block), sexes)
        rows += made
        size += len(made) * (columns.total // 4 + _ROW_OVERHEAD)
        if size > BATCH_BYTES or len(rows) >= BATCH_ROWS:
            yield _batch(rows)
            rows, size = [], 0
    yield _batch(rows)


def _layout(work: Work, columns: Columns) -> Layout:
    settings = work.settings
    return Layout(
        build=settings.build,
        columns=FIXED_COLUMNS + columns.total,
        keep=columns.keep,
        gene_field=settings.gene_field,
        consequence_field=settings.consequence_field,
        half_calls=settings.half_calls,
        reference=work.reference,
    )


def _line_rows(
    line: bytes, location: str, layout: Layout, origin: tuple[int, str, str], sexes: Sexes
) -> list[Row]:
    source, digest, block = origin
    offset = int(location.partition("+")[0])
    try:
        items = clean_line(line, layout)
    except RefusedLineError as refusal:
        items = [refusal.rule]
    return [
        (
            source,
            offset,
            allele,
            digest,
            *(_refused_row(item, location) if isinstance(item, Rule) else _row(item, block, sexes, layout.build)),
        )
        for allele, item in enumerate(items, start=1)
    ]


def _refused_row(rule: Rule, location: str) -> Row:
    return (location, rule.value, *[None] * (len(SCHEMA) - 6))


def _row(variant: Variant, block: str, sexes: Sexes, build: str) -> Row:
    place = region(build, variant.contig, variant.position)
    return (
        None,
        None,
        variant.key,
        variant.contig,
        variant.position,
        variant.ref,
        variant.alt,
        variant.rsid,
        variant.filters,
        variant.gene,
        variant.consequence,
        block,
        pack(variant.codes),
        *count_codes(variant.codes, sexes),
        sole_carrier(variant.codes, sexes, place),
        place,
    )


def _batch(rows: list[Row]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [[] for _ in SCHEMA]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
