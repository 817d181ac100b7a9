"""Horovod's servers on one address only.

Horovod binds its rendezvous and service sockets to every interface, whatever it is told. Both
modules that open them take `find_port` by name, so it is replaced in both. Also the way in for
`horovodrun`: `python -m models.train.horovod_servers -np 2 ...` is horovodrun on loopback.
"""

import io
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

LOOPBACK = "127.0.0.1"


def bind_servers(address: str) -> None:
    """From now on, every server that Horovod starts in this process listens on `address` alone."""
    import horovod.runner.common.util.network as services
    import horovod.runner.http.http_server as rendezvous

    def find_port(server_factory: Callable[[tuple[str, int]], Any]) -> tuple[Any, int]:
        server = server_factory((address, 0))
        return server, int(server.socket.getsockname()[1])

    services.find_port = find_port
    rendezvous.find_port = find_port


def skip_build_check() -> None:
    """Do not ask whether gloo was built: the question forks this process and imports TensorFlow there."""
    import horovod.runner.launch as entry

    entry.gloo_built = lambda verbose=False: True  # noqa: ARG005


def address_towards(host: str) -> str:
    """This machine's address on the way to `host`; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((socket.gethostbyname(host), 9))
        return str(probe.getsockname()[0])


def bind_spark_servers(driver_host: str) -> None:
    """The same for `horovod.spark.run`: here, and in each Spark task before it opens its service."""
    import horovod.spark.runner as runner

    skip_build_check()
    gather_by_lines()
    bind_servers(address_towards(driver_host))
    make_mapper = getattr(runner._make_mapper, "unbound", runner._make_mapper)

    def bound(*args: Any) -> Callable[[int, Any], Iterator[Any]]:
        mapper = make_mapper(*args)

        def task(index: int, rows: Any) -> Iterator[Any]:
            bind_servers(address_towards(driver_host))
            yield from mapper(index, rows)

        return task

    bound.unbound = make_mapper  # type: ignore[attr-defined]
    runner._make_mapper = bound


def hand_over_shutdown() -> threading.Event:
    """An event that ends the ranks of the next run. Horovod would take SIGINT and SIGTERM for it, which it
    does not give back, and which only a main thread can."""
    import horovod.runner.gloo_run as gloo

    end = threading.Event()
    gloo.register_shutdown_event = lambda: end
    return end


def gather_by_lines() -> None:
    """What ranks write in Spark tasks comes line by line; Horovod would hold it back for 64 KiB."""
    import horovod.runner.common.util.network as services

    # In the driver, it is these streams alone that the module copies.
    def copy(source: Any, target: Any) -> None:
        for line in io.TextIOWrapper(source.stream, "utf-8", errors="replace"):
            target.write(line)

    services.shutil = SimpleNamespace(copyfileobj=copy)


if __name__ == "__main__":
    from horovod.runner.launch import run_commandline

    skip_build_check()
    bind_servers(LOOPBACK)
    sys.exit(run_commandline())
