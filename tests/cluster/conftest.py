"""One real Hadoop for all tests that need a cluster."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.command import REPOSITORY, options, riskloom

SMALL = options(
    "--set",
    "tasks.0.model.epochs=4",
    "tasks.0.model.single_modality=false",
    "tasks.0.model.dropout=0",
    "genomics.relatives.minimum_kinship=0.1",
    "genomics.relatives.minimum_variants=300",
    "genomics.ancestry.components=2",
    "genomics.ancestry.most_r2=0.5",
)
CLUSTER = REPOSITORY / "deploy/hadoop/cluster.py"


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


@pytest.fixture(scope="package")
def local_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the raw zone of 400 people and the lake that a run on this machine made of it; beside it, the
    archives that containers unpack are built."""
    subprocess.run(["make", "--silent", "archive"], cwd=REPOSITORY, check=True)
    folder = tmp_path_factory.mktemp("study")
    raw, lake = str(folder / "raw"), str(folder / "lake")
    for words in (["simulate", "--people", "400"], ["run", "conf/demo.yaml", "--lake", lake, *SMALL]):
        ended = riskloom(*words, "--raw", raw)
        assert ended.returncode == 0, ended.stderr[-3000:]
    return folder
