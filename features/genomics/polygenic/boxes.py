"""Lines of scoring files and variants, brought together by where they lie: a box has all of a few stretches of the
genome.

A hundred scores have ten million lines. They go from task to task as Arrow writes them, many in one value of bytes
that Java moves and does not read: as rows of its own they would take it minutes.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from itertools import groupby

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

from features.genomics.columns import at_least, each
from features.genomics.sealed import seal, unseal

SEALED = pa.schema([("box", pa.int32()), ("kind", pa.string()), ("rows", pa.binary())])
MOST_ROWS = 4096
"""Of a sealed value."""
ROW_BYTES = 128 << 10
"""Of a sealed value, for `bounded_arrow_batches`: few are larger, and none more than a few times."""
_STRETCH_BITS = 20
_NEXT = 40_503
_AT_ONCE = 16 * MOST_ROWS


def sealed(box: int, kind: str, rows: pa.Table) -> pa.RecordBatch:
    """A SEALED row of all of these, at least one and few."""
    (batch,) = rows.combine_chunks().to_batches()
    return _sealed([box], kind, [batch])


def boxed(rows: pa.RecordBatch, kind: str, boxes: int) -> Iterator[pa.RecordBatch]:
    """SEALED rows of what has `contig, position`, in its box; what has no place is spread over them."""
    if not len(rows):
        return
    box = _boxes(rows, boxes)
    starts = np.flatnonzero(np.diff(box, prepend=-1))
    if len(starts) > 2 * np.count_nonzero(np.bincount(box)):  # else they lie in the order of their places
        order = np.argsort(box, kind="stable")
        rows, box = rows.take(pa.array(order)), box[order]
        starts = np.flatnonzero(np.diff(box, prepend=-1))
    cuts = np.union1d(starts, np.arange(0, len(box), MOST_ROWS))
    slices = [rows.slice(start, stop - start) for start, stop in zip(cuts, [*cuts[1:], len(box)], strict=True)]
    yield _sealed(box[cuts], kind, slices)


def in_boxes(frame: DataFrame, kind: str, boxes: int) -> DataFrame:
    """SEALED rows of a frame that has `contig, position`."""

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for several in at_least(_AT_ONCE, batches):
            yield from boxed(pa.concat_batches(several), kind, boxes)

    return frame.mapInArrow(rows, from_arrow_schema(SEALED))


def by_box(
    frames: Iterable[DataFrame],
    schemas: Mapping[str, pa.Schema],
    work: Callable[[Iterator[tuple[int, dict[str, pa.Table]]]], Iterator[pa.RecordBatch]],
    result: pa.Schema,
) -> DataFrame:
    """What `work` makes of each box and the rows of each kind that it has; for `bounded_arrow_batches` of
    ROW_BYTES."""

    def boxes(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, dict[str, pa.Table]]]:
        values = (value for batch in batches for value in zip(*batch.columns, strict=True))
        for box, group in groupby(values, key=lambda value: value[0].as_py()):
            found: dict[str, list[pa.RecordBatch]] = {kind: [] for kind in schemas}
            for _, kind, rows in group:
                found[kind.as_py()].append(unseal(rows, schemas[kind.as_py()]))
            yield box, {kind: pa.Table.from_batches(own, schemas[kind]) for kind, own in found.items()}

    together = reduce(DataFrame.unionByName, frames).repartition("box").sortWithinPartitions("box")
    return together.mapInArrow(lambda batches: work(boxes(batches)), from_arrow_schema(result))


def _boxes(rows: pa.RecordBatch, boxes: int) -> npt.NDArray[np.int64]:
    names = each(rows["contig"], lambda name: zlib.crc32(name.encode()), pa.int64())
    stretch = pc.shift_right(rows["position"], _STRETCH_BITS).fill_null(0).to_numpy()
    placed = names.fill_null(0).to_numpy() + stretch * _NEXT
    found: npt.NDArray[np.int64] = np.where(names.is_valid(), placed, np.arange(len(rows))) % boxes
    return found


def _sealed(boxes: Iterable[int], kind: str, batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    columns = [pa.array(boxes, pa.int32()), pa.repeat(kind, len(batches)), seal(batches)]
    return pa.RecordBatch.from_arrays(columns, schema=SEALED)
