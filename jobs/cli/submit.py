"""`riskloom submit`: one stage on YARN in cluster mode, with its true exit code brought back."""

import logging
import os
import re
import shlex
import tempfile
import time
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

from features.contract.config import load_settings, resolved_yaml
from features.contract.errors import ClusterError, ConfigError, ExitCode, RiskloomError
from features.contract.paths import Location
from features.contract.runs import Run, Runs
from features.contract.settings import Settings, TrackingSettings
from jobs.cli.application import follow
from jobs.frame import Job, Summary
from jobs.script import ConfigOption, LakeOption, RawOption, SetOption, console, fail, show, start_logging
from jobs.stages import JOBS, job_named

log = logging.getLogger("riskloom")
PACKAGES = ("conf", "features", "jobs", "models")


def submit(
    stage: Annotated[str, typer.Argument(help="One of the eleven stages, or search_model.")],
    config: ConfigOption,
    raw: RawOption = None,
    lake: LakeOption = None,
    profile: Annotated[str, typer.Option("--profile")] = "yarn",
    overrides: SetOption = None,
    hadoop_conf: Annotated[
        str | None, typer.Option("--hadoop-conf", envvar="HADOOP_CONF_DIR", help="Hadoop's configuration.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the spark-submit command only.")] = False,
) -> None:
    """Run a stage on YARN; exit with the stage's own code, which spark-submit alone would make 1.

    The configuration is resolved and validated here; the container gets one file, the code as a zip,
    and the environment archive. A stage with nothing new is told apart from one that ran.
    """
    start_logging()
    try:
        settings = load_settings(config, profile, raw, lake, overrides or ())
        job = job_named(stage)
        if hadoop_conf is None:
            raise ConfigError(
                "--hadoop-conf: name the folder with core-site.xml and yarn-site.xml, or set HADOOP_CONF_DIR"
            )
        os.environ["HADOOP_CONF_DIR"] = hadoop_conf
        code = _submit(job, settings, dry_run)
    except RiskloomError as error:
        fail(error)
    raise typer.Exit(code)


def _submit(job: Job, settings: Settings, dry_run: bool) -> int:
    _check_ranks(job, settings)
    run_id, started = uuid.uuid4().hex, time.monotonic()
    with _parcel(settings) as folder:
        command = spark_submit(job, settings, folder, run_id)
        if dry_run:
            typer.echo(shlex.join(command))
            return int(ExitCode.DONE)
        with console.status(f"{job.name} on YARN"):
            ended = follow(command, _environment(), lambda text: console.print(text, highlight=False))
    row = next((run for run in Runs.read(Location(settings.lake)).rows if run.run_id == run_id), None)
    code = exit_code(ended.returncode, row, ended.output)
    show(_summary(job, run_id, row, code, round(time.monotonic() - started, 1)))
    if row is None and code != ExitCode.DONE:
        console.print(
            f"no row in runs ({ended.application or 'no application'}); the end of what spark-submit said:"
        )
        console.print("\n".join(ended.output.splitlines()[-30:]), markup=False, highlight=False)
    if code == ExitCode.DONE and row is not None:
        job.after(settings, run_id)
    return code


def _check_ranks(job: Job, settings: Settings) -> None:
    """Ranks that cannot fit are refused here, not after a container has waited for them."""
    if job.name not in ("train_model", "search_model"):
        return
    if settings.launch.launcher != "spark":
        raise ConfigError(
            f"launch.launcher: {settings.launch.launcher} would put all ranks into the driver's container; "
            "expected spark, the yarn profile's"
        )
    spark, wanted = settings.spark, settings.launch.ranks
    slots = spark.executors * spark.executor_cores
    if wanted > slots:
        raise ClusterError(
            f"launch.ranks: {wanted} slots are wanted, and spark.executors x executor_cores asks YARN for {slots}"
        )


def spark_submit(job: Job, settings: Settings, folder: Path, run_id: str) -> list[str]:
    """The command line; `folder` holds what travels with the job."""
    spark = settings.spark
    if spark.environment_archive is None:
        raise ConfigError("spark.environment_archive: name the archive that `make archive` builds, best on HDFS")
    options = {
        "--properties-file": str(folder / "spark-defaults.conf"),
        "--name": f"riskloom {job.name} {settings.name}",
        "--queue": spark.queue,
        "--num-executors": str(spark.executors),
        "--executor-cores": str(spark.executor_cores),
        "--executor-memory": spark.executor_memory,
        "--driver-memory": spark.driver_memory,
        "--archives": f"{spark.environment_archive}#environment",
        "--py-files": str(folder / "riskloom.zip"),
        "--files": str(folder / "resolved.yaml"),
    }
    conf = dict(spark.conf)
    if spark.jars_archive is not None:
        conf["spark.yarn.archive"] = spark.jars_archive
    words = [str(_spark_home() / "bin" / "spark-submit")]
    words += [word for pair in options.items() for word in pair]
    words += [word for key, value in conf.items() for word in ("--conf", f"{key}={value}")]
    return [
        *words,
        str(folder / f"{job.name}.py"),
        "--config",
        "resolved.yaml",
        "--profile",
        "yarn",
        "--run-id",
        run_id,
    ]


@contextmanager
def _parcel(settings: Settings) -> Iterator[Path]:
    """A folder with what the container needs: configuration, code, Spark's settings, entry points."""
    with tempfile.TemporaryDirectory(prefix="riskloom-submit-") as name:
        folder = Path(name)
        shipped = settings.model_copy(update={"tracking": TrackingSettings(uri=None, tensorboard=None)})
        (folder / "resolved.yaml").write_text(resolved_yaml(shipped))
        (folder / "spark-defaults.conf").write_bytes(
            (resources.files("conf") / "spark-defaults.conf").read_bytes()
        )
        with zipfile.ZipFile(folder / "riskloom.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for package in PACKAGES:
                _add(archive, resources.files(package), package)
        for job in JOBS:
            (folder / f"{job.name}.py").write_bytes((resources.files("jobs") / f"{job.name}.py").read_bytes())
        yield folder


def _add(archive: zipfile.ZipFile, folder: Traversable, name: str) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            _add(archive, entry, f"{name}/{entry.name}")
        elif entry.is_file():
            archive.writestr(f"{name}/{entry.name}", entry.read_bytes())


def _spark_home() -> Path:
    """The Spark of `SPARK_HOME`, or the one that pyspark brings."""
    import pyspark

    return Path(os.environ.get("SPARK_HOME") or Path(pyspark.__file__).parent)


def _environment() -> dict[str, str]:
    return os.environ | {"SPARK_LOCAL_IP": os.environ.get("SPARK_LOCAL_IP", "127.0.0.1")}


def exit_code(submitted: int, row: Run | None, output: str) -> int:
    """DESIGN's code: from the row the job left in `runs`, else from YARN's diagnostics.

    A job that was killed, or that never got a container, leaves neither: that is the cluster's 4.
    """
    if row is not None:
        return row.exit_code
    if submitted == 0:
        return int(ExitCode.DONE)
    told = re.search(r"exited with (?:status|code) (\d+)", output)
    return (
        int(told.group(1)) if told and told.group(1) in {"1", "2", "3", "4", "5", "6"} else int(ExitCode.CLUSTER)
    )


def _summary(job: Job, run_id: str, row: Run | None, code: int, seconds: float) -> Summary:
    """What the stage itself would have printed; its own lines stay in the driver's container."""
    if row is not None:
        return Summary(job.name, run_id, row.status, code, seconds, dict(row.wrote), dict(row.counts), row.message)
    return Summary(job.name, run_id, "failed" if code else "nothing new", code, seconds)
