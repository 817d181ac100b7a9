"""Linkage disequilibrium: which near variants go together, and variants of which no two do.

r2 is the squared correlation of ALT counts over the people called in both, as in `plink1.9 --r2`. The set is
greedy by frequency, so that it hangs neither on where windows begin nor on how the work is cut (clumping on
frequency: Prive et al., Bioinformatics 2018;34:2781).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as sf

from features.genomics.blocks import Masks, batches_by_block, packed_rows
from features.genomics.packing import MISSING, Codes, pack, unpack
from features.lake import broadcast_if_few

LONG_RANGE = {
    "GRCh37": {
        "1": [(48.2, 52.3)],
        "2": [(86.1, 101.2), (134.5, 138.0), (183.2, 190.3)],
        "3": [(47.5, 50.1), (83.4, 87.0), (89.0, 97.5)],
        "5": [(44.4, 50.5), (98.0, 100.5), (128.9, 132.0), (135.5, 138.5)],
        "6": [(25.0, 35.0), (56.8, 64.0), (139.9, 142.5)],
        "7": [(55.0, 66.4)],
        "8": [(7.0, 13.0), (42.8, 49.9), (111.9, 115.0)],
        "10": [(36.9, 43.7)],
        "11": [(46.0, 57.0), (87.8, 90.9)],
        "12": [(33.1, 41.8), (111.0, 113.6)],
        "20": [(32.0, 35.1)],
    },
    "GRCh38": {
        "1": [(47.7, 51.8)],
        "2": [(85.9, 100.6), (133.7, 137.3), (182.4, 189.5)],
        "3": [(47.4, 50.0), (83.3, 86.9), (88.9, 97.8)],
        "5": [(44.4, 51.2), (98.6, 101.2), (129.6, 132.7), (136.1, 139.2)],
        "6": [(25.0, 35.1), (57.2, 64.0), (139.6, 142.2)],
        "7": [(54.9, 66.9)],
        "8": [(7.1, 13.2), (43.0, 49.0), (110.9, 114.0)],
        "10": [(36.6, 43.2)],
        "11": [(45.9, 57.3), (88.1, 91.2)],
        "12": [(32.9, 41.4), (110.6, 113.1)],
        "20": [(33.4, 36.5)],
    },
}
"""Millions of bases where calls go together over many of them: inversions, the HLA, centromeres. An axis of
ancestry would be one of these. Price et al., Am J Hum Genet 2008;83:132, widened to whole tenths."""

_ROWS_AT_ONCE, _PEOPLE_AT_ONCE = 256, 4096
_PAIRS = "contig string, one int, other int"

Above = Callable[[float, str, Codes, int], npt.NDArray[np.bool_]]
"""Whether an r2 is above a limit, in a contig, by codes (variants, people): of each of the first so many rows with
each row; never where a variant does not vary."""


def in_long_range(build: str) -> Column:
    """Whether `contig` and `position` lie in a region of LONG_RANGE."""
    found = sf.lit(False)
    for contig, regions in LONG_RANGE[build].items():
        for first, last in regions:
            inside = sf.col("position").between(int(first * 1e6), int(last * 1e6))
            found |= (sf.col("contig") == contig) & inside
    return found


def pruned(
    genotypes: DataFrame, variants: DataFrame, number: int, people: Masks, window: int, most_r2: float
) -> DataFrame:
    """`variant_key, frequency` of variants no two of which lie at most `window` bases apart with an r2 above
    `most_r2` in these people: of every such pair the more frequent stays, unless one more frequent still took it.

    `variants` are so many rows of `variant_key, contig, position, frequency`.
    """
    ranked = _ranked(variants)
    pairs = linked_pairs(genotypes, ranked, number, people, window, most_r2)
    return ranked.join(taken(pairs, number), "rank", "left_anti").select("variant_key", "frequency")


def _ranked(variants: DataFrame) -> DataFrame:
    """`variants` with `rank`: 0 for the most frequent."""
    rarer = sf.least("frequency", 1 - sf.col("frequency"))
    return ranked_by(variants, sf.struct(-rarer, "variant_key"))


def ranked_by(variants: DataFrame, order: Column) -> DataFrame:
    """`variants` with `rank`: 0 for the first. One task sorts them: a bounded number."""
    return variants.withColumn("rank", (sf.row_number().over(Window.orderBy(order)) - 1).cast("int"))


def taken(pairs: DataFrame, takers: int) -> DataFrame:
    """`rank, by`: variants that another takes, and the rank of that: the first of those linked with it that has
    one of the `takers` first ranks and is not taken itself. `pairs` are those of `linked_pairs`."""
    return pairs.groupBy("contig").applyInPandas(partial(_taken, takers), "rank int, by int")


def correlated(most_r2: float, _: str, codes: Codes, first: int) -> npt.NDArray[np.bool_]:
    """An `Above` by the correlation of ALT counts. Every sum is a whole number, which floats hold exactly, so that
    no order of people changes the answer."""
    n, x, y, xx, yy, xy = (np.zeros((first, len(codes))) for _ in range(6))
    for start in range(0, codes.shape[1], _PEOPLE_AT_ONCE):
        called, count, square = _parts(codes[:, start : start + _PEOPLE_AT_ONCE])
        n += called[:first] @ called.T
        x += count[:first] @ called.T
        y += called[:first] @ count.T
        xx += square[:first] @ called.T
        yy += called[:first] @ square.T
        xy += count[:first] @ count.T
    both: npt.NDArray[np.bool_] = (n * xy - x * y) ** 2 > most_r2 * (n * xx - x * x) * (n * yy - y * y)
    return both


def linked_pairs(
    genotypes: DataFrame,
    ranked: DataFrame,
    number: int,
    people: Masks,
    window: int,
    most_r2: float,
    above: Above = correlated,
) -> DataFrame:
    """`contig, one, other`: ranks of two variants at most `window` bases apart with an r2 above `most_r2`, the
    smaller rank first. `ranked` are so many rows of `variant_key, contig, position, rank`.

    A task takes a window's variants beside those of the next, so that calls are shuffled twice: those of the
    chosen people alone.
    """
    chosen = broadcast_if_few(ranked.select("variant_key", "contig", "position", "rank"), number)
    rows = genotypes.select("variant_key", "sample_block", "calls").join(chosen, "variant_key")
    own = rows.select(*_ROW).mapInArrow(_ChosenPeople(dict(people)), _ROW_DDL)
    home = sf.floor(sf.col("position") / window)
    both = sf.when(home > 0, sf.array(home, home - 1)).otherwise(sf.array(home))
    placed = own.withColumn("home", home).withColumn("segment", sf.explode(both))
    sizes = {block: int(mask.sum()) for block, mask in people.items()}
    return placed.groupBy("contig", "segment").applyInPandas(
        partial(_linked_from, sizes, window, partial(above, most_r2)), _PAIRS
    )


_ROW = ("sample_block", "contig", "position", "rank", "calls")
_ROW_DDL = "sample_block string, contig string, position bigint, rank int, calls binary"


@dataclass(frozen=True)
class _ChosenPeople:
    """The function that each task runs: packed rows of everyone in, of the chosen people out."""

    people: dict[str, npt.NDArray[np.bool_]]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for block, rows in batches_by_block(batches):
            mask = self.people[block]
            packed = pack(unpack(packed_rows(rows["calls"]), len(mask))[:, mask])
            calls = pa.array([row.tobytes() for row in packed], pa.binary())
            yield pa.RecordBatch.from_arrays([*(rows[name] for name in _ROW[:-1]), calls], names=list(_ROW))


def _linked_from(
    people: Mapping[str, int],
    window: int,
    above: Callable[[str, Codes, int], npt.NDArray[np.bool_]],
    rows: pd.DataFrame,
) -> pd.DataFrame:
    """The linked pairs of a window's variants, among themselves and with those of the next."""
    contig = rows["contig"].iloc[0]
    variants = rows.drop_duplicates("rank").sort_values(["position", "rank"])
    position, rank = variants["position"].to_numpy(), variants["rank"].to_numpy()
    own = int((variants["home"] == variants["segment"]).sum())  # they come first
    pairs = linked(_codes(rows, rank, people), position, own, window, partial(above, contig))
    found = [np.sort(rank[pair], axis=0) for pair in pairs]
    one, other = np.concatenate([np.empty((2, 0), rank.dtype), *found], axis=1)
    return pd.DataFrame({"contig": contig, "one": one, "other": other})


