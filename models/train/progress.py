"""One live line from rank 0 to the launcher, and how the launcher shows it."""

import math
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MARK = "riskloom-progress "
LOG_SECONDS = 60.0
_LINE = re.compile(re.escape(MARK) + r"(.*)")


def report(fit: str, epoch: int, epochs: int, numbers: Mapping[str, Any]) -> None:
    """How far a fit is."""
    _say(
        f"{fit}: epoch {epoch + 1} of at most {epochs}, loss {numbers['loss']:.4f}, "
        f"tuning {numbers['tuning_loss']:.4f}{_order(numbers)}, {numbers['rows_per_second']:,.0f} rows/s, "
        f"{100 * numbers['feed_wait_share']:.0f} % waiting for data"
    )


def _order(numbers: Mapping[str, Any]) -> str:
    """How well the tuning people are put in order, where that can be said."""
    names = {"tuning_c_index": "c-index", "tuning_auroc": "AUROC"}
    return next((f", {names[key]} {numbers[key]:.3f}" for key in names if key in numbers), "")


def going_on(fit: str, epoch: int, rows: float) -> None:
    """Where a fit goes on from a checkpoint."""
    _say(f"{fit}: goes on in epoch {epoch + 1}, after {rows:,.0f} of its rows")


def _say(text: str) -> None:
    """Rank 0 speaks for all; the other ranks keep silent."""
    import horovod.tensorflow as hvd

    if hvd.rank() == 0:
        sys.stderr.write(f"{MARK}{text}\n")
        sys.stderr.flush()


class Tail:
    """What has been added to a growing log since the last look, in complete lines."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._at = 0

    def new(self) -> str:
        if not self._log.exists():
            return ""
        with self._log.open("rb") as stream:
            stream.seek(self._at)
            read = stream.read()
        complete = read[: read.rfind(b"\n") + 1]
        self._at += len(complete)
        return complete.decode(errors="replace")


class LiveLine:
    """Shows the newest progress line of a growing log: over itself on a terminal; else, as in a scheduler's log,
    the first, then one every `LOG_SECONDS`, and each fit's last."""

    def __init__(self, log: Path) -> None:
        self._tail = Tail(log)
        self._shown = False
        self._unsaid, self._said_at = "", -math.inf

    def update(self) -> None:
        for line in _LINE.findall(self._tail.new()):
            self._show(line) if sys.stderr.isatty() else self._log(line)

    def close(self) -> None:
        self.update()
        if self._shown:
            sys.stderr.write("\n")
        if self._unsaid:
            self._say()

    def _show(self, line: str) -> None:
        self._shown = True
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()

    def _log(self, line: str) -> None:
        if self._unsaid and self._unsaid.partition(":")[0] != line.partition(":")[0]:
            self._say()
        self._unsaid = line
        if time.monotonic() - self._said_at >= LOG_SECONDS:
            self._say()

    def _say(self) -> None:
        sys.stderr.write(f"{self._unsaid}\n")
        sys.stderr.flush()
        self._unsaid, self._said_at = "", time.monotonic()
