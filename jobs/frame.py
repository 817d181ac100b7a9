"""What surrounds every job: nothing-new check, leases, leftovers, publishing, exit code, summary."""

import hashlib
import json
import logging
import re
import signal
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from features.contract import errors
from features.contract.config import config_digest
from features.contract.errors import ClusterError, DataGateError, ExitCode, RiskloomError, from_system
from features.contract.lease import leases
from features.contract.paths import FileStat, Location, matches
from features.contract.persons import PersonKeyer, fingerprint, load_keyer
from features.contract.runs import Run, Runs, append_run
from features.contract.settings import Settings

if TYPE_CHECKING:  # a job with nothing new must not pay for Spark's import
    from pyspark.sql import SparkSession

    from features.lake import Written

log = logging.getLogger("riskloom")
MOST_FILES_LISTED = 1000
NOT_TABLES = ("models/", "reports/", "searches/")


@dataclass(frozen=True)
class Job:
    """A batch job: what it reads and writes under given settings, and the one function it calls.

    `reads` and `writes` name outputs as `runs` does: tables, `models/<task>`, `reports/<study>`,
    `searches/<task>`.
    `sections` are the parts of the configuration that its result depends on, `raw` the globs of the
    raw files it reads. An empty `writes` means that the settings give it nothing to do. `after` is
    called with the run's id once it is published.
    """

    name: str
    body: "Callable[[Context], Written]"
    writes: Callable[[Settings], list[str]]
    sections: Callable[[Settings], list[BaseModel | None]]
    reads: Callable[[Settings], list[str]] = lambda _: []
    raw: Callable[[Settings], list[str]] = lambda _: []
    after: Callable[[Settings, str], None] = lambda _, __: None


@dataclass(frozen=True)
class Context:
    """What a job's body gets. Spark starts when it is first asked for."""

    settings: Settings
    runs: Runs
    run_id: str
    started: datetime
    files: list[FileStat] = field(default_factory=list)

    @property
    def lake(self) -> Location:
        return Location(self.settings.lake)

    @cached_property
    def keyer(self) -> PersonKeyer:
        return load_keyer(self.settings.identity)

    @cached_property
    def spark(self) -> "SparkSession":
        from features.lake import spark_session

        with _keeping_ctrl_c():
            return spark_session(self.settings.spark, f"riskloom {self.settings.name}")

    def work(self, name: str, key: str) -> Location:
        """A folder for what is not published. What an attempt with this code and `key` left there is kept,
        so that a killed one goes on; that of any other is removed, and this is told."""
        folder = self.lake / f"_work/{name}"
        owner, mine = folder / "key", hashlib.sha256(f"{code_version()} {key}".encode()).hexdigest().encode()
        if not owner.exists() or owner.read_bytes() != mine:
            if owner.exists():
                log.warning("%s: removed what an attempt with other settings, tables or code had left", name)
            folder.delete()
            owner.write_bytes(mine)
        return folder

    @contextmanager
    def scratch(self, name: str) -> Iterator[Location]:
        """A folder that the tasks of a job share while it runs; what a killed one left is removed first."""
        folder = self.lake / f"_work/{name}"
        folder.delete()
        try:
            yield folder
        finally:
            folder.delete()

    def matching(self, globs: Sequence[str]) -> list[FileStat]:
        """The raw files that match one of these globs."""
        return [file for file in self.files if any(matches(file.path, glob) for glob in globs)]


@contextmanager
def _keeping_ctrl_c() -> Iterator[None]:
    """pyspark takes Ctrl-C for itself, to cancel its jobs, and if it comes in mid-call breaks the connection to
    Java by asking for that. Here it ends the job."""
    import pyspark.context

    context: Any = pyspark.context
    theirs = context.signal
    context.signal = SimpleNamespace(SIGINT=signal.SIGINT, signal=lambda *_: None)
    try:
        yield
    finally:
        context.signal = theirs


