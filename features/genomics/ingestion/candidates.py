"""The records of all files, parsed side by side: biallelic candidates with their packed calls, and refusals.

They feed every table, so they are parsed once and persisted, sealed: as rows of their own Spark would take longer
to keep them than it takes to parse them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.schemas import VARIANTS
from features.contract.settings import GenomicsSettings
from features.genomics.clean import Layout, Rule, Variant
from features.genomics.columns import batch_of
from features.genomics.contigs import has_older_mt, region
from features.genomics.counts import COUNTS, count_calls, members, sole_carriers
from features.genomics.dosages import DOSED, DTYPE, sum_dosages
from features.genomics.formats.files import Part
from features.genomics.formats.header import Header
from features.genomics.genes import Genes
from features.genomics.info import Fields, Info, Values, annotation
from features.genomics.ingestion.roster import Columns
from features.genomics.measures import MEASURES, Counts, add_measures, as_columns, no_measures, sum_measures
from features.genomics.packing import pack
from features.genomics.reference import Reference
from features.genomics.sealed import seal
from features.genomics.sexes import Sexes
from features.genomics.spans import SPANS, SpansOfPart

BATCH_BYTES = 8 << 20
BATCH_ROWS = 8192
_ROW_OVERHEAD = 512

PLACE = ("source", "offset", "allele")
"""Which file (by path), where in it and which ALT of the line: the order in which records came."""

CANDIDATES = pa.schema(
    [
        ("source", pa.int32()),
        ("offset", pa.int64()),
        ("allele", pa.int32()),
        ("variant_key", pa.string()),
        ("contig", pa.string()),
        ("position", pa.int64()),
        ("ref", pa.string()),
        ("alt", pa.string()),
        ("rsid", pa.string()),
        ("filters", pa.list_(pa.string())),
        ("gene", pa.string()),
        ("consequence", pa.string()),
        *(VARIANTS.schema.field(name) for name in ("info", "info_text")),
        ("sample_block", pa.string()),
        ("calls", pa.binary()),
        ("dosages", pa.binary()),
        *((name, pa.int64()) for name in (*COUNTS, *DOSED, *MEASURES)),
        ("sole_carrier", pa.int32()),
        ("region", pa.int32()),
        ("substitution", pa.int8()),
    ]
)
REFUSED = pa.schema([("source_digest", pa.string()), ("location", pa.string()), ("rule", pa.string())])
MEASURED = pa.schema([("sample_block", pa.string()), ("measured", pa.binary())])
"""What is measured of each sample: the bytes of `sum_measures` over the variants of a part."""
TALLY = pa.schema(
    [
        ("source_digest", pa.string()),
        ("rule", pa.string()),
        ("lines", pa.int64()),
        ("items", pa.int64()),
        ("with_dosages", pa.int64()),
    ]
)
"""How many candidates (`rule` null) or refusals a part gave, how many of them are the first of their line, and how
many have dosages."""
KINDS = {"variants": CANDIDATES, "refused": REFUSED, "measured": MEASURED, "tally": TALLY, "spans": SPANS}
PARSED = pa.schema([("part", pa.int32()), ("batch", pa.int32()), ("kind", pa.string()), ("rows", pa.binary())])
"""A sealed batch of rows of one of KINDS, and which of its part it is."""
SEALED_BYTES = 256 << 10
"""So small that many are a batch for Python: what else a query gives it then comes in large ones too."""

_BASES = pa.array(["A", "C", "G", "T"])
_TRANSITIONS = pa.array(["AG", "GA", "CT", "TC"])

Placed = tuple[int, int, Variant]
"""Offset, allele and what was read there."""


@dataclass(frozen=True, slots=True)
class Work:
    """What every task needs to know: the parts of the files; of each file its sample columns, its place in the
    order and how its records are read; the sexes of each block."""

    parts: Sequence[Part]
    columns: Mapping[str, Columns]
    order: Mapping[str, int]
    layouts: Mapping[str, Layout]
    sexes: Mapping[str, Sexes]


def candidates(spark: SparkSession, work: Work) -> DataFrame:
    """PARSED rows, one partition per part. Variants of a file without samples are counted alone."""
    shared = spark.sparkContext.broadcast(work)
    parts = spark.range(0, len(work.parts), 1, len(work.parts))
    return parts.mapInArrow(_Parser(shared), from_arrow_schema(PARSED))


@dataclass(frozen=True)
class _Parser:
    """The function that each task runs: ids of parts in, sealed batches out."""

    shared: Broadcast[Work]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        work = self.shared.value
        for batch in batches:
            for index in batch["id"].to_pylist():
                number = 0
                for kind, rows in parse_part(work, work.parts[index]):
                    sealed = _sealed(rows)
                    places = range(number, number := number + len(sealed))
                    yield batch_of([[index] * len(sealed), places, [kind] * len(sealed), sealed], PARSED)


def _sealed(rows: pa.RecordBatch) -> pa.BinaryArray:
    """Pieces of about SEALED_BYTES if their rows are of one size; each has one at least."""
    step = max(1, SEALED_BYTES * len(rows) // max(1, rows.nbytes))
    return seal(rows.slice(start, step) for start in range(0, len(rows), step))


def parse_part(work: Work, part: Part) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of a part of a file, in batches of one of KINDS each, bounded by rows and by bytes."""
    columns = work.columns[part.digest]
    layout, sexes = work.layouts[part.digest], work.sexes.get(columns.block)
    placed: list[Placed] = []
    refusals: list[tuple[str, str, str]] = []
    counts, spans, size = _Counts(), SpansOfPart(columns.block), 0
    measured = no_measures(len(sexes) if sexes is not None else 0)
    for location, items in part.records(layout):
        offset = int(location.partition("+")[0])
        for allele, item in enumerate(items, start=1):
            counts.add(item, allele)
            if isinstance(item, Rule):
                refusals.append((part.digest, location, item.value))
            elif sexes is not None:
                placed.append((offset, allele, item))
                size += item.calls.nbytes + (_info_bytes(item.info) if item.info else 0)
            size += _ROW_OVERHEAD
        if size >= BATCH_BYTES or len(placed) + len(refusals) >= BATCH_ROWS:
            yield from spans.of(_batches(placed, refusals, work.order[part.digest], columns.block, sexes, layout))
            measured = _add_measured(measured, placed)
            placed, refusals, size = [], [], 0
    yield from spans.of(_batches(placed, refusals, work.order[part.digest], columns.block, sexes, layout))
    yield from _of_samples(_add_measured(measured, placed), columns.block)
    yield "tally", counts.rows(part.digest)
    yield "spans", spans.rows()


