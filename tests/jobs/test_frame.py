"""Publishing: all tables of a job or none, nothing new does nothing, every failure has its exit code."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from features.contract.config import config_digest, load_settings
from features.contract.errors import ClusterError, DataGateError, ExitCode, ModelGateError, TrainingError
from features.contract.lease import Holder
from features.contract.paths import Location
from features.contract.runs import Run, Runs, append_run, open_delta
from features.contract.schemas import OBSERVATION_PERIODS, PERSONS
from features.contract.settings import Settings
from features.lake import Written, newest_version, read_table, restore_leftover, write_table
from jobs.frame import Context, Job, run_job

STUDY = """\
name: study
identity: {namespace: hospital}
clinical: {latest: 2024-01-01, sources: [{name: persons, path: persons.csv, person_id: id}]}
tasks:
  - name: t
    cohort: {index_date: 2020-01-01}
    outcome: {name: stroke, kind: binary, code: A, horizon_days: 365}
    features: {clinical: [{name: age, aggregate: age}]}
    scoring: {as_of: 2021-01-01}
"""

# A job that holds its leases, has committed to one table of two, and is killed.
HOLD_AND_DIE = """
import os, signal, sys
from features.contract.lease import leases
from features.contract.lease import Holder
from features.contract.paths import Location
from features.contract.runs import open_delta
lake = Location(sys.argv[1])
with leases(lake, ["observation_periods", "persons"], "killed"):
    open_delta(lake, "persons").delete()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "persons.csv").write_text("id\n1\n")
    (tmp_path / "study.yaml").write_text(STUDY)
    return load_settings(str(tmp_path / "study.yaml"), raw=str(tmp_path / "raw"), lake=str(tmp_path / "lake"))


def persons_job(spark: SparkSession, people: int, die_between_tables: bool = False) -> Job:
    """A job over two tables, as small as one can be."""

    def body(context: Context) -> Written:
        rows = [(f"{i:064x}", None, "unknown", None) for i in range(people)]
        persons = spark.createDataFrame(rows, "person_key string, birth_date date, sex string, ancestry string")
        versions = {"persons": write_table(persons, context.lake, PERSONS)}
        if die_between_tables:
            raise KeyboardInterrupt
        periods = spark.createDataFrame([], "person_key string, start timestamp, end timestamp")
        versions["observation_periods"] = write_table(periods, context.lake, OBSERVATION_PERIODS)
        return Written(versions, {"persons": people})

    return Job(
        "ingest_clinical",
        body,
        writes=lambda _: ["persons", "observation_periods"],
        sections=lambda s: [s.clinical],
        raw=lambda _: ["persons.csv"],
    )


def test_a_second_run_with_nothing_new_writes_nothing(spark: SparkSession, settings: Settings) -> None:
    lake = Location(settings.lake)
    first = run_job(persons_job(spark, 3), settings)
    assert (first.message, first.status, first.exit_code) == ("", "succeeded", 0)
    assert first.counts["persons"] == 3
    again = run_job(persons_job(spark, 99), settings)
    assert (again.status, again.exit_code, len(Runs.read(lake).rows)) == ("nothing new", 0, 1)
    assert newest_version(lake, "persons") == int(first.wrote["persons"])


def test_a_changed_raw_file_is_something_new(spark: SparkSession, settings: Settings) -> None:
    run_job(persons_job(spark, 3), settings)
    (Path(Location(settings.raw).path) / "persons.csv").write_text("id\n1\n2\n")
    assert run_job(persons_job(spark, 4), settings).status == "succeeded"


def test_a_job_killed_between_its_tables_changes_nothing_published(
    spark: SparkSession, settings: Settings
) -> None:
    lake = Location(settings.lake)
    run_job(persons_job(spark, 3), settings)
    (Path(Location(settings.raw).path) / "persons.csv").write_text("id\n1\n2\n")
    killed = run_job(persons_job(spark, 8, die_between_tables=True), settings)
    assert (killed.exit_code, killed.wrote) == (ExitCode.CLUSTER, {})
    runs = Runs.read(lake)
    assert newest_version(lake, "persons") > runs.version("persons")
    assert read_table(spark, lake, runs, "persons").count() == 3
    after = run_job(persons_job(spark, 5), settings)
    assert after.status == "succeeded"
    assert read_table(spark, lake, Runs.read(lake), "persons").count() == 5


