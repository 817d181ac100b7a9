"""Planned pieces as Arrow tables, in the planned order, through Petastorm's engine."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from features.contract.errors import DataGateError, TrainingError
from features.contract.paths import Location
from models.feed.petastorm_engine import ConcurrentVentilator, EmptyResultError, ThreadPool, WorkerBase
from models.feed.plan import Piece

# Pieces read ahead of their use; each is at most one row group, so this bounds the memory.
READ_AHEAD = 4


class ArrowWorker(WorkerBase):  # type: ignore[misc]
    """Reads one row group, takes the wanted rows, publishes (number in the order, table)."""

    def process(self, number: int, piece: Piece) -> None:
        self.publish_func((number, read_piece(piece, self.args)))


def read_piece(piece: Piece, columns: Sequence[str]) -> pa.Table:
    """The piece's rows; a file that is not what the plan says is an error."""
    with Location(piece.part.uri).open() as stream:
        file = pq.ParquetFile(stream, pre_buffer=True)
        _check(file, piece, columns)
        table = file.read_row_group(piece.part.row_group, columns=list(columns), use_threads=False)
    if piece.seed is None:
        return table.slice(piece.start, piece.rows)
    return table.take(pa.array(piece.indices()))


def read_ordered(pieces: Sequence[Piece], columns: Sequence[str], workers: int = 1) -> Iterator[pa.Table]:
    """A table for each piece, in order whatever the number of workers."""
    if not pieces:
        return
    pool = ThreadPool(workers, results_queue_size=4 * READ_AHEAD)
    items = [{"number": number, "piece": piece} for number, piece in enumerate(pieces)]
    ventilator = ConcurrentVentilator(pool.ventilate, items, max_ventilation_queue_size=READ_AHEAD)
    pool.start(ArrowWorker, tuple(columns), ventilator)
    try:
        early: dict[int, pa.Table] = {}
        for number in range(len(pieces)):
            while number not in early:
                arrived, table = _next(pool)
                early[arrived] = table
            yield early.pop(number)
    finally:
        pool.stop()
        pool.join()


def _next(pool: ThreadPool) -> tuple[int, pa.Table]:
    """The pool can say that it is empty just while its last item comes in: ask once more."""
    for _ in range(2):
        try:
            result: tuple[int, pa.Table] = pool.get_results()
            return result
        except EmptyResultError:
            continue
    raise TrainingError("the feed ended before all planned row groups were read")


def _check(file: pq.ParquetFile, piece: Piece, columns: Sequence[str]) -> None:
    part = piece.part
    missing = sorted(set(columns) - set(file.schema_arrow.names))
    if missing:
        raise DataGateError(f"{part.uri}: column {missing[0]} is missing; run build_features again")
    groups = file.metadata.num_row_groups
    rows = file.metadata.row_group(part.row_group).num_rows if part.row_group < groups else 0
    if rows != part.rows:
        raise DataGateError(
            f"{part.uri}: row group {part.row_group} has {rows} rows, the plan says {part.rows}; "
            "run build_features again"
        )
