"""The tables that are fed: simulated from a seed, as Parquet and as TFRecord.

No import of ours: the peer's interpreter reads this too. The first value of each row tells which row
it is (images: the first four bytes), so that every side can show that it delivered each row once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HOME = Path("build/bench/feed")
SEED = 20
BATCH_ROWS = 1024


@dataclass(frozen=True)
class Fed:
    """`files` Parquet files of one row group of `rows` rows each; a batch is `dtype` [1024, width]."""

    name: str
    what: str
    width: int
    dtype: str
    rows: int
    files: int = 32

    @property
    def folder(self) -> Path:
        return HOME / self.name

    @property
    def total(self) -> int:
        return self.rows * self.files

    def parquet(self) -> list[Path]:
        return [self.folder / f"{i:05}.parquet" for i in range(self.files)]

    def records(self) -> list[str]:
        return [str(HOME / f"{self.name}-{i:05}.tfrecord") for i in range(self.files)]

    def ids(self, batch: Any) -> Any:
        """Which rows of the table these are."""
        return batch[:, :4].copy().view("<u4")[:, 0] if self.dtype == "uint8" else batch[:, 0].astype(np.int64)

    def stack(self, columns: list[Any]) -> Any:
        """A batch [rows, width] from an Arrow table's columns, without a copy where there is none to make."""
        if self.name == "lists":
            return columns[0].flatten().to_numpy(zero_copy_only=False).reshape(-1, self.width)
        if self.name == "images":
            return pixels(columns[0], self.width)
        return np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=1)


def pixels(column: Any, width: int) -> Any:
    """uint8 [rows, width] of a binary array."""
    _, offsets, data = column.buffers()
    first = int(np.frombuffer(offsets, np.int32)[column.offset])
    return np.frombuffer(data, np.uint8, count=len(column) * width, offset=first).reshape(-1, width)


TABLES = {
    "floats": Fed("floats", "33 float columns", 33, "float32", 16_384),
    "lists": Fed("lists", "lists of 1,024 floats", 1024, "float32", 2_048),
    "images": Fed("images", "images of 64 x 64 bytes", 4096, "uint8", 2_048),
}
MANY = Fed("many", "33 float columns in 2,000 files", 33, "float32", 64, files=2_000)


def values(table: Fed, file: int) -> Any:
    """One file's rows, [rows, width]."""
    random = np.random.default_rng((SEED, file))
    ids = np.arange(file * table.rows, (file + 1) * table.rows)
    if table.dtype == "uint8":
        found = random.integers(0, 256, (table.rows, table.width), np.uint8)
        found[:, :4] = ids.astype("<u4").view(np.uint8).reshape(-1, 4)
    else:
        found = random.standard_normal((table.rows, table.width), np.float32)
        found[:, 0] = ids
    return found


def write_parquet(table: Fed) -> None:
    """Snappy and page checksums, as Spark writes them."""
    table.folder.mkdir(parents=True)
    for number, path in enumerate(table.parquet()):
        rows = as_arrow(table, values(table, number))
        pq.write_table(rows, path, row_group_size=table.rows, write_page_checksum=True)


def as_arrow(table: Fed, rows: Any) -> pa.Table:
    if table.name == "lists":
        offsets = np.arange(0, rows.size + 1, table.width, dtype=np.int32)
        return pa.table({"x": pa.ListArray.from_arrays(offsets, rows.ravel())})
    if table.name == "images":
        return pa.table({"x": pa.array([row.tobytes() for row in rows], pa.binary())})
    return pa.table({f"c{i:02}": rows[:, i] for i in range(table.width)})
