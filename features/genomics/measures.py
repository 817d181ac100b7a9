"""What VCF and BCF tell of a call besides: depth (DP), quality (GQ), and how many reads have each allele (AD).

The values are not kept. They are summed over the samples of each variant in a block, and over the variants of each
sample. Of AD those of heterozygous calls of REF and one ALT count: half of their reads should have the ALT.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.schemas import SAMPLES
from features.genomics.blocks import KEYS, of_samples
from features.genomics.columns import filled
from features.genomics.numbers import Floats, WrongNumberError
from features.genomics.packing import Codes

LARGEST = 1_000_000
"""No depth and no quality is above it, so that the sums of their squares are whole numbers that 64 bits hold."""
UNTOLD = -1
_DP, _GQ, _ALT, _READS = range(4)

_SPREAD = ("n", "sum", "square_sum", "min", "max")
MEASURES = (
    *(f"{key}_{part}" for key in ("dp", "gq") for part in _SPREAD),
    *("het_n", "het_alt_reads", "het_total_reads"),
)
"""Of DP and of GQ how many are told, their sum and that of their squares, the least and the greatest; how many
heterozygous calls have reads, and how many of these are of ALT and of both alleles. Null where none is told."""

_SUMMARIES = pa.schema(
    [SAMPLES.schema.field(name).with_nullable(True) for name in (*KEYS, "dp", "gq", "het_reads")]
)

Measured = npt.NDArray[np.int32]
"""(4, samples) of one variant: DP, GQ, and where the call is heterozygous the reads of ALT, and of REF and ALT."""
Counts = npt.NDArray[np.int64]


def measure(told: Mapping[str, Measured], codes: Sequence[Codes]) -> list[Measured]:
    """For each ALT what was `told` under DP and GQ, (samples, 1), and AD, (samples, alleles), of the samples that
    have these `codes`; as `whole` gives it."""
    samples, alts = len(codes[0]), len(codes)
    of_all = np.full((4, samples), UNTOLD, np.int32)
    for row, key in ((_DP, "DP"), (_GQ, "GQ")):
        if key in told:
            of_all[row] = told[key][:, 0]
    found = [of_all.copy() for _ in codes]
    if "AD" in told:
        reads, carried = told["AD"], np.sum(codes, axis=0)
        for alt in range(1, alts + 1):
            # Where another ALT is carried too (1/2) the reads of REF tell nothing of this one.
            chosen = (codes[alt - 1] == 1) & (carried == 1) & (reads[:, [0, alt]] >= 0).all(1)
            found[alt - 1][_ALT, chosen] = reads[chosen, alt]
            found[alt - 1][_READS, chosen] = reads[chosen, 0] + reads[chosen, alt]
    return found


def whole(values: Floats) -> Measured:
    """To the nearest whole number, UNTOLD where NaN. WrongNumberError for what is below 0 or very large."""
    if (values < 0).any() or (values > LARGEST).any():
        raise WrongNumberError
    return np.where(np.isnan(values), UNTOLD, np.floor(values + 0.5)).astype(np.int32)


def sum_measures(values: Measured, axis: int) -> Counts:
    """MEASURES, (13, samples or variants), of (4, variants, samples), summed over the variants (`axis` 0) or the
    samples (1). Where none is told the least is above all numbers, and the greatest below."""
    depths, qualities, alts, reads = values
    of_hets = [
        (reads != UNTOLD).sum(axis),
        *(np.maximum(own, 0).sum(axis, dtype=np.int64) for own in (alts, reads)),
    ]
    return np.stack([*_spread_of(depths, axis), *_spread_of(qualities, axis), *of_hets])


def _spread_of(values: Measured, axis: int) -> list[Counts]:
    told = values != UNTOLD
    known = np.where(told, values, 0).astype(np.int64)
    least = np.where(told, values, LARGEST + 1).min(axis, initial=LARGEST + 1)
    return [told.sum(axis), known.sum(axis), (known**2).sum(axis), least, values.max(axis, initial=UNTOLD)]


def no_measures(number: int) -> Counts:
    """What `sum_measures` gives of so many samples or variants of which nothing is told."""
    return sum_measures(np.empty((4, number, 0), np.int32), axis=1)


def add_measures(one: Counts, other: Counts) -> Counts:
    """Of what `sum_measures` gave of some variants, and of others."""
    joins = {"min": np.minimum, "max": np.maximum}
    rows = zip(MEASURES, one, other, strict=True)
    return np.stack([joins.get(name.rpartition("_")[2], np.add)(*both) for name, *both in rows])


def as_columns(sums: Counts) -> list[pa.Array]:
    """MEASURES, null where none is told."""
    numbers = dict(zip(MEASURES, sums, strict=True))
    return [pa.array(numbers[name], mask=numbers[f"{name.partition('_')[0]}_n"] == 0) for name in MEASURES]


def sum_of_rows() -> list[Column]:
    """MEASURES of all rows of a group."""
    by_end = {"min": sf.min, "max": sf.max}
    return [by_end.get(name.rpartition("_")[2], sf.sum)(name).alias(name) for name in MEASURES]


def summaries(batch: Mapping[str, pa.Array] | pa.RecordBatch) -> dict[str, pa.StructArray]:
    """`dp`, `gq` and `het_reads` of `variants` and `samples` from MEASURES; null where none is told."""
    told = {name: filled(batch[name], 0) for name in MEASURES}
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = {"dp": _spread(told, "dp"), "gq": _spread(told, "gq"), "het_reads": _het_reads(told)}
    return {
        name: pa.StructArray.from_arrays(
            [pa.array(values, from_pandas=True) for values in own.values()],
            names=[*own],
            mask=pa.array(own["n"] <= 0),
        )
        for name, own in parts.items()
    }


def _spread(told: Mapping[str, Counts], key: str) -> dict[str, npt.NDArray[Any]]:
    """With the mean, and the standard deviation of all values."""
    found: dict[str, npt.NDArray[Any]] = {part: told[f"{key}_{part}"] for part in _SPREAD}
    n, total, squares = (found[part].astype(np.float64) for part in _SPREAD[:3])
    variance = np.maximum(n * squares - total * total, 0) / (n * n)
    return found | {"mean": total / n, "sd": np.sqrt(variance)}


def _het_reads(told: Mapping[str, Counts]) -> dict[str, npt.NDArray[Any]]:
    """The share is of some reads, or not a number."""
    n, alt, total = (told[name] for name in MEASURES[-3:])
    return {"n": n, "alt": alt, "total": total, "alt_share": alt / total}


def measures_by_sample(measured: DataFrame, before: DataFrame | None) -> DataFrame:
    """KEYS and `summaries` of each sample of whom anything is told, from rows of `sample_block, measured` (the
    bytes of what `sum_measures` gave), and from what `samples` had `before`."""
    ddl = ", ".join(f"{name} bigint" for name in MEASURES)
    rows = measured.mapInArrow(_unpacked, f"sample_block string, sample_index int, {ddl}")
    if before is not None:
        rows = rows.unionByName(before.select(*KEYS, *_parts_of_summaries()))
    return rows.groupBy(KEYS).agg(*sum_of_rows()).mapInArrow(_summed_up, from_arrow_schema(_SUMMARIES))


def no_summaries() -> dict[str, Column]:
    """`summaries` where nothing is measured."""
    columns = from_arrow_schema(_SUMMARIES).fields[len(KEYS) :]
    return {own.name: sf.lit(None).cast(own.dataType) for own in columns}


def _summed_up(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        found = {name: batch[name] for name in KEYS} | summaries(batch)
        yield pa.RecordBatch.from_arrays([found[name] for name in _SUMMARIES.names], schema=_SUMMARIES)


def _parts_of_summaries() -> list[Column]:
    """MEASURES from `summaries`."""
    spreads = [sf.col(key)[part].alias(f"{key}_{part}") for key in ("dp", "gq") for part in _SPREAD]
    reads = [sf.col("het_reads")[part] for part in ("n", "alt", "total")]
    return [*spreads, *(column.alias(name) for column, name in zip(reads, MEASURES[-3:], strict=True))]


def _unpacked(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for block, stored in zip(batch["sample_block"], batch["measured"], strict=True):
            sums = np.frombuffer(stored.as_buffer(), np.int64).reshape(len(MEASURES), -1)
            yield of_samples(block.as_py(), MEASURES, as_columns(sums))
