"""`riskloom submit` without a cluster: what it refuses, prints, and says of a YARN that is away.

With one: tests/cluster/test_study_on_yarn.py.
"""

import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from features.contract.errors import ExitCode
from jobs.cli.submit import exit_code
from tests.command import REPOSITORY, RISKLOOM, bare_environment, options, riskloom

YARN_SITE = """\
<configuration>
  <property><name>yarn.resourcemanager.address</name><value>127.0.0.1:{port}</value></property>
</configuration>
"""


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A submission to a ResourceManager that nobody started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/core-site.xml").write_text("<configuration/>")
    (tmp_path / "conf/yarn-site.xml").write_text(YARN_SITE.format(port=port))
    where = ["--raw", str(tmp_path), "--lake", str(tmp_path / "lake"), "--hadoop-conf", str(tmp_path / "conf")]
    archive = options("--set", f"spark.environment_archive=file://{tmp_path}/environment.tar.gz")
    return ["submit", "ingest_clinical", "--config", "conf/demo.yaml", *where, *archive]


def test_a_dry_run_prints_the_command_and_submits_nothing(words: list[str]) -> None:
    printed = riskloom(*words, "--dry-run")
    assert printed.returncode == 0, printed.stderr
    assert "/bin/spark-submit" in printed.stdout and "--archives" in printed.stdout
    assert printed.stdout.split()[-2] == "--run-id"


def test_an_unknown_stage_is_a_wrong_usage(words: list[str]) -> None:
    refused = riskloom(*[word.replace("ingest_clinical", "ingest_clinicals") for word in words])
    assert refused.returncode == ExitCode.CONFIG
    assert "ingest_clinical" in refused.stderr


@pytest.mark.parametrize("launcher", ["local", "horovodrun"])
def test_ranks_that_would_all_start_in_the_drivers_container_are_refused(words: list[str], launcher: str) -> None:
    words[words.index("ingest_clinical")] = "train_model"
    refused = riskloom(*words, "--set", f"launch.launcher={launcher}", "--dry-run")
    assert refused.returncode == ExitCode.CONFIG
    assert f"launch.launcher: {launcher}" in refused.stderr
    assert riskloom(*words, "--dry-run").returncode == 0


def test_a_yarn_that_is_away_is_named_and_the_submission_can_be_stopped(words: list[str], tmp_path: Path) -> None:
    log, deadline = tmp_path / "log", time.monotonic() + 120
    with (
        log.open("w") as stream,
        subprocess.Popen([RISKLOOM, *words], stderr=stream, env=bare_environment(), cwd=REPOSITORY) as submission,
    ):
        while "does not answer" not in log.read_text():
            assert time.monotonic() < deadline and submission.poll() is None, log.read_text()
            time.sleep(0.2)
        submission.send_signal(signal.SIGTERM)
        assert submission.wait(60) == ExitCode.CLUSTER
    assert "before YARN had accepted" in " ".join(log.read_text().split())


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("User application exited with status 3", ExitCode.DATA_GATE),
        ("AM container exited with code 2", ExitCode.CONFIG),
        ("Container killed: exited with code 137", ExitCode.CLUSTER),
        ("Connection refused", ExitCode.CLUSTER),
    ],
)
def test_without_a_row_in_runs_the_diagnostics_say_the_code(said: str, code: ExitCode) -> None:
    assert exit_code(1, None, said) == code
