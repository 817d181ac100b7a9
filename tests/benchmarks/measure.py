"""A command's wall time and memory."""

import json
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

import psutil


@dataclass(slots=True)
class Peaks:
    """The most that was resident at once: of a process alone, and of it with its descendants."""

    own_bytes: int = 0
    tree_bytes: int = 0

    def look(self, pid: int) -> None:
        """Shared pages count once per process, but not those of a child that is only just starting."""
        try:
            process = psutil.Process(pid)
            memory = {pid: process.memory_info()}
            total = memory[pid].rss
            for child in process.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    memory[child.pid] = own = child.memory_info()
                    parent = memory.get(child.ppid())
                    # Java's children have all of its memory until they run their own program.
                    total += own.rss if parent is None or parent.vms != own.vms else 0
        except psutil.NoSuchProcess:
            return
        self.own_bytes = max(self.own_bytes, memory[pid].rss)
        self.tree_bytes = max(self.tree_bytes, total)


@dataclass(slots=True)
class Measured:
    """A command's wall time, its memory, and the summaries that it printed."""

    seconds: float
    peaks: Peaks
    summaries: list[dict[str, object]]


def measure(command: list[str]) -> Measured:
    """Run a command to its end; its memory is looked at five times a second."""
    started, peaks, done = time.monotonic(), Peaks(), threading.Event()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks, done))
    watcher.start()
    output, _ = process.communicate()
    done.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    summaries = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return Measured(time.monotonic() - started, peaks, summaries)


def _watch(pid: int, peaks: Peaks, done: threading.Event) -> None:
    while not done.wait(0.2):
        peaks.look(pid)
