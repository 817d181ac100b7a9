"""The `runs` table: what each job read, wrote and counted. It is what publishes a table."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from features.contract.errors import ClusterError, DataGateError
from features.contract.paths import Location
from features.contract.schemas import RUNS


@dataclass(frozen=True, slots=True)
class Run:
    """A row of `runs`. `wrote` maps a table to its version, or another output to its digest."""

    run_id: str
    job: str
    started: datetime
    config_digest: str
    input_digest: str
    code_version: str
    read: Mapping[str, int] = field(default_factory=dict)
    wrote: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)
    status: str = "succeeded"
    exit_code: int = 0
    finished: datetime | None = None
    message: str = ""

    @property
    def identity(self) -> tuple[str, str, str]:
        """Equal identities mean nothing new (DESIGN)."""
        return self.config_digest, self.input_digest, self.code_version


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of a lake as read at one moment; a job reads them once, at its start."""

    rows: tuple[Run, ...]

    @classmethod
    def read(cls, lake: Location) -> "Runs":
        table = open_delta(lake, RUNS.path)
        if table is None:
            return cls(())
        found = table.to_pyarrow_table().to_pylist(maps_as_pydicts="strict")
        rows = [Run(**{**row, "counts": json.loads(row["counts"])}) for row in found]
        return cls(tuple(sorted(rows, key=lambda run: (run.finished, run.run_id))))

    def successes(self) -> list[Run]:
        return [run for run in self.rows if run.status == "succeeded"]

    def published(self, output: str) -> str | None:
        """The published version (or digest) of an output."""
        run = self.publisher(output)
        return None if run is None else run.wrote[output]

    def publisher(self, output: str) -> Run | None:
        """The successful run that names the highest version of a table, whatever hosts' clocks say; the last one
        of several (no rows over no rows make no version), and of an output without versions."""
        writers = [run for run in self.successes() if output in run.wrote]
        if all(run.wrote[output].isdigit() for run in writers):
            return max(reversed(writers), key=lambda run: int(run.wrote[output]), default=None)
        return writers[-1]

    def version(self, table: str) -> int:
        """The published version of a table; an error that says which job makes it."""
        published = self.published(table)
        if published is None:
            raise DataGateError(f"table {table} is not published in this lake; run the job that writes it first")
        return int(published)

    def last_success(self, job: str, outputs: Sequence[str]) -> Run | None:
        """The last successful run of a job that wrote just these outputs."""
        wanted = set(outputs)
        return next((r for r in reversed(self.successes()) if r.job == job and set(r.wrote) == wanted), None)


def append_run(lake: Location, run: Run) -> None:
    """Publish: the one write that makes a job's tables visible."""
    row = {name: getattr(run, name) for name in RUNS.schema.names}
    row["finished"] = run.finished or datetime.now(UTC)
    row["counts"] = json.dumps(run.counts, sort_keys=True)
    for name in ("read", "wrote", "digests"):
        row[name] = list(row[name].items())
    uri = lake_uri(lake, RUNS.path)
    try:
        create_runs(lake)
        write_deltalake(uri, pa.Table.from_pylist([row], schema=RUNS.schema), mode="append")
    except (DeltaError, OSError) as error:
        raise ClusterError(f"lake: cannot write {uri} ({error}); check the path and its permissions") from error


def create_runs(lake: Location) -> None:
    """Create `runs` if it is not there; of two jobs that start together, the second finds it made."""
    if open_delta(lake, RUNS.path) is not None:
        return
    made = DeltaTable.create(lake_uri(lake, RUNS.path), RUNS.schema, mode="ignore")
    try:
        made.alter.add_constraint(RUNS.checks)
    except DeltaError:
        if not set(RUNS.checks) <= {name.removeprefix("delta.constraints.") for name in _properties(lake)}:
            raise


def _properties(lake: Location) -> set[str]:
    found = open_delta(lake, RUNS.path)
    return set() if found is None else set(found.metadata().configuration)


def open_delta(lake: Location, path: str, version: int | None = None) -> DeltaTable | None:
    """A table through delta-rs, at a version; None when there is none."""
    try:
        table = DeltaTable(lake_uri(lake, path), version=version)
    except TableNotFoundError:
        return None
    except OSError as error:
        told = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()
        raise ClusterError(f"lake: cannot read {lake_uri(lake, path)} ({told[-1].strip(' ↳')})") from None
    if table.protocol().min_reader_version != 1:
        raise DataGateError(
            f"table {path} uses Delta reader version {table.protocol().min_reader_version}, expected 1: "
            "deletion vectors and column mapping would be read wrongly; rewrite it without them"
        )
    return table


def lake_uri(lake: Location, path: str) -> str:
    return f"{lake.uri}/{path}"
