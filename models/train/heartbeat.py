"""A rank's sign of life: every few seconds, and when a fit begins, a line in its log that tells where it stands.

The line is written by a thread of its own, so that a rank which compiles, writes a checkpoint or waits
for HDFS is seen to live; a rank that was stopped, or whose machine is gone, falls silent.
"""

import json
import os
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

MARK = "riskloom-heartbeat "
# The rank's exit code: Horovod tells that of one rank only, and not always of the one to blame.
ENDED = "riskloom-ended "
BEAT_SECONDS = 3.0
OURS = ("models.", "features.")
# Where a rank stands while it waits for its peers, in a compiled step or in an operation of Horovod.
COLLECTIVE = ("tensorflow", "horovod")


@dataclass(frozen=True, slots=True)
class Beat:
    """Where a rank stood: `place` is the innermost function of ours, `inside` the package it had called."""

    rank: int
    host: str
    fit: str = ""
    epoch: int = 0
    step: int = 0
    place: str = ""
    inside: str = ""

    @property
    def waits_for_peers(self) -> bool:
        return self.inside in COLLECTIVE

    @property
    def step_and_host(self) -> str:
        at = f"fit {self.fit}, epoch {self.epoch + 1}, step {self.step}" if self.fit else "before its first step"
        return f"{at}, on {self.host}"

    def __str__(self) -> str:
        called = f", in {self.inside}" if self.inside else ""
        return f"{self.step_and_host}, at {self.place or 'its start'}{called}"


@dataclass(slots=True)
class _Standing:
    at: tuple[str, int, int] = field(default=("", 0, 0))


_standing = _Standing()
# A rank that is lost soon after its first step is to be known by that step.
_fit_begun = threading.Event()


def note(fit: str, epoch: int, step: int) -> None:
    """This rank has the batch of that step (counted from 1) of that epoch (from 0) and begins it."""
    begins = fit != _standing.at[0]
    _standing.at = fit, epoch, step
    if begins:
        _fit_begun.set()


def start() -> None:
    """Beat from now on, until the process ends."""
    threading.Thread(target=_beat_on, daemon=True).start()


def _beat_on() -> None:
    while True:
        # The disk of the logs may be full for a while.
        with suppress(OSError):
            beat()
        _fit_begun.wait(BEAT_SECONDS)
        _fit_begun.clear()


def beat() -> None:
    now = Beat(int(os.environ["HOROVOD_RANK"]), socket.gethostname(), *_standing.at, *_place())
    sys.stderr.write(f"{MARK}{json.dumps(asdict(now))}\n")
    sys.stderr.flush()


def end(code: int) -> None:
    """The last beat, and how the rank ends."""
    beat()
    sys.stderr.write(f"{ENDED}{code}\n")
    sys.stderr.flush()


def _place() -> tuple[str, str]:
    """The main thread's innermost function of ours, and the package that it called."""
    frame: FrameType | None = sys._current_frames().get(threading.main_thread().ident or 0)
    inside = ""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith(OURS):
            return f"{module}.{frame.f_code.co_name}", inside
        inside, frame = module.partition(".")[0], frame.f_back
    return "", ""


def last_beat(log: Path) -> Beat | None:
    """The newest beat in a log."""
    found = beats_in(log.read_text(errors="replace")) if log.exists() else []
    return found[-1] if found else None


def beats_in(text: str) -> list[Beat]:
    """The beats in complete lines of a log; one that was written by halves is passed over."""
    found = []
    for line in text.splitlines():
        _, mark, told = line.rpartition(MARK)
        with suppress(ValueError, TypeError):
            found += [Beat(**json.loads(told))] if mark else []
    return found
