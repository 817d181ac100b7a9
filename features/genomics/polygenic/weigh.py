"""What scores weigh at each variant, from the lines that were matched to it.

A variant's entries are bytes, for Java would take as long over ten million structs as everything else does.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from features.genomics.contigs import Region
from features.genomics.polygenic.match import Matches, Sites
from features.genomics.summarise import region_of

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
ENTRY = np.dtype([("score", "<i4"), ("step", "<f8"), ("bend", "<f8"), ("haploid_step", "<f8")])
"""Of a score, by its number, at a variant: what the first ALT adds (w1 - w0), what the second one adds to that
(w2 - 2 w1 + w0), and what the ALT of who has one copy adds."""
Entries = np.ndarray[tuple[int], np.dtype[np.void]]
WEIGHED = pa.schema(
    [
        ("variant_key", pa.string()),
        ("region", pa.int32()),
        ("mean", pa.float64()),
        ("mean_two", pa.float64()),
        ("entries", pa.binary()),
    ]
)
"""A variant that counts: the means of its ALT count and of max(count - 1, 0) in people with two copies, and its
ENTRYs."""


def with_means(variants: DataFrame, build: str) -> DataFrame:
    """`region, mean, mean_two` of WEIGHED beside the key, contig and position of variants."""
    p = sf.col("allele_frequency")
    two = sf.when(sf.col("region") == Region.DIPLOID, sf.col("mean_excess")).otherwise(p * p)
    return variants.withColumn("region", region_of(build)).select(
        "variant_key", "contig", "position", "region", (2 * p).alias("mean"), two.alias("mean_two")
    )


def weigh(found: Matches, numbers: Numbers, weights: Floats, sites: Sites) -> tuple[Numbers, Entries, Floats]:
    """Of the matched lines, each of the score of its number and with `weights` of 0, 1 and 2 effect alleles: every
    entry's variant, the entry, and what no ALT weighs in who has two copies and in who has one; (entries, 2) of
    these. They are in the order of variants; at each come those of lines that name it, and then the others, in the
    order of lines.

    REF's count is what the ALTs of its site leave: its weights go, turned round, to the ALT that the line
    names, and where there are others, less one weight a copy, to each of them.
    """
    used = found.known
    variant, number, is_ref = found.variants[used], numbers[used], found.effect_is_ref[used]
    w0, w1, w2 = (column[used] for column in weights.T)
    others, source = _others(variant, is_ref, sites)
    less = (w0 - w1)[source]
    every = np.append(variant, others)
    entries, bases = np.zeros(len(every), ENTRY), np.zeros((len(every), 2))
    entries["score"] = np.append(number, number[source])
    entries["step"] = np.append(np.where(is_ref, w1 - w2, w1 - w0), less)
    entries["bend"][: len(variant)] = w2 - 2 * w1 + w0
    entries["haploid_step"] = np.append(np.where(is_ref, w0 - w1, w1 - w0), less)
    bases[: len(variant), 0] = np.where(is_ref, w2, w0)
    bases[: len(variant), 1] = np.where(is_ref, w1, w0)
    order = np.argsort(every.astype(np.min_scalar_type(len(sites.places))), kind="stable")
    return every[order], entries[order], bases[order]


def _others(variant: Numbers, is_ref: npt.NDArray[np.bool_], sites: Sites) -> tuple[Numbers, Numbers]:
    """The other variants of the sites where REF has the weight, and which line each is of."""
    lines = np.flatnonzero(is_ref)
    sizes = sites.sizes[variant[lines]]
    source = np.repeat(lines, sizes)
    within = np.arange(len(source)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    member = sites.start[variant[source]] + within
    other = member != variant[source]
    return member[other], source[other]


def means(
    variant: Numbers, entries: Entries, bases: Floats, usable: pa.Table, scores: int
) -> dict[Region, Floats]:
    """What two copies and what one have in each score, (2, scores), if every call is the mean: a region's sum over
    its variants. `usable` has `region, mean, mean_two` of each variant."""
    regions, mean, mean_two = (usable[name].to_numpy()[variant] for name in ("region", "mean", "mean_two"))
    two = bases[:, 0] + mean * entries["step"] + mean_two * entries["bend"]
    one = bases[:, 1] + mean / 2 * entries["haploid_step"]
    return {
        Region(int(region)): np.stack(
            [_by_score(entries, value, regions == region, scores) for value in (two, one)]
        )
        for region in np.unique(regions)
    }


def _by_score(entries: Entries, values: Floats, chosen: npt.NDArray[np.bool_], scores: int) -> Floats:
    return np.bincount(entries["score"][chosen], values[chosen], scores).astype(np.float64, copy=False)


def weighed_rows(variant: Numbers, entries: Entries, usable: pa.Table) -> pa.Table:
    """WEIGHED rows, from entries in the order of variants."""
    numbers, first = np.unique(variant, return_index=True)
    lengths = np.diff(np.append(first, len(entries))) * ENTRY.itemsize
    rows = usable.select(WEIGHED.names[:-1]).take(pa.array(numbers))
    offsets = pa.array(np.append(0, np.cumsum(lengths)).astype(np.int32))
    packed = pa.BinaryArray.from_buffers(
        pa.binary(), len(numbers), [None, offsets.buffers()[1], pa.py_buffer(entries.tobytes())]
    )
    return rows.append_column("entries", packed).cast(WEIGHED)
