"""A share's batches as arrays, in the planned order, through Petastorm's engine."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features.contract.errors import ClusterError, DataGateError, TrainingError
from features.contract.paths import Location
from models.feed.columns import Columns, decode, empty
from models.feed.petastorm_engine import ConcurrentVentilator, EmptyResultError, ThreadPool, WorkerBase
from models.feed.plan import Part, Piece, Shard, Stretch
from models.feed.schema import REBUILD, Schema, check_types

# One decodes while another waits for its file.
WORKERS = 2
# A row group is decoded in runs of rows of about so many bytes, which fit a core's cache.
CHUNK_BYTES = 2**20
CHUNK_ROWS = 16_384
STREAM_BYTES = 2**18
POLL_SECONDS = 0.001

Places = npt.NDArray[np.int64]


class Kept:
    """What a feed keeps from pass to pass: its memory, as fresh pages cost much, and which row groups it has
    found undamaged, as checksums do too."""

    def __init__(self) -> None:
        self.undamaged = set[tuple[Part, tuple[str, ...]]]()
        self._free: Columns | None = None

    def take(self, schema: Schema, rows: int) -> Columns:
        """Room for so many rows."""
        found, self._free = self._free, None
        return found if found is not None and found.fits(schema, rows) else empty(schema, rows)

    def give_back(self, columns: Columns) -> None:
        self._free = columns


def batches(share: Shard, schema: Schema, kept: Kept, workers: int = WORKERS) -> Iterator[Columns]:
    """The rows of each step: the next `lane_rows` of each lane, fewer in the last one.

    The same for any number of workers. What is yielded is memory that the steps after the next use again.
    """
    with Reader(share, schema, kept, workers) as reader:
        for step in range(share.steps):
            yield reader.read(step)


class Reader:
    """Decodes row groups into the batches of the steps to come, a ring of `window` of them.

    A row group's rows go straight to their places in the batches, so nothing is copied twice. A worker
    whose row group reaches beyond the ring waits until the user has come nearer. So with L lanes of l rows a
    step, row groups of at most R rows, and b bytes a decoded row (`Schema.row_bytes`) a rank holds at most

        (2 R + 3 l) * L * b + workers * (4 max(CHUNK_BYTES, b) + c) bytes

    however slow its user is, c being what one worker holds of a file: `STREAM_BYTES` for each column on a local
    disk, the compressed row group on HDFS; a run of rows is there as Arrow has it and, where it must be brought
    into shape, up to three times more. `kept` keeps the first part for the next pass.

    Raises DataGateError (a file is gone, damaged, or not what the plan and the schema say) or
    ClusterError (HDFS does not answer) as soon as a worker meets it; the threads end with the `with`.
    """

    def __init__(self, share: Shard, schema: Schema, kept: Kept, workers: int) -> None:
        self._share, self._kept, self._stretches = share, kept, share.reading_order()
        # While the steps of one row group are used, the next of each lane can be read.
        longest = max((stretch.piece.rows for stretch in self._stretches), default=0)
        self.window = min(share.steps, 2 * -(-longest // share.lane_rows) + 1)
        self._ring = kept.take(schema, self.window * share.batch_rows)
        self._room = _Room(self.window)
        self._wanted, self._ready = 0, set[int]()
        count = len(self._stretches)
        self._pool = ThreadPool(workers, results_queue_size=2 * count + 1)
        # The ring bounds what is read ahead; Petastorm's own bound moves only when results are asked for.
        self._ventilator = ConcurrentVentilator(
            self._pool.ventilate,
            [{"number": number} for number in range(count)],
            max_ventilation_queue_size=count + 1,
            ventilation_interval=POLL_SECONDS,
        )
        self._task = _Task(share, self._stretches, schema, kept, self._ring, self.window, self._room)

    def __enter__(self) -> "Reader":
        self._pool.start(_ArrowWorker, self._task, self._ventilator)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._room.close()
        self._pool.stop()
        self._pool.join()
        self._kept.give_back(self._ring)

    def read(self, step: int) -> Columns:
        """The rows of a step, when all are there; steps come in order, and one ends when the next is asked for."""
        self._room.reach(step)
        while self._wanted < len(self._stretches) and self._begins(self._wanted) <= step:
            while self._wanted not in self._ready:
                self._ready.add(self._arriving())
            self._ready.remove(self._wanted)
            self._wanted += 1
        first = step % self.window * self._share.batch_rows
        return self._ring.rows(first, first + self._share.rows_of(step))

    def _begins(self, number: int) -> int:
        return self._share.step_of(self._stretches[number].start)

    def _arriving(self) -> int:
        """The pool can say that it is empty just while its last item comes in: ask once more."""
        for _ in range(2):
            try:
                number, error = self._pool.get_results()
            except EmptyResultError:
                continue
            if error is not None:
                raise error
            return int(number)
        raise TrainingError("the feed ended before all planned row groups were read")


class _Room:
    """The steps that the ring has room for: those from the user's on, `window` of them."""

    def __init__(self, window: int) -> None:
        self._changed, self._window, self._step, self._closed = threading.Condition(), window, 0, False

    def reach(self, step: int) -> None:
        with self._changed:
            self._step = step
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_for(self, step: int) -> bool:
        """Until there is room for this step; False when the pass was broken off before."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or step < self._step + self._window)
            return not self._closed


@dataclass(frozen=True, slots=True)
class _Task:
    """What the workers of a pass share."""

    share: Shard
    stretches: Sequence[Stretch]
    schema: Schema
    kept: Kept
    ring: Columns
    window: int
    room: _Room


class _ArrowWorker(WorkerBase):  # type: ignore[misc]
    """Publishes (number in the order, why it could not be read or None)."""

    def process(self, number: int) -> None:
        task: _Task = self.args
        stretch = task.stretches[number]
        step, row = task.share.places(stretch)
        if not task.room.wait_for(int(step[-1])):
            return
        try:
            read_piece(stretch.piece, step % task.window * task.share.batch_rows + row, task)
        # Whatever it is: Petastorm would wait for the workers that wait for room before it told of it.
        except BaseException as error:  # noqa: BLE001
            self.publish_func((number, error))
        else:
            self.publish_func((number, None))


def check_part(part: Part, schema: Schema) -> None:
    """Whether the part's file is what the plan and the schema say, by its footer; errors as for `Reader`."""
    with _reading(part):
        _open(part, schema, verified=True).close()


