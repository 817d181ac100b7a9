"""Who reads which rows: an exact division of planned row groups over ranks and steps.

All rows of an epoch stand in one shuffled order: row groups in random order, rows in random order
inside each. That order is cut into `LANES` equal stretches, and each global batch takes the next
few rows of every lane. A rank owns whole lanes, so it opens only their files; 1, 2, 4 and 8 ranks
see the same batches; and as lanes differ by one row at most, every rank makes the same number of
steps, the last one padded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

LANES = 8


@dataclass(frozen=True, slots=True)
class Part:
    """A planned row group: the file's URI, the row group in it and its number of rows."""

    uri: str
    row_group: int
    rows: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows `start` to `stop` of a part's order, which `seed` shuffles (None: as in the file)."""

    part: Part
    start: int
    stop: int
    seed: tuple[int, ...] | None

    @property
    def rows(self) -> int:
        return self.stop - self.start

    def indices(self) -> npt.NDArray[np.int64]:
        """The rows of the row group, in the order they are wanted; int64 [rows]."""
        if self.seed is None:
            return np.arange(self.start, self.stop, dtype=np.int64)
        return np.random.default_rng(self.seed).permutation(self.part.rows)[self.start : self.stop]


@dataclass(frozen=True, slots=True)
class Shard:
    """One rank's share of an epoch: each of its `steps` takes up to `lane_rows` of every lane.

    `total_rows` counts the rows of all ranks.
    """

    lanes: tuple[tuple[Piece, ...], ...]
    lane_rows: int
    steps: int
    total_rows: int

    @property
    def rows(self) -> int:
        return sum(piece.rows for lane in self.lanes for piece in lane)

    @property
    def batch_rows(self) -> int:
        return self.lane_rows * len(self.lanes)

    def reading_order(self) -> list[tuple[int, Piece]]:
        """(lane, piece) in the order in which the steps need them."""
        wanted = []
        for lane, pieces in enumerate(self.lanes):
            starts = accumulate((piece.rows for piece in pieces), initial=0)
            wanted += [(at // self.lane_rows, lane, piece) for at, piece in zip(starts, pieces, strict=False)]
        wanted.sort(key=lambda item: item[:2])
        return [(lane, piece) for _, lane, piece in wanted]


def shard(parts: Sequence[Part], rank: int, size: int, seed: int | None, epoch: int, batch_rows: int) -> Shard:
    """The share of `rank` among `size`; every row of `parts` falls to exactly one rank, once.

    `batch_rows` are per rank. The same arguments give the same order; `seed` None gives the
    rows as they stand.
    """
    own = _lanes_per_rank(size, batch_rows)
    total = sum(part.rows for part in parts)
    bounds = [lane * total // (own * size) for lane in range(own * size + 1)]
    ordered = list(_ordered(parts, seed, epoch))
    lanes = tuple(_cut(ordered, bounds[i], bounds[i + 1]) for i in range(rank * own, (rank + 1) * own))
    lane_rows = batch_rows // own
    longest = -(-total // (own * size))
    return Shard(lanes, lane_rows, -(-longest // lane_rows), total)


def _lanes_per_rank(size: int, batch_rows: int) -> int:
    """As many as make `LANES` in all; one where the ranks or the rows do not divide evenly."""
    own = LANES // size
    return own if own and own * size == LANES and batch_rows % own == 0 else 1


def _ordered(parts: Sequence[Part], seed: int | None, epoch: int) -> Iterator[Piece]:
    if seed is None:
        yield from (Piece(part, 0, part.rows, None) for part in parts)
        return
    for index in np.random.default_rng((seed, epoch)).permutation(len(parts)):
        yield Piece(parts[index], 0, parts[index].rows, (seed, epoch, int(index)))


def _cut(ordered: Sequence[Piece], first: int, last: int) -> tuple[Piece, ...]:
    """The pieces that cover rows `first` to `last` of the whole order."""
    found, at = [], 0
    for piece in ordered:
        start, stop = max(first - at, 0), min(last - at, piece.rows)
        if start < stop:
            found.append(Piece(piece.part, start, stop, piece.seed))
        at += piece.rows
    return tuple(found)