@dataclass(slots=True)
class _Counts:
    """TALLY, by rule."""

    lines: Counter[str | None] = field(default_factory=Counter)
    items: Counter[str | None] = field(default_factory=Counter)
    with_dosages: int = 0

    def add(self, item: Variant | Rule, allele: int) -> None:
        rule = None
        if isinstance(item, Rule):
            rule = item.value
        elif item.calls.imputed is not None and item.calls.imputed.dosages is not None:
            self.with_dosages += 1
        self.items[rule] += 1
        if allele == 1:
            self.lines[rule] += 1

    def rows(self, digest: str) -> pa.RecordBatch:
        rows = [
            (digest, rule, self.lines[rule], number, 0 if rule else self.with_dosages)
            for rule, number in self.items.items()
        ]
        return batch_of(zip(*rows, strict=True) if rows else [[]] * len(TALLY), TALLY)


def layout_of(
    header: Header,
    columns: Columns,
    genomics: GenomicsSettings,
    info: Fields,
    reference: Reference | None,
    genes: Genes | None,
) -> Layout:
    """How the records of the file with this header are read, of whose samples these `columns` are kept.
    DataGateError as of `annotation`."""
    return Layout(
        build=genomics.build,
        samples=columns.total,
        keep=columns.keep,
        gene=annotation(header, genomics.gene_field, "genomics.gene_field"),
        consequence=annotation(header, genomics.consequence_field, "genomics.consequence_field"),
        half_calls=genomics.half_calls,
        reference=reference,
        genes=genes,
        dosages=genomics.dosages,
        measures=genomics.measures,
        info=info,
        older_mt=has_older_mt(header.lengths),
    )


