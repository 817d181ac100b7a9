"""`riskloom show`: what a table of the lake holds, or what a search found, as published."""

from typing import Annotated, Any

import typer
from rich.text import Text

from features.contract.errors import ConfigError, DataGateError, RiskloomError
from features.contract.paths import Location
from features.contract.runs import Runs, open_delta
from jobs.frame import NOT_TABLES
from jobs.script import answers, fail

LONGEST_CELL = 200


def show(
    table: Annotated[
        str, typer.Argument(help="A table, such as variants or training/t2d; runs for the log; searches/t2d.")
    ],
    lake: Annotated[str, typer.Option("--lake", help="Lake: a path or an hdfs:// URI.")],
    rows: Annotated[int, typer.Option("--rows", min=0, help="How many rows to show.")] = 5,
) -> None:
    """Show a table's rows, version, the run that published it, and a sample."""
    try:
        show_what = _show_search if table.startswith("searches/") else _show
        show_what(Location.parse(lake), table, rows)
    except RiskloomError as error:
        fail(error)


def _show(lake: Location, table: str, rows: int) -> None:
    runs = Runs.read(lake)
    if table.startswith(NOT_TABLES) and (run := runs.publisher(table)):
        folder = f"reports/{run.run_id}" if table.startswith("reports/") else f"{table}/{run.wrote[table]}"
        raise ConfigError(f"{table} is no table; what is published lies in {lake.uri}/{folder}")
    version = None if table == "runs" else runs.version(table)
    publisher = runs.publisher(table)
    found = open_delta(lake, table, version)
    if found is None:
        raise DataGateError(f"{table}: this lake has no such table")
    dataset = found.to_pyarrow_dataset()
    by = f", published by {publisher.job} run {publisher.run_id}" if publisher else ""
    answers.print(f"{table}: {dataset.count_rows():,} rows, version {found.version()}{by}", soft_wrap=True)
    for row in dataset.head(rows).to_pylist():
        answers.rule()
        answers.print(_record(row), soft_wrap=True)


def _show_search(lake: Location, name: str, rows: int) -> None:
    """The best trials, the very best one's settings as YAML, and where the picture lies."""
    from models.train.trials import BEST, PICTURE, SEARCH, Search, told

    digest = Runs.read(lake).published(name)
    if digest is None:
        raise DataGateError(f"{name} is not published in this lake; run search_model first")
    folder = lake / f"{name}/{digest}"
    search = Search.model_validate_json((folder / SEARCH).read_bytes())
    answers.print(
        f"{name}: {len(search.trials)} trials on training/{search.task} version {search.training_version}"
    )
    for trial in search.ranked()[:rows]:
        settings = ", ".join(f"{key} {value}" for key, value in trial.settings.items())
        answers.print(f"trial {trial.number}: {told(search, trial)}; {settings}", soft_wrap=True, highlight=False)
    answers.print((folder / BEST).read_bytes().decode(), markup=False, highlight=False, soft_wrap=True)
    answers.print(f"{folder.uri}/{PICTURE}", soft_wrap=True)


def _record(row: dict[str, Any]) -> Text:
    """Its columns one below the other: a table here may have sixteen of them, and keys must stay whole."""
    width = max(map(len, row))
    return Text("\n".join(f"{name:<{width}}  {_cell(value)}" for name, value in row.items()))


def _cell(value: Any) -> str:
    """Binary by its size, long text cut."""
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    text = "" if value is None else str(value)
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"
