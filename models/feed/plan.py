"""Who reads which rows: an exact division of planned row groups over ranks and steps.

All rows of an epoch stand in one shuffled order: row groups in random order, rows in random order
inside each. That order is cut into `LANES` equal stretches, and each global batch takes the next
few rows of every lane. A rank owns whole lanes, so it opens only their files; 1, 2, 4 and 8 ranks
see the same batches; and as lanes differ by one row at most, every rank makes the same number of
steps, the last one padded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

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


# Pieces in the order in which a lane's rows are read.
Lane = tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an epoch has come: the first `lane_rows` rows of each of its `lanes` are done."""

    lanes: int
    lane_rows: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece in a share: its rows are those from `start` on of their lane. In the last step, where lanes may be
    short, the lane's rows stand from row `tail` on of the batch."""

    lane: int
    start: int
    tail: int
    piece: Piece


@dataclass(frozen=True, slots=True)
class Shard:
    """One rank's share of an epoch: each of its `steps` takes up to `lane_rows` of every lane.

    `total_rows` counts the rows of all ranks.
    """

    lanes: tuple[Lane, ...]
    lane_rows: int
    steps: int
    total_rows: int

    @property
    def rows(self) -> int:
        return sum(_rows(lane) for lane in self.lanes)

    @property
    def batch_rows(self) -> int:
        return self.lane_rows * len(self.lanes)

    def reading_order(self) -> list[Stretch]:
        """The pieces in the order in which the steps need them."""
        found, tail = [], 0
        for number, lane in enumerate(self.lanes):
            starts = list(accumulate((piece.rows for piece in lane), initial=0))
            found += [Stretch(number, start, tail, piece) for start, piece in zip(starts, lane, strict=False)]
            tail += starts[-1] - (self.steps - 1) * self.lane_rows
        return sorted(found, key=lambda stretch: (self.step_of(stretch.start), stretch.lane))

    def step_of(self, row: int) -> int:
        """The step that takes this row of a lane."""
        return row // self.lane_rows

    def rows_of(self, step: int) -> int:
        """How many rows a step takes; only the last one takes fewer, as lanes differ by one row at most."""
        return self.batch_rows if step < self.steps - 1 else self.rows - step * self.batch_rows

    def places(self, stretch: Stretch) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The step of each row of a stretch, and its row in that step's batch; int64 [rows] each."""
        step, row = np.divmod(np.arange(stretch.start, stretch.start + stretch.piece.rows), self.lane_rows)
        return step, row + np.where(step < self.steps - 1, stretch.lane * self.lane_rows, stretch.tail)


def shard(
    parts: Sequence[Part],
    rank: int,
    size: int,
    seed: int | None,
    epoch: int,
    batch_rows: int,
    done: Sequence[Progress] = (),
) -> Shard:
    """The share of `rank` among `size`; every row of `parts` falls to exactly one rank, once.

    `batch_rows` are per rank. The same arguments give the same order; `seed` None gives the
    rows as they stand. `done` is what earlier attempts at this epoch did, in their order: ranks
    that make as many lanes go on in them, others divide anew what is left.
    """
    own = _lanes_per_rank(size, batch_rows)
    lanes, lane_rows = _left(tuple(_ordered(parts, seed, epoch)), done, own * size), batch_rows // own
    rows = [_rows(lane) for lane in lanes]
    return Shard(tuple(lanes[rank * own : (rank + 1) * own]), lane_rows, -(-max(rows) // lane_rows), sum(rows))


def _left(ordered: Lane, done: Sequence[Progress], count: int) -> list[Lane]:
    """The `count` lanes that are left of an epoch: as they were where their number stays, else cut anew."""
    lanes = _divided(ordered, done[0].lanes if done else count)
    for progress in done:
        lanes = _of_number(lanes, progress.lanes)
        lanes = [_cut(lane, progress.lane_rows, _rows(lane)) for lane in lanes]
    return _of_number(lanes, count)


def _of_number(lanes: list[Lane], count: int) -> list[Lane]:
    return lanes if len(lanes) == count else _divided([piece for lane in lanes for piece in lane], count)


def _divided(ordered: Sequence[Piece], count: int) -> list[Lane]:
    """`count` stretches whose lengths differ by one row at most."""
    total = _rows(ordered)
    bounds = [lane * total // count for lane in range(count + 1)]
    return [_cut(ordered, first, last) for first, last in pairwise(bounds)]


def _rows(lane: Sequence[Piece]) -> int:
    return sum(piece.rows for piece in lane)


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


def _cut(ordered: Sequence[Piece], first: int, last: int) -> Lane:
    """The pieces that cover rows `first` to `last` of the whole order."""
    found, at = [], 0
    for piece in ordered:
        start, stop = max(first - at, 0), min(last - at, piece.rows)
        if start < stop:
            found.append(Piece(piece.part, piece.start + start, piece.start + stop, piece.seed))
        at += piece.rows
    return tuple(found)
