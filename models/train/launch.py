"""Start the ranks of a training job, wait for them, and leave none behind."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from features.contract.errors import ConfigError, TrainingError
from features.contract.paths import Location
from features.contract.settings import LaunchSettings
from models.train.fit import TrainJob
from models.train.horovod_servers import LOOPBACK, bind_servers
from models.train.processes import Group, Process, first_failure, group, python, wait

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def launch(job: TrainJob, settings: LaunchSettings, spark: "SparkSession | None" = None) -> None:
    """Train all fits of the job on `settings.ranks` ranks; the results lie below its `work_uri`, and
    what an earlier attempt left there is gone on with.

    Raises TrainingError, or the rank's own kind of error, naming the rank that failed, its exit code
    and the end of its log; ClusterError for too few slots. This attempt's logs are in `work_uri`/logs.
    """
    if settings.ranks > min(fit.model.batch_size for fit in job.fits):
        raise ConfigError(f"launch.ranks: {settings.ranks} ranks cannot share a batch of fewer rows")
    (Location(job.work_uri) / "logs").delete()
    with _logs(Location(job.work_uri)) as logs:
        if settings.launcher == "spark":
            from models.train.spark_launch import launch_on_spark

            launch_on_spark(job, settings, spark, logs)
            return
        job_file = Location(job.work_uri) / "job.json"
        job_file.write_bytes(job.to_json().encode())
        start = _local if settings.launcher == "local" else _horovodrun
        with group(logs) as own:
            start(own, job_file.uri, settings.ranks)


def _local(own: Group, job_uri: str, ranks: int) -> None:
    """Our own subprocesses around Horovod's rendezvous server."""
    from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
    from horovod.runner.gloo_run import create_run_env_vars, create_slot_env_vars
    from horovod.runner.http.http_server import RendezvousServer
    from horovod.runner.util.network import get_local_intfs

    bind_servers(LOOPBACK)
    slots = get_host_assignments(parse_hosts(f"localhost:{ranks}"), ranks)
    server = RendezvousServer()
    port = server.start()
    server.init(slots)
    try:
        shared = create_run_env_vars(LOOPBACK, get_local_intfs(), port)
        wait(
            own,
            {slot.rank: _start(own, job_uri, slot.rank, shared | create_slot_env_vars(slot)) for slot in slots},
        )
    finally:
        server.stop()
        server._httpd.server_close()


def _start(own: Group, job_uri: str, rank: int, variables: dict[str, object]) -> Process:
    command = python("-m", "models.train.rank", job_uri)
    return own.start(command, own.log_of(rank), **{name: str(value) for name, value in variables.items()})


def _horovodrun(own: Group, job_uri: str, ranks: int) -> None:
    """horovodrun itself, with its servers on loopback; the ranks write their own logs."""
    options = ["-np", str(ranks), "-H", f"localhost:{ranks}", "--gloo", "--disable-cache"]
    command = python("-m", "models.train.horovod_servers", *options, *python("-m", "models.train.rank", job_uri))
    log = own.logs / "horovodrun.log"
    process = own.start(command, log)
    try:
        wait(own, {0: process})
    except TrainingError:
        raise first_failure(log, own.logs) from None


@contextmanager
def _logs(work: Location) -> Iterator[Path]:
    """A local folder for logs that ends up in `work`/logs."""
    if not work.on_hdfs:
        yield Path((work / "logs").path)
        return
    with tempfile.TemporaryDirectory() as scratch:
        try:
            yield Path(scratch)
        finally:
            for log in Path(scratch).glob("*.log"):
                (work / f"logs/{log.name}").write_bytes(log.read_bytes())
