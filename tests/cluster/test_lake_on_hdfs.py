"""The lake's files and leases on real HDFS, and a job of this machine over them."""

import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from features.contract.errors import ClusterError, ExitCode
from features.contract.lease import Holder, leases
from features.contract.paths import Location
from features.contract.runs import Runs
from tests.cluster.conftest import Hadoop
from tests.command import riskloom

pytestmark = pytest.mark.cluster
PERSONS = "id,birth\n1,1960-01-01\n2,1970-01-01\n"
STUDY = """\
name: study
identity: {namespace: hospital}
clinical:
  latest: 2024-01-01
  sources: [{name: persons, path: persons.csv, person_id: id, person: {birth_date: {column: birth}}}]
tasks:
  - name: t
    cohort: {index_date: 2020-01-01}
    outcome: {name: stroke, kind: binary, code: A, horizon_days: 365}
    features: {clinical: [{name: age, aggregate: age}]}
    scoring: {as_of: 2021-01-01}
"""


@pytest.fixture
def folder(hadoop: Hadoop, tmp_path: Path) -> Location:
    """A folder of this test's own on HDFS."""
    return Location(f"{hadoop.default_fs}/{tmp_path.name}")


def test_a_file_is_created_once_replaced_whole_and_leaves_no_temporary(folder: Location) -> None:
    file = folder / "lease.json"
    assert [file.create_exclusive(b"first"), file.create_exclusive(b"second")] == [True, False]
    assert file.read_bytes() == b"first"
    file.write_bytes(b"third")
    assert file.read_bytes() == b"third"
    assert [entry["name"] for entry in file.filesystem.ls(folder.path, detail=True)] == [file.path]
    file.delete()
    assert not file.exists()


def test_a_lease_on_hdfs_has_one_holder_and_a_silent_one_loses_it(folder: Location) -> None:
    with leases(folder, ["variants"], "first") as still_held:
        with pytest.raises(ClusterError, match="written by first"), leases(folder, ["variants"], "second"):
            pass
        still_held()
        silent = json.dumps(asdict(Holder("another", 1, "silent", 0.0)))
        (folder / "_leases/variants.json").write_bytes(silent.encode())
        with leases(folder, ["variants"], "second"), pytest.raises(ClusterError, match="taken over"):
            still_held()


def ingest(folder: Path, lake: Location, **variables: str) -> subprocess.CompletedProcess[str]:
    """`riskloom ingest_clinical` here, over a raw zone here and a lake on HDFS."""
    (folder / "persons.csv").write_text(PERSONS)
    (folder / "study.yaml").write_text(STUDY)
    config = ["--config", str(folder / "study.yaml"), "--set", f"identity.key_uri={folder}/identity.key"]
    return riskloom("ingest_clinical", *config, "--raw", str(folder), "--lake", lake.uri, **variables)


def test_a_job_on_this_machine_writes_a_lake_on_hdfs(folder: Location, tmp_path: Path) -> None:
    ended = ingest(tmp_path, folder / "lake")
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert Runs.read(folder / "lake").successes()[0].counts["balances"]["persons"]["records"] == 2


def test_a_lake_that_one_may_not_write_is_told_before_any_work(folder: Location, tmp_path: Path) -> None:
    (folder / "lake/here").write_bytes(b"")
    folder.filesystem.client.set_permission((folder / "lake").path, 0o755)
    refused = ingest(tmp_path, folder / "lake", HADOOP_USER_NAME="stranger")
    assert refused.returncode == ExitCode.CLUSTER, refused.stderr[-3000:]
    assert "cannot write to" in refused.stderr and "permission" in refused.stderr.lower()
