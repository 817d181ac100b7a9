"""The command line of one stage, the same under `spark-submit jobs/<stage>.py` and `riskloom <stage>`."""

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.logging import RichHandler

from features.contract.config import load_settings
from features.contract.errors import ConfigError, ExitCode, RiskloomError
from features.lake import spark_session, stop_spark
from features.quality import Balance
from jobs.frame import Job, Summary, run_job

console = Console(stderr=True, emoji=False)
# Answers that somebody asked for, to be piped on.
answers = Console(emoji=False)

_DIGEST = re.compile(r"file [0-9a-f]{64}\b")

ConfigOption = Annotated[str, typer.Option("--config", help="YAML file, or the name of a shipped one.")]
RawOption = Annotated[str | None, typer.Option("--raw", help="Raw zone: a path or an hdfs:// URI.")]
LakeOption = Annotated[str | None, typer.Option("--lake", help="Lake: a path or an hdfs:// URI.")]
ProfileOption = Annotated[str, typer.Option("--profile", help="laptop or yarn.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override one key: launch.ranks=4.")]
RunIdOption = Annotated[str | None, typer.Option("--run-id", hidden=True)]


def stage_command(job: Job) -> Callable[..., None]:
    """The function that a CLI library turns into this stage's command."""

    def command(
        config: ConfigOption,
        raw: RawOption = None,
        lake: LakeOption = None,
        profile: ProfileOption = "laptop",
        overrides: SetOption = None,
        run_id: RunIdOption = None,
    ) -> None:
        start_logging()
        try:
            settings = load_settings(config, profile, raw, lake, overrides or ())
        except ConfigError as error:
            fail(error)
        summary = run_job(job, settings, run_id)
        if summary.exit_code == ExitCode.DONE and "PYSPARK_GATEWAY_PORT" in os.environ:
            # YARN calls an application that ends without a session failed, even when nothing was new.
            spark_session(settings.spark, job.name)
        show(summary)
        raise typer.Exit(summary.exit_code)

    command.__doc__ = sys.modules[job.body.__module__].__doc__
    return command


def main(job: Job) -> None:
    """Run a stage as a script."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(stage_command(job))
    end_with(app)


def end_with(app: typer.Typer) -> NoReturn:
    """Run a command line and end the process with its exit code, whatever native libraries do.

    A thread that Arrow or gRPC left running can abort the interpreter's own end ("terminate called
    without an active exception"), and a scheduler would read 134 in place of our code.
    """
    stopped = threading.Event()

    def stop(_: int, __: FrameType | None) -> NoReturn:
        stopped.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    try:
        app()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    stop_spark(at_once=stopped.is_set())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def start_logging() -> None:
    """Messages to standard error; standard output carries the summaries alone."""
    handler = RichHandler(console=console, show_path=False, show_time=False)
    # What py4j logs, by the root logger, it raises too; and a Ctrl-C is no error.
    handler.addFilter(lambda record: "/py4j/" not in record.pathname)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler], force=True)
    for chatty in ("horovod", "deltalake"):
        logging.getLogger(chatty).setLevel(logging.ERROR)


def show(summary: Summary) -> None:
    """One line for people on standard error, one line of JSON for schedulers on standard output."""
    colour = "red" if summary.exit_code else "green"
    text = f"[{colour}]{summary.job}[/{colour}] {summary.status} in {summary.seconds} s"
    console.print(text, highlight=False)
    for line in refusals(summary.counts):
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    if summary.message:
        console.print(summary.message, markup=False, highlight=False, soft_wrap=True)
        if _DIGEST.search(summary.message):
            told = "riskloom trace DIGEST --raw URI --config CONFIG tells which file that is"
            console.print(told, highlight=False, soft_wrap=True)
    typer.echo(summary.to_json())


def refusals(counts: Mapping[str, Any]) -> Iterator[str]:
    """A line for each source of an ingest that had records refused."""
    for source, counted in counts.get("balances", {}).items():
        balance = Balance(**counted)
        if refused := sum(balance.quarantined.values()):
            yield f"{source}: of {balance.records:,} records {refused:,} quarantined ({balance.refusals})"


def fail(error: RiskloomError) -> NoReturn:
    """A wrong configuration ends the command before anything starts."""
    console.print(str(error), markup=False, highlight=False, soft_wrap=True, style="red")
    raise typer.Exit(int(error.exit_code))
