"""What lies beside a training table: the manifest (meaning of its columns) and the plan (its files)."""

import hashlib
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.contract.runs import Runs

PLAN_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("row_group", pa.int32(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("fold", pa.int32(), nullable=False),
    ]
)


class Statistics(BaseModel):
    """Per column of one modality, over the rows that have it: mean and standard deviation (n - 1 in
    the denominator, 1 where it is 0 or unknown) and the number of values that are not missing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: list[float]
    std: list[float]
    count: list[int]


class Certificate(BaseModel):
    """How it was shown that no person sits on both sides of a split, and no pair of relatives where that was asked
    for (None where it was not)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    persons: int
    distinct_persons: int
    persons_in_two_splits: int
    identical_rows_across_splits: int
    relatives_across_splits: int | None = None


class Manifest(BaseModel):
    """The contract between a training table and everything that reads it.

    `vocabulary` names the columns of each vector modality, in order; `image_shape` is height, width,
    channels of `x_imaging` (uint8, C order). `statistics` maps `train` and `fold_<k>` (fitted on all
    people but those of folds k and k + 1) to statistics per vector modality. `rows` counts people by
    split, `positives` the outcome among them. `edges` are the interval ends in days of a
    discrete-time outcome, the last one the horizon. `own_score` is a digest of the weights of the task's own
    polygenic score, which is another variable with other weights, whatever it is called.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    outcome: str
    kind: Literal["binary", "survival"]
    horizon_days: int
    edges: list[float]
    read: dict[str, int]
    vocabulary: dict[str, list[str]]
    image_shape: list[int] | None
    statistics: dict[str, dict[str, Statistics]]
    rows: dict[str, int]
    positives: dict[str, int]
    folds: int
    own_score: str | None = None
    certificate: Certificate

    def to_bytes(self) -> bytes:
        return self.model_dump_json(indent=1).encode()

    @property
    def vocabulary_digest(self) -> str:
        """What a bundle and a table must agree on."""
        columns = (sorted(self.vocabulary.items()), self.own_score, self.image_shape)
        return hashlib.sha256(repr((*columns, self.outcome, self.horizon_days)).encode()).hexdigest()


def manifest_path(table: str, version: int) -> str:
    return f"{table}/_manifest/{version}/manifest.json"


def plan_path(table: str, version: int) -> str:
    return f"{table}/_manifest/{version}/plan.parquet"


def own_score_path(table: str, version: int) -> str:
    """The weights of the task's own polygenic score, where it has one."""
    return f"{table}/_manifest/{version}/own_score.parquet"


def read_manifest(lake: Location, runs: Runs, table: str) -> tuple[Manifest, str]:
    """The published manifest and its digest, checked against `runs`."""
    data = _read_checked(lake, runs, manifest_path(table, runs.version(table)), table)
    return Manifest.model_validate_json(data), hashlib.sha256(data).hexdigest()


def read_plan(lake: Location, runs: Runs, table: str) -> pa.Table:
    """The published plan (PLAN_SCHEMA); `file` is relative to the table's folder."""
    data = _read_checked(lake, runs, plan_path(table, runs.version(table)), table)
    return pq.read_table(pa.BufferReader(data), schema=PLAN_SCHEMA)


def _read_checked(lake: Location, runs: Runs, path: str, table: str) -> bytes:
    publisher = runs.publisher(table)
    expected = publisher and publisher.digests.get(path)
    if expected is None:
        raise DataGateError(f"{path}: not published by any run; run build_features")
    try:
        data = (lake / path).read_bytes()
    except FileNotFoundError:
        raise DataGateError(f"{path}: runs names this file but it is gone; run build_features again") from None
    if hashlib.sha256(data).hexdigest() != expected:
        raise DataGateError(f"{path}: its SHA-256 is not the one that runs names; run build_features again")
    return data
