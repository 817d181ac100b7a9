"""The one-machine Hadoop: real, private to this machine, and gone when it is told to go."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hdfs_native import Client

from .conftest import Hadoop

pytestmark = pytest.mark.cluster
MARK = "RISKLOOM_HADOOP_HOME"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Hadoop]:
    """A home of this test's own, to be broken and stopped."""
    cluster = Hadoop(tmp_path / "home")
    yield cluster
    cluster.command("down")


def processes(hadoop: Hadoop) -> list[psutil.Process]:
    """Every process that carries the mark of this home."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == str(hadoop.home):
                found.append(process)
    return found


def test_a_file_put_on_hdfs_is_read_back(hadoop: Hadoop) -> None:
    content = bytes(range(256)) * 4096
    client = Client(config_dir=str(hadoop.conf_dir))
    with client.create("/put-and-read") as file:
        file.write(content)
    with client.read("/put-and-read") as file:
        assert file.read() == content


def test_nothing_listens_beyond_loopback(hadoop: Hadoop) -> None:
    listening = {
        connection.laddr.ip
        for process in processes(hadoop)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_all_four_daemons_say_they_are_well(hadoop: Hadoop) -> None:
    status = hadoop.command("status")
    assert status.returncode == 0
    assert status.stdout.count(" well\n") == 4
    assert f"export HADOOP_CONF_DIR={hadoop.conf_dir}\n" in status.stdout


def test_a_second_up_starts_nothing(hadoop: Hadoop) -> None:
    before = {process.pid for process in processes(hadoop)}
    again = hadoop.command("up")
    assert "was already up" in again.stderr
    assert {process.pid for process in processes(hadoop)} == before


def test_up_brings_back_a_daemon_that_died_and_down_leaves_nothing(own: Hadoop) -> None:
    assert own.command("up").returncode == 0
    psutil.Process(int((own.home / "pids/nodemanager.pid").read_text())).kill()
    assert own.command("up").returncode == 0
    assert len(processes(own)) == 4

    with child_of(own.home) as container, child_of(own.home / "another") as stranger:
        assert own.command("down", "--purge").returncode == 0
        assert container.wait() != 0
        assert stranger.poll() is None
        stranger.kill()
    assert processes(own) == []
    assert not own.home.exists()


def child_of(home: Path) -> subprocess.Popen[bytes]:
    """A process such as a container's, that outlived its NodeManager."""
    return subprocess.Popen(["sleep", "600"], env={MARK: str(home)})


def test_a_daemon_that_cannot_start_shows_the_end_of_its_log(own: Hadoop) -> None:
    version = own.home / "hdfs/name/current/VERSION"
    version.parent.mkdir(parents=True)
    version.write_text("layoutVersion=garbage\n")
    (own.home / "cluster.lock").touch()
    failed = own.command("up")
    assert failed.returncode == 4
    assert "the namenode ended" in failed.stderr
    assert "Failed to start namenode" in failed.stderr
    assert processes(own) == []


def test_a_folder_in_use_is_not_taken_for_a_home(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    taken = Hadoop(tmp_path)
    assert taken.command("up").returncode == 4
    assert taken.command("down", "--purge").returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
