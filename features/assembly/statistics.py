"""What was written, read back file by file: rows, labels, and each column's mean and deviation."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from features.contract.manifest import Statistics
from features.contract.paths import Location
from features.lake import few_rows

Floats = npt.NDArray[np.float64]

MOMENTS = pa.struct(
    [
        ("modality", pa.string()),
        ("rows", pa.int64()),
        ("count", pa.list_(pa.float64())),
        ("mean", pa.list_(pa.float64())),
        ("m2", pa.list_(pa.float64())),
    ]
)
SUMMARY = pa.schema(
    [
        ("path", pa.string()),
        ("row_groups", pa.int32()),
        ("rows", pa.int64()),
        ("splits", pa.list_(pa.string())),
        ("folds", pa.list_(pa.int32())),
        ("positives", pa.int64()),
        ("moments", pa.list_(MOMENTS)),
    ]
)
SUMMARY_DDL = (
    "path string, row_groups int, rows bigint, splits array<string>, folds array<int>, positives bigint, "
    "moments array<struct<modality:string,rows:bigint,count:array<double>,mean:array<double>,m2:array<double>>>"
)


@dataclass(frozen=True, slots=True)
class Moments:
    """Per column, over present values: how many, their mean, and the sum of squared deviations."""

    count: Floats
    mean: Floats
    m2: Floats

    def __add__(self, other: "Moments") -> "Moments":
        """Chan, Golub and LeVeque (1983), equation 1.5."""
        count = self.count + other.count
        safe = np.maximum(count, 1)
        delta = other.mean - self.mean
        mean = self.mean + delta * other.count / safe
        return Moments(count, mean, self.m2 + other.m2 + delta**2 * self.count * other.count / safe)

    def statistics(self) -> Statistics:
        """Standard deviation with n - 1; 1 where it is 0 or unknown."""
        deviation = np.sqrt(self.m2 / np.maximum(self.count - 1, 1))
        std = np.where((self.count > 1) & (deviation > 0), deviation, 1.0)
        return Statistics(mean=self.mean.tolist(), std=std.tolist(), count=self.count.astype(int).tolist())


@dataclass(frozen=True, slots=True)
class Summary:
    """One file: its size in bytes, rows, split, fold, positives, and per modality its rows and moments."""

    path: str
    size: int
    rows: int
    split: str
    fold: int
    positives: int
    present: dict[str, int]
    moments: dict[str, Moments]


def moments(values: Floats) -> Moments:
    """Of an array of shape (rows, columns), NaN = missing."""
    known = ~np.isnan(values)
    count = known.sum(axis=0).astype(np.float64)
    mean = np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    return Moments(count, mean, np.where(known, (values - mean) ** 2, 0.0).sum(axis=0))


def summarise(
    spark: SparkSession, folder: Location, sizes: dict[str, int], widths: dict[str, int], positive: str
) -> list[Summary]:
    """A task per file, read as the ranks will read it. `sizes` are bytes by path; `widths` maps a
    modality to its columns (an image has 0). A file of several splits, folds or row groups is our bug."""
    frame = few_rows(spark, ((path,) for path in sizes), path="string").repartition(len(sizes))
    rows = frame.mapInArrow(_summarise_files(folder.uri, widths, positive), SUMMARY_DDL).collect()
    ordered = sorted(rows, key=lambda row: row["path"])
    return [_checked(row.asDict(recursive=True), sizes[row["path"]]) for row in ordered]


def fit_statistics(
    files: Sequence[Summary], modalities: Sequence[str], folds: int
) -> dict[str, dict[str, Statistics]]:
    """`train`, and for each fold k what is left without the folds k and k + 1."""
    groups = {"train": [file for file in files if file.split == "train"]}
    for k in range(folds):
        apart = {k, (k + 1) % folds}
        groups[f"fold_{k}"] = [f for f in files if f.split != "held_out" and f.fold not in apart]
    return {name: {m: _fit(group, m, files) for m in modalities} for name, group in groups.items()}


def _fit(group: Sequence[Summary], modality: str, files: Sequence[Summary]) -> Statistics:
    nothing = np.zeros_like(files[0].moments[modality].count)
    start = Moments(nothing, nothing, nothing)
    return reduce(Moments.__add__, (file.moments[modality] for file in group), start).statistics()


def _summarise_files(
    folder: str, widths: dict[str, int], positive: str
) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    def summarise_batches(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        for batch in batches:
            paths = batch.column("path").to_pylist()
            found = [summarise_file(Location(folder), path, widths, positive) for path in paths]
            yield pa.RecordBatch.from_pylist(found, schema=SUMMARY)

    return summarise_batches


def summarise_file(folder: Location, path: str, widths: dict[str, int], positive: str) -> dict[str, Any]:
    """A row of SUMMARY."""
    wanted = [
        "split",
        "fold",
        positive,
        *(f"has_{m}" for m in widths),
        *(f"x_{m}" for m, w in widths.items() if w),
    ]
    with (folder / path).open() as stream:
        file = pq.ParquetFile(stream)
        table = file.read(columns=wanted)
        groups = file.metadata.num_row_groups
    return {
        "path": path,
        "row_groups": groups,
        "rows": table.num_rows,
        "splits": pc.unique(table["split"]).to_pylist(),
        "folds": pc.unique(table["fold"]).to_pylist(),
        "positives": pc.sum(table[positive]).as_py() or 0,
        "moments": [_modality(table, modality, width) for modality, width in widths.items()],
    }


def _modality(table: pa.Table, modality: str, width: int) -> dict[str, Any]:
    present = table[f"has_{modality}"].to_numpy()
    if not width:
        return {"modality": modality, "rows": int(present.sum()), "count": [], "mean": [], "m2": []}
    flat = table[f"x_{modality}"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    found = moments(flat.astype(np.float64).reshape(table.num_rows, width)[present])
    values = {"count": found.count.tolist(), "mean": found.mean.tolist(), "m2": found.m2.tolist()}
    return {"modality": modality, "rows": int(present.sum()), **values}


def _checked(row: dict[str, Any], size: int) -> Summary:
    if row["row_groups"] != 1 or len(row["splits"]) != 1 or len(row["folds"]) != 1:
        raise AssertionError(
            f"{row['path']}: expected one row group, split and fold, "
            f"found {row['row_groups']}, {row['splits']}, {row['folds']}"
        )
    found = {m["modality"]: m for m in row["moments"]}
    return Summary(
        path=row["path"],
        size=size,
        rows=row["rows"],
        split=row["splits"][0],
        fold=row["folds"][0],
        positives=row["positives"],
        present={name: m["rows"] for name, m in found.items()},
        moments={
            n: Moments(np.array(m["count"]), np.array(m["mean"]), np.array(m["m2"])) for n, m in found.items()
        },
    )