@dataclass(frozen=True, slots=True)
class Summary:
    """What a scheduler reads: one line of JSON a stage."""

    job: str
    run_id: str
    status: str
    exit_code: int
    seconds: float
    wrote: dict[str, str] = field(default_factory=dict)
    counts: dict[str, object] = field(default_factory=dict)
    message: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def run_job(job: Job, settings: Settings, run_id: str | None = None) -> Summary:
    """Run one job under DESIGN's publishing rule; never raises, the summary tells the end."""
    clock, lake = time.monotonic(), Location(settings.lake)
    run = _new_run(job, settings, run_id or uuid.uuid4().hex)
    try:
        run = _run(job, settings, run, lake)
        _afterwards(job, settings, run)
    except KeyboardInterrupt:
        run = _failed(lake, run, ClusterError("stopped by the user; nothing was published"))
    except Exception as error:  # noqa: BLE001  the one place where every failure becomes an exit code
        run = _failed(lake, run, error)
    seconds = round(time.monotonic() - clock, 1)
    return Summary(
        job.name, run.run_id, run.status, run.exit_code, seconds, dict(run.wrote), dict(run.counts), run.message
    )


def _new_run(job: Job, settings: Settings, run_id: str) -> Run:
    """What is known before anything is read."""
    config = config_digest(*job.sections(settings))
    return Run(run_id, job.name, datetime.now(UTC), config, input_digest="", code_version=code_version())


def _afterwards(job: Job, settings: Settings, run: Run) -> None:
    """What follows publication cannot undo it: a failure here is told, and the run stays a success."""
    if run.status != "succeeded":
        return
    try:
        job.after(settings, run.run_id)
    except Exception as error:  # noqa: BLE001  whatever a tracking server throws
        log.warning("%s is published, but what follows it failed: %s", run.job, type(error).__name__)


def pending(job: Job, settings: Settings) -> str:
    """What running this job would do now, without doing it; raises what would stop it."""
    outputs = job.writes(settings)
    if not outputs:
        return "nothing (no such section in the configuration)"
    runs = Runs.read(Location(settings.lake))
    if missing := [name for name in job.reads(settings) if runs.published(name) is None]:
        return f"run, once it has {', '.join(missing)}"
    if job.raw(settings) and not Location.parse(settings.identity.key_uri).exists():
        _raw_files(job, settings)  # raises where there are none
        return "run"  # and a dry run makes no key
    run, _ = _prepare(job, settings, _new_run(job, settings, ""), runs)
    return "nothing new" if _nothing_new(runs, run, outputs) else "run"


def _run(job: Job, settings: Settings, run: Run, lake: Location) -> Run:
    outputs = job.writes(settings)
    if not outputs:
        return replace(run, status="skipped", message="the configuration gives this stage nothing to do")
    runs = _open_runs(lake)
    run, context = _prepare(job, settings, run, runs)
    if last := _nothing_new(runs, run, outputs):
        return replace(run, status="nothing new", message=f"nothing new since run {last.run_id}")
    with leases(lake, outputs, run.run_id) as still_held:
        # Another job may have published between the first look and the lease.
        runs = Runs.read(lake)
        run, context = _prepare(job, settings, run, runs)
        if last := _nothing_new(runs, run, outputs):
            return replace(run, status="nothing new", message=f"nothing new since run {last.run_id}")
        _restore_leftovers(lake, runs, outputs)
        written = job.body(context)
        still_held()
        run = _published_run(run, written, outputs, context)
        append_run(lake, run)
    return run


def _published_run(run: Run, written: "Written", outputs: Sequence[str], context: Context) -> Run:
    """The row that publishes what a body wrote."""
    wrote = {table: str(version) for table, version in written.tables.items()}
    wrote |= {output: digest for output, digest in written.digests.items() if output in outputs}
    digests = {path: digest for path, digest in written.digests.items() if path not in outputs}
    counts = written.counts | _raw_file_counts(context)
    return replace(run, wrote=wrote, digests=digests, counts=counts, finished=datetime.now(UTC))


def _prepare(job: Job, settings: Settings, run: Run, runs: Runs) -> tuple[Run, Context]:
    """What the job would read, and the digests that tell whether any of it is new."""
    context = Context(settings, runs, run.run_id, run.started, _raw_files(job, settings))
    run = replace(
        run,
        input_digest=_input_digest(job, context),
        read={name: int(v) for name in job.reads(settings) if (v := _published(runs, name)).isdigit()},
    )
    return run, context


def _nothing_new(runs: Runs, run: Run, outputs: Sequence[str]) -> Run | None:
    """The last successful run when it did just this, and its outputs are still the published ones
    (another study may share `predictions`)."""
    last = runs.last_success(run.job, outputs)
    same = last is not None and last.identity == run.identity
    return last if same and last and all(runs.published(out) == v for out, v in last.wrote.items()) else None


