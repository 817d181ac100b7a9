"""What scores weigh at each variant, from the lines that were matched to it.

A variant's entries are bytes, for Java would take as long over ten million structs as everything else does.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from features.genomics.contigs import Region, region_of
from features.genomics.polygenic.match import Matches, Sites
from features.genomics.sealed import joined

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
ENTRY = np.dtype([("score", "<i4"), ("step", "<f8")])
"""Of a score, by its number, at a variant: what the first ALT adds (w1 - w0)."""
BEND = np.dtype([("score", "<i4"), ("bend", "<f8"), ("haploid", "<f8")])
"""Where not every ALT adds the same: what the second one adds to that (w2 - 2 w1 + w0), and what the ALT
of who has one copy does."""
WEIGHED = pa.schema(
    [
        ("variant_key", pa.string()),
        ("region", pa.int32()),
        ("mean", pa.float64()),
        ("mean_two", pa.float64()),
        ("entries", pa.binary()),
        ("bends", pa.binary()),
    ]
)
"""A variant that counts: the means of its ALT count and of max(count - 1, 0) in people with two copies, and its
ENTRYs and BENDs."""


@dataclass(frozen=True, slots=True)
class Weighing:
    """What lines weigh at variants, by these numbers and those of scores: the fields of ENTRY and BEND, but of who
    has one copy the whole step, and what no ALT weighs in who has `two` copies and in who has `one`."""

    variant: Numbers
    score: Numbers
    step: Floats
    bend: Floats
    haploid_step: Floats
    two: Floats
    one: Floats


def with_means(variants: DataFrame, build: str) -> DataFrame:
    """`region, mean, mean_two` of WEIGHED beside the key, contig and position of variants."""
    p = sf.col("allele_frequency")
    two = sf.when(sf.col("region") == Region.DIPLOID, sf.col("mean_excess")).otherwise(p * p)
    return variants.withColumn("region", region_of(build)).select(
        "variant_key", "contig", "position", "region", (2 * p).alias("mean"), two.alias("mean_two")
    )


def weigh(found: Matches, numbers: Numbers, weights: Floats, sites: Sites) -> Weighing:
    """Of the matched lines, each of the score of its number and with `weights` (3, lines) of 0, 1 and 2 effect
    alleles: first what they weigh at the variant they name, in the order of lines, and then at others.

    REF's count is what the ALTs of its site leave: its weights go, turned round, to the ALT that the line
    names, and where there are others, less one weight a copy, to each of them.
    """
    used = np.flatnonzero(found.known)
    variant, number, is_ref = found.variants[used], numbers[used], found.effect_is_ref[used]
    w0, w1, w2 = (column[used] for column in weights)
    others, source = _others(variant, is_ref, sites)
    less, nothing = (w0 - w1)[source], np.zeros(len(source))
    return Weighing(
        np.append(variant, others),
        np.append(number, number[source]),
        np.append(np.where(is_ref, w1 - w2, w1 - w0), less),
        np.append(w2 - 2 * w1 + w0, nothing),
        np.append(np.where(is_ref, w0 - w1, w1 - w0), less),
        np.append(np.where(is_ref, w2, w0), nothing),
        np.append(np.where(is_ref, w1, w0), nothing),
    )


def _others(variant: Numbers, is_ref: npt.NDArray[np.bool_], sites: Sites) -> tuple[Numbers, Numbers]:
    """The other variants of the sites where REF has the weight, and which line each is of."""
    lines = np.flatnonzero(is_ref & (sites.sizes[variant] > 1))
    sizes = sites.sizes[variant[lines]]
    source = np.repeat(lines, sizes)
    within = np.arange(len(source)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    member = sites.start[variant[source]] + within
    other = member != variant[source]
    return member[other], source[other]


def means(found: Weighing, usable: pa.Table, scores: int) -> dict[Region, Floats]:
    """What two copies and what one have in each score, (2, scores), if every call is the mean: a region's sum over
    its variants. `usable` has `region, mean, mean_two` of each variant."""
    regions = usable["region"].fill_null(0).to_numpy()[found.variant]  # not null of what is weighed
    mean, mean_two = (usable[name].to_numpy()[found.variant] for name in ("mean", "mean_two"))
    two = found.two + mean * found.step + mean_two * found.bend
    one = found.one + mean / 2 * found.haploid_step
    sums = {}
    for region in np.flatnonzero(np.bincount(regions)):
        chosen = np.flatnonzero(regions == region)
        by_score = [np.bincount(found.score[chosen], value[chosen], scores) for value in (two, one)]
        sums[Region(int(region))] = np.stack(by_score).astype(np.float64, copy=False)
    return sums


def weighed_rows(found: Weighing, usable: pa.Table) -> pa.Table:
    """WEIGHED rows, in the order of variants."""
    order = np.argsort(found.variant.astype(np.min_scalar_type(len(usable))), kind="stable")
    bent = order[((found.bend != 0) | (found.haploid_step != found.step))[order]]
    entries, bends = np.empty(len(order), ENTRY), np.empty(len(bent), BEND)
    entries["score"], entries["step"] = found.score[order], found.step[order]
    bends["score"], bends["bend"] = found.score[bent], found.bend[bent]
    bends["haploid"] = (found.haploid_step - found.step)[bent]
    counts = np.bincount(found.variant)
    numbers, bent_counts = np.flatnonzero(counts), np.bincount(found.variant[bent], minlength=len(counts))
    rows = usable.select(WEIGHED.names[:-2]).take(pa.array(numbers))
    for name, packed, own in (("entries", entries, counts), ("bends", bends, bent_counts)):
        rows = rows.append_column(name, joined(packed.tobytes(), own[numbers] * packed.itemsize))
    return rows.cast(WEIGHED)
