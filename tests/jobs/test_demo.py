"""The whole way on the simulated raw zone: what a newcomer's first command does."""

import json
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from features.contract.errors import ExitCode
from features.contract.paths import Location
from features.contract.runs import Runs
from features.simulation.raw_zone import Truth, load_truth
from jobs.cli.recovered import dirt_found
from tests.command import REPOSITORY, RISKLOOM, bare_environment, options, published, riskloom
from tests.planted import leaks, readable

SMALL = options(
    "--set",
    "tasks.0.model.epochs=3",
    "tasks.0.model.single_modality=false",
    "genomics.relatives.minimum_kinship=0.1",
    "genomics.relatives.minimum_variants=300",
    "genomics.ancestry.components=2",
    "genomics.ancestry.most_r2=0.5",
)


@dataclass(frozen=True)
class Demo:
    """A finished run of 600 people: its folder, and all that it printed."""

    folder: Path
    output: str
    log: str

    def riskloom(self, *words: str) -> subprocess.CompletedProcess[str]:
        """With the folder's raw zone and lake."""
        return riskloom(*words, "--raw", str(self.folder / "raw"), "--lake", self.lake.uri)

    @property
    def lake(self) -> Location:
        return Location.parse(str(self.folder / "lake"))

    def table(self, name: str) -> pa.Table:
        return published(self.lake, name)

    @property
    def truth(self) -> Truth:
        found = load_truth(Location.parse(str(self.folder / "raw")))
        assert found is not None
        return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    simulated = riskloom("simulate", "--raw", str(folder / "raw"), "--people", "600")
    assert simulated.returncode == 0, simulated.stderr
    ended = Demo(folder, "", "").riskloom("run", "conf/demo.yaml", *SMALL)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return Demo(folder, ended.stdout, ended.stderr)


def test_each_stage_prints_one_line_of_json(demo: Demo) -> None:
    summaries = [json.loads(line) for line in demo.output.splitlines()]
    assert [summary["job"] for summary in summaries] == [
        "ingest_genomics",
        "ingest_clinical",
        "ingest_imaging",
        "qc_genomes",
        "relate_genomes",
        "infer_ancestry",
        "score_genomes",
        "build_features",
        "train_model",
        "score_population",
        "report",
    ]
    assert {summary["status"] for summary in summaries} == {"succeeded"}


@pytest.mark.parametrize("job", ["ingest_genomics", "ingest_clinical", "ingest_imaging"])
def test_the_dirt_found_is_the_dirt_planted(demo: Demo, job: str) -> None:
    assert dirt_found(Runs.read(demo.lake), job) == demo.truth.planted[job]


def test_everybody_has_a_prediction_or_a_reason(demo: Demo) -> None:
    predictions, persons = demo.table("predictions"), demo.table("persons")
    assert sorted(predictions["person_key"].to_pylist()) == sorted(persons["person_key"].to_pylist())
    scored = predictions.filter(pc.equal(predictions["status"], "scored"))
    others = predictions.filter(pc.not_equal(predictions["status"], "scored"))
    assert scored.num_rows > 300
    assert scored["risk"].null_count == 0
    assert others["reason"].null_count == 0


def test_a_person_without_an_image_is_still_scored(demo: Demo) -> None:
    population, predictions = (
        demo.table("population/t2d"),
        demo.table("predictions").select(["person_key", "status"]),
    )
    joined = predictions.join(population.select(["person_key", "has_imaging"]), "person_key")
    without = joined.filter(pc.and_(pc.invert(joined["has_imaging"]), pc.equal(joined["status"], "scored")))
    assert without.num_rows > 20


def test_nothing_printed_or_published_names_a_person(demo: Demo) -> None:
    texts = {"output": demo.output.encode(), "log": demo.log.encode()}
    files = [file for file in (demo.folder / "lake").rglob("*") if file.is_file()]
    texts |= {str(file): readable(file) for file in files}
    assert len(texts) > 50
    assert not leaks(texts, demo.folder / "raw")
    assert not [file for file in files if "rlm" in file.name.lower()]


