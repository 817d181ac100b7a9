"""One real Hadoop for all tests that need a cluster."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

CLUSTER = Path(__file__).resolve().parents[2] / "deploy/hadoop/cluster.py"


@dataclass(frozen=True)
class Hadoop:
    """A home of deploy/hadoop, and how to command it."""

    home: Path

    @property
    def conf_dir(self) -> Path:
        """What HADOOP_CONF_DIR is for its clients."""
        return self.home / "conf"

    @property
    def default_fs(self) -> str:
        """Its `fs.defaultFS`, hdfs://127.0.0.1:port."""
        properties = ElementTree.parse(self.conf_dir / "core-site.xml").iter("property")
        return next(p.findtext("value", "") for p in properties if p.findtext("name") == "fs.defaultFS")

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run cluster.py on this home."""
        line = [sys.executable, str(CLUSTER), *words, "--home", str(self.home)]
        return subprocess.run(line, capture_output=True, text=True, check=False)


@pytest.fixture(scope="package")
def hadoop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hadoop]:
    """HDFS and YARN on loopback, for the tests of this folder; nothing of them is left after it."""
    cluster = Hadoop(tmp_path_factory.mktemp("hadoop") / "home")
    started = cluster.command("up")
    assert started.returncode == 0, started.stderr
    yield cluster
    stopped = cluster.command("down", "--purge")
    assert stopped.returncode == 0, stopped.stderr
