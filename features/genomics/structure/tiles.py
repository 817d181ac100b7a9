"""Calls by tile: so many people of a block, and all variants that an analysis of people wants of them.

`genotypes` has a row for a variant; what compares people with people reads whole people, again and again. One
shuffle of the packed calls makes the tiles, in a folder that the job's tasks share.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as sf

from features.contract.errors import ClusterError
from features.contract.paths import Location
from features.genomics.packing import packed_size
from features.lake import broadcast_if_few

TILE_BYTES = 256
"""1,024 people: what a product of matrices of two tiles takes fits a task."""
VARIANTS_AT_ONCE = 2048
_BIN_BYTES, _ROW_BYTES = 32 << 20, 300
"""What a task may hold of a bin, and what a row takes beside its calls."""
_TILE = ["sample_block", "tile"]


@dataclass(frozen=True, slots=True)
class Tile:
    """So many people of a block, from sample number `number` times 4 TILE_BYTES on."""

    sample_block: str
    number: int
    people: int

    @property
    def first(self) -> int:
        return self.number * TILE_BYTES * 4


def tiles_of(people: Mapping[str, int]) -> list[Tile]:
    """The tiles of blocks of so many people; a block has its own, however few it has."""
    whole = TILE_BYTES * 4
    return [
        Tile(block, number, min(whole, size - first))
        for block, size in sorted(people.items())
        for number, first in enumerate(range(0, size, whole))
    ]


def numbered(variants: DataFrame) -> DataFrame:
    """`variant_key, place`: in the order of their keys, from 0 on. One task sorts them: a bounded number."""
    place = sf.row_number().over(Window.orderBy("variant_key")) - 1
    return variants.select("variant_key", place.alias("place"))


def write_tiles(
    genotypes: DataFrame, variants: DataFrame, number: int, people: Mapping[str, int], folder: Location
) -> None:
    """The calls of these variants (`variant_key, place`: 0 to `number` - 1) by tile: `place, calls`, one file a
    tile below `folder`.

    A row is a bin: the variants from `place` on, the same in all tiles; calls (variants x bytes of a tile) are
    missing where a block has no row. `people` is how many each block has.
    """
    per_variant = sum(packed_size(size) + _ROW_BYTES for size in people.values())
    size = min(max(_BIN_BYTES // per_variant, 1), VARIANTS_AT_ONCE)
    rows = genotypes.select("variant_key", "sample_block", "calls").join(
        broadcast_if_few(variants, number), "variant_key"
    )
    binned = rows.withColumn("bin", sf.floor(sf.col("place") / size) * size)
    schema = "sample_block string, tile int, place int, calls binary"
    tiles = binned.groupBy("bin").applyInPandas(partial(_tiles_of_bin, dict(people), size, number), schema)
    tiles.repartition(*_TILE).write.partitionBy(*_TILE).mode("overwrite").parquet(folder.uri)


def _tiles_of_bin(people: Mapping[str, int], size: int, number: int, rows: pd.DataFrame) -> pd.DataFrame:
    """A bin's rows cut into tiles, those of blocks that have no row in it too."""
    first = int(rows["bin"].iloc[0])
    places, calls = rows["place"].to_numpy() - first, rows["calls"].to_numpy()
    own = rows.groupby("sample_block").indices
    found = []
    for block, persons in people.items():
        whole = np.full((min(size, number - first), packed_size(persons)), 0xFF, np.uint8)
        if block in own:
            packed = np.frombuffer(b"".join(calls[own[block]]), np.uint8)
            whole[places[own[block]]] = packed.reshape(-1, whole.shape[1])
        for tile, start in enumerate(range(0, whole.shape[1], TILE_BYTES)):
            found.append((block, tile, first, whole[:, start : start + TILE_BYTES].tobytes()))
    return pd.DataFrame(found, columns=[*_TILE, "place", "calls"])


def read_tile(folder: Location, tile: Tile) -> dict[int, npt.NDArray[np.uint8]]:
    """Packed calls of a tile (variants, bytes) by the place of the first variant; all tiles have the same."""
    below = folder / f"sample_block={tile.sample_block}/tile={tile.number}"
    found = {}
    for file in below.files():
        with (below / file.path).open() as stream:
            rows = pq.read_table(stream, columns=["place", "calls"])
        for place, calls in zip(rows["place"].to_pylist(), rows["calls"].to_pylist(), strict=True):
            found[place] = np.frombuffer(calls, np.uint8).reshape(-1, packed_size(tile.people))
    if not found:
        raise ClusterError(
            f"{below.uri}: what this job had put there is gone; let no other process clean the lake"
        )
    return found
