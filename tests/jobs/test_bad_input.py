"""What a user's worst days bring, through the command line: its own exit code, a clear word, nothing lost.

The lake was filled once; then each file is spoilt in a copy of the raw zone. Whatever fails, the published
versions stay, and neither the messages nor the lake's log of runs name a person.
"""

import gzip
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import typer

from features.contract.errors import ConfigError, ExitCode
from features.contract.paths import Location
from features.contract.runs import Runs
from features.lake import newest_version
from features.simulation.bgzip import bgzip
from jobs.script import fail
from tests.command import REPOSITORY, RISKLOOM, bare_environment, published, riskloom, sorted_rows
from tests.planted import leaks

INGESTS = ("ingest_genomics", "ingest_clinical", "ingest_imaging")
Spoil = Callable[[Path], None]


@dataclass(frozen=True)
class Filled:
    """A raw zone and the lake that its three ingests filled."""

    raw: Path
    lake: Location

    def words(self, stage: str, raw: Path) -> list[str]:
        return [stage, "--config", "conf/demo.yaml", "--raw", str(raw), "--lake", self.lake.uri]

    def wrote(self) -> dict[str, int]:
        """The published version of every table."""
        runs = Runs.read(self.lake)
        names = {name for run in runs.successes() for name in run.wrote}
        return {name: runs.version(name) for name in names}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    folder = tmp_path_factory.mktemp("bad")
    found = Filled(folder / "raw", Location.parse(str(folder / "lake")))
    assert riskloom("simulate", "--raw", str(found.raw), "--people", "150").returncode == 0
    where = ["--raw", str(found.raw), "--lake", found.lake.uri]
    ended = riskloom("run", "conf/demo.yaml", "--to", "qc_genomes", *where)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return found


def cut_short(raw: Path) -> None:
    file = min(raw.glob("genomics/*.vcf.gz"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])


def of_fewer_samples(raw: Path) -> None:
    """Headers that name one sample fewer than the lines have."""
    for file in raw.glob("genomics/*.vcf.gz"):
        lines = gzip.decompress(file.read_bytes()).split(b"\n")
        lines = [line.rpartition(b"\t")[0] if line.startswith(b"#CHROM") else line for line in lines]
        file.write_bytes(bgzip(b"\n".join(lines)))


def without_a_column(raw: Path) -> None:
    file = raw / "clinical/persons.csv"
    file.write_text(file.read_text().replace("birth_date", "born", 1))


def without_a_header(raw: Path) -> None:
    file = raw / "clinical/persons.csv"
    file.write_text(file.read_text().partition("\n")[2])


def empty_file(raw: Path) -> None:
    (raw / "clinical/events.csv").write_bytes(b"")


def of_another_date_format(raw: Path) -> None:
    """Every row of one source is refused, and none of the other's."""
    file = raw / "clinical/events.csv"
    file.write_text(re.sub(r"(\d{4})-(\d\d)-(\d\d)", r"\3.\2.\1", file.read_text()))


def emptied(raw: Path) -> None:
    shutil.rmtree(raw / "imaging")


@pytest.mark.parametrize(
    ("stage", "spoil", "told"),
    [
        ("ingest_genomics", cut_short, "cut short"),
        ("ingest_genomics", of_fewer_samples, "columns"),
        ("ingest_clinical", without_a_column, "birth_date"),
        ("ingest_clinical", without_a_header, "person_id"),
        ("ingest_clinical", empty_file, "it is empty"),
        ("ingest_clinical", of_another_date_format, "events: none of"),
        ("ingest_imaging", emptied, "no file below"),
    ],
)
def test_a_spoilt_file_stops_the_stage_at_the_data_gate(
    filled: Filled, tmp_path: Path, stage: str, spoil: Spoil, told: str
) -> None:
    before, raw = filled.wrote(), tmp_path / "raw"
    shutil.copytree(filled.raw, raw)
    spoil(raw)
    ended = riskloom(*filled.words(stage, raw))
    assert ended.returncode == ExitCode.DATA_GATE, ended.stderr[-3000:]
    last = Runs.read(filled.lake).rows[-1]
    assert (last.job, last.status, last.exit_code, dict(last.wrote)) == (stage, "failed", 3, {})
    assert told in last.message
    assert filled.wrote() == before
    texts = {"out": ended.stdout, "log": ended.stderr, "runs": last.message}
    assert not leaks({name: text.encode() for name, text in texts.items()}, filled.raw)