def _open_runs(lake: Location) -> Runs:
    """Read the runs; a lake that is away or cannot be written is found here, before any work."""
    runs = Runs.read(lake)  # first: against a NameNode that is away, a write tries on for minutes
    probe = lake / f"_probe-{uuid.uuid4().hex}"
    try:
        probe.write_bytes(b"")
        probe.delete()
    except (OSError, RuntimeError) as error:
        raise ClusterError(
            f"lake: cannot write to {lake.uri} ({error}); check the path and its permissions"
        ) from error
    return runs


def _published(runs: Runs, output: str) -> str:
    found = runs.published(output)
    if found is None:
        raise DataGateError(f"{output} is not published in this lake; run the stage that writes it first")
    return found


def _raw_files(job: Job, settings: Settings) -> list[FileStat]:
    globs = job.raw(settings)
    if not globs:
        return []
    root = Location(settings.raw)
    files = [file for file in root.files() if any(matches(file.path, glob) for glob in globs)]
    if not files:
        raise DataGateError(f"raw: no file below {root.uri} matches {', '.join(globs)}; check --raw and the globs")
    return files


def _raw_file_counts(context: Context) -> dict[str, object]:
    """The raw files by digest with their sizes, for `trace`; above a thousand only their number."""
    if not context.files:
        return {}
    if len(context.files) > MOST_FILES_LISTED:
        return {"raw_files_not_listed": len(context.files)}
    return {"raw_files": {context.keyer.path_digest(file.path): file.size for file in context.files}}


def _input_digest(job: Job, context: Context) -> str:
    read = [(name, _published(context.runs, name)) for name in sorted(job.reads(context.settings))]
    files = [asdict(file) for file in context.files]
    key = fingerprint(context.keyer.key) if files else ""
    return hashlib.sha256(json.dumps([read, files, key]).encode()).hexdigest()


def _restore_leftovers(lake: Location, runs: Runs, outputs: Sequence[str]) -> None:
    from features.lake import restore_leftover

    for output in outputs:
        if not output.startswith(NOT_TABLES) and restore_leftover(lake, runs, output):
            log.warning("table %s: undid what a killed job had left unpublished", output)


def _failed(lake: Location, run: Run, error: BaseException) -> Run:
    """Record the failure; a lake that cannot take the row must not hide the cause."""
    known = error if isinstance(error, RiskloomError) else _from_executor(error) or from_system(error)
    if known is None:
        # Where it happened, and not its text: that may hold a path or a value of a record.
        frames = "".join(traceback.format_tb(error.__traceback__)) + _frames_in_executor(error)
        log.error("%s: %s, a bug of ours; please report it with this:\n%s", run.job, type(error).__name__, frames)
    message = str(known) if known else f"{type(error).__name__}: a bug of ours; the log says where"
    code = known.exit_code if known else ExitCode.BUG
    run = replace(run, status="failed", exit_code=int(code), message=message, finished=datetime.now(UTC), wrote={})
    try:
        append_run(lake, run)
    except RiskloomError as second:
        log.warning("the failure could not be recorded in runs: %s", second)
    return run


def _from_executor(error: BaseException) -> RiskloomError | None:
    """One of our errors, raised in a Spark task, comes back as text inside Spark's own."""
    match = re.search(r"features\.contract\.errors\.(\w+): (.*)", str(error))
    kind = getattr(errors, match.group(1), None) if match else None
    return kind(match.group(2).strip()) if match and kind else None


def _frames_in_executor(error: BaseException) -> str:
    """Where in a Spark task it happened, of which Spark's own error has the lines."""
    found = re.findall(r'^ +File "[^"]+", line [0-9]+, in .*$', str(error), re.MULTILINE)
    return "".join(f"{line}\n" for line in ["in a Spark task:", *found]) if found else ""


def code_version() -> str:
    """The distribution's version and a digest of the code that runs, whatever way it was installed."""
    digest = hashlib.sha256()
    for package in ("conf", "features", "jobs", "models"):
        _add_tree(digest, resources.files(package), package)
    return f"{_distribution_version()}+{digest.hexdigest()[:12]}"


def _distribution_version() -> str:
    try:
        return metadata.version("riskloom")
    except metadata.PackageNotFoundError:  # in a container the wheel is on the path, not installed
        return "wheel"


def _add_tree(digest: "hashlib._Hash", folder: Traversable, name: str) -> None:
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.is_dir() and entry.name != "__pycache__":
            _add_tree(digest, entry, f"{name}/{entry.name}")
        elif entry.name.endswith((".py", ".j2")):
            digest.update(f"{name}/{entry.name}".encode() + entry.read_bytes())
