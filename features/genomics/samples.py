"""The `samples` table: counts over variants for each sample, and the sex that its X tells.

Heterozygous and homozygous calls are counted where the sample has two copies, as `plink2
--sample-counts` does; a call on Y is nothing that a woman could miss.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from features.contract.schemas import SAMPLES
from features.genomics.blocks import KEYS, batches_by_block, of_samples, packed_rows
from features.genomics.contigs import Region
from features.genomics.ordered import in_buckets, ordered_sum
from features.genomics.packing import MISSING, Codes, unpack
from features.genomics.sexes import Sexes, copies
from features.genomics.summarise import region_of

SUMS = ("n_called", "n_het", "n_hom_alt", "n_het_haploid", "n_transitions", "n_transversions")
LARGEST_FEMALE_F, SMALLEST_MALE_F = 0.2, 0.8
"""As in `plink1.9 --check-sex`; between them the sex is unknown."""
_CODES_AT_ONCE, _ROWS_AT_ONCE = 1 << 18, 255
"""What a core's cache holds; and so many rows that a byte can count them."""

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def summarise_samples(
    rows: DataFrame,
    sums: DataFrame,
    variants: DataFrame,
    people: DataFrame,
    sizes: Mapping[str, int],
    build: str,
    somatic: bool,
) -> DataFrame:
    """The `samples` table. `rows` has `variant_key, sample_block, calls, sole_carrier` for each variant and block,
    which is of so many samples (`sizes`); `sums` KEYS, SUMS and what was measured; `people` KEYS, `person_key` and
    `sex`; `variants` is the table.

    A variant without a row in the sample's block is missing there.
    """
    joined = people.join(sums, KEYS, "left").join(_singletons(rows, variants), KEYS, "left")
    joined = joined.join(_inbreeding(rows, variants, sizes, build), KEYS, "left").fillna(
        0, subset=[*SUMS, "n_singletons"]
    )
    # A tumour's calls on X are what it acquired, and tell no sex.
    f = sf.lit(None).cast("double") if somatic else sf.col("x_inbreeding")
    told = sf.when(f < LARGEST_FEMALE_F, "female").when(f > SMALLEST_MALE_F, "male").otherwise("unknown")
    return joined.withColumns(
        {"call_rate": call_rate(variants, build), "sex_imputed": told, "x_inbreeding": f}
    ).select(SAMPLES.schema.names)


def sums_by_sample(calls: DataFrame, sexes: Mapping[str, Sexes], before: DataFrame | None = None) -> DataFrame:
    """KEYS and SUMS of every sample; `calls` has `sample_block, calls, region, substitution`. A task gives one row
    per sample, so tasks should be few. What was summed `before`, of other calls, is added."""
    ddl = ", ".join(f"{name} bigint" for name in SUMS)
    partial = calls.mapInArrow(_Sums(dict(sexes)), f"sample_block string, sample_index int, {ddl}")
    every = partial if before is None else partial.unionByName(before.select(partial.columns))
    return every.groupBy(KEYS).agg(*(sf.sum(name).alias(name) for name in SUMS))


def call_rate(variants: DataFrame, build: str) -> Column:
    """From `n_called` and `sex`: the share of these variants that was called, of those on Y in men alone."""
    regions = variants.select(region_of(build).alias("region")).groupBy("region").count().collect()
    by_region = {row["region"]: row["count"] for row in regions}
    on_y = by_region.pop(Region.Y, 0)
    n = sf.lit(sum(by_region.values())) + sf.when(sf.col("sex") == "male", on_y).otherwise(0)
    return sf.when(n > 0, sf.col("n_called") / n).otherwise(0.0)


def substitution() -> Column:
    """1 for a transition, 2 for a transversion, 0 for what is no single base for another."""
    pair = sf.concat(sf.col("ref"), sf.col("alt"))
    single = pair.rlike("^[ACGT]{2}$")
    return sf.when(pair.isin("AG", "GA", "CT", "TC"), 1).when(single, 2).otherwise(0)


def _singletons(rows: DataFrame, variants: DataFrame) -> DataFrame:
    """How many variants only this sample carries, in one copy: alone in its block, confirmed over all."""
    carriers = sf.col("n_het") - sf.col("n_het_haploid") + sf.col("n_hom_alt")
    alone = variants.filter(carriers == 1).select("variant_key")
    found = rows.filter(sf.col("sole_carrier").isNotNull()).select(
        "variant_key", "sample_block", sf.col("sole_carrier").alias("sample_index")
    )
    return found.join(alone, "variant_key").groupBy(KEYS).agg(sf.count("*").alias("n_singletons"))


