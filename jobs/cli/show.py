"""`riskloom show`: what a table of the lake holds, as published."""

from typing import Annotated, Any

import typer
from rich.table import Table

from features.contract.errors import DataGateError, RiskloomError
from features.contract.paths import Location
from features.contract.runs import Runs, open_delta
from jobs.script import console, fail

LONGEST_CELL = 40


def show(
    table: Annotated[str, typer.Argument(help="A table, such as variants or training/t2d; runs for the log.")],
    lake: Annotated[str, typer.Option("--lake", help="Lake: a path or an hdfs:// URI.")],
    rows: Annotated[int, typer.Option("--rows", min=0, help="How many rows to show.")] = 5,
) -> None:
    """Show a table's rows, version, the run that published it, and a sample."""
    try:
        _show(Location.parse(lake), table, rows)
    except RiskloomError as error:
        fail(error)


def _show(lake: Location, table: str, rows: int) -> None:
    runs = Runs.read(lake)
    version = None if table == "runs" else runs.version(table)
    publisher = runs.publisher(table)
    found = open_delta(lake, table, version)
    if found is None:
        raise DataGateError(f"{table}: this lake has no such table")
    dataset = found.to_pyarrow_dataset()
    by = f", published by {publisher.job} run {publisher.run_id}" if publisher else ""
    console.print(f"{table}: {dataset.count_rows():,} rows, version {found.version()}{by}", soft_wrap=True)
    sample = dataset.head(rows)
    grid = Table(*sample.column_names)
    for row in sample.to_pylist():
        grid.add_row(*(_cell(value) for value in row.values()))
    console.print(grid)


def _cell(value: Any) -> str:
    """Binary by its size, long text cut."""
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    text = "" if value is None else str(value)
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"
