"""Counts over people for each variant, and over variants for each sample.

A haploid call was stored as two copies (as in plink), so `allele_number` is twice the number of
people called.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from features.contract.schemas import SAMPLES, VARIANTS
from features.genomics.hwe import with_hwe
from features.genomics.packing import Codes, unpack

COUNTS = ("n_hom_ref", "n_het", "n_hom_alt", "n_missing")
DESCRIPTION = ("contig", "position", "ref", "alt", "rsid", "filters", "gene", "consequence")
PARTIAL = "sample_block string, sample_index int, n_het bigint, n_hom_alt bigint, n_called bigint"
_CODES_AT_ONCE = 1 << 22

Sums = npt.NDArray[np.int64]


def count_codes(codes: Codes) -> tuple[int, ...]:
    """`n_hom_ref, n_het, n_hom_alt, n_missing` of one variant's codes."""
    return tuple(np.bincount(codes, minlength=4).tolist())


def summarise_variants(accepted: DataFrame, build: str, samples: int, somatic: bool) -> DataFrame:
    """The `variants` table: counts summed over blocks; described as where the variant came first.

    `samples` is the number of samples in all blocks: a variant without a row in a block is missing
    there. HWE is left out for somatic calls, which are not a population's genotypes.
    """
    first = sf.min_by(sf.struct(*DESCRIPTION), sf.struct("source", "offset", "allele")).alias("first")
    summed = accepted.groupBy("variant_key").agg(first, *(sf.sum(name).alias(name) for name in COUNTS[:3]))
    called = sf.col("n_hom_ref") + sf.col("n_het") + sf.col("n_hom_alt")
    described = summed.select("variant_key", "first.*", *COUNTS[:3], (sf.lit(samples) - called).alias("n_missing"))
    counted = described.withColumns(_frequencies(called, samples)).withColumn("build", sf.lit(build))
    if somatic:
        none = sf.lit(None).cast("double")
        tested = counted.withColumns({"hwe_exact_p": none, "hwe_mid_p": none})
    else:
        tested = with_hwe(counted)
    return tested.select(VARIANTS.schema.names)


def _frequencies(called: Column, samples: int) -> dict[str, Column]:
    allele_count = sf.col("n_het") + 2 * sf.col("n_hom_alt")
    return {
        "allele_count": allele_count,
        "allele_number": 2 * called,
        "allele_frequency": sf.when(called > 0, allele_count / (2 * called)),
        "call_rate": called / sf.lit(samples),
    }


def summarise_samples(genotypes: DataFrame, roster: DataFrame, sizes: Mapping[str, int], tasks: int) -> DataFrame:
    """The `samples` table from packed calls, unpacked in `tasks` tasks that each give one sum per sample.

    `roster` has `sample_block, sample_index, person_key`; `sizes` is the number of samples per block.
    `call_rate` is over the variants that have a row in the sample's block.
    """
    calls = genotypes.select("sample_block", "calls").coalesce(tasks)
    partial = calls.mapInArrow(_SampleSums(dict(sizes)), PARTIAL)
    keys = ["sample_block", "sample_index"]
    sums = partial.groupBy(keys).agg(*(sf.sum(name).alias(name) for name in ("n_het", "n_hom_alt", "n_called")))
    rows = genotypes.groupBy("sample_block").agg(sf.count("*").alias("n_variants"))
    joined = roster.join(sums, keys, "left").join(sf.broadcast(rows), "sample_block", "left")
    called, total = sf.coalesce("n_called", sf.lit(0)), sf.coalesce("n_variants", sf.lit(0))
    return joined.select(
        *keys,
        "person_key",
        sf.when(total > 0, called / total).otherwise(0.0).alias("call_rate"),
        sf.coalesce("n_het", sf.lit(0)).alias("n_het"),
        sf.coalesce("n_hom_alt", sf.lit(0)).alias("n_hom_alt"),
    ).select(SAMPLES.schema.names)


@dataclass(frozen=True)
class _SampleSums:
    """The function that each task runs: packed rows in; PARTIAL, one row per sample of a block, out."""

    sizes: dict[str, int]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums: dict[str, Sums] = {}
        for batch in batches:
            blocks = np.array(batch["sample_block"].to_pylist())
            for block in np.unique(blocks):
                found = count_by_sample(batch["calls"].filter(pa.array(blocks == block)), self.sizes[block])
                sums[block] = sums[block] + found if block in sums else found
        for block, counts in sums.items():
            yield _partial_rows(str(block), counts)


def count_by_sample(calls: pa.Array, samples: int) -> Sums:
    """Heterozygous, homozygous ALT and called variants of each sample: (3, samples).

    `calls` are packed rows of `samples` samples; as many are unpacked at once as memory allows.
    """
    sums = np.zeros((3, samples), np.int64)
    step = max(1, _CODES_AT_ONCE // samples)
    for start in range(0, len(calls), step):
        rows = calls[start : start + step].to_pylist()
        codes = unpack(np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1), samples)
        sums += np.stack([(codes == 1).sum(0), (codes == 2).sum(0), (codes != 3).sum(0)])
    return sums


def _partial_rows(block: str, counts: Sums) -> pa.RecordBatch:
    samples = counts.shape[1]
    columns = [
        pa.array([block]).take(pa.array(np.zeros(samples, np.int64))),
        np.arange(samples, dtype=np.int32),
        *counts,
    ]
    names = ["sample_block", "sample_index", "n_het", "n_hom_alt", "n_called"]
    return pa.RecordBatch.from_arrays([pa.array(column) for column in columns], names=names)
