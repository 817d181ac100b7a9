from pathlib import Path

import pytest

from features.contract.paths import Location
from features.simulation.raw_zone import simulate


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small raw zone of 300 people."""
    root = tmp_path_factory.mktemp("simulation") / "raw"
    simulate(Location.parse(str(root)), people=300, seed=7)
    return root