def test_images_without_a_person_are_refused_one_by_one_and_counted(filled: Filled) -> None:
    refused = published(filled.lake, "quarantine/ingest_imaging")["rule"].to_pylist()
    assert refused.count("no_patient_id") == 6


def test_a_lake_that_cannot_be_written_is_the_clusters_fault(filled: Filled, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    elsewhere = Filled(filled.raw, Location.parse(str(tmp_path / "file/lake")))
    ended = riskloom(*elsewhere.words("ingest_clinical", filled.raw), "--set", "identity.key_uri=" + key(filled))
    assert ended.returncode == ExitCode.CLUSTER
    assert "cannot write to" in ended.stderr


def key(filled: Filled) -> str:
    return f"{filled.lake.path}.keys/identity.key"


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("tasks.t2d.outcome.code=DIAGNOSIS//T2", "no event has the code DIAGNOSIS//T2; there are DIAGNOSIS//T2D"),
        ("tasks.t2d.outcome.horizon_days=1", "both kinds are needed"),
    ],
)
def test_an_outcome_that_nobody_has_stops_before_a_model_is_made_of_it(
    filled: Filled, setting: str, told: str
) -> None:
    ended = riskloom(*filled.words("build_features", filled.raw), "--set", setting)
    assert ended.returncode == ExitCode.DATA_GATE, ended.stderr[-3000:]
    assert told in ended.stderr


def test_ctrl_c_in_a_stage_of_spark_ends_it_as_stopped(filled: Filled, tmp_path: Path) -> None:
    """A terminal sends SIGINT to the whole group of processes, Java and Spark's workers too."""
    lake = tmp_path / "lake"
    words = Filled(filled.raw, Location.parse(str(lake))).words("ingest_clinical", filled.raw)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [RISKLOOM, *words],
            env=bare_environment(),
            cwd=REPOSITORY,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while not any(child.name() == "java" for child in psutil.Process(process.pid).children(recursive=True)):
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(3)  # into Spark's work
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == ExitCode.CLUSTER
    text = (tmp_path / "log").read_text()
    assert "stopped by the user; nothing was published" in text
    assert "Traceback" not in text and "bug" not in text


def test_a_stage_killed_between_its_tables_leaves_the_published_ones_and_runs_again(
    filled: Filled, tmp_path: Path
) -> None:
    before, raw, lake = filled.wrote(), tmp_path / "raw", filled.lake
    shutil.copytree(filled.raw, raw)
    shutil.rmtree(min(raw.glob("imaging/*")))  # something new
    process = subprocess.Popen(
        [RISKLOOM, *filled.words("ingest_imaging", raw)],
        env=bare_environment(),
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while newest_version(lake, "series") == before["series"]:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert filled.wrote() == before
    assert riskloom(*filled.words("ingest_imaging", raw)).returncode == 0
    fresh = Filled(raw, Location.parse(str(tmp_path / "lake")))
    assert (
        riskloom(*fresh.words("ingest_imaging", raw), "--set", "identity.key_uri=" + key(filled)).returncode == 0
    )
    for table in ("series", "images", "quarantine/ingest_imaging"):
        mended, whole = (sorted_rows(published(where, table)) for where in (lake, fresh.lake))
        assert mended == whole, table


def test_the_number_of_a_line_is_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        fail(ConfigError("conf/demo.yaml:100: tasks: unknown key"))
    assert "conf/demo.yaml:100: tasks" in capsys.readouterr().err
