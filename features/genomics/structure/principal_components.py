"""Principal components of genomes: axes along which unrelated people differ most, and where anybody lies on them.

As `plink2 --pca`: an ALT count is centred at twice the allele's frequency and divided by what its spread is in
Hardy-Weinberg proportions, a missing one is 0, and the axes are the leading eigenvectors of the product of that
matrix with itself. Tasks hold people, the driver variants, of which there is a bounded number: it knows the
product only by what it makes of a few vectors, and each such pass reads every tile once.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.paths import Location
from features.genomics.packing import MISSING, Codes, unpack
from features.genomics.structure.tiles import Tile, read_tile, tiles_of

log = logging.getLogger("riskloom")
TOLERANCE = 1e-5
"""Of an eigenvalue: what its vector may be off by, when it is multiplied. float32 sums give no more."""
SMALLEST_VALUE = 1e-3
"""Of the largest eigenvalue: smaller ones are nothing beside it."""
MOST_PASSES = 60
MOST_BLOCKS = 10
"""So many are kept, then the best of what they tell: memory on the driver."""
SMALLEST_SHARE = 0.5
"""Of the axes' variants: from fewer calls nobody is placed."""
SMALLEST_WEIGHT = 0.1
"""Of an axis' squared loadings, in what a person has called: from less the place on it would be noise."""

Matrix = npt.NDArray[np.float64]
Calls = dict[int, npt.NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Axes:
    """`mean` and `scale` (variants) standardise ALT counts, `loadings` (variants, components) are unit vectors at
    right angles, `eigenvalues` (components) those of the people's relationship matrix, as plink2 prints them."""

    mean: Matrix
    scale: Matrix
    loadings: Matrix
    eigenvalues: Matrix


def leading(
    multiply: Callable[[Matrix], Matrix], size: int, number: int, most_passes: int = MOST_PASSES
) -> tuple[Matrix, Matrix]:
    """The `number` largest eigenvalues (number) and vectors (size, number) of a symmetric matrix without negative
    ones, of which only the product with (size, 2 number) is known.

    Block Lanczos with every vector kept at right angles to all (Golub, Van Loan, Matrix Computations, 10.3). A
    vector's sign is that of its largest entry.
    """
    width = min(2 * number, size)
    block = np.linalg.qr(np.random.default_rng(0).standard_normal((size, width)))[0]
    basis, small = np.empty((size, 0)), np.empty((0, 0))
    values, vectors = np.empty(0), np.empty((0, 0))
    for number_of_pass in range(1, most_passes + 1):
        if basis.shape[1] >= MOST_BLOCKS * width:
            basis, small = basis @ vectors[:, :width], np.diag(values[:width])
        image = multiply(block)
        basis = np.concatenate([basis, block], axis=1)
        new = basis.T @ image
        rest = image - basis @ new
        small = np.block([[small, new[: len(small)]], [new[: len(small)].T, new[len(small) :]]])
        values, vectors = np.linalg.eigh((small + small.T) / 2)
        values, vectors = values[::-1], vectors[:, ::-1]
        further, left = np.linalg.qr(rest - basis @ (basis.T @ rest))
        off = np.linalg.norm(left @ vectors[-block.shape[1] :, :number], axis=0) / values[0]
        log.info("principal components: pass %d, off by at most %.0e", number_of_pass, off.max())
        room = size - basis.shape[1]
        if not room or (off <= TOLERANCE * np.maximum(values[:number] / values[0], SMALLEST_VALUE)).all():
            break
        # Where little is left, what QR fills up with may lie in the basis.
        block = np.linalg.qr(further - basis @ (basis.T @ further))[0][:, :room]
    else:
        log.warning("principal components: still off by %.0e of the first; the last are noise", off.max())
    values, found = values[:number], basis @ vectors[:, :number]
    signs = np.sign(found[np.abs(found).argmax(0), np.arange(number)])
    return values, found * signs


@dataclass(frozen=True)
class Passes:
    """What the tasks make of the tiles in `folder`: each of `tiles_of(people)` is read once in a pass.

    `chosen` are the people of each block whom the axes are made of; `variants` is how many the tiles have.
    """

    frame: DataFrame
    people: Mapping[str, int]
    chosen: Mapping[str, npt.NDArray[np.bool_]]
    folder: Location
    variants: int

    def axes(self, number: int, frequency: Matrix) -> Axes:
        """That many axes; `frequency` (variants) is that of ALT among the chosen, and a variant that does not vary
        among them has no part in the axes."""
        spread = np.sqrt(2 * frequency * (1 - frequency))
        scale = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)
        vary = int((scale > 0).sum())

        def multiply(vectors: Matrix) -> Matrix:
            return self._summed(_Product(2 * frequency, scale, vectors))

        values, loadings = leading(multiply, self.variants, number)
        loadings[scale == 0] = 0  # but for rounding they are
        return Axes(2 * frequency, scale, loadings, values / vary)

    def placed(self, axes: Axes) -> DataFrame:
        """`sample_block, sample_index, n_called, components` of everyone; null for who has too few calls."""
        return self.frame.mapInArrow(_Placed(self._tiles(), self.folder, axes), from_arrow_schema(_PLACED))

    def _tiles(self) -> list[Tile]:
        return tiles_of(self.people)

    def _summed(self, product: "_Product") -> Matrix:
        """The product over all chosen people."""
        task = _Sums(self._tiles(), dict(self.chosen), self.folder, product)
        rows = self.frame.mapInArrow(task, "place int, tile int, sums binary")
        total = rows.groupBy("place").applyInPandas(_add, "place int, sums binary")
        found = np.zeros_like(product.vectors)
        for row in total.collect():  # a bounded number of variants
            sums = np.frombuffer(row["sums"]).reshape(-1, found.shape[1])
            found[row["place"] : row["place"] + len(sums)] = sums
        return found


