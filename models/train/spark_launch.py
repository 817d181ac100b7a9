"""Ranks as Spark tasks, through `horovod.spark.run`."""

import os
import re
import sys
import threading
import time
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING

from features.contract.errors import ClusterError, ConfigError, TrainingError
from features.contract.training_settings import LaunchSettings
from models.train.environment import HOROVOD
from models.train.fit import TrainJob
from models.train.heartbeat import beats_in
from models.train.horovod_servers import bind_spark_servers, hand_over_shutdown
from models.train.processes import TOKEN, Group, failure, last_lines, reported
from models.train.progress import LiveLine
from models.train.rank import as_a_rank, train_rank
from models.train.watch import Watch

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# How long ranks may take to end when they are told to: Horovod kills after 5 s what does not.
END_SECONDS = 20.0
_GATHERED = re.compile(r"\[(\d+)\]<std(?:out|err)>:(.*)", re.DOTALL)


def launch_on_spark(own: Group, job: TrainJob, settings: LaunchSettings, spark: "SparkSession | None") -> None:
    """Run every rank in a Spark task; their output comes to the driver's logs."""
    if spark is None:
        raise ConfigError("launch.launcher: spark needs a Spark session; use local or horovodrun without one")
    _wait_for_slots(spark, settings)
    bind_spark_servers(spark.sparkContext.getConf().get("spark.driver.host", "localhost") or "localhost")
    logs = RankLogs(own)
    error = _follow(own, _start(own, job, settings, logs), settings, spark)
    if error is not None:
        told = failure(own, settings.ranks, reported(str(error)))
        raise told or TrainingError(
            f"Horovod could not run the ranks: {error}\n{last_lines(logs.other)}"
        ) from error


def _rank(job_json: str) -> None:
    """In a process of a Spark task: train as a rank, on the GPU that Spark gave to the task."""
    from horovod.spark.task import get_available_devices

    with as_a_rank():
        train_rank(job_json, next(iter(get_available_devices()), None))


class Ranks(Future[None]):
    """Horovod's run in a thread of its own, so that this one can watch; `end` stops its ranks."""

    def __init__(self, end: threading.Event) -> None:
        super().__init__()
        self.end = end


def _start(own: Group, job: TrainJob, settings: LaunchSettings, logs: "RankLogs") -> Ranks:
    import horovod.spark

    ranks = Ranks(hand_over_shutdown())

    def run() -> None:
        try:
            horovod.spark.run(
                _rank,
                args=(job.to_json(),),
                num_proc=settings.ranks,
                start_timeout=max(settings.slots_timeout_seconds, 30),
                use_gloo=True,
                env=HOROVOD | {TOKEN: own.token},
                # By default the driver's own interpreter, whose path other nodes do not have.
                executable=os.environ.get("PYSPARK_PYTHON", sys.executable),
                stdout=logs,
                stderr=logs,
                verbose=0,
            )
            ranks.set_result(None)
        # Horovod raises RuntimeError or a bare Exception.
        except Exception as error:  # noqa: BLE001
            ranks.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return ranks


def _follow(own: Group, ranks: Ranks, settings: LaunchSettings, spark: "SparkSession") -> BaseException | None:
    """Watch until Horovod is done, and give its error; whatever ends this sooner ends the ranks too."""
    live, watch = LiveLine(own.log_of(0)), Watch(own.logs_of(settings.ranks), settings)
    try:
        while not wait_for([ranks], timeout=0.2).done:
            live.update()
            watch.look()
        live.close()
        return ranks.exception()
    finally:
        ranks.end.set()
        if not wait_for([ranks], timeout=END_SECONDS).done:
            # A task that does not answer; Spark kills its Python worker, and with that goes the rank.
            spark.sparkContext.cancelAllJobs()
            wait_for([ranks], timeout=END_SECONDS)


class RankLogs:
    """A text stream for what Horovod gathers: each rank's lines go to its own log, all else to `other`.

    Horovod numbers lines by Spark task; which rank that is, the rank's first heartbeat says.
    """

    def __init__(self, own: Group) -> None:
        self.other = own.logs / "spark.log"
        self._own = own
        self._ranks: dict[str, int] = {}
        self._lock = threading.Lock()

    def write(self, line: str) -> None:
        found = _GATHERED.match(line)
        task, text = found.groups() if found else ("", line)
        for beat in beats_in(text):
            self._ranks[task] = beat.rank
        log = self._own.log_of(self._ranks[task]) if task in self._ranks else self.other
        with self._lock, log.open("a") as stream:
            stream.write(text)

    def flush(self) -> None:
        """Each line is flushed as it is written."""


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
