"""How closely people are related: KING's robust estimate from packed calls, as `plink2 --make-king` has it.

Manichaikul et al., Bioinformatics 2010;26:2867. It takes from a pair of people nothing but their own calls, so it
holds where ancestries differ, and wants no pruning. Pairs grow with the square of people: people are cut into
tiles, a task takes one tile beside others, and only relatives leave it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.paths import Location
from features.genomics.columns import sparse
from features.genomics.packing import MISSING, Codes, unpack
from features.genomics.structure.tiles import Tile, read_tile, tiles_of

Counts = npt.NDArray[np.float64]


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


PAIR = pa.schema(
    [
        ("sample_block_1", pa.string()),
        ("sample_index_1", pa.int32()),
        ("sample_block_2", pa.string()),
        ("sample_index_2", pa.int32()),
        *((name, pa.int64()) for name in ("n_variants", "n_het_het", "n_ibs0", "n_het_hom", "n_hom_het")),
        ("kinship", pa.float64()),
        ("n_not_compared", pa.int64()),
    ]
)
"""Two people; or, with `n_not_compared`, how many pairs of people of two blocks have too few calls in both."""


def related_pairs(
    frame: DataFrame, people: Mapping[str, int], folder: Location, minimum: float, variants: int
) -> DataFrame:
    """PAIR rows of all pairs of people with a kinship of `minimum` or more and that many variants called in both,
    from what `write_tiles` left in `folder`; of whoever has fewer called, as a pair with themselves; and how many
    pairs have.

    `frame` has a column `id`, the number of a tile of `tiles_of(people)`, each of which takes itself and half of
    the others: so no pair comes twice and every tile has as much to do.
    """
    return frame.mapInArrow(_Pairs(tiles_of(people), folder, minimum, variants), from_arrow_schema(PAIR))


@dataclass(frozen=True)
class _Pairs:
    """The function that each task runs: numbers of tiles in, pairs of relatives out."""

    tiles: Sequence[Tile]
    folder: Location
    minimum: float
    variants: int

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch["id"].to_pylist():
                yield from self._of_tile(number)

    def _of_tile(self, number: int) -> Iterator[pa.RecordBatch]:
        tile = self.tiles[number]
        own = read_tile(self.folder, tile)
        for step in opposite(number, len(self.tiles)):
            other = self.tiles[step]
            calls = own if other == tile else read_tile(self.folder, other)
            pairs = (
                count_pairs(unpack(own[place], tile.people), unpack(calls[place], other.people)) for place in own
            )
            yield from self._related(tile, other, reduce(PairCounts.__add__, pairs))

    def _related(self, first: Tile, second: Tile, counts: PairCounts) -> Iterator[pa.RecordBatch]:
        found = kinship(counts)
        enough = counts.both >= self.variants
        close, too_few = (found >= self.minimum) & enough, ~enough
        if first == second:
            close = np.triu(close, 1) | np.diag(too_few.diagonal())
            too_few = np.triu(too_few, 1)
        if too_few.any():
            blocks = {"sample_block_1": [first.sample_block], "sample_block_2": [second.sample_block]}
            yield sparse(PAIR, **blocks, n_not_compared=[int(too_few.sum())])
        one, other = np.nonzero(close)
        yield pa.RecordBatch.from_arrays(
            [
                pa.repeat(first.sample_block, len(one)),
                pa.array(one + first.first, pa.int32()),
                pa.repeat(second.sample_block, len(one)),
                pa.array(other + second.first, pa.int32()),
                *(pa.array(count[one, other].astype(np.int64)) for count in counts.columns()),
                pa.array(found[one, other]),
                pa.nulls(len(one), pa.int64()),
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
