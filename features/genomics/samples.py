"""The `samples` table: counts over variants for each sample, and the sex that its X tells.

Heterozygous and homozygous calls are counted where the sample has two copies, as `plink2
--sample-counts` does; a call on Y is nothing that a woman could miss.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.schemas import SAMPLES
from features.genomics.blocks import KEYS, batches_by_block, of_samples, packed_rows
from features.genomics.columns import batch_of
from features.genomics.contigs import Region, RegionCounts, region_of
from features.genomics.ordered import in_buckets, ordered_sum
from features.genomics.packing import MISSING, Codes, unpack
from features.genomics.sexes import Sexes, copies

_CALLS = ("n_called", "n_het", "n_hom_alt", "n_het_haploid", "n_transitions", "n_transversions")
SUMS = (*_CALLS, "n_singletons")
PARTIAL = pa.schema([("sample_block", pa.string()), ("sums", pa.binary()), ("regions", pa.list_(pa.int64()))])
"""SUMS of the samples of a block over some of its rows, (7, samples), and how many of these lie in each Region.
Singletons are those of the block: who alone carries a variant there."""
LARGEST_FEMALE_F, SMALLEST_MALE_F = 0.2, 0.8
"""As in `plink1.9 --check-sex`; between them the sex is unknown."""
_KINDS = 3
"""Of substitutions."""
_CODES_AT_ONCE, _ROWS_AT_ONCE = 1 << 18, 255
"""What a core's cache holds; and so many rows that a byte can count them."""

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def summarise_samples(
    sums: DataFrame,
    people: DataFrame,
    regions: RegionCounts,
    x_inbreeding: DataFrame | None,
    somatic: bool,
) -> DataFrame:
    """The `samples` table. `sums` has KEYS, SUMS and what was measured; `people` KEYS, `person_key` and `sex`;
    `regions` tells how many variants are where, and `x_inbreeding` of each sample what they say of its sex.

    A variant without a row in the sample's block is missing there.
    """
    joined = people.join(sums, KEYS, "left").fillna(0, subset=[*SUMS])
    if x_inbreeding is None:
        joined = joined.withColumn("x_inbreeding", sf.lit(None).cast("double"))
    else:
        joined = joined.join(x_inbreeding, KEYS, "left")
    # A tumour's calls on X are what it acquired, and tell no sex.
    f = sf.lit(None).cast("double") if somatic else sf.col("x_inbreeding")
    told = sf.when(f < LARGEST_FEMALE_F, "female").when(f > SMALLEST_MALE_F, "male").otherwise("unknown")
    return joined.withColumns({"call_rate": call_rate(regions), "sex_imputed": told, "x_inbreeding": f}).select(
        SAMPLES.schema.names
    )


def sum_calls(calls: DataFrame, sexes: Mapping[str, Sexes]) -> DataFrame:
    """PARTIAL sums; `calls` has `sample_block, calls, region, substitution, sole_carrier`. A task gives a row for
    each block, of all its samples, so tasks should be few."""
    return calls.mapInArrow(partial(_sum, dict(sexes)), from_arrow_schema(PARTIAL))


def sums_by_sample(partial_sums: DataFrame, before: DataFrame | None = None) -> DataFrame:
    """KEYS and SUMS of every sample, from PARTIAL ones. What was summed `before`, of other calls, is added."""
    ddl = ", ".join(f"{name} bigint" for name in SUMS)
    rows = partial_sums.select(PARTIAL.names[:2]).mapInArrow(
        _by_sample, f"sample_block string, sample_index int, {ddl}"
    )
    every = rows if before is None else rows.unionByName(before.select(rows.columns))
    return every.groupBy(KEYS).agg(*(sf.sum(name).alias(name) for name in SUMS))


def count_regions(variants: DataFrame, build: str) -> RegionCounts:
    """How many of these variants are where."""
    rows = variants.select(region_of(build).alias("region")).groupBy("region").count().collect()
    return Counter({Region(row["region"]): row["count"] for row in rows})


def call_rate(regions: RegionCounts) -> Column:
    """From `n_called` and `sex`: the share of so many variants that was called, of those on Y in men alone."""
    on_y = regions[Region.Y]
    n = sf.lit(regions.total() - on_y) + sf.when(sf.col("sex") == "male", on_y).otherwise(0)
    return sf.when(n > 0, sf.col("n_called") / n).otherwise(0.0)


