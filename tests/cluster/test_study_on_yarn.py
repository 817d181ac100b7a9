"""All seven stages on real HDFS and YARN, in cluster mode, give the tables of the local run."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from features.contract.errors import ExitCode
from features.contract.paths import Location
from features.contract.runs import Runs, open_delta
from jobs.stages import STAGES
from tests.cluster.conftest import Hadoop

pytestmark = pytest.mark.cluster
REPOSITORY = Path(__file__).resolve().parents[2]
RISKLOOM = str(Path(sys.executable).parent / "riskloom")
PEOPLE = "400"
SMALL = [
    "tasks.0.model.epochs=4",
    "tasks.0.model.single_modality=false",
    "tasks.0.model.dropout=0",
]
CHANGING = {"run_id", "scored_at", "model_version"}
RISK_COLUMNS = ["risk", "risk_low", "risk_high"]


@dataclass(frozen=True)
class Study:
    """The same raw zone twice: on this disk, worked through by `riskloom run`; and on HDFS."""

    hadoop: Hadoop
    raw: str
    lake: str
    local_lake: str

    def submit(self, stage: str, *options: str) -> subprocess.CompletedProcess[str]:
        """`riskloom submit`, from an environment that knows nothing but the path."""
        archives = f"{self.hadoop.default_fs}/riskloom"
        settings = [
            f"spark.environment_archive={archives}/environment.tar.gz",
            f"spark.jars_archive={archives}/spark-jars.zip",
            "spark.driver_memory=1g",
            "spark.executor_memory=1g",
            *SMALL,
        ]
        command = [RISKLOOM, "submit", stage, "--config", "conf/demo.yaml", "--raw", self.raw, "--lake", self.lake]
        command += ["--hadoop-conf", str(self.hadoop.conf_dir), *options]
        command += [word for setting in settings for word in ("--set", setting)]
        return subprocess.run(
            command, capture_output=True, text=True, env=bare_environment(), cwd=REPOSITORY, check=False
        )


def bare_environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}


@pytest.fixture(scope="module")
def study(hadoop: Hadoop, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Simulate, run locally, and put raw zone, identity key and archives on HDFS."""
    subprocess.run(["make", "--silent", "archive"], cwd=REPOSITORY, check=True)
    folder = tmp_path_factory.mktemp("study")
    raw, local = folder / "raw", folder / "lake"
    simulated = [RISKLOOM, "simulate", "--raw", str(raw), "--people", PEOPLE]
    subprocess.run(simulated, check=True, capture_output=True)
    run = [RISKLOOM, "run", "conf/demo.yaml", "--raw", str(raw), "--lake", str(local)]
    run += [word for setting in SMALL for word in ("--set", setting)]
    ended = subprocess.run(
        run, cwd=REPOSITORY, env=bare_environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    root = Location.parse(hadoop.default_fs)
    for name in ("environment.tar.gz", "spark-jars.zip"):
        put(REPOSITORY / "build/archive" / name, root / f"riskloom/{name}")
    # HDFS takes some 0.4 s to close a file, however small: side by side.
    with ThreadPoolExecutor(32) as pool:
        files = [file for file in raw.rglob("*") if file.is_file()]
        list(pool.map(lambda file: put(file, root / f"raw/{file.relative_to(raw)}"), files))
    keys = Path(f"{local}.keys")
    for name in ("identity.key", "signing.key", "signing.pub"):
        put(keys / name, root / f"lake.keys/{name}")
    return Study(hadoop, f"{hadoop.default_fs}/raw", f"{hadoop.default_fs}/lake", f"file://{local}")


def put(source: Path, target: Location) -> None:
    target.filesystem.makedirs(target.path.rpartition("/")[0], exist_ok=True)
    with source.open("rb") as stream, target.open("wb") as sink:
        shutil.copyfileobj(stream, sink, 8 << 20)


def published(lake: str, table: str) -> pa.Table:
    location = Location(lake)
    found = open_delta(location, table, Runs.read(location).version(table))
    assert found is not None
    return found.to_pyarrow_table()


def sorted_rows(table: pa.Table, leaving_out: set[str]) -> list[tuple[object, ...]]:
    """All rows in an order that both engines agree on; NaN as text, since it equals nothing."""
    columns = [name for name in table.column_names if name not in leaving_out]
    text = duckdb.from_arrow(table.select(columns)).project("COLUMNS(*)::VARCHAR")
    return sorted(text.fetchall(), key=repr)


def test_all_seven_stages_run_in_containers_and_every_table_is_the_local_one(study: Study) -> None:
    for job in STAGES:
        ended = study.submit(job.name)
        assert ended.returncode == 0, f"{job.name}\n{ended.stdout}\n{ended.stderr[-4000:]}"
    local, cluster = Runs.read(Location(study.local_lake)), Runs.read(Location(study.lake))
    tables = {name for run in local.successes() for name, version in run.wrote.items() if version.isdigit()}
    assert tables == {
        name for run in cluster.successes() for name, version in run.wrote.items() if version.isdigit()
    }
    for table in sorted(tables - {"predictions"}):
        assert sorted_rows(published(study.lake, table), set()) == sorted_rows(
            published(study.local_lake, table), set()
        ), table
    counts = {run.job: run.counts for run in local.successes()}
    for run in cluster.successes():
        if run.job.startswith("ingest_"):
            assert run.counts["balances"] == counts[run.job]["balances"]


def test_predictions_are_those_of_the_local_run(study: Study) -> None:
    here, there = (published(lake, "predictions").sort_by("person_key") for lake in (study.local_lake, study.lake))
    exact = set(RISK_COLUMNS) | CHANGING | {"top_reasons", "band", "feature_version"}
    assert sorted_rows(here, exact) == sorted_rows(there, exact)
    for column in RISK_COLUMNS:
        # Two ranks sum gradients in float32 in whatever order they arrive; four epochs of that stay small.
        a, b = (table[column].to_numpy(zero_copy_only=False).astype(float) for table in (here, there))
        np.testing.assert_allclose(a, b, atol=5e-3)


def test_a_second_submission_does_nothing(study: Study) -> None:
    assert study.submit("ingest_clinical").returncode == 0
    before = len(Runs.read(Location(study.lake)).rows)
    ended = study.submit("ingest_clinical")
    assert (ended.returncode, len(Runs.read(Location(study.lake)).rows)) == (0, before), ended.stderr[-2000:]
    assert "nothing new" in ended.stderr


@pytest.mark.parametrize(
    ("stage", "options", "code", "told"),
    [
        ("ingest_clinical", ["--set", "identity.key_uri={fs}/no/such.key"], ExitCode.CONFIG, "no key at"),
        ("ingest_clinical", ["--raw", "{fs}/empty"], ExitCode.DATA_GATE, "no file below"),
        ("train_model", ["--set", "launch.ranks=5"], ExitCode.CLUSTER, "5 slots are wanted"),
    ],
)
def test_exit_codes_come_back_from_the_container(
    study: Study, stage: str, options: list[str], code: ExitCode, told: str
) -> None:
    ended = study.submit(stage, *(option.format(fs=study.hadoop.default_fs) for option in options))
    assert ended.returncode == code, ended.stderr[-4000:]
    assert told in ended.stderr