def _inbreeding(rows: DataFrame, variants: DataFrame, sizes: Mapping[str, int], build: str) -> DataFrame:
    """KEYS and `x_inbreeding`, F = (O - E) / (N - E) over N calls on X, O of them homozygous, E expected so
    (https://www.cog-genomics.org/plink/1.9/basic_stats#check_sex); null without a call that tells anything."""
    het_free = sf.col("allele_count") - sf.col("n_het_haploid") / 2
    p = het_free / (sf.col("allele_number") - sf.col("n_het_haploid"))
    on_x = variants.filter(region_of(build) == Region.X)
    told = on_x.select("variant_key", (1 - 2 * p * (1 - p)).alias("expected")).filter("expected < 1")
    some = rows.filter(sf.col("variant_key").startswith(f"{build}:X:"))  # so that Spark need not read all calls
    calls = in_buckets(some.select("variant_key", "sample_block", "calls").join(told, "variant_key"))
    partial = calls.mapInArrow(
        _Homozygosity(dict(sizes)), "sample_block string, sample_index int, n bigint, o bigint, e double"
    )
    sums = partial.groupBy(KEYS).agg(sf.sum("n").alias("n"), sf.sum("o").alias("o"), ordered_sum("e").alias("e"))
    f = (sf.col("o") - sf.col("e")) / (sf.col("n") - sf.col("e"))
    return sums.select(*KEYS, sf.when(sf.col("n") > sf.col("e"), f).alias("x_inbreeding"))


@dataclass(frozen=True)
class _Sums:
    """The function that each task runs: packed rows in; SUMS, one row per sample of a block, out."""

    sexes: dict[str, Sexes]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums = {block: np.zeros((len(SUMS), len(sexes)), np.int64) for block, sexes in self.sexes.items()}
        for block, batch in batches_by_block(batches):
            regions, substitutions = batch["region"].to_numpy(), batch["substitution"].to_numpy()
            for place in Region:
                for kind in (0, 1, 2):
                    chosen = batch["calls"].filter(pa.array((regions == place) & (substitutions == kind)))
                    sums[block] += count_by_sample(chosen, self.sexes[block], place, kind)
        for block, found in sums.items():
            yield of_samples(block, SUMS, found)


def count_by_sample(calls: pa.Array, sexes: Sexes, place: Region, substitution: int) -> Counts:
    """SUMS of each sample over packed rows of one region and kind of substitution: (6, samples)."""
    diploid, haploid = copies(sexes, place)
    n_het, n_hom_alt, n_called = _count(calls, len(sexes))
    carried = (n_het + n_hom_alt) * diploid
    return np.stack(
        [
            n_called * (diploid | haploid),
            n_het * diploid,
            n_hom_alt * diploid,
            n_het * haploid,
            carried * (substitution == 1),
            carried * (substitution == 2),
        ]
    )


def _count(calls: pa.Array, samples: int) -> Counts:
    """Heterozygous, homozygous ALT and called variants of each sample: (3, samples)."""
    sums = np.zeros((3, samples), np.int64)
    for codes in _unpacked(calls, samples):
        sums += [calls.sum(0, dtype=np.uint8) for calls in (codes == 1, codes == 2, codes != MISSING)]
    return sums


@dataclass(frozen=True)
class _Homozygosity:
    """The function that each task runs: packed rows on X in; N, O and E of each sample out."""

    sizes: dict[str, int]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums = {block: np.zeros((3, size)) for block, size in self.sizes.items()}
        for block, batch in batches_by_block(batches):
            expected, start = batch["expected"].to_numpy(), 0
            for codes in _unpacked(batch["calls"], self.sizes[block]):
                called = codes != MISSING
                e = expected[start : start + len(codes)] @ called
                sums[block] += np.stack([called.sum(0), (called & (codes != 1)).sum(0), e])
                start += len(codes)
        for block, (n, o, e) in sums.items():
            yield of_samples(block, "noe", [n.astype(np.int64), o.astype(np.int64), e])


def _unpacked(calls: pa.Array, samples: int) -> Iterator[Codes]:
    """Packed rows as codes (rows, samples), as many at once as fit the constants above."""
    step = min(max(1, _CODES_AT_ONCE // samples), _ROWS_AT_ONCE)
    for start in range(0, len(calls), step):
        yield unpack(packed_rows(calls[start : start + step]), samples)
