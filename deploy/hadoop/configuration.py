"""The configuration of a one-machine Hadoop: conf/ beside this file with its blanks filled in.

`$home` and `$mark` are given; any other `$name` in a template is a port, chosen free.
"""

import fcntl
import json
import random
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template

from daemons import MARK, ClusterError

TEMPLATES = Path(__file__).resolve().parent / "conf"
LOCK = "cluster.lock"
PORT_RANGE = range(20000, 32768)  # below the ephemeral ports, which any client may take meanwhile

Ports = dict[str, int]


def write_configuration(home: Path) -> None:
    """Fill in the templates under home/conf. Ports stay as they were, if they are still free."""
    templates = {path.name: Template(path.read_text()) for path in TEMPLATES.iterdir()}
    blanks = {name for template in templates.values() for name in template.get_identifiers()}
    ports = choose_ports(home, blanks - {"home", "mark"})
    for folder in ("conf", "logs", "pids", "scratch"):
        (home / folder).mkdir(exist_ok=True)
    for name, template in templates.items():
        text = template.substitute({"home": str(home), "mark": MARK, **ports})
        (home / "conf" / name).write_text(text)


def claim(home: Path) -> None:
    """Make a folder a cluster's home. Refuse one in use: `down --purge` removes a home whole."""
    if not re.fullmatch(r"[\w./-]+", str(home)):
        raise ClusterError(f"{home}: only letters, digits and . _ - may stand in a home's path")
    if home.exists() and not is_home(home) and any(home.iterdir()):
        raise ClusterError(f"{home} is not empty and not a cluster's home: name another with --home")
    home.mkdir(parents=True, exist_ok=True)
    (home / LOCK).touch()


def is_home(home: Path) -> bool:
    """Whether a folder is a cluster's home."""
    return (home / LOCK).exists()


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Keep every other `up` and `down` of this home waiting."""
    if not is_home(home):
        yield
        return
    with (home / LOCK).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read_ports(home: Path) -> Ports:
    """The ports of a cluster, by name; none where there is no cluster."""
    path = home / "ports.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def choose_ports(home: Path, names: Iterable[str]) -> Ports:
    """The ports of last time where they still fit, or else new ones; kept in home/ports.json."""
    wanted, ports = sorted(names), read_ports(home)
    if sorted(ports) != wanted or not all(map(is_free, ports.values())):
        shuffled = random.sample(PORT_RANGE, len(PORT_RANGE))
        ports = dict(zip(wanted, filter(is_free, shuffled), strict=False))
        (home / "ports.json").write_text(json.dumps(ports, indent=1))
    return ports


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
