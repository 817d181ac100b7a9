"""All eleven stages on real HDFS and YARN, in cluster mode, give the tables of the local run."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from features.contract.errors import ExitCode
from features.contract.paths import Location
from features.contract.runs import Runs
from jobs.stages import STAGES
from tests.cluster.conftest import SMALL, Hadoop
from tests.command import (
    REPOSITORY,
    RISKLOOM,
    SPARK_CONF_DIR,
    bare_environment,
    options,
    published,
    riskloom,
    sorted_rows,
)
from tests.planted import leaks

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]  # eleven stages, each an application of its own
PUT = REPOSITORY / "deploy/hadoop/put.py"
# Products of float32 matrices, whose sums hang on how many cores share them.
ABOUT_EQUAL = {
    "axes": ("variant_key", "loadings"),
    "ancestry": ("person_key", "components"),
    "polygenic_scores": ("person_key", "adjusted_z"),
}
CHANGING = {"run_id", "scored_at", "model_version"}
RISK_COLUMNS = ["risk", "risk_low", "risk_high"]


@dataclass(frozen=True)
class Study:
    """The same raw zone twice: on this disk, worked through by `riskloom run`; and on HDFS."""

    hadoop: Hadoop
    raw: str
    lake: str
    folder: Path

    @property
    def here(self) -> Location:
        """The local run's lake."""
        return Location.parse(str(self.folder / "lake"))

    @property
    def there(self) -> Location:
        return Location(self.lake)

    def submit(self, stage: str, *more: str) -> subprocess.CompletedProcess[str]:
        """`riskloom submit`, from an environment that knows nothing but the path."""
        return riskloom(*self.words(stage, *more))

    def words(self, stage: str, *more: str) -> list[str]:
        """The words of that command."""
        archives = f"{self.hadoop.default_fs}/riskloom"
        spark = options(
            "--set",
            f"spark.environment_archive={archives}/environment.tar.gz",
            f"spark.jars_archive={archives}/spark-jars.zip",
            "spark.driver_memory=1g",
            "spark.executor_memory=1g",
            f"spark.conf={json.dumps(quick())}",
        )
        where = ["--raw", self.raw, "--lake", self.lake, "--hadoop-conf", str(self.hadoop.conf_dir)]
        return ["submit", stage, "--config", "conf/demo.yaml", *where, *spark, *SMALL, *more]


