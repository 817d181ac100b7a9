"""A rank that meets its end at an exact batch, where a test wants it and no timing decides.

What ends or stops it is a signal of the kernel, as from outside. Run in the place of `models.train.rank`;
`meets` puts it there.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from unittest import mock

from features.contract.paths import Location
from models.train import heartbeat, launch, rank, spark_launch
from models.train.processes import python

FATE = "CHAOS_FATE"


@dataclass(frozen=True)
class Fate:
    """What happens to `rank` when it has taken its `batch`-th batch, or writes its `batch`-th checkpoint."""

    rank: int
    batch: int
    does: str = "kill"  # or stop, hang, kill launcher
    writing: bool = False


@contextmanager
def meets(fate: Fate) -> Iterator[None]:
    """Launches in this block have a rank with this fate, whatever the launcher."""

    def other(*arguments: str) -> list[str]:
        return python(*("tests.chaos.dying_rank" if word == "models.train.rank" else word for word in arguments))

    # A task of local Spark has the environment of its Java, so the fate travels with the function.
    on_spark = SparkRank(json.dumps(asdict(fate)))
    with (
        mock.patch.object(launch, "python", other),
        mock.patch.object(spark_launch, "_rank", on_spark),
        mock.patch.dict(os.environ, {FATE: json.dumps(asdict(fate))}),
    ):
        yield


@dataclass(frozen=True)
class SparkRank:
    fate: str

    def __call__(self, job_json: str) -> None:
        os.environ[FATE] = self.fate
        prepare()
        spark_launch._rank(job_json)


def prepare() -> None:
    fate = Fate(**json.loads(os.environ[FATE]))
    if int(os.environ["HOROVOD_RANK"]) != fate.rank:
        return
    if fate.writing:
        Location._temporary = counted(Location._temporary, fate)
    else:
        # Before the loop takes it by name: the loop brings TensorFlow, which must not be there yet.
        heartbeat.note = counted(heartbeat.note, fate)


def counted(function: Callable[..., object], fate: Fate) -> Callable[..., object]:
    """The function, whose call number `fate.batch` is followed by the fate."""
    calls = iter(range(1, sys.maxsize))

    def call(*arguments: object) -> object:
        result = function(*arguments)
        if next(calls) == fate.batch:
            meet(fate)
        return result

    return call


def meet(fate: Fate) -> None:
    fit, epoch, step = heartbeat._standing.at
    sys.stderr.write(f"struck in {fit} {epoch} {step}\n")
    heartbeat.beat()
    if fate.does == "hang":
        threading.Event().wait()
    victim = int(os.environ[rank.LAUNCHER_PID]) if fate.does == "kill launcher" else os.getpid()
    os.kill(victim, signal.SIGSTOP if fate.does == "stop" else signal.SIGKILL)


if __name__ == "__main__":
    prepare()
    rank.main()