def _batches(
    placed: Sequence[Placed],
    refusals: Sequence[tuple[str, str, str]],
    source: int,
    block: str,
    sexes: Sexes | None,
    layout: Layout,
) -> Iterator[tuple[str, pa.RecordBatch]]:
    if refusals:
        yield "refused", batch_of(zip(*refusals, strict=True), REFUSED)
    if placed and sexes is not None:
        offsets, alleles, variants = zip(*placed, strict=True)
        described = [_described(variant, layout.info) for variant in variants]
        codes = np.concatenate([variant.calls.codes for variant in variants]).reshape(len(variants), -1)
        regions = [region(layout.build, variant.contig, variant.position) for variant in variants]
        packed, groups = pack(codes), members(sexes)
        calls, counts = [row.tobytes() for row in packed], count_calls(packed, groups)
        carriers = sole_carriers(codes, sexes, regions, counts)
        imputed = _imputed(variants, groups)
        found = [pa.repeat(source, len(variants)), offsets, alleles, *zip(*described, strict=True)]
        found += [
            pa.repeat(block, len(variants)),
            calls,
            imputed[0],
            *counts.T,
            *imputed[1:],
            *_measures(variants),
        ]
        yield "variants", batch_of([*found, carriers, regions, _substitutions(variants)], CANDIDATES)


def _substitutions(variants: Sequence[Variant]) -> pa.Array:
    """1 for a transition, 2 for a transversion, 0 for what is no single base for another."""
    ref, alt = ([getattr(variant, allele) for variant in variants] for allele in ("ref", "alt"))
    single = pc.and_(pc.is_in(pa.array(ref), _BASES), pc.is_in(pa.array(alt), _BASES))
    return pc.if_else(
        pc.is_in(pc.binary_join_element_wise(ref, alt, ""), _TRANSITIONS), 1, pc.if_else(single, 2, 0)
    )


def _imputed(variants: Sequence[Variant], groups: Sequence[npt.NDArray[np.bool_]]) -> list[list[object]]:
    """Dosages and DOSED of each variant; None where calls tell all, or there are no probabilities."""
    found: list[list[object]] = [[None] * len(variants) for _ in range(1 + len(DOSED))]
    for row, variant in enumerate(variants):
        imputed = variant.calls.imputed
        if imputed is None:
            continue
        found[-1][row] = imputed.variance
        if imputed.dosages is not None:
            (sums,) = sum_dosages(imputed.dosages[None], groups).tolist()
            for column, value in zip(found[:-1], (imputed.dosages.astype(DTYPE).tobytes(), *sums), strict=True):
                column[row] = value
    return found


def _measures(variants: Sequence[Variant]) -> list[pa.Array]:
    """MEASURES of each variant over its samples."""
    found = {row: own for row, own in enumerate(v.calls.measured for v in variants) if own is not None}
    sums = no_measures(len(variants))
    if found:
        sums[:, list(found)] = sum_measures(np.stack(list(found.values()), axis=1), axis=1)
    return as_columns(sums)


def _add_measured(measured: Counts, placed: Sequence[Placed]) -> Counts:
    """`measured` of each sample before, with what these variants add."""
    found = [variant.calls.measured for _, _, variant in placed if variant.calls.measured is not None]
    return add_measures(measured, sum_measures(np.stack(found, axis=1), axis=0)) if found else measured


def _of_samples(measured: Counts, block: str) -> Iterator[tuple[str, pa.RecordBatch]]:
    if not np.array_equal(measured, no_measures(measured.shape[1])):
        yield "measured", batch_of([[block], [measured.tobytes()]], MEASURED)


def _described(variant: Variant, fields: Fields) -> tuple[object, ...]:
    return (
        variant.key,
        variant.contig,
        variant.position,
        variant.ref,
        variant.alt,
        variant.rsid,
        sorted(set(variant.filters)),
        variant.gene,
        variant.consequence,
        _entries(variant.info, fields, texts=False),
        _entries(variant.info, fields, texts=True),
    )


def _info_bytes(info: Info) -> int:
    values = (value for own in info.values() for value in own)
    return sum(len(value) if isinstance(value, str) else 8 for value in values)


def _entries(info: Info, fields: Fields, texts: bool) -> list[tuple[str, Values]] | None:
    """The keys of texts or those of numbers, in the order of their letters; None where there is none."""
    if not info:
        return None
    return [(key, info[key]) for key in sorted(info) if fields[key].is_text is texts] or None
