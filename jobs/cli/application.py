"""A Spark application on YARN, followed through what spark-submit says of it."""

import re
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.java_gateway import launch_gateway

from features.contract.errors import ClusterError

WAIT_BEFORE_TELLING = 30.0
LINES_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Ended:
    """How spark-submit ended: its own exit code, the application's name if it got one, the last lines."""

    returncode: int
    application: str | None
    output: str


def follow(command: list[str], environment: dict[str, str], tell: Callable[[str], None]) -> Ended:
    """Run spark-submit until the application has ended.

    `tell` hears each state once, a YARN that does not answer, and after `WAIT_BEFORE_TELLING` seconds in
    the queue why the application waits. Who stops this process, by Ctrl-C or SIGTERM, stops the
    application too: raises ClusterError.
    """
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace", env=environment
    ) as process:
        lines, said = deque[str](maxlen=LINES_KEPT), _Sayings(tell)
        try:
            with _terminable():
                for line in process.stderr or ():
                    lines.append(line.rstrip())
                    said.hear(line)
        except KeyboardInterrupt:
            process.kill()
            raise ClusterError(_stop(said.application)) from None
    return Ended(process.returncode, said.application, "\n".join(lines))


class _Sayings:
    """spark-submit reports an application's state each second; people hear what is new in it."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.application: str | None = None
        self._tell = tell
        self._state, self._since, self._told = "", 0.0, set[str]()

    def hear(self, line: str) -> None:
        if away := re.search(r"Retrying connect to server: (\S+?)\. ", line):
            self._once(
                "away", lambda: f"{away[1]} does not answer; trying on. Is YARN up, is --hadoop-conf right?"
            )
        report = re.search(r"Application report for (application_\d+_\d+) \(state: (\w+)\)", line)
        if report is None:
            return
        self.application, state = report.groups()
        if state != self._state:
            self._state, self._since = state, time.monotonic()
            self._tell(f"{self.application} {state.lower()}")
        elif state == "ACCEPTED" and time.monotonic() - self._since > WAIT_BEFORE_TELLING:
            self._once("waits", self._waits)

    def _once(self, topic: str, text: Callable[[], str]) -> None:
        if topic not in self._told:
            self._told.add(topic)
            self._tell(text())

    def _waits(self) -> str:
        assert self.application is not None  # noqa: S101
        return (
            f"{self.application} has waited {WAIT_BEFORE_TELLING:.0f} s for its driver, which has no container "
            "yet or is still starting in it; Ctrl-C stops both. YARN: " + _diagnostics(self.application)
        )


@contextmanager
def _terminable() -> Iterator[None]:
    """A scheduler stops a task by SIGTERM; treat it as a person's Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(application: str | None) -> str:
    if application is None:
        return "stopped before YARN had accepted the application"
    try:
        with _yarn(application) as (client, name):
            client.killApplication(name)
    except (Py4JError, PySparkException) as error:
        told = f"stopped here, but {application} goes on ({type(error).__name__})"
        return f"{told}; stop it with: yarn application -kill {application}"
    return f"stopped by the user, and {application} with it; nothing was published"


def _diagnostics(application: str) -> str:
    """What YARN says of an application that has no container yet."""
    try:
        with _yarn(application) as (client, name):
            return str(client.getApplicationReport(name).getDiagnostics() or "").strip()
    except (Py4JError, PySparkException):
        return "its ResourceManager does not answer"


@contextmanager
def _yarn(application: str) -> Iterator[tuple[Any, Any]]:
    """YARN's own client, which knows Kerberos and standby ResourceManagers, and the application's id in it."""
    gateway = launch_gateway()  # type: ignore[no-untyped-call]
    try:
        yarn = gateway.jvm.org.apache.hadoop.yarn
        client = yarn.client.api.YarnClient.createYarnClient()
        client.init(yarn.conf.YarnConfiguration())
        client.start()
        yield client, yarn.api.records.ApplicationId.fromString(application)
    finally:
        gateway.shutdown()
