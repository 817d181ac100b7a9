"""Ranks as processes of this machine: they end together, and none is left running."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

import models
from features.contract.errors import ClusterError, DataGateError, ModelGateError, RiskloomError, TrainingError
from models.train.heartbeat import ENDED, last_beat
from models.train.heartbeat import MARK as HEARTBEAT
from models.train.progress import MARK as PROGRESS
from models.train.progress import LiveLine
from models.train.rank import LAUNCHER_PID, LOG_FOLDER, LOST_PEERS
from models.train.watch import Watch

Process = subprocess.Popen[bytes]
TOKEN = "RISKLOOM_LAUNCH"  # noqa: S105
LAST_LINES = 15
# How long the others may take to notice that one is gone, before its exit code is looked at.
SETTLE_SECONDS = 1.0
GRACE_SECONDS = 5.0
_KINDS: dict[int, type[RiskloomError]] = {
    kind.exit_code: kind for kind in (DataGateError, ClusterError, ModelGateError)
}
MARKS = (PROGRESS, HEARTBEAT, ENDED)
_REPORT = re.compile(r"Process (?:name: )?(\d+)(?: exit with status code |\s+Exit code: )(-?\d+)")


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

    def logs_of(self, ranks: int) -> list[Path]:
        return [self.log_of(rank) for rank in range(ranks)]

    def said_codes(self, ranks: int) -> dict[int, int]:
        """The exit codes that ranks wrote into their logs as they ended."""
        texts = [log.read_text(errors="replace") if log.exists() else "" for log in self.logs_of(ranks)]
        found = {rank: re.search(rf"^{ENDED}(\d+)$", text, re.M) for rank, text in enumerate(texts)}
        return {rank: int(said[1]) for rank, said in found.items() if said}

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


def wait(own: Group, running: dict[int, Process], watch: Watch) -> dict[int, int]:
    """Wait until all have ended, or one has failed or been found by the watch; the exit codes by rank."""
    live = LiveLine(own.log_of(0))
    while any(process.poll() is None for process in running.values()):
        live.update()
        watch.look()
        if any(process.poll() for process in running.values()):
            time.sleep(SETTLE_SECONDS)
            break
        time.sleep(0.1)
    live.close()
    return {rank: code for rank, process in running.items() if (code := process.poll()) is not None}


def failure(own: Group, ranks: int, codes: Mapping[int, int]) -> RiskloomError | None:
    """The error of the rank to blame, by what launcher and ranks said of how they ended; none without one.

    A rank that lost its peers, or that Horovod terminated because of them, is blamed when nobody else is left.
    """
    known = dict(codes) | own.said_codes(ranks)
    if not any(known.values()):
        return None
    failed = {rank: known.get(rank) for rank in range(ranks) if known.get(rank) != 0}
    return rank_error(own, *min(failed.items(), key=lambda item: (_innocence(item[1]), item[0])))


def _innocence(code: int | None) -> int:
    if code == LOST_PEERS:
        return 4
    if code == -signal.SIGTERM:
        return 3
    return 2 if code is None else int(code > 0)


def rank_error(own: Group, rank: int, code: int | None) -> RiskloomError:
    """The error for a dead rank; its kind is the rank's own where its exit code says one."""
    kind, beat = _KINDS.get(code or 0, TrainingError), last_beat(own.log_of(rank))
    where = f" ({beat.step_and_host})" if beat else ""
    log = last_lines(own.log_of(rank))
    return kind(f"rank {rank} {_end(code)}{where}; the others were stopped. The end of its log:\n{log}")


def _end(code: int | None) -> str:
    if code is None:
        return "was lost"
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def reported(text: str) -> dict[int, int]:
    """The exit codes by rank in what Horovod says of its processes; a shell's 128 + n is signal n."""
    found = {int(rank): int(code) for rank, code in _REPORT.findall(text)}
    return {rank: 128 - code if code > 128 else code for rank, code in found.items()}


def last_lines(log: Path) -> str:
    if not log.exists():
        return "(it wrote none)"
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join([line for line in lines if not line.startswith(MARKS)][-LAST_LINES:])


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]
