"""`riskloom run`: every stage of a study, one after the other, in this process."""

from typing import Annotated

import typer
from rich.table import Table

from features.contract.config import load_settings
from features.contract.errors import ClusterError, ExitCode, RiskloomError
from features.contract.paths import Location
from features.contract.runs import Runs
from features.contract.settings import Settings
from jobs.frame import Job, Summary, pending, run_job
from jobs.script import (
    LakeOption,
    ProfileOption,
    RawOption,
    SetOption,
    answers,
    console,
    fail,
    show,
    start_logging,
)
from jobs.stages import BY_THEMSELVES, stages_between

IF_CHANGED = "run, if input changes"


def run(
    config: Annotated[str, typer.Argument(help="YAML file, or the name of a shipped one (conf/demo.yaml).")],
    raw: RawOption = None,
    lake: LakeOption = None,
    profile: ProfileOption = "laptop",
    overrides: SetOption = None,
    first: Annotated[str | None, typer.Option("--from", help="Start at this stage.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Stop after this stage.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")] = False,
) -> None:
    """Run a study from the raw zone to the report; stages with nothing new do nothing.

    Each stage prints one line of JSON to standard output. The exit code is that of the first stage
    that failed: 2 configuration, 3 data, 4 cluster, 5 training, 6 model.
    """
    start_logging()
    try:
        settings = load_settings(config, profile, raw, lake, overrides or ())
        stages = stages_between(first, last)
        if dry_run:
            raise typer.Exit(_print_plan(settings, stages))
    except RiskloomError as error:
        fail(error)
    summaries = _run_stages(stages, settings)
    _print_end(settings, summaries)
    raise typer.Exit(summaries[-1].exit_code)


def _run_stages(stages: list[Job], settings: Settings) -> list[Summary]:
    """Run in order, up to the first that fails."""
    summaries: list[Summary] = []
    for index, job in enumerate(stages, 1):
        with console.status(f"{index}/{len(stages)} {job.name}"):
            summaries.append(run_job(job, settings))
        show(summaries[-1])
        if summaries[-1].exit_code:
            break
    return summaries


def _print_plan(settings: Settings, stages: list[Job]) -> int:
    """What each stage would do; the exit code of the first that would fail."""
    table = Table("stage", title=f"{settings.name}: raw {settings.raw} -> lake {settings.lake}")
    table.add_column("would", min_width=len(IF_CHANGED))
    table.add_column("writes")
    renewed, first_failure = set[str](), int(ExitCode.DONE)
    for job in stages:
        (would, code), writes = _would(job, settings), job.writes(settings)
        first_failure = first_failure or code
        if would == "nothing new" and renewed & set(job.reads(settings)):
            would = IF_CHANGED
        if would.startswith("run"):
            renewed |= set(writes)
        table.add_row(job.name, would, ", ".join(writes))
    for job in BY_THEMSELVES:
        if writes := job.writes(settings):
            table.add_row(job.name, f"by itself: {_would(job, settings)[0]}", ", ".join(writes))
    answers.print(table)
    return first_failure


def _would(job: Job, settings: Settings) -> tuple[str, int]:
    """In words, and the exit code if it is already clear that it would fail."""
    try:
        return pending(job, settings), int(ExitCode.DONE)
    except ClusterError:
        raise  # a lake that is away is so for all of them
    except RiskloomError as error:
        return f"fail: {error}", int(error.exit_code)


def _print_end(settings: Settings, summaries: list[Summary]) -> None:
    """Where the report lies, once there is one."""
    published = Runs.read(Location(settings.lake)).publisher(f"reports/{settings.name}")
    if published is not None and not summaries[-1].exit_code:
        console.print(f"Report: {settings.lake}/reports/{published.run_id}/report.html", soft_wrap=True)
