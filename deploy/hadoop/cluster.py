#!/usr/bin/env python3
"""Real Hadoop on one machine: HDFS and YARN, on loopback, from pinned jars.

`up` prints what a client needs as shell exports, so that this starts a cluster and enters it:

    eval "$(python deploy/hadoop/cluster.py up)"

Exit codes: 0 done · 2 usage · 4 the cluster does not start, does not stop, or is not well.
"""

# ruff: noqa: T201 - what it prints is what it is for
import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

import daemons
from configuration import claim, is_home, locked, read_ports, write_configuration
from daemons import DAEMONS, ClusterError, Daemon
from health import complaints

REPOSITORY = Path(__file__).resolve().parents[2]
JARS = REPOSITORY / "build/jars/hadoop"
PATIENCE = 5.0  # seconds between TERM and KILL: a NodeManager that had containers would take 17


def main() -> int:
    """Run one command; its exit code."""
    options = parse_arguments()
    home: Path = options.home.resolve()
    try:
        if options.command == "up":
            up(home, options.timeout)
        elif options.command == "down":
            down(home, options.purge)
        else:
            return status(home)
    except ClusterError as error:
        print(f"hadoop: {error}", file=sys.stderr)
        return 4
    return 0


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="HDFS and YARN on one machine, on loopback.")
    parser.add_argument("command", choices=("up", "down", "status"))
    parser.add_argument("--home", type=Path, default=REPOSITORY / "build/hadoop", help="where it lives")
    parser.add_argument("--timeout", type=float, default=90.0, help="seconds to wait before giving up")
    parser.add_argument("--purge", action="store_true", help="with down: remove the home and its data")
    return parser.parse_args()


def up(home: Path, timeout: float) -> None:
    """Start what is not running, wait until all is well, print the client's settings."""
    began = time.monotonic()
    class_path = hadoop_jars()
    claim(home)
    with locked(home):
        alive = daemons.running(home)
        try:
            if not alive:
                write_configuration(home)
                daemons.format_namenode(home, class_path)
            missing = [daemon for daemon in DAEMONS if daemon.name not in alive]
            started = {daemon: daemons.start(daemon, home, class_path) for daemon in missing}
            wait_until_well(home, started, began + timeout)
        except ClusterError:
            daemons.stop(home, PATIENCE)
            raise
    done = f"is up after {time.monotonic() - began:.1f} s" if started else "was already up"
    print(f"Hadoop {done}: {home}", file=sys.stderr)
    print(client_settings(home))


def down(home: Path, purge: bool) -> None:
    """Stop every process of the cluster, containers included; with `purge` remove its home."""
    with locked(home):
        count = len(daemons.processes(home))
        daemons.stop(home, PATIENCE)
        if purge and is_home(home):
            shutil.rmtree(home)
    print(f"Hadoop is down, {count} processes ended: {home}", file=sys.stderr)


def status(home: Path) -> int:
    """Print how each daemon is; 0 if all are well, 4 otherwise."""
    ports, pids = read_ports(home), daemons.running(home)
    ill = complaints(ports) if pids else {daemon.name: "not running" for daemon in DAEMONS}
    for daemon in DAEMONS:
        name = daemon.name
        print(f"{name:16} {pids.get(name, '-'):>8}  {ill.get(name, 'well')}")
    if not ill:
        print(client_settings(home))
    return 4 if ill else 0


def hadoop_jars() -> str:
    """Hadoop's jars, fetched by their pinned hashes if need be, as a class path."""
    command = [str(REPOSITORY / "deploy/jars/fetch.sh"), sys.executable, "hadoop", str(JARS)]
    if subprocess.run(command, check=False).returncode:  # noqa: S603
        raise ClusterError(f"Hadoop's jars could not be fetched: {' '.join(command)}")
    return f"{JARS}/*"


def wait_until_well(home: Path, started: dict[Daemon, subprocess.Popen[bytes]], deadline: float) -> None:
    """Return when no daemon has a complaint; ClusterError when one ends, or at the deadline."""
    ports = read_ports(home)
    while ill := complaints(ports):
        for daemon, process in started.items():
            if process.poll() is not None:
                raise ClusterError(f"the {daemon.name} ended\n{daemons.log_end(daemon, home)}")
        if time.monotonic() > deadline:
            daemon = next(daemon for daemon in DAEMONS if daemon.name in ill)
            raise ClusterError(f"not well in time: {ill}\n{daemons.log_end(daemon, home)}")
        time.sleep(0.2)


def client_settings(home: Path) -> str:
    """What a client sets to use this cluster, as shell commands."""
    ports = read_ports(home)
    return (
        f"export HADOOP_CONF_DIR={home}/conf\n"
        "export SPARK_LOCAL_IP=127.0.0.1\n"
        f"export FS=hdfs://127.0.0.1:{ports['namenode_rpc']}\n"
        f"# NameNode http://127.0.0.1:{ports['namenode_http']}"
        f"  ResourceManager http://127.0.0.1:{ports['resourcemanager_http']}"
    )


if __name__ == "__main__":
    sys.exit(main())