def test_a_job_killed_outright_leaves_no_row_and_its_lease_is_taken_over(
    spark: SparkSession, settings: Settings
) -> None:
    lake = Location(settings.lake)
    first = int(run_job(persons_job(spark, 3), settings).wrote["persons"])
    killed = subprocess.run([sys.executable, "-c", HOLD_AND_DIE, lake.uri], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (lake / "_leases/persons.json").exists()
    assert (newest_version(lake, "persons"), len(Runs.read(lake).rows)) == (first + 1, 1)
    (Path(Location(settings.raw).path) / "persons.csv").write_text("id\n1\n2\n")
    assert run_job(persons_job(spark, 5), settings).status == "succeeded"
    assert not (lake / "_leases/persons.json").exists()
    assert read_table(spark, lake, Runs.read(lake), "persons").count() == 5


def test_a_job_begins_with_what_is_published(spark: SparkSession, settings: Settings) -> None:
    """Not with what a killed one left."""
    lake, job, seen = Location(settings.lake), persons_job(spark, 5), list[int]()

    def watched(context: Context) -> Written:
        seen.append(open_delta(lake, "persons").to_pyarrow_table().num_rows)
        return job.body(context)

    run_job(persons_job(spark, 3), settings)
    (Path(Location(settings.raw).path) / "persons.csv").write_text("id\n1\n2\n")
    run_job(persons_job(spark, 8, die_between_tables=True), settings)
    assert open_delta(lake, "persons").to_pyarrow_table().num_rows == 8
    assert run_job(replace(job, body=watched), settings).status == "succeeded"
    assert seen == [3]


def test_a_job_whose_lease_was_taken_publishes_nothing(spark: SparkSession, settings: Settings) -> None:
    lake, job = Location(settings.lake), persons_job(spark, 3)
    thief = json.dumps(asdict(Holder("another", 1, "thief", time.time())))

    def robbed(context: Context) -> Written:
        written = job.body(context)
        (lake / "_leases/persons.json").write_bytes(thief.encode())
        return written

    summary = run_job(replace(job, body=robbed), settings)
    assert summary.exit_code == ExitCode.CLUSTER and "taken over by another job" in summary.message
    assert Runs.read(lake).published("persons") is None


def test_what_was_never_published_does_not_become_visible(spark: SparkSession, settings: Settings) -> None:
    lake = Location(settings.lake)
    killed = run_job(persons_job(spark, 8, die_between_tables=True), settings)
    assert killed.exit_code == ExitCode.CLUSTER
    assert restore_leftover(lake, Runs.read(lake), "persons")
    assert open_delta(lake, "persons").to_pyarrow_table().num_rows == 0


def test_the_highest_version_is_published_whatever_the_clocks_say(settings: Settings) -> None:
    lake, noon = Location(settings.lake), datetime(2024, 1, 1, 12, tzinfo=UTC)
    for version, finished in (("5", noon + timedelta(minutes=5)), ("7", noon)):
        run = Run(version, "a_job", noon, "", "", "", wrote={"persons": version}, finished=finished)
        append_run(lake, run)
    assert Runs.read(lake).version("persons") == 7


def test_a_failure_after_publication_leaves_the_run_a_success(spark: SparkSession, settings: Settings) -> None:
    def after(_: Settings, __: str) -> None:
        raise RuntimeError("the tracking server is away")

    summary = run_job(replace(persons_job(spark, 2), after=after), settings)
    assert (summary.status, summary.exit_code, len(Runs.read(Location(settings.lake)).rows)) == ("succeeded", 0, 1)


def test_of_a_bug_in_a_task_it_is_told_where_and_not_what(
    spark: SparkSession, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        raise ZeroDivisionError("RLM-000123")
        yield from batches

    def body(_: Context) -> Written:
        spark.range(1).mapInArrow(broken, "id long").collect()
        return Written({}, {})

    summary = run_job(replace(persons_job(spark, 1), body=body), settings)
    assert summary.exit_code == ExitCode.BUG
    assert re.search(r"in a Spark task:\n +File \S+test_frame.py\S+ line [0-9]+, in broken", caplog.text)
    assert "RLM" not in caplog.text + summary.message


def test_an_unknown_error_is_told_without_its_text(spark: SparkSession, settings: Settings) -> None:
    def body(_: Context) -> Written:
        raise PermissionError(13, "Permission denied", "/raw/RLM-000123.vcf.gz")

    summary = run_job(replace(persons_job(spark, 1), body=body), settings)
    assert summary.exit_code == ExitCode.CLUSTER
    assert "Permission denied" in summary.message and "RLM" not in summary.message


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataGateError("cut"), 3),
        (ClusterError("full"), 4),
        (TrainingError("lost"), 5),
        (ModelGateError("forged"), 6),
        (ZeroDivisionError("ours"), 1),
        (RuntimeError("in a task:\nfeatures.contract.errors.DataGateError: file abc: cut short\n at ..."), 3),
    ],
)
def test_every_failure_has_its_exit_code_and_leaves_a_row(
    spark: SparkSession, settings: Settings, error: Exception, code: int
) -> None:
    def body(_: Context) -> Written:
        raise error

    summary = run_job(replace(persons_job(spark, 1), body=body), settings)
    row = Runs.read(Location(settings.lake)).rows[0]
    assert (summary.exit_code, row.exit_code, row.status, dict(row.wrote)) == (code, code, "failed", {})
    assert row.config_digest == config_digest(settings.clinical)


def test_an_empty_raw_folder_stops_before_anything_is_written(spark: SparkSession, settings: Settings) -> None:
    (Path(Location(settings.raw).path) / "persons.csv").unlink()
    summary = run_job(persons_job(spark, 1), settings)
    assert summary.exit_code == ExitCode.DATA_GATE
    assert "no file below" in summary.message


def test_a_lake_that_cannot_be_written_is_told_at_once(
    spark: SparkSession, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    blocked = settings.model_copy(update={"lake": f"file://{tmp_path}/file/lake"})
    summary = run_job(persons_job(spark, 1), blocked)
    assert summary.exit_code == ExitCode.CLUSTER
    assert "cannot write" in summary.message


def test_a_null_where_none_may_be_is_refused_by_the_table(spark: SparkSession, settings: Settings) -> None:
    shape = "person_key string, birth_date date, sex string, ancestry string"
    frame = spark.createDataFrame([(None, None, "male", None)], shape)
    for row, rule in (
        ((None, None, "male", None), "CHECK person_key_is_hex"),
        (("a" * 64, None, None, None), "CHECK"),
    ):
        with pytest.raises(Py4JJavaError, match=f"persons: {rule}"):
            write_table(spark.createDataFrame([row], shape), Location(settings.lake), PERSONS)
    with pytest.raises(Py4JJavaError, match="persons: CHECK known_sex") as told:
        write_table(
            spark.createDataFrame([("b" * 64, None, "tall", None)], shape), Location(settings.lake), PERSONS
        )
    assert "b" * 64 not in str(told.value) and "tall" not in str(told.value)
    with pytest.raises(AssertionError, match="missing columns"):
        write_table(frame.drop("sex"), Location(settings.lake), PERSONS)
