"""Planned pieces as arrays, in the planned order, through Petastorm's engine."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features.contract.errors import ClusterError, DataGateError, RiskloomError, TrainingError
from features.contract.paths import Location
from models.feed.columns import Columns, decode, empty
from models.feed.petastorm_engine import ConcurrentVentilator, EmptyResultError, ThreadPool, WorkerBase
from models.feed.plan import Part, Piece
from models.feed.schema import REBUILD, Schema, check_types

# One decodes while another waits for its file.
WORKERS = 2
# Pieces on their way beyond those in use.
READ_AHEAD = 4
# A row group is decoded in runs of rows of about so many bytes, small enough for a core's cache.
CHUNK_BYTES = 2**18
CHUNK_ROWS = (64, 16_384)
STREAM_BYTES = 2**16
POLL_SECONDS = 0.001


class Memory:
    """Decoded pieces' memory, used again from piece to piece and pass to pass: fresh pages cost much."""

    def __init__(self) -> None:
        self._free = list[Columns]()

    def take(self, schema: Schema, rows: int) -> Columns:
        """Room for so many rows; what no longer fits is dropped."""
        try:
            while not (found := self._free.pop()).fits(schema, rows):
                pass
        except IndexError:
            return empty(schema, rows)
        return found

    def give_back(self, columns: Columns) -> None:
        self._free.append(columns)


class Reader:
    """The pieces of one pass, in order whatever the number of workers.

    At most `in_use + READ_AHEAD` pieces are held decoded, however slow their user is: `in_use` of
    them handed out and not yet released, the others waiting or being read. So with L lanes, pieces of
    at most R rows and b bytes a decoded row (`Schema.row_bytes`) a rank holds at most

        (L + READ_AHEAD) * R * b + workers * (CHUNK_BYTES + c) bytes,

    c being what one worker holds of a file: `STREAM_BYTES` for each column on a local disk, the
    compressed row group on HDFS. `memory` keeps the first part for the next pass.

    Raises DataGateError (a file is gone, damaged, or not what the plan and the schema say) or
    ClusterError (HDFS does not answer) as soon as a worker meets it; the threads end with the `with`.
    """

    def __init__(
        self, pieces: Sequence[Piece], schema: Schema, in_use: int, memory: Memory, workers: int = WORKERS
    ) -> None:
        self._pieces, self._left, self._early = pieces, iter(range(len(pieces))), dict[int, Columns]()
        self._memory = memory
        self._arguments = (schema, memory, max((piece.rows for piece in pieces), default=0))
        self._pool = ThreadPool(workers, results_queue_size=4 * (in_use + READ_AHEAD))
        items = [{"number": number, "piece": piece} for number, piece in enumerate(pieces)]
        self._window = _Window(
            self._pool.ventilate,
            items,
            max_ventilation_queue_size=in_use + READ_AHEAD,
            ventilation_interval=POLL_SECONDS,
        )

    def __enter__(self) -> "Reader":
        self._pool.start(_ArrowWorker, self._arguments, self._window)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._pool.stop()
        self._pool.join()

    def next(self) -> tuple[Columns, int]:
        """The next piece: its rows are the first so many, in the order wanted. To be given back by `release`."""
        number = next(self._left)
        while number not in self._early:
            arrived, result = self._arriving()
            if isinstance(result, RiskloomError):
                raise result
            self._early[arrived] = result
        return self._early.pop(number), self._pieces[number].rows

    def release(self, columns: Columns) -> None:
        """The piece is used up: its memory may take another."""
        self._memory.give_back(columns)
        self._window.released()

    def _arriving(self) -> tuple[int, Columns | RiskloomError]:
        """The pool can say that it is empty just while its last item comes in: ask once more."""
        for _ in range(2):
            try:
                result: tuple[int, Columns | RiskloomError] = self._pool.get_results()
                return result
            except EmptyResultError:
                continue
        raise TrainingError("the feed ended before all planned row groups were read")


class _Window(ConcurrentVentilator):  # type: ignore[misc]
    """Counts a piece as done when it is released, not when it is read: so what waits is bounded too."""

    def processed_item(self) -> None:
        """Petastorm's pool says that a piece was read."""

    def released(self) -> None:
        super().processed_item()


class _ArrowWorker(WorkerBase):  # type: ignore[misc]
    """Publishes (number in the order, the piece's rows or why there are none)."""

    def process(self, number: int, piece: Piece) -> None:
        schema, memory, rows = self.args
        columns = memory.take(schema, rows)
        try:
            read_piece(piece, schema, columns)
        except RiskloomError as error:
            self.publish_func((number, error))
        else:
            self.publish_func((number, columns))


def check_part(part: Part, schema: Schema) -> None:
    """Whether the part's file is what the plan and the schema say, by its footer; errors as for `Reader`."""
    with _reading(part):
        _open(part, schema).close()


def read_piece(piece: Piece, schema: Schema, to: Columns) -> None:
    """The piece's rows, in the order wanted, to the first rows of `to`."""
    part, place, at = piece.part, _places(piece), 0
    with _reading(part), _open(part, schema) as file:
        for rows in file.iter_batches(_chunk_rows(schema), [part.row_group], schema.columns, use_threads=False):
            _scatter(decode(rows, schema), place[at : at + len(rows)], to)
            at += len(rows)


@contextmanager
def _reading(part: Part) -> Iterator[None]:
    """Says of any failure inside which file it was, and what to do."""
    try:
        yield
    except DataGateError as error:
        raise DataGateError(f"{part.uri}: {error}") from None
    except FileNotFoundError:
        raise DataGateError(f"{part.uri}: the plan names this file but it is gone; {REBUILD}") from None
    except pa.ArrowException as error:
        raise _damaged(part) from error
    except OSError as error:
        if Location(part.uri).on_hdfs:
            message = f"{part.uri}: HDFS does not answer ({error}); see that it runs, then start again"
            raise ClusterError(message) from error
        raise _damaged(part) from error


def _damaged(part: Part) -> DataGateError:
    return DataGateError(f"{part.uri}: row group {part.row_group} cannot be read, the file is damaged; {REBUILD}")


def _open(part: Part, schema: Schema) -> pq.ParquetFile:
    place = Location(part.uri)
    if place.on_hdfs:
        file = pq.ParquetFile(place.open(), pre_buffer=True, page_checksum_verification=True)
    else:
        file = pq.ParquetFile(place.path, buffer_size=STREAM_BYTES, page_checksum_verification=True)
    check_types(file.schema_arrow, schema)
    groups = file.metadata.num_row_groups
    rows = file.metadata.row_group(part.row_group).num_rows if part.row_group < groups else 0
    if rows != part.rows:
        raise DataGateError(f"row group {part.row_group} has {rows} rows, the plan says {part.rows}; {REBUILD}")
    return file


def _places(piece: Piece) -> npt.NDArray[np.int64]:
    """For each row of the row group its place in the piece, -1 where it is not in it."""
    places = np.full(piece.part.rows, -1, np.int64)
    places[piece.indices()] = np.arange(piece.rows)
    return places


def _scatter(columns: Columns, places: npt.NDArray[np.int64], to: Columns) -> None:
    wanted = places >= 0
    columns.scatter(slice(None), to, places) if wanted.all() else columns.scatter(wanted, to, places[wanted])


def _chunk_rows(schema: Schema) -> int:
    low, high = CHUNK_ROWS
    return max(low, min(high, CHUNK_BYTES // max(1, schema.row_bytes)))
