"""The `riskloom` command as a stranger runs it, and what it published."""

import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import duckdb
import pyarrow as pa

from features.contract.paths import Location
from features.contract.runs import Runs, open_delta

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared/data"
SPARK_CONF_DIR = str(REPOSITORY / "tests/spark")
RISKLOOM = str(Path(sys.executable).parent / "riskloom")


def bare_environment() -> dict[str, str]:
    """Nothing but the path, a home, and what makes Spark start sooner."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "SPARK_CONF_DIR": SPARK_CONF_DIR,
    }


def riskloom(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command from the repository's root."""
    return subprocess.run(
        [RISKLOOM, *words],
        capture_output=True,
        text=True,
        env=bare_environment() | variables,
        cwd=REPOSITORY,
        check=False,
    )


def options(name: str, *values: str) -> list[str]:
    """An option given several times."""
    return [word for value in values for word in (name, value)]


def published(lake: Location, table: str) -> pa.Table:
    """The rows of a table's published version."""
    found = open_delta(lake, table, Runs.read(lake).version(table))
    assert found is not None
    return found.to_pyarrow_table()


def sorted_rows(table: pa.Table, leaving_out: Collection[str] = ()) -> list[tuple[object, ...]]:
    """All rows in an order that both engines agree on; NaN as text, since it equals nothing."""
    columns = [name for name in table.column_names if name not in leaving_out]
    text = duckdb.from_arrow(table.select(columns)).project("COLUMNS(*)::VARCHAR")
    return sorted(text.fetchall(), key=repr)
