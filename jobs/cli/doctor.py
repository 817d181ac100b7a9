"""`riskloom doctor`: is this machine, and the cluster behind it, fit to run?"""

import json
import platform
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from importlib import metadata
from typing import Annotated

import typer
from rich.table import Table

from features.contract.errors import ExitCode, RiskloomError
from features.contract.paths import Location
from features.contract.runs import Runs
from jobs.script import answers

PINNED = {
    "pyspark": "3.5.9",
    "delta-spark": "3.3.3",
    "deltalake": "1.6.6",
    "pyarrow": "25.0.1",
    "pandas": "2.3.3",
    "numpy": "2.4.6",
    "hdfs-native": "0.14.7",
    "tensorflow-cpu": "2.21.0",
    "keras": "3.15.1",
    "petastorm": "0.12.1",
    "horovod": "0.28.1",
}


class UnfitError(Exception):
    """What is wrong, and what to do."""


def doctor(
    lake: Annotated[str | None, typer.Option("--lake", help="Also check that this lake can be written.")] = None,
    resource_manager: Annotated[
        str | None, typer.Option("--yarn", help="ResourceManager's address, host:port.")
    ] = None,
    slots: Annotated[int, typer.Option("--slots", help="Ranks that must fit on YARN now.")] = 2,
) -> None:
    """Check versions, Java, Horovod's build and, when asked, HDFS and YARN's free slots."""
    checks: dict[str, Callable[[], str]] = {
        "Python": _python,
        "Java": _java,
        "compiler": _compiler,
        "browser": _browser,
    }
    checks |= {name: lambda name=name, pin=pin: _package(name, pin) for name, pin in PINNED.items()}  # type: ignore[misc]
    checks["Horovod's build"] = _horovod
    if lake is not None:
        checks["lake"] = lambda: _lake(Location.parse(lake))
    if resource_manager is not None:
        checks["YARN"] = lambda: _slots(resource_manager, slots)
    table, healthy = Table("part", "", "found"), True
    for name, check in checks.items():
        ok, text = _outcome(check)
        healthy &= ok
        table.add_row(name, "[green]ok[/green]" if ok else "[red]unfit[/red]", text)
    answers.print(table)
    raise typer.Exit(int(ExitCode.DONE if healthy else ExitCode.CLUSTER))


def _outcome(check: Callable[[], str]) -> tuple[bool, str]:
    try:
        return True, check()
    except (UnfitError, RiskloomError, ImportError, OSError, ValueError) as error:
        return False, str(error)


def _python() -> str:
    found = platform.python_version()
    if not found.startswith("3.11."):
        raise UnfitError(f"{found}; expected 3.11: apt-get install python3.11, or pyenv install 3.11")
    return found


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        raise UnfitError("no java on the path; apt-get install openjdk-17-jdk-headless")
    text = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr  # noqa: S603
    first = text.splitlines()[0]
    if '"17.' not in first:
        raise UnfitError(f"{first}; expected 17: apt-get install openjdk-17-jdk-headless")
    return first


def _compiler() -> str:
    return shutil.which("g++") or _missing("no g++; it compiles Horovod once: apt-get install g++ make")


def _browser() -> str:
    return shutil.which("chromium") or _missing(
        "no chromium; only the report's test needs it: apt-get install chromium"
    )


def _missing(text: str) -> str:
    raise UnfitError(text)


def _package(name: str, pin: str) -> str:
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        raise UnfitError(f"not installed; expected {pin}: make setup") from None
    if found != pin:
        raise UnfitError(f"{found}; expected {pin}: make setup")
    return found


def _horovod() -> str:
    import horovod.tensorflow as hvd

    if not hvd.gloo_built():
        raise UnfitError("built without gloo; remove build/wheels and run make setup")
    return "gloo, against this TensorFlow"


def _lake(lake: Location) -> str:
    Runs.read(lake)  # first: against a NameNode that is away, a write tries on for minutes
    probe = lake / "_probe-doctor"
    probe.write_bytes(b"riskloom")
    probe.delete()
    return f"{lake.uri} can be written"


def _slots(resource_manager: str, wanted: int) -> str:
    """Free containers of 1 core and 2 GiB, as YARN's REST interface counts."""
    url = f"http://{resource_manager}/ws/v1/cluster/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found = json.load(answer)
    # Jackson and Jersey of other versions leave the outer name out.
    metrics = found.get("clusterMetrics", found)
    if "availableMB" not in metrics:
        raise UnfitError(f"{url} answers with something else; is this the ResourceManager's address?")
    free = min(metrics["availableVirtualCores"], metrics["availableMB"] // 2048)
    if free < wanted:
        raise UnfitError(f"{free} slots free, {wanted} wanted; wait for other jobs or lower launch.ranks")
    return f"{free} slots free of {metrics['totalVirtualCores']} cores"
