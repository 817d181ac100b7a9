"""Start the ranks of a training job, wait for them, and leave none behind."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from features.contract.errors import TrainingError
from features.contract.paths import Location
from features.contract.training_settings import LaunchSettings
from models.train.fit import TrainJob
from models.train.horovod_servers import LOOPBACK, bind_servers
from models.train.processes import Group, Process, failure, group, last_lines, python, reported, wait
from models.train.watch import Watch

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def launch(job: TrainJob, settings: LaunchSettings, spark: "SparkSession | None" = None) -> None:
    """Train all fits of the job on `settings.ranks` ranks; the results lie below its `work_uri`, and
    what an earlier attempt left there is gone on with.

    Raises TrainingError, or the rank's own kind of error, naming the rank that failed, its host, its last
    step and the end of its log; ClusterError for too few slots. This attempt's logs are in `work_uri`/logs.
    """
    (Location(job.work_uri) / "logs").delete()
    with _logs(Location(job.work_uri)) as logs, group(logs) as own:
        if settings.launcher == "spark":
            from models.train.spark_launch import launch_on_spark

            launch_on_spark(own, job, settings, spark)
            return
        job_file = Location(job.work_uri) / "job.json"
        job_file.write_bytes(job.to_json().encode())
        start = _local if settings.launcher == "local" else _horovodrun
        start(own, job_file.uri, settings)


def _local(own: Group, job_uri: str, settings: LaunchSettings) -> None:
    """Our own subprocesses around Horovod's rendezvous server."""
    from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
    from horovod.runner.gloo_run import create_run_env_vars, create_slot_env_vars
    from horovod.runner.http.http_server import RendezvousServer
    from horovod.runner.util.network import get_local_intfs

    bind_servers(LOOPBACK)
    slots = get_host_assignments(parse_hosts(f"localhost:{settings.ranks}"), settings.ranks)
    server = RendezvousServer()
    port = server.start()
    server.init(slots)
    try:
        shared = create_run_env_vars(LOOPBACK, get_local_intfs(), port)
        ranks = {slot.rank: _start(own, job_uri, slot.rank, shared | create_slot_env_vars(slot)) for slot in slots}
        codes = wait(own, ranks, Watch(own.logs_of(settings.ranks), settings))
    finally:
        server.stop()
        server._httpd.server_close()
    if error := failure(own, settings.ranks, codes):
        raise error


def _start(own: Group, job_uri: str, rank: int, variables: dict[str, object]) -> Process:
    command = python("-m", "models.train.rank", job_uri)
    return own.start(command, own.log_of(rank), **{name: str(value) for name, value in variables.items()})


def _horovodrun(own: Group, job_uri: str, settings: LaunchSettings) -> None:
    """horovodrun itself, with its servers on loopback; the ranks write their own logs."""
    ranks = str(settings.ranks)
    options = ["-np", ranks, "-H", f"localhost:{ranks}", "--gloo", "--disable-cache"]
    command = python("-m", "models.train.horovod_servers", *options, *python("-m", "models.train.rank", job_uri))
    log = own.logs / "horovodrun.log"
    process = own.start(command, log)
    wait(own, {0: process}, Watch(own.logs_of(settings.ranks), settings))
    if process.wait():
        told = failure(own, settings.ranks, reported(log.read_text(errors="replace")))
        raise told or TrainingError(f"Horovod could not run the ranks. The end of its log:\n{last_lines(log)}")


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
