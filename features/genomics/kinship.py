"""How closely people are related: KING's robust estimate from packed calls, as `plink2 --make-king` has it.

Manichaikul et al., Bioinformatics 2010;26:2867. It takes from a pair of people nothing but their own calls, so it
holds where ancestries differ, and wants no pruning. Pairs grow with the square of people: people are cut into
tiles, a task takes one tile beside others, and only relatives leave it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from features.contract.paths import Location
from features.genomics.packing import MISSING, Codes, packed_size, unpack

TILE_BYTES = 256
"""1,024 people: what a product of matrices of two tiles takes fits a task."""
VARIANTS_AT_ONCE = 2048
_BIN_BYTES = 32 << 20
_TILE = ["sample_block", "tile"]

Counts = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Relation(StrEnum):
    """By kinship, each down to the geometric mean of what is expected of it and of the next (KING, table 1)."""

    DUPLICATE = "duplicate"
    """One person under two ids, or identical twins."""
    FIRST = "first_degree"
    SECOND = "second_degree"
    THIRD = "third_degree"
    DISTANT = "distant"


SMALLEST_KINSHIP = {
    Relation.DUPLICATE: 2**-1.5,
    Relation.FIRST: 2**-2.5,
    Relation.SECOND: 2**-3.5,
    Relation.THIRD: 2**-4.5,
}


@dataclass(frozen=True, slots=True)
class PairCounts:
    """For each person of one tile (rows) and each of another (columns): variants called in both, heterozygous in
    both, homozygous for different alleles, heterozygous in the first alone, and in the second alone.

    Whole numbers, as floats hold them exactly up to 2^53.
    """

    both: Counts
    het_het: Counts
    ibs0: Counts
    het_hom: Counts
    hom_het: Counts

    def __add__(self, other: "PairCounts") -> "PairCounts":
        pairs = zip(self.columns(), other.columns(), strict=True)
        return PairCounts(*(one + more for one, more in pairs))

    def columns(self) -> tuple[Counts, ...]:
        return self.both, self.het_het, self.ibs0, self.het_hom, self.hom_het


def count_pairs(first: Codes, second: Codes) -> PairCounts:
    """PairCounts of two tiles over the same variants: codes (variants, people) each."""
    called, het, sign = _indicators(first)
    other_called, other_het, other_sign = _indicators(second)
    both, het_het = called.T @ other_called, het.T @ other_het
    het_any, any_het = het.T @ other_called, called.T @ other_het
    # Of calls homozygous in both, alike less different is the product of signs.
    alike_less_different = sign.T @ other_sign
    hom_hom = both - het_any - any_het + het_het
    ibs0 = (hom_hom - alike_less_different) / 2
    counts = both, het_het, ibs0, het_any - het_het, any_het - het_het
    return PairCounts(*(count.astype(np.float64) for count in counts))


def _indicators(codes: Codes) -> tuple[npt.NDArray[np.float32], ...]:
    """Called, heterozygous, and -1, 0 or 1 for a homozygous call; products of so few are whole in float32."""
    called, het = codes != MISSING, codes == 1
    sign = np.where(called, codes.astype(np.int8) - 1, 0)
    return called.astype(np.float32), het.astype(np.float32), sign.astype(np.float32)


def kinship(counts: PairCounts) -> Counts:
    """KING-robust kinship of each pair, 0.5 for one genome twice; NaN where nobody is heterozygous."""
    fewer = counts.het_het + np.minimum(counts.het_hom, counts.hom_het)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 0.5 - (4 * counts.ibs0 + counts.het_hom + counts.hom_het) / (4 * fewer)
    return np.where(fewer > 0, found, np.nan)


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """People of a block from sample number `tile` times 4 TILE_BYTES on."""

    sample_block: str
    tile: int

    @property
    def first(self) -> int:
        return self.tile * TILE_BYTES * 4


def tiles_of(kept: Mapping[str, Flags]) -> list[Tile]:
    """The tiles that have somebody who is kept, in order."""
    found = [
        Tile(block, number)
        for block, flags in kept.items()
        for number in range(-(-len(flags) // (TILE_BYTES * 4)))
    ]
    return sorted(tile for tile in found if _kept(kept, tile).any())


def write_tiles(genotypes: DataFrame, variants: DataFrame, people: Mapping[str, int], folder: Location) -> None:
    """The calls of these variants (`variant_key`) by tile: `bin, variants, calls`, one file a tile below `folder`.

    A bin holds the same variants in the same order in all tiles; calls (variants x bytes of a tile) are missing
    where a block has no row. `people` is how many each block has.
    """
    width = sum(map(packed_size, people.values()))
    per_bin = min(max(_BIN_BYTES // width, 64), VARIANTS_AT_ONCE)
    bins = -(-variants.count() // per_bin)
    rows = genotypes.select("variant_key", "sample_block", "calls").join(variants, "variant_key")
    binned = rows.withColumn("bin", sf.pmod(sf.xxhash64("variant_key"), sf.lit(bins)).cast("int"))
    schema = "sample_block string, tile int, bin int, variants int, calls binary"
    tiles = binned.groupBy("bin").applyInPandas(_tiles_of_bin, schema)
    tiles.repartition(*_TILE).write.partitionBy(*_TILE).mode("overwrite").parquet(folder.uri)


def _tiles_of_bin(rows: pd.DataFrame) -> pd.DataFrame:
    """A bin's rows of all blocks, cut into tiles."""
    variants, places = np.unique(rows["variant_key"].to_numpy(str), return_inverse=True)
    found = []
    blocks, calls = rows["sample_block"].to_numpy(str), rows["calls"].to_numpy()
    for block in np.unique(blocks):
        own = np.flatnonzero(blocks == block)
        packed = np.frombuffer(b"".join(calls[own]), np.uint8).reshape(len(own), -1)
        whole = np.full((len(variants), packed.shape[1]), 0xFF, np.uint8)
        whole[places[own]] = packed
        for number, start in enumerate(range(0, packed.shape[1], TILE_BYTES)):
            piece = whole[:, start : start + TILE_BYTES].tobytes()
            found.append((str(block), number, int(rows["bin"].iloc[0]), len(variants), piece))
    return pd.DataFrame(found, columns=[*_TILE, "bin", "variants", "calls"])