def count_singletons(genotypes: DataFrame, variants: DataFrame) -> DataFrame:
    """KEYS and `n_singletons`, how many variants only this sample carries, in one copy: alone in its block,
    confirmed over all."""
    carriers = sf.col("n_het") - sf.col("n_het_haploid") + sf.col("n_hom_alt")
    alone = variants.filter(carriers == 1).select("variant_key")
    found = genotypes.filter(sf.col("sole_carrier").isNotNull()).select(
        "variant_key", "sample_block", sf.col("sole_carrier").alias("sample_index")
    )
    return found.join(alone, "variant_key").groupBy(KEYS).agg(sf.count("*").alias("n_singletons"))


def find_inbreeding(genotypes: DataFrame, variants: DataFrame, sizes: Mapping[str, int], build: str) -> DataFrame:
    """KEYS and `x_inbreeding`, F = (O - E) / (N - E) over N calls on X, O of them homozygous, E expected so
    (https://www.cog-genomics.org/plink/1.9/basic_stats#check_sex); null without a call that tells anything."""
    het_free = sf.col("allele_count") - sf.col("n_het_haploid") / 2
    p = het_free / (sf.col("allele_number") - sf.col("n_het_haploid"))
    on_x = variants.filter(region_of(build) == Region.X)
    told = on_x.select("variant_key", (1 - 2 * p * (1 - p)).alias("expected")).filter("expected < 1")
    # So that Spark need not read all calls.
    some = genotypes.filter(sf.col("variant_key").startswith(f"{build}:X:"))
    calls = in_buckets(some.select("variant_key", "sample_block", "calls").join(told, "variant_key"))
    partial = calls.mapInArrow(
        _Homozygosity(dict(sizes)), "sample_block string, sample_index int, n bigint, o bigint, e double"
    )
    sums = partial.groupBy(KEYS).agg(sf.sum("n").alias("n"), sf.sum("o").alias("o"), ordered_sum("e").alias("e"))
    f = (sf.col("o") - sf.col("e")) / (sf.col("n") - sf.col("e"))
    return sums.select(*KEYS, sf.when(sf.col("n") > sf.col("e"), f).alias("x_inbreeding"))


@dataclass(slots=True)
class SampleSums:
    """PARTIAL sums of blocks, over the rows that were added."""

    sexes: Mapping[str, Sexes]
    sums: dict[str, Counts] = field(default_factory=dict)
    regions: dict[str, Counts] = field(default_factory=dict)

    def add(self, rows: pa.RecordBatch) -> None:
        """`sample_block, calls, region, substitution, sole_carrier`."""
        for block, batch in batches_by_block([rows]):
            sexes, regions = self.sexes[block], batch["region"].to_numpy()
            sums = self.sums.setdefault(block, np.zeros((len(SUMS), len(sexes)), np.int64))
            self.regions.setdefault(block, np.zeros(len(Region), np.int64))
            self.regions[block] += np.bincount(regions, minlength=len(Region))
            sums[-1] += np.bincount(batch["sole_carrier"].drop_null(), minlength=len(sexes))
            groups = regions * _KINDS + batch["substitution"].to_numpy()
            for group in np.flatnonzero(np.bincount(groups)):
                place, kind = divmod(int(group), _KINDS)
                chosen = batch["calls"].filter(pa.array(groups == group))
                sums[:-1] += count_by_sample(chosen, sexes, Region(place), kind)

    def partial(self) -> pa.RecordBatch:
        """PARTIAL rows."""
        return batch_of([[*self.sums], [*map(bytes, self.sums.values())], [*self.regions.values()]], PARTIAL)


def _sum(sexes: dict[str, Sexes], batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    found = SampleSums(sexes)
    for rows in batches:
        found.add(rows)
    yield found.partial()


def _by_sample(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for block, stored in zip(batch["sample_block"], batch["sums"], strict=True):
            sums = np.frombuffer(stored.as_buffer(), np.int64).reshape(len(SUMS), -1)
            yield of_samples(block.as_py(), SUMS, sums)


def count_by_sample(calls: pa.Array, sexes: Sexes, place: Region, substitution: int) -> Counts:
    """Of SUMS those of calls over packed rows of one region and kind of substitution: (6, samples)."""
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
