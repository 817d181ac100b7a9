"""The daemons of a one-machine Hadoop: how they are started, recognised and stopped.

Every process of a cluster, containers and their children included, carries its home in an
environment variable. That, and nothing weaker such as a name or a port, is how they are found.
"""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "RISKLOOM_HADOOP_HOME"
HADOOP = "org.apache.hadoop"
YARN_OPTIONS = ("--add-opens", "java.base/java.lang=ALL-UNNAMED")
JVM_OPTIONS = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true")


@dataclass(frozen=True, slots=True)
class Daemon:
    """One Hadoop service: the class that runs it and what its JVM needs besides."""

    name: str
    main_class: str
    options: tuple[str, ...] = ()


NAMENODE = Daemon("namenode", f"{HADOOP}.hdfs.server.namenode.NameNode")
DATANODE = Daemon("datanode", f"{HADOOP}.hdfs.server.datanode.DataNode")
RESOURCEMANAGER = Daemon("resourcemanager", f"{HADOOP}.yarn.server.resourcemanager.ResourceManager", YARN_OPTIONS)
NODEMANAGER = Daemon("nodemanager", f"{HADOOP}.yarn.server.nodemanager.NodeManager", YARN_OPTIONS)
DAEMONS = (NAMENODE, DATANODE, RESOURCEMANAGER, NODEMANAGER)


class ClusterError(Exception):
    """The cluster cannot be started or stopped; the message says what to do."""


def format_namenode(home: Path, class_path: str) -> None:
    """Make an empty file system, once."""
    if (home / "hdfs/name/current/VERSION").exists():
        return
    command = [*java_command(NAMENODE, home, class_path), "-format", "-nonInteractive"]
    with log_file(NAMENODE, home).open("ab") as log:
        done = subprocess.run(command, env=environment(home), stdout=log, stderr=log, check=False)  # noqa: S603
    if done.returncode:
        raise ClusterError(f"the NameNode could not be formatted\n{log_end(NAMENODE, home)}")


def start(daemon: Daemon, home: Path, class_path: str) -> subprocess.Popen[bytes]:
    """Start a daemon in its own session, so that it outlives this program; write its pid file."""
    with log_file(daemon, home).open("ab") as log:
        process = subprocess.Popen(  # noqa: S603
            java_command(daemon, home, class_path),
            cwd=home,
            env=environment(home),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    pid_file(daemon, home).write_text(f"{process.pid}\n")
    return process


def running(home: Path) -> dict[str, int]:
    """The pids of the daemons that live, by name."""
    alive, pids = processes(home), {}
    for daemon in DAEMONS:
        with suppress(FileNotFoundError, ValueError):
            pid = int(pid_file(daemon, home).read_text())
            if pid in alive:
                pids[daemon.name] = pid
    return pids


def processes(home: Path) -> set[int]:
    """Every process that carries this home's mark, this program excepted."""
    mark, found = f"{MARK}={home}".encode(), set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, or is another user's
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found - {os.getpid()}


def stop(home: Path, patience: float) -> None:
    """End every process of this cluster: TERM, after `patience` seconds KILL."""
    if not (end(home, signal.SIGTERM, patience) or end(home, signal.SIGKILL, patience)):
        raise ClusterError(f"still running after KILL: {sorted(processes(home))}")
    for daemon in DAEMONS:
        pid_file(daemon, home).unlink(missing_ok=True)


def end(home: Path, number: signal.Signals, patience: float) -> bool:
    """Signal every process, also those that appear meanwhile; whether all ended in time."""
    told: set[int] = set()
    unseen = 0
    deadline = time.monotonic() + patience
    while unseen < 2 and time.monotonic() < deadline:  # twice: a process in the middle of exec shows no mark
        alive = processes(home)
        for pid in alive - told:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        told |= alive
        unseen = 0 if alive else unseen + 1
        time.sleep(0.1)
    return unseen == 2


def log_end(daemon: Daemon, home: Path, lines: int = 25) -> str:
    """The last lines of a daemon's log, under its path."""
    path = log_file(daemon, home)
    text = path.read_text(errors="replace") if path.exists() else ""
    return "\n".join([f"--- the end of {path}", *text.splitlines()[-lines:]])


def java_command(daemon: Daemon, home: Path, class_path: str) -> list[str]:
    """The command line of a daemon."""
    return [
        str(java_home() / "bin/java"),
        *JVM_OPTIONS,
        *daemon.options,
        f"-Dhadoop.log.dir={home}/logs",
        f"-Dyarn.log.dir={home}/logs",
        f"-Djava.io.tmpdir={home}/scratch",
        "-cp",
        f"{home}/conf:{class_path}",
        daemon.main_class,
    ]


def java_home() -> Path:
    """Where Java is: JAVA_HOME, or the `java` on the PATH."""
    if told := os.environ.get("JAVA_HOME"):
        return Path(told)
    found = shutil.which("java")
    if found is None:
        raise ClusterError("no Java: install Java 17, e.g. apt-get install openjdk-17-jre-headless")
    return Path(found).resolve().parent.parent


def environment(home: Path) -> dict[str, str]:
    """What daemons, and through them containers, see: none of the caller's Hadoop or Spark settings."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "USER") if name in os.environ}
    return kept | {"JAVA_HOME": str(java_home()), "SPARK_LOCAL_IP": "127.0.0.1", MARK: str(home)}


def log_file(daemon: Daemon, home: Path) -> Path:
    """All that a daemon prints."""
    return home / f"logs/{daemon.name}.log"


def pid_file(daemon: Daemon, home: Path) -> Path:
    """The process id of a daemon that was started."""
    return home / f"pids/{daemon.name}.pid"