def _add(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.sort_values("tile")  # the same sum whatever task is done first
    total = np.sum([np.frombuffer(sums) for sums in rows["sums"]], axis=0)
    return pd.DataFrame({"place": rows["place"].iloc[:1], "sums": [total.tobytes()]})


@dataclass(frozen=True)
class _Sums:
    """The function that each task runs: numbers of tiles in, sums over their people by place out."""

    tiles: Sequence[Tile]
    chosen: dict[str, npt.NDArray[np.bool_]]
    folder: Location
    product: "_Product"

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        total: dict[int, Matrix] = {}
        numbers = [number for batch in batches for number in batch["id"].to_pylist()]
        for tile in (self.tiles[number] for number in numbers):
            mask = self.chosen[tile.sample_block][tile.first : tile.first + tile.people]
            for place, sums in self.product(read_tile(self.folder, tile), tile, mask) if mask.any() else ():
                total[place] = total[place] + sums if place in total else sums
        for place, sums in total.items():
            where = {
                name: pa.array([number], pa.int32()) for name, number in (("place", place), ("tile", numbers[0]))
            }
            yield pa.RecordBatch.from_pydict(where | {"sums": [sums.tobytes()]})


def standardised(codes: Codes, mean: Matrix, scale: Matrix) -> npt.NDArray[np.float32]:
    """(variants, people): 0 where a call is missing."""
    values = (np.arange(4) - mean[:, None]) * scale[:, None]
    values[:, MISSING] = 0
    return np.take_along_axis(values.astype(np.float32), codes, 1)


@dataclass(frozen=True)
class _Product:
    """The standardised matrix's product with itself, times `vectors`: people are summed over at last."""

    mean: Matrix
    scale: Matrix
    vectors: Matrix

    def __call__(self, calls: Calls, tile: Tile, chosen: npt.NDArray[np.bool_]) -> Iterator[tuple[int, Matrix]]:
        def values(place: int) -> tuple[slice, npt.NDArray[np.float32]]:
            rows = slice(place, place + len(calls[place]))
            codes = unpack(calls[place], tile.people)[:, chosen]
            return rows, standardised(codes, self.mean[rows], self.scale[rows])

        vectors = self.vectors.astype(np.float32)
        people = np.zeros((int(chosen.sum()), vectors.shape[1]))
        for place in calls:
            rows, matrix = values(place)
            people += matrix.T @ vectors[rows]
        narrow = people.astype(np.float32)
        for place in calls:
            yield place, (values(place)[1] @ narrow).astype(np.float64)


_PLACED = pa.schema(
    [
        ("sample_block", pa.string()),
        ("sample_index", pa.int32()),
        ("n_called", pa.int32()),
        ("components", pa.list_(pa.float64())),
    ]
)


@dataclass(frozen=True)
class _Placed:
    """The function that each task runs: numbers of tiles in, everyone in them on the axes out."""

    tiles: Sequence[Tile]
    folder: Location
    axes: Axes

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch["id"].to_pylist():
                tile = self.tiles[number]
                packed = read_tile(self.folder, tile)
                calls = {first: unpack(bin_calls, tile.people) for first, bin_calls in packed.items()}
                called, components = place(calls, tile.people, self.axes)
                known = np.isfinite(components[:, 0]).tolist()
                rows = [row if fine else None for row, fine in zip(components.tolist(), known, strict=True)]
                columns = [
                    pa.repeat(tile.sample_block, tile.people),
                    pa.array(np.arange(tile.first, tile.first + tile.people), pa.int32()),
                    pa.array(called, pa.int32()),
                    pa.array(rows, pa.list_(pa.float64())),
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=_PLACED)


def place(calls: Mapping[int, Codes], people: int, axes: Axes) -> tuple[npt.NDArray[np.int64], Matrix]:
    """How many of the axes' variants each of so many people has called, and their components (people, components),
    NaN where these are too few. `calls` are codes (variants, people) by the place of the first variant.

    By least squares over the variants that are called: to count a missing one as average, as plink2 does, draws a
    person towards the middle, and whole batches that lack variants with them. A component's sum of squares over
    the people of the axes is about its eigenvalue.
    """
    vary = axes.scale > 0
    number = axes.loadings.shape[1]
    sums, seen = np.zeros((people, number)), np.zeros((people, number * number))
    called = np.zeros(people, np.int64)
    for first, codes in calls.items():
        rows = slice(first, first + len(codes))
        loadings = axes.loadings[rows]
        known = ((codes != MISSING) & vary[rows, None]).astype(np.float32)
        sums += standardised(codes, axes.mean[rows], axes.scale[rows]).T @ loadings
        seen += known.T @ (loadings[:, :, None] * loadings[:, None, :]).reshape(-1, number * number)
        called += known.sum(0).astype(np.int64)
    gram = seen.reshape(-1, number, number)
    enough = (called >= max(SMALLEST_SHARE * vary.sum(), 1)) & (np.linalg.eigvalsh(gram)[:, 0] >= SMALLEST_WEIGHT)
    found = np.full((people, number), np.nan)
    found[enough] = np.linalg.solve(gram[enough], sums[enough][:, :, None])[:, :, 0] / np.sqrt(vary.sum())
    return called, found
