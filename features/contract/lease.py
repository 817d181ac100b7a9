"""One writer at a time per table: a small file beside the lake's tables, kept fresh by a heartbeat."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from features.contract.errors import ClusterError
from features.contract.paths import Location

HEARTBEAT_SECONDS = 15
STALE_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease: host, process, application (the job's run id) and the last heartbeat."""

    host: str
    pid: int
    application: str
    heartbeat: float

    @classmethod
    def me(cls, application: str) -> "Holder":
        return cls(socket.gethostname(), os.getpid(), application, time.time())

    def is_stale(self) -> bool:
        """Silent for too long, or a process of this host that is gone."""
        if time.time() - self.heartbeat > STALE_SECONDS:
            return True
        return self.host == socket.gethostname() and not _alive(self.pid)


@contextmanager
def leases(lake: Location, tables: Sequence[str], application: str) -> Iterator[Callable[[], None]]:
    """Hold the lease of every table while the block runs; the heartbeat runs beside it.

    Gives a check to call before publishing: it raises ClusterError when a lease was lost, as to a
    job that took this one, suspended for minutes, for dead.
    """
    held: list[Location] = []
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(held, application, stop), daemon=True)
    try:
        for table in sorted(tables):
            lease = lake / f"_leases/{table.replace('/', '.')}.json"
            _take(lease, table, application)
            held.append(lease)
        beat.start()
        yield lambda: _check(held, application)
    finally:
        stop.set()
        if beat.is_alive():
            beat.join()
        for lease in held:
            if _is_mine(lease, application):
                lease.delete()


def _check(held: Sequence[Location], application: str) -> None:
    for lease in held:
        if not _is_mine(lease, application):
            raise ClusterError(
                f"lease {lease.uri} was taken over by another job; nothing was published, run again"
            )


def _is_mine(lease: Location, application: str) -> bool:
    holder = _read(lease)
    return holder is not None and holder.application == application


def _take(lease: Location, table: str, application: str) -> None:
    mine = _encode(Holder.me(application))
    if lease.create_exclusive(mine):
        return
    holder = _read(lease)
    if holder is not None and not holder.is_stale():
        raise ClusterError(
            f"table {table} is being written by {holder.application} (process {holder.pid} on {holder.host}); "
            "wait for it to end, or stop it"
        )
    lease.delete()
    if not lease.create_exclusive(mine):
        raise ClusterError(f"table {table}: another job took over the stale lease at this moment; try again")


def _read(lease: Location) -> Holder | None:
    """None for a lease that is gone or unreadable (they are written whole), which nobody holds."""
    try:
        return Holder(**json.loads(lease.read_bytes()))
    except (ValueError, TypeError, FileNotFoundError):
        return None


def _beat(held: list[Location], application: str, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        for lease in held:
            # A file system that hiccups must not end the heartbeat; the next beat tries again.
            with suppress(OSError, RuntimeError):
                if _is_mine(lease, application):
                    lease.write_bytes(_encode(Holder.me(application)))


def _encode(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
