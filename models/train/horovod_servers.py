"""Horovod's servers on one address only.

Horovod binds its rendezvous and service sockets to every interface, whatever it is told. Both
modules that open them take `find_port` by name, so it is replaced in both. Also the way in for
`horovodrun`: `python -m models.train.horovod_servers -np 2 ...` is horovodrun on loopback.
"""

import socket
import sys
from collections.abc import Callable, Iterator
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


if __name__ == "__main__":
    from horovod.runner.launch import run_commandline

    skip_build_check()
    bind_servers(LOOPBACK)
    sys.exit(run_commandline())
