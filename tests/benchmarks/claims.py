"""A claim of a benchmark, and the table of all of them."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """What is claimed, the limit in words, the figure, whether it holds."""

    what: str
    limit: str
    figure: str
    holds: bool


def show(rows: list[Row]) -> None:
    table = Table("claim", "limit", "found", "holds")
    for row in rows:
        table.add_row(row.what, row.limit, row.figure, "yes" if row.holds else "[red]no[/red]")
    Console().print(table)
