"""`riskloom simulate`: the demo's raw zone, with its planted truth and dirt beside it."""

from typing import Annotated

import typer
from rich.table import Table

from features.contract.errors import RiskloomError
from features.contract.paths import Location
from features.simulation.raw_zone import Truth, simulate
from jobs.script import console, fail


def simulate_raw(
    raw: Annotated[str, typer.Option("--raw", help="The folder or URI to write; truth/ appears beside it.")],
    people: Annotated[int, typer.Option("--people", min=100)] = 4000,
    seed: Annotated[int, typer.Option("--seed")] = 1,
) -> None:
    """Simulate people with genomes, records and images; the same seed gives the same bytes."""
    try:
        truth = simulate(Location.parse(raw), people, seed)
    except RiskloomError as error:
        fail(error)
    console.print(planted_table(truth))
    console.print(", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in truth.counts.items()))


def planted_table(truth: Truth) -> Table:
    """The dirt in the raw zone by job and rule."""
    table = Table("job", "rule", title="Planted dirt")
    table.add_column("records", justify="right")
    for job, rules in truth.planted.items():
        for rule, count in rules.items():
            table.add_row(job, rule, f"{count:,}")
    return table
