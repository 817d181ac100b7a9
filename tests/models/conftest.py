"""A little task: two clinical columns, a gene, images of 4 x 4 x 2."""

import hashlib
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.contract.manifest import Certificate, Manifest, Statistics, manifest_path, plan_path
from features.contract.runs import Run, Runs
from features.contract.schemas import TIMESTAMP
from features.contract.settings import Settings


@pytest.fixture
def little_manifest():
    """Gives a function (kind, **changes) -> Manifest."""
    return _little_manifest


def _little_manifest(kind="binary", **changes):
    statistics = {
        "clinical": Statistics(mean=[50.0, 40.0], std=[10.0, 5.0], count=[90, 60]),
        "genomics": Statistics(mean=[0.5], std=[0.7], count=[95]),
    }
    fields = {
        "task": "little",
        "outcome": "diabetes",
        "kind": kind,
        "horizon_days": 365,
        "edges": [365.0] if kind == "binary" else [120.0, 240.0, 365.0],
        "read": {"events": 1},
        "vocabulary": {"clinical": ["age", "hba1c_last"], "genomics": ["rs1"]},
        "image_shape": [4, 4, 2],
        "statistics": {"train": statistics, **{f"fold_{k}": statistics for k in range(3)}},
        "rows": {"train": 60, "tuning": 60, "held_out": 60},
        "positives": {"train": 20, "tuning": 20, "held_out": 20},
        "folds": 0,
        "certificate": Certificate(
            persons=180, distinct_persons=180, persons_in_two_splits=0, identical_rows_across_splits=0
        ),
    }
    return Manifest(**{**fields, **changes})


@pytest.fixture
def little_study(tmp_path):
    """Gives a function (lake URI, **changes of the task) -> Settings with the one task `little`."""

    def study(lake, **changes):
        task = {
            "name": "little",
            "cohort": {"index_date": "2020-01-01"},
            "outcome": {"name": "diabetes", "kind": "binary", "code": "E11", "horizon_days": 365},
            "features": {"clinical": [{"name": "age", "aggregate": "age"}]},
            "scoring": {"as_of": "2024-01-01"},
        }
        keys = tmp_path / "lake.keys"
        return Settings.model_validate(
            {
                "name": "study",
                "raw": str(tmp_path),
                "lake": lake,
                "identity": {"namespace": "tests"},
                "signing": {"key_uri": str(keys / "signing.key"), "create": True},
                "trust": {"public_keys": [str(keys / "signing.pub")]},
                "clinical": {"sources": [], "latest": "2024-01-01"},
                "tasks": [task | changes],
            }
        )

    return study


@pytest.fixture
def little_people():
    """Gives a function (n, seed) -> columns of `training/little` or `population/little`, with what is
    missing in sight: NaN for a value, zeros for a modality. `signal` [n] is what decides the outcome."""

    def people(n, seed=0):
        random = np.random.default_rng(seed)
        clinical = random.normal([50, 40], [10, 5], (n, 2)).astype(np.float32)
        signal = (clinical[:, 0] - 50) / 10
        clinical[random.uniform(size=n) < 0.2, 1] = np.nan
        has = {name: random.uniform(size=n) < share for name, share in (("genomics", 0.9), ("imaging", 0.5))}
        genomics = random.integers(0, 3, (n, 1)).astype(np.float32) * has["genomics"][:, None]
        images = random.integers(0, 256, (n, 4, 4, 2), np.uint8) * has["imaging"][:, None, None, None]
        columns = {
            "person_key": [f"{seed:032x}{i:032x}" for i in range(n)],
            "index_time": pa.array([datetime(2020, 1, 1, tzinfo=UTC)] * n, TIMESTAMP),
            "x_clinical": pa.array(clinical.tolist(), pa.list_(pa.float32())),
            "has_clinical": [True] * n,
            "x_genomics": pa.array(genomics.tolist(), pa.list_(pa.float32())),
            "has_genomics": has["genomics"],
            "x_imaging": [image.tobytes() for image in images.astype(np.uint8)],
            "has_imaging": has["imaging"],
        }
        return columns, signal

    return people


@pytest.fixture
def publish():
    """Gives a function (lake, table, manifest, plan or None) -> Runs that publish its version 0."""

    def published(lake, table, manifest, plan=None):
        files = {manifest_path(table, 0): manifest.to_bytes()}
        if plan is not None:
            sink = pa.BufferOutputStream()
            pq.write_table(plan, sink)
            files[plan_path(table, 0)] = bytes(sink.getvalue())
        for path, data in files.items():
            (lake / path).write_bytes(data)
        digests = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
        now = datetime(2024, 1, 1, tzinfo=UTC)
        return Runs(
            (Run("r", "build_features", now, "c", "i", "v", wrote={table: "0"}, digests=digests, finished=now),)
        )

    return published
