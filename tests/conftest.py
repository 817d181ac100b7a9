"""Fixtures that several rooms of the house share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.settings import IdentitySettings, SparkSettings
from features.lake import spark_session
from tests.command import SPARK_CONF_DIR

os.environ["SPARK_CONF_DIR"] = SPARK_CONF_DIR


class OneFileOneWorker(LoadScopeScheduling):
    """Tests of a file share its fixtures, and those of tests/cluster one Hadoop.

    So many processes start in tests/chaos and tests/cluster that two of them beside each other would starve,
    and ranks be blamed for a silence that was the machine's: they are one worker's, which begins with them.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return "many processes" if file.startswith(("tests/chaos/", "tests/cluster/")) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneFileOneWorker:
    return OneFileOneWorker(config, log)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tell of a failure when it happens: a run that is stopped at its time limit never comes to its summary."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\n{report.nodeid} ({report.when})\n{report.longreprtext[-4000:]}", flush=True)  # noqa: T201


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """One local session for all tests; two cores, as on the laptop."""
    session = spark_session(SparkSettings(master="local[2]", shuffle_partitions=2), "tests")
    yield session
    session.stop()


@pytest.fixture
def lake(tmp_path: Path) -> Location:
    return Location.parse(str(tmp_path / "lake"))


@pytest.fixture
def keyer() -> PersonKeyer:
    """A fixed key; ids like `A-1`, `a_1` and `A-1-01B` are one person."""
    identity = IdentitySettings(namespace="tests", case="upper", pattern=r"^([A-Z]+-[0-9]+)")
    return PersonKeyer(bytes(range(32)), identity)
