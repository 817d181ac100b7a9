"""Fixtures that several rooms of the house share."""

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


class OneFileOneWorker(LoadScopeScheduling):
    """Tests of a file share its fixtures; those of tests/cluster share one Hadoop."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return "tests/cluster" if file.startswith("tests/cluster/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneFileOneWorker:
    return OneFileOneWorker(config, log)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """One local session for all tests; two cores, as on the laptop."""
    quick = {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m"}
    session = spark_session(SparkSettings(master="local[2]", shuffle_partitions=2, conf=quick), "tests")
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