def quick() -> dict[str, str]:
    """What makes Spark quick with little to do, for sessions that do not read the file."""
    text = (Path(SPARK_CONF_DIR) / "spark-defaults.conf").read_text()
    pairs = (line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#"))
    return {key: value.strip() for key, value in pairs}


@pytest.fixture(scope="module")
def study(hadoop: Hadoop, local_run: Path) -> Study:
    """The raw zone, the identity key and the archives on HDFS."""
    raw, local = local_run / "raw", local_run / "lake"
    archives = REPOSITORY / "build/archive"
    for source, target in ((archives, "riskloom"), (raw, "raw"), (Path(f"{local}.keys"), "lake.keys")):
        command = [sys.executable, str(PUT), str(source), f"{hadoop.default_fs}/{target}"]
        subprocess.run(command, check=True, capture_output=True)
    return Study(hadoop, f"{hadoop.default_fs}/raw", f"{hadoop.default_fs}/lake", local_run)


def test_all_eleven_stages_run_in_containers_and_every_table_is_the_local_one(study: Study) -> None:
    for job in STAGES:
        ended = study.submit(job.name)
        assert ended.returncode == 0, f"{job.name}\n{ended.stdout}\n{ended.stderr[-4000:]}"
    local, cluster = Runs.read(study.here), Runs.read(study.there)
    tables = {name for run in local.successes() for name, version in run.wrote.items() if version.isdigit()}
    assert tables == {
        name for run in cluster.successes() for name, version in run.wrote.items() if version.isdigit()
    }
    for table in sorted(tables - {"predictions", "axes", "ancestry"}):
        there, here = (sorted_rows(published(lake, table), {"adjusted_z"}) for lake in (study.there, study.here))
        assert there == here, table
    for table, (key, column) in ABOUT_EQUAL.items():
        there, here = (published(lake, table).sort_by(key) for lake in (study.there, study.here))
        assert there[key].equals(here[key])
        a, b = (np.stack(found[column].to_numpy()) for found in (there, here))
        np.testing.assert_allclose(a, b, atol=1e-4 * np.nanmax(np.abs(b)))
    counts = {run.job: run.counts for run in local.successes()}
    for run in cluster.successes():
        if run.job.startswith("ingest_"):
            assert run.counts["balances"] == counts[run.job]["balances"]


def test_keys_on_hdfs_are_their_owners_alone(study: Study) -> None:
    found = study.there.filesystem.ls(Location(f"{study.lake}.keys").path, detail=True)
    modes = {entry["name"].rpartition("/")[2]: entry["permission"] for entry in found}
    assert {modes[name] & 0o077 for name in ("identity.key", "signing.key")} == {0}


def test_predictions_are_those_of_the_local_run(study: Study) -> None:
    here, there = (published(lake, "predictions").sort_by("person_key") for lake in (study.here, study.there))
    exact = set(RISK_COLUMNS) | CHANGING | {"top_reasons", "band", "feature_version"}
    assert sorted_rows(here, exact) == sorted_rows(there, exact)
    for column in RISK_COLUMNS:
        # Two ranks sum gradients in float32 in whatever order they arrive; four epochs of that stay small.
        a, b = (table[column].to_numpy(zero_copy_only=False).astype(float) for table in (here, there))
        np.testing.assert_allclose(a, b, atol=5e-3)


def test_a_second_submission_does_nothing(study: Study) -> None:
    before = len(Runs.read(study.there).rows)
    ended = study.submit("ingest_clinical")
    assert (ended.returncode, len(Runs.read(study.there).rows)) == (0, before), ended.stderr[-2000:]
    assert "nothing new" in ended.stderr


@pytest.mark.parametrize(
    ("stage", "words", "code", "told"),
    [
        ("ingest_clinical", ["--set", "identity.key_uri={fs}/no/such.key"], ExitCode.CONFIG, "no key at"),
        ("ingest_clinical", ["--raw", "{fs}/empty"], ExitCode.DATA_GATE, "no file below"),
        ("train_model", ["--set", "launch.ranks=5"], ExitCode.CLUSTER, "5 slots are wanted"),
        # Of two executors of this size the cluster has room for one.
        (
            "train_model",
            options("--set", "spark.executor_memory=9g", "tasks.0.model.epochs=5"),
            ExitCode.CLUSTER,
            "2 slots are wanted, 1 were there after 45 s",
        ),
    ],
)
def test_exit_codes_come_back_from_the_container(
    study: Study, stage: str, words: list[str], code: ExitCode, told: str
) -> None:
    ended = study.submit(stage, *(word.format(fs=study.hadoop.default_fs) for word in words))
    assert ended.returncode == code, ended.stderr[-4000:]
    assert told in ended.stderr


def test_a_queue_without_room_is_named_and_a_stopped_submission_stops_its_application(
    study: Study, tmp_path: Path
) -> None:
    """A NodeManager that does not answer is a cluster without room; no application may outlive its caller."""
    node = psutil.Process(int((study.hadoop.home / "pids/nodemanager.pid").read_text()))
    log = tmp_path / "log"
    words = study.words("ingest_clinical", "--set", "clinical.latest=2031-01-01")
    node.suspend()
    try:
        with (
            log.open("w") as stream,
            subprocess.Popen(
                [RISKLOOM, *words], stderr=stream, env=bare_environment(), cwd=REPOSITORY
            ) as submission,
        ):
            wait_for("has waited 30 s for its driver", log)
            submission.send_signal(signal.SIGTERM)
            assert submission.wait(60) == ExitCode.CLUSTER
    finally:
        node.resume()
    assert "stopped by the user, and application_" in " ".join(log.read_text().split())


def wait_for(words: str, log: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while words not in " ".join(log.read_text().split()):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)


def test_no_log_of_any_container_names_a_person(study: Study) -> None:
    """After all of the above: stages that ended well, and stages that did not."""
    files = [file for file in (study.hadoop.home / "yarn/logs").rglob("*") if file.is_file()]
    texts = {str(file): file.read_bytes() for file in files}
    assert sum(b"features" in text or b"riskloom" in text for text in texts.values()) > len(STAGES)
    assert not leaks(texts, study.folder / "raw")