def test_a_second_run_writes_nothing_and_starts_no_spark(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    before = versions(demo)
    monkeypatch.setenv("PATH", "/nonexistent")  # Spark could not find a Java to start
    again = demo.riskloom("run", "conf/demo.yaml", *SMALL)
    assert again.returncode == 0
    assert {json.loads(line)["status"] for line in again.stdout.splitlines()} == {"nothing new"}
    assert versions(demo) == before


def versions(demo: Demo) -> dict[str, int]:
    logs = (demo.folder / "lake").rglob("_delta_log")
    return {str(log.parent): len(list(log.glob("*.json"))) for log in logs}


def test_a_dry_run_says_what_would_run_and_runs_nothing(demo: Demo) -> None:
    before = versions(demo)
    planned = demo.riskloom("run", "conf/demo.yaml", *SMALL, "--dry-run", "--set", "clinical.latest=2023-12-30")
    assert planned.returncode == 0
    would = {
        line.split("│")[1].strip(): line.split("│")[2].strip()
        for line in planned.stdout.splitlines()
        if "│" in line
    }
    assert (would["ingest_clinical"], would["ingest_imaging"]) == ("run", "nothing new")
    assert {would[stage] for stage in ("build_features", "score_population", "report")} == {
        "run, if input changes"
    }
    assert versions(demo) == before


@pytest.mark.parametrize("lake", ["lake", "another"])
def test_a_dry_run_that_foresees_a_failure_fails_with_its_code(demo: Demo, tmp_path: Path, lake: str) -> None:
    where = ["--raw", str(tmp_path), "--lake", str(demo.folder / lake)]
    planned = riskloom("run", "conf/demo.yaml", *where, "--dry-run")
    assert planned.returncode == ExitCode.DATA_GATE
    assert "fail: raw: no file" in " ".join(planned.stdout.split())
    assert not (demo.folder / "another").exists()


@pytest.mark.parametrize("words", [["run", "conf/demo.yaml", "--dry-run"], ["doctor"]])
def test_a_lake_that_is_away_is_told(words: list[str]) -> None:
    asked = riskloom(*words, "--lake", "hdfs://127.0.0.1:1/lake")
    assert asked.returncode == ExitCode.CLUSTER
    assert "Traceback" not in asked.stderr and "cannot read" in asked.stdout + asked.stderr


def test_a_prediction_is_traced_to_its_raw_files(demo: Demo) -> None:
    scored = next(row for row in demo.table("predictions").to_pylist() if row["status"] == "scored")
    traced = riskloom("trace", scored["person_key"], "--lake", demo.lake.uri)
    assert traced.returncode == 0, traced.stderr
    for name in ("bundle models/t2d", "training/t2d", "genotypes", "events", "images", "raw file"):
        assert name in traced.stdout
    raw_file = re.search("raw file ([0-9a-f]{64})", traced.stdout)
    assert raw_file is not None
    digest = raw_file.group(1)
    resolved = demo.riskloom("trace", digest, "--config", "conf/demo.yaml")
    assert resolved.stdout.strip().startswith(f"file://{demo.folder}/raw/")


def test_the_holder_of_the_key_traces_a_person_by_their_id(demo: Demo) -> None:
    risks = pq.read_table(demo.folder / "truth/risk.parquet")
    keyed = ["--person", "--config", "conf/demo.yaml", "--lake", demo.lake.uri]
    traced = riskloom("trace", risks["source_id"][0].as_py().lower(), *keyed)
    assert traced.returncode == 0, traced.stderr
    key = re.search("person ([0-9a-f]{64})", traced.stdout)
    assert key is not None and key[1] in demo.table("predictions")["person_key"].to_pylist()
    assert f"person_key {key[1]}\n" in traced.stderr
    assert riskloom("trace", key[1][:16], "--lake", demo.lake.uri).stdout == traced.stdout
    assert riskloom("trace", "", "--lake", demo.lake.uri).returncode == ExitCode.DATA_GATE
    assert riskloom("trace", "nobody", *keyed).returncode == ExitCode.CONFIG


def test_show_prints_rows_version_publisher_and_a_sample(demo: Demo) -> None:
    shown = riskloom("show", "training/t2d", "--lake", demo.lake.uri)
    assert shown.returncode == 0
    assert f"{demo.table('training/t2d').num_rows:,} rows" in shown.stdout
    assert "published by build_features run" in shown.stdout
    record = riskloom("show", "runs", "--rows", "1", "--lake", demo.lake.uri).stdout.splitlines()
    assert any(line.startswith("config_digest  ") for line in record)
    bundle = riskloom("show", "models/t2d", "--lake", demo.lake.uri)
    assert bundle.returncode == ExitCode.CONFIG
    assert f"models/t2d/{published_bundle(demo)}" in bundle.stderr
    missing = riskloom("show", "nowhere", "--lake", demo.lake.uri)
    assert missing.returncode == ExitCode.DATA_GATE


def test_recovered_prints_the_truth_beside_the_model(demo: Demo) -> None:
    printed = demo.riskloom("recovered", "conf/demo.yaml")
    assert printed.returncode == 0, printed.stderr
    assert "true risk" in printed.stderr and "held-out people" in printed.stderr


def test_a_training_killed_outright_goes_on_where_it_was(demo: Demo) -> None:
    words = [
        "train_model",
        "--config",
        "conf/demo.yaml",
        "--raw",
        str(demo.folder / "raw"),
        "--lake",
        demo.lake.uri,
    ]
    words += options("--set", "tasks.0.model.epochs=60", "tasks.0.model.patience=60", "tasks.0.model.seed=5")
    words += options("--set", "tasks.0.model.single_modality=false", "launch.checkpoint_seconds=0")
    before, checkpoint = published_bundle(demo), demo.folder / "lake/_work/t2d/final/checkpoint.npz"
    training = subprocess.Popen([RISKLOOM, *words], env=bare_environment(), cwd=REPOSITORY)
    while not checkpoint.exists():
        assert training.poll() is None
        time.sleep(0.1)
    training.kill()
    training.wait()
    assert published_bundle(demo) == before
    again = riskloom(*words)
    assert again.returncode == 0, again.stderr[-3000:]
    assert published_bundle(demo) != before
    assert not (demo.folder / "lake/_work/t2d").exists()
    history = json.loads((demo.folder / f"lake/models/t2d/{published_bundle(demo)}/history.json").read_bytes())
    rows = pc.sum(pc.equal(demo.table("training/t2d")["split"], "train")).as_py()
    assert [entry["rows"] for entry in history["final"]] == [rows] * 60


def published_bundle(demo: Demo) -> str | None:
    return Runs.read(demo.lake).published("models/t2d")


def test_a_tampered_bundle_is_refused_and_nothing_is_scored(demo: Demo) -> None:
    """Last in this file: it spoils the bundle and mends it again."""
    weights = demo.folder / f"lake/models/t2d/{published_bundle(demo)}/model.weights.h5"
    original, before = weights.read_bytes(), demo.table("predictions").num_rows
    try:
        weights.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
        scoring = demo.riskloom(
            "score_population", "--config", "conf/demo.yaml", *SMALL, "--set", "tasks.0.scoring.reasons=1"
        )
    finally:
        weights.write_bytes(original)
    assert scoring.returncode == ExitCode.MODEL_GATE, scoring.stderr
    assert "SHA-256" in scoring.stderr
    assert demo.table("predictions").num_rows == before
