"""`riskloom`: every stage as a command, the whole way as one, and the commands around them."""

from typing import Annotated

import typer

from jobs.cli import doctor, recovered, run, show, simulate, submit, trace
from jobs.frame import code_version
from jobs.script import end_with, stage_command
from jobs.stages import BY_THEMSELVES, STAGES

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command("run", rich_help_panel="The whole way")(run.run)
for stage in STAGES:
    app.command(stage.name, rich_help_panel="One stage")(stage_command(stage))
for extra in BY_THEMSELVES:
    app.command(extra.name, rich_help_panel="By itself")(stage_command(extra))
app.command("submit", rich_help_panel="On a cluster")(submit.submit)
app.command("doctor", rich_help_panel="On a cluster")(doctor.doctor)
app.command("show", rich_help_panel="Looking")(show.show)
app.command("trace", rich_help_panel="Looking")(trace.trace)
app.command("simulate", rich_help_panel="The demo")(simulate.simulate_raw)
app.command("recovered", rich_help_panel="The demo")(recovered.recovered)


@app.callback(invoke_without_command=True)
def version(
    wanted: Annotated[bool, typer.Option("--version", is_eager=True, help="Say which code this is.")] = False,
) -> None:
    """Genomes, clinical histories and images woven into one training table, trained and scored."""
    if wanted:
        typer.echo(code_version())
        raise typer.Exit


def main() -> None:
    """The `riskloom` command."""
    end_with(app)