def read_piece(piece: Piece, places: Places, task: _Task) -> None:
    """The piece's rows, in the order wanted, to these rows of the ring."""
    place, at = np.full(piece.part.rows, -1, np.int64), 0
    place[piece.indices()] = places
    known = (piece.part, tuple(task.schema.columns))
    with _reading(piece.part), _open(piece.part, task.schema, known not in task.kept.undamaged) as file:
        chunks = file.iter_batches(
            _chunk_rows(task.schema), [piece.part.row_group], task.schema.columns, use_threads=False
        )
        for rows in chunks:
            _scatter(decode(rows, task.schema), place[at : at + len(rows)], task.ring)
            at += len(rows)
        if at != piece.part.rows:
            raise DataGateError(
                f"row group {piece.part.row_group} gave {at} of its {piece.part.rows} rows; {REBUILD}"
            )
    task.kept.undamaged.add(known)


@contextmanager
def _reading(part: Part) -> Iterator[None]:
    """Says of any failure inside which file it was, and what to do."""
    try:
        yield
    except DataGateError as error:
        raise DataGateError(f"{part.uri}: {error}") from None
    except FileNotFoundError:
        raise DataGateError(f"{part.uri}: the plan names this file but it is gone; {REBUILD}") from None
    except MemoryError:
        raise
    except pa.ArrowException as error:
        raise _damaged(part) from error
    except OSError as error:
        # Arrow's own, of a file that is not as it was written, have no number.
        if error.errno:
            raise
        raise _damaged(part) from error


def _damaged(part: Part) -> DataGateError:
    return DataGateError(f"{part.uri}: row group {part.row_group} cannot be read, the file is damaged; {REBUILD}")


def _open(part: Part, schema: Schema, verified: bool) -> pq.ParquetFile:
    place = Location(part.uri)
    if place.on_hdfs:
        file = pq.ParquetFile(_hdfs_stream(place), pre_buffer=True, page_checksum_verification=verified)
    else:
        file = pq.ParquetFile(place.path, buffer_size=STREAM_BYTES, page_checksum_verification=verified)
    check_types(file.schema_arrow, schema)
    groups = file.metadata.num_row_groups
    rows = file.metadata.row_group(part.row_group).num_rows if part.row_group < groups else 0
    if rows != part.rows:
        raise DataGateError(f"row group {part.row_group} has {rows} rows, the plan says {part.rows}; {REBUILD}")
    return file


def _hdfs_stream(place: Location) -> IO[bytes]:
    """Says of HDFS's failures that they are no damage of the file."""
    with _asking_hdfs(place):
        stream = place.open()
    read = stream.read

    def answered(*arguments: int) -> bytes:
        with _asking_hdfs(place):
            return bytes(read(*arguments))

    stream.read = answered  # type: ignore[method-assign]
    return stream


@contextmanager
def _asking_hdfs(place: Location) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        message = f"{place.uri}: HDFS does not answer ({error}); see that it runs, then start again"
        raise ClusterError(message) from error


def _scatter(columns: Columns, places: Places, to: Columns) -> None:
    wanted = places >= 0
    columns.scatter(slice(None), to, places) if wanted.all() else columns.scatter(wanted, to, places[wanted])


def _chunk_rows(schema: Schema) -> int:
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES // max(1, schema.row_bytes)))