def _codes(rows: pd.DataFrame, order: npt.NDArray[np.int32], people: Mapping[str, int]) -> Codes:
    """Codes of the variants in this order and of all people, missing where a block has no row."""
    place = pd.Series(np.arange(len(order)), index=order)
    parts = []
    for block, size in people.items():
        own = rows[rows["sample_block"] == block]
        part = np.full((len(order), size), MISSING, np.uint8)
        for rank, calls in zip(own["rank"], own["calls"], strict=True):
            part[place[rank]] = unpack(calls, size)
        parts.append(part)
    return np.concatenate(parts, axis=1)


def linked(
    codes: Codes,
    position: npt.NDArray[np.int64],
    first: int,
    window: int,
    above: Callable[[Codes, int], npt.NDArray[np.bool_]],
) -> Iterator[npt.NDArray[np.int64]]:
    """(2, n): pairs of rows of `codes` (variants, people; ordered by position) at most `window` bases apart whose
    r2 is `above` a limit; the first of a pair is among the `first` rows."""
    for start in range(0, first, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, first)
        end = int(np.searchsorted(position, position[stop - 1] + window, side="right"))
        high = above(codes[start:end], stop - start)
        distance = position[None, start:end] - position[start:stop, None]
        after = np.arange(start, end)[None, :] > np.arange(start, stop)[:, None]
        one, other = np.nonzero(high & after & (distance <= window))
        yield np.stack([one, other]) + start


def _parts(codes: Codes) -> tuple[npt.NDArray[np.float32], ...]:
    """Called, ALT count and its square, 0 where missing; products of so few are whole in float32."""
    called = codes != MISSING
    count = np.where(called, codes, 0)
    return called.astype(np.float32), count.astype(np.float32), (count * count).astype(np.float32)


def _taken(takers: int, pairs: pd.DataFrame) -> pd.DataFrame:
    """`taken` of one contig."""
    ordered = pairs[pairs["one"] < takers].sort_values(["one", "other"])
    one, other = ordered["one"].to_numpy(), ordered["other"].to_numpy()
    starts = np.flatnonzero(np.diff(one, prepend=-1))
    by: dict[int, int] = {}
    for start, stop in zip(starts, [*starts[1:], len(one)], strict=True):
        taker = int(one[start])
        if taker not in by:
            by.update({rank: taker for rank in other[start:stop].tolist() if rank not in by})
    return pd.DataFrame({"rank": np.array([*by], np.int32), "by": np.array([*by.values()], np.int32)})
