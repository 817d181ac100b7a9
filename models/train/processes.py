"""Ranks as processes of this machine: they end together, and none is left running."""

import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

import models
from features.contract.errors import ClusterError, DataGateError, ModelGateError, RiskloomError, TrainingError
from models.train.progress import MARK, LiveLine
from models.train.rank import LAUNCHER_PID, LOG_FOLDER, LOST_PEERS

Process = subprocess.Popen[bytes]
TOKEN = "RISKLOOM_LAUNCH"  # noqa: S105
LAST_LINES = 15
# How long the others may take to notice that one is gone, before its exit code is looked at.
SETTLE_SECONDS = 1.0
GRACE_SECONDS = 5.0
_KINDS: dict[int, type[RiskloomError]] = {
    kind.exit_code: kind for kind in (DataGateError, ClusterError, ModelGateError)
}
_FIRST_FAILURE = re.compile(r"Process name: (\d+)\s+Exit code: (-?\d+)")


@dataclass(frozen=True, slots=True)
class Group:
    """The processes of one launch, known by a token in their environment, and their logs."""

    logs: Path
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def start(self, command: list[str], log: Path, **variables: str) -> Process:
        """Start one process (no shell); both its streams go to `log`."""
        root = str(Path(models.__file__).parents[1])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            TOKEN: self.token,
            LAUNCHER_PID: str(os.getpid()),
            LOG_FOLDER: str(self.logs),
            **variables,
        }
        with log.open("ab") as stream:
            return subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment
            )

    def log_of(self, rank: int) -> Path:
        return self.logs / f"rank-{rank}.log"

    def end(self) -> None:
        """Stop every process that carries the token, whoever its parent is now."""
        for stop in (psutil.Process.terminate, psutil.Process.kill):
            left = self._processes()
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    stop(process)
            psutil.wait_procs(left, timeout=GRACE_SECONDS)

    def _processes(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if self._owns(process)]

    def _owns(self, process: psutil.Process) -> bool:
        try:
            return bool(process.environ().get(TOKEN) == self.token)
        except psutil.Error:
            return False


@contextmanager
def group(logs: Path) -> Iterator[Group]:
    """A group that is gone when the block ends, however it ends."""
    logs.mkdir(parents=True, exist_ok=True)
    own = Group(logs)
    try:
        yield own
    finally:
        own.end()


def wait(own: Group, running: dict[int, Process]) -> None:
    """Wait for all ranks; the first that fails ends the job with its name, code and last lines."""
    live = LiveLine(own.log_of(0))
    while any(process.poll() is None for process in running.values()):
        live.update()
        if any(process.poll() for process in running.values()):
            time.sleep(SETTLE_SECONDS)
            break
        time.sleep(0.1)
    live.close()
    failed = {rank: code for rank, process in running.items() if (code := process.poll())}
    if failed:
        rank = min(failed, key=lambda rank: (failed[rank] == LOST_PEERS, failed[rank] > 0, rank))
        raise rank_error(rank, failed[rank], own.log_of(rank))


def rank_error(rank: int, code: int, log: Path) -> RiskloomError:
    """The error for a dead rank; its kind is the rank's own where its exit code says one."""
    kind = _KINDS.get(code, TrainingError)
    end = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return kind(f"rank {rank} {end}; the others were stopped. The end of its log:\n{last_lines(log)}")


def first_failure(log: Path, rank_logs: Path | None = None) -> RiskloomError:
    """The error that Horovod's own report in `log` tells of; ranks without a log of their own share it."""
    found = _FIRST_FAILURE.search(log.read_text(errors="replace"))
    if found is None:
        return TrainingError(f"Horovod could not run the ranks. The end of its log:\n{last_lines(log)}")
    rank, code = int(found[1]), int(found[2])
    return rank_error(rank, code, rank_logs / f"rank-{rank}.log" if rank_logs else log)


def last_lines(log: Path) -> str:
    if not log.exists():
        return "(it wrote none)"
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join([line for line in lines if not re.match(re.escape(MARK), line)][-LAST_LINES:])


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]
