"""Ranks as Spark tasks, through `horovod.spark.run`; on YARN each gets a container's cores."""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from features.contract.errors import ClusterError, ConfigError
from features.contract.settings import LaunchSettings
from models.train.environment import HOROVOD
from models.train.fit import TrainJob
from models.train.horovod_servers import bind_spark_servers
from models.train.processes import first_failure
from models.train.progress import LiveLine
from models.train.rank import train_rank

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def launch_on_spark(job: TrainJob, settings: LaunchSettings, spark: "SparkSession | None", logs: Path) -> None:
    """Run every rank in a Spark task; their output comes to the driver's `logs`/spark.log."""
    if spark is None:
        raise ConfigError("launch.launcher: spark needs a Spark session; use local or horovodrun without one")
    _wait_for_slots(spark, settings)
    import horovod.spark

    bind_spark_servers(spark.sparkContext.getConf().get("spark.driver.host", "localhost") or "localhost")
    log = logs / "spark.log"
    logs.mkdir(parents=True, exist_ok=True)
    with log.open("a") as stream, _signals_kept(), _shown(log):
        try:
            _run(horovod.spark.run, job, settings, stream)
        # Horovod raises RuntimeError or a bare Exception, and none of them carries a log.
        except Exception as error:
            stream.write(f"{error}\n")
            stream.flush()
            raise first_failure(log) from error


def _run(run, job: TrainJob, settings: LaunchSettings, stream: TextIO) -> None:  # type: ignore[no-untyped-def]
    run(
        train_rank,
        args=(job.to_json(),),
        num_proc=settings.ranks,
        start_timeout=max(settings.slots_timeout_seconds, 30),
        use_gloo=True,
        env=dict(HOROVOD),
        # By default the driver's own interpreter, whose path other nodes do not have.
        executable=os.environ.get("PYSPARK_PYTHON", sys.executable),
        stdout=stream,
        stderr=stream,
        verbose=0,
    )


def slots(spark: "SparkSession") -> int:
    """How many tasks can run side by side now."""
    context = spark.sparkContext
    if re.match(r"local(\[|$)", context.master or ""):
        return context.defaultParallelism
    # The driver is in this list too, and runs no tasks.
    executors = len(context._jsc.sc().statusTracker().getExecutorInfos()) - 1
    cores = int(context.getConf().get("spark.executor.cores", "1") or "1")
    return executors * (cores // int(context.getConf().get("spark.task.cpus", "1") or "1"))


def _wait_for_slots(spark: "SparkSession", settings: LaunchSettings) -> None:
    """Horovod has no barrier: with too few slots it would hold those it has and wait 600 s."""
    deadline = time.monotonic() + settings.slots_timeout_seconds
    while (found := slots(spark)) < settings.ranks:
        if time.monotonic() > deadline:
            raise ClusterError(
                f"launch.ranks: {settings.ranks} slots are wanted, {found} were there after "
                f"{settings.slots_timeout_seconds} s (launch.slots_timeout_seconds); ask for more executors "
                "(--num-executors, --executor-cores), free the queue, or lower launch.ranks"
            )
        time.sleep(0.5)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Horovod takes SIGINT and SIGTERM for itself and does not give them back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextmanager
def _shown(log: Path) -> Iterator[None]:
    """Show rank 0's progress while Horovod blocks."""
    done, live = threading.Event(), LiveLine(log)

    def follow() -> None:
        while not done.wait(0.2):
            live.update()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        live.close()
