"""A training table is fed only by the plan that a run published with it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from features.contract.errors import DataGateError
from features.contract.manifest import plan_path, read_plan
from features.contract.paths import Location
from features.contract.runs import Run, Runs

TABLE = "training/tiny"
PLAN = plan_path(TABLE, 0)


def published(digests: dict[str, str]) -> Runs:
    run = Run(
        "r", "build_features", datetime(2026, 1, 1, tzinfo=UTC), "", "", "", wrote={TABLE: "0"}, digests=digests
    )
    return Runs((run,))


@pytest.mark.parametrize(
    ("digests", "content", "message"),
    [
        ({}, b"a plan", "not published by any run; run build_features"),
        ({PLAN: "0" * 64}, None, "runs names this file but it is gone; run build_features again"),
        (
            {PLAN: "0" * 64},
            b"another plan",
            "its SHA-256 is not the one that runs names; run build_features again",
        ),
    ],
)
def test_a_plan_that_is_missing_or_not_the_published_one_is_named(
    tmp_path: Path, digests: dict[str, str], content: bytes | None, message: str
) -> None:
    lake = Location.parse(str(tmp_path))
    if content:
        (lake / PLAN).write_bytes(content)
    with pytest.raises(DataGateError, match=f"{PLAN}: {message}"):
        read_plan(lake, published(digests), TABLE)
