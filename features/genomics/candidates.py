"""The records of all files, parsed side by side: one row per biallelic candidate or refusal. A file without
samples has variants of the block NOBODY, without calls.

This frame carries the packed calls and feeds every table, so it is parsed once and persisted.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.settings import GenomicsSettings
from features.genomics.clean import Layout, Rule, Variant
from features.genomics.contigs import region
from features.genomics.counts import COUNTS, count_calls, members, sole_carriers
from features.genomics.dosages import DOSED, DTYPE, sum_dosages
from features.genomics.formats.files import Part
from features.genomics.genes import Genes
from features.genomics.info import Fields, Info, Values
from features.genomics.measures import MEASURES, Counts, add_measures, as_columns, no_measures, sum_measures
from features.genomics.packing import pack
from features.genomics.reference import Reference
from features.genomics.roster import Columns
from features.genomics.sexes import Sexes

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
        ("info", pa.list_(pa.struct([("key", pa.string()), ("value", pa.list_(pa.float64()))]))),
        ("info_text", pa.list_(pa.struct([("key", pa.string()), ("value", pa.list_(pa.string()))]))),
        ("sample_block", pa.string()),
        ("calls", pa.binary()),
        ("dosages", pa.binary()),
        *((name, pa.int64()) for name in (*COUNTS, *DOSED, *MEASURES)),
        ("sole_carrier", pa.int32()),
        ("region", pa.int32()),
        ("measured", pa.binary()),
    ]
)
Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """What every task needs to know: the parts of the files, the files' sample columns and their order, the INFO
    fields that are kept of each, the sexes of each block, the reference genome, and the genes."""

    parts: Sequence[Part]
    columns: Mapping[str, Columns]
    order: Mapping[str, int]
    info: Mapping[str, Fields]
    sexes: Mapping[str, Sexes]
    reference: Reference | None
    genes: Genes | None
    settings: GenomicsSettings


def candidates(spark: SparkSession, work: Work) -> DataFrame:
    """SCHEMA rows, one partition per part. `rule` is null for variants; `location` is set for refusals. Where
    calls are measured, a part's last row has what `measured` each sample, the bytes of `sum_measures` over its
    variants, and but for `sample_block` nothing else."""
    shared = spark.sparkContext.broadcast(work)
    parts = spark.range(0, len(work.parts), 1, len(work.parts))
    return parts.mapInArrow(_Parser(shared), from_arrow_schema(SCHEMA))


@dataclass(frozen=True)
class _Parser:
    """The function that each task runs: ids of parts in, batches of rows out."""

    shared: Broadcast[Work]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        work = self.shared.value
        for batch in batches:
            for index in batch["id"].to_pylist():
                yield from parse_part(work, work.parts[index])


def parse_part(work: Work, part: Part) -> Iterator[pa.RecordBatch]:
    """The rows of a part of a file, in batches bounded by rows and by bytes."""
    columns = work.columns[part.digest]
    layout, sexes = _layout(work, part.digest), work.sexes.get(columns.block)
    source = work.order[part.digest]
    variants: list[tuple[Row, Variant]] = []
    refusals: list[Row] = []
    size, measured = 0, no_measures(len(sexes) if sexes is not None else 0)
    for location, items in part.records(layout):
        offset = int(location.partition("+")[0])
        for allele, item in enumerate(items, start=1):
            place = (source, offset, allele, part.digest)
            if isinstance(item, Rule):
                refusals.append((*place, location, item.value, *[None] * (len(SCHEMA) - 6)))
            else:
                variants.append((place, item))
                size += item.calls.nbytes + _info_bytes(item.info)
            size += _ROW_OVERHEAD
        if size >= BATCH_BYTES or len(variants) + len(refusals) >= BATCH_ROWS:
            yield from _batches(variants, refusals, columns.block, sexes, layout)
            measured = _add_measured(measured, variants)
            variants, refusals, size = [], [], 0
    yield from _batches(variants, refusals, columns.block, sexes, layout)
    yield from _of_samples(_add_measured(measured, variants), columns.block)


def _layout(work: Work, digest: str) -> Layout:
    settings, columns = work.settings, work.columns[digest]
    return Layout(
        build=settings.build,
        samples=columns.total,
        keep=columns.keep,
        gene_field=settings.gene_field,
        consequence_field=settings.consequence_field,
        half_calls=settings.half_calls,
        reference=work.reference,
        genes=work.genes,
        dosages=settings.dosages,
        measures=settings.measures,
        info=work.info.get(digest, {}),
    )


def _batches(
    variants: list[tuple[Row, Variant]], refusals: list[Row], block: str, sexes: Sexes | None, layout: Layout
) -> Iterator[pa.RecordBatch]:
    """`sexes` are None for the block NOBODY, whose variants have no calls."""
    if refusals:
        yield _batch(list(zip(*refusals, strict=True)))
    described = [(*place, None, None, *_described(variant, layout.info), block) for place, variant in variants]
    if variants and sexes is None:
        yield _batch(list(zip(*(row + (None,) * (len(SCHEMA) - len(row)) for row in described), strict=True)))
    elif variants and sexes is not None:
        codes = np.stack([variant.calls.codes for _, variant in variants])
        regions = [region(layout.build, variant.contig, variant.position) for _, variant in variants]
        packed, groups = pack(codes), members(sexes)
        calls, counts = [row.tobytes() for row in packed], count_calls(packed, groups).T
        carriers = sole_carriers(codes, sexes, regions)
        imputed = _imputed([variant for _, variant in variants], groups)
        numbers = [*counts, *imputed[1:], *_measures([variant for _, variant in variants])]
        untold = [None] * len(variants)
        yield _batch([*zip(*described, strict=True), calls, imputed[0], *numbers, carriers, regions, untold])


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


def _add_measured(measured: Counts, variants: Sequence[tuple[Row, Variant]]) -> Counts:
    """`measured` of each sample before, with what these variants add."""
    found = [variant.calls.measured for _, variant in variants if variant.calls.measured is not None]
    return add_measures(measured, sum_measures(np.stack(found, axis=1), axis=0)) if found else measured


def _of_samples(measured: Counts, block: str) -> Iterator[pa.RecordBatch]:
    if np.array_equal(measured, no_measures(measured.shape[1])):
        return
    row = {"sample_block": block, "measured": measured.tobytes()}
    yield pa.RecordBatch.from_pylist([row], SCHEMA)


def _described(variant: Variant, fields: Fields) -> Row:
    return (
        variant.key,
        variant.contig,
        variant.position,
        variant.ref,
        variant.alt,
        variant.rsid,
        variant.filters,
        variant.gene,
        variant.consequence,
        _entries(variant.info, fields, texts=False),
        _entries(variant.info, fields, texts=True),
    )


def _info_bytes(info: Info) -> int:
    values = (value for own in info.values() for value in own)
    return sum(len(value) if isinstance(value, str) else 8 for value in values)


def _entries(info: Info, fields: Fields, texts: bool) -> list[dict[str, str | Values]] | None:
    """The keys of texts or those of numbers, in the order of their letters; None where there is none."""
    found: list[dict[str, str | Values]] = [
        {"key": key, "value": info[key]} for key in sorted(info) if fields[key].is_text is texts
    ]
    return found or None


def _batch(columns: Sequence[Sequence[object]]) -> pa.RecordBatch:
    arrays = [pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