PAIR = pa.schema(
    [
        ("sample_block_1", pa.string()),
        ("sample_index_1", pa.int32()),
        ("sample_block_2", pa.string()),
        ("sample_index_2", pa.int32()),
        *((name, pa.int64()) for name in ("n_variants", "n_het_het", "n_ibs0", "n_het_hom", "n_hom_het")),
        ("kinship", pa.float64()),
    ]
)


def related_pairs(frame: DataFrame, kept: Mapping[str, Flags], folder: Location, minimum: float) -> DataFrame:
    """PAIR rows of all pairs of people who are kept, with a kinship of `minimum` or more, from what `write_tiles`
    left in `folder`. `frame` has a column `id`, the number of a tile of `tiles_of(kept)`, each of which takes
    itself and half of the others: so no pair comes twice and every tile has as much to do."""
    ddl = ", ".join(f"{field.name} {_SPARK[field.type]}" for field in PAIR)
    return frame.mapInArrow(_Pairs(dict(kept), tiles_of(kept), folder, minimum), ddl)


_SPARK = {pa.string(): "string", pa.int32(): "int", pa.int64(): "bigint", pa.float64(): "double"}


@dataclass(frozen=True)
class _Pairs:
    """The function that each task runs: numbers of tiles in, pairs of relatives out."""

    kept: dict[str, Flags]
    tiles: Sequence[Tile]
    folder: Location
    minimum: float

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch["id"].to_pylist():
                yield from self._of_tile(number)

    def _of_tile(self, number: int) -> Iterator[pa.RecordBatch]:
        own = self._read(self.tiles[number])
        for other in opposite(number, len(self.tiles)):
            calls = own if other == number else self._read(self.tiles[other])
            counts = self._count(own, calls)
            if counts is not None:
                yield self._related(self.tiles[number], self.tiles[other], counts)

    def _read(self, tile: Tile) -> dict[int, npt.NDArray[np.uint8]]:
        """Packed calls of a tile by bin: (variants, bytes)."""
        below = self.folder / f"sample_block={tile.sample_block}/tile={tile.tile}"
        found = {}
        for file in below.files():
            with (below / file.path).open() as stream:
                rows = pq.read_table(stream, columns=["bin", "variants", "calls"])
            for place, variants, calls in zip(*(column.to_pylist() for column in rows.columns), strict=True):
                found[place] = np.frombuffer(calls, np.uint8).reshape(variants, -1)
        return found

    def _count(
        self, first: dict[int, npt.NDArray[np.uint8]], second: dict[int, npt.NDArray[np.uint8]]
    ) -> PairCounts | None:
        """Over the bins that both tiles have; None where there is none."""
        total = None
        for place in sorted(first.keys() & second.keys()):
            counts = count_pairs(*(unpack(calls, calls.shape[1] * 4) for calls in (first[place], second[place])))
            total = counts if total is None else total + counts
        return total

    def _related(self, first: Tile, second: Tile, counts: PairCounts) -> pa.RecordBatch:
        rows, columns = _kept(self.kept, first), _kept(self.kept, second)
        found = kinship(counts)[: len(rows), : len(columns)]
        close = (found >= self.minimum) & rows[:, None] & columns
        if first == second:
            close = np.triu(close, 1)
        one, other = np.nonzero(close)
        return pa.RecordBatch.from_arrays(
            [
                pa.repeat(first.sample_block, len(one)),
                pa.array(one + first.first, pa.int32()),
                pa.repeat(second.sample_block, len(one)),
                pa.array(other + second.first, pa.int32()),
                *(pa.array(count[one, other].astype(np.int64)) for count in counts.columns()),
                pa.array(found[one, other]),
            ],
            schema=PAIR,
        )


def opposite(number: int, tiles: int) -> Iterator[int]:
    """The tiles that tile `number` of so many is compared with: itself, and half way around a circle of all."""
    for step in range(tiles // 2 + 1):
        if 2 * step != tiles or number < step:
            yield (number + step) % tiles


def relation(value: Column) -> Column:
    """The Relation of a kinship."""
    found = sf.lit(Relation.DISTANT.value)
    for name, smallest in reversed(SMALLEST_KINSHIP.items()):
        found = sf.when(value >= smallest, name.value).otherwise(found)
    return found


def _kept(kept: Mapping[str, Flags], tile: Tile) -> Flags:
    """Who of a tile is kept."""
    return kept[tile.sample_block][tile.first : tile.first + TILE_BYTES * 4]
