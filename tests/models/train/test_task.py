"""From a published training table to a bundle; the ranks are played by a formula."""

import json

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.contract.errors import ConfigError, TrainingError
from features.contract.manifest import PLAN_SCHEMA
from features.contract.paths import Location
from models import registry
from models.feed.arrays import inputs
from models.registry import open_bundle
from models.train import task as task_module
from models.train.people import read_part
from models.train.task import train_task
from models.zoo.multimodal import build_network

FOLDS = 3


@pytest.fixture
def table(lake, little_manifest, little_people, publish):
    """Writes `training/little` with a row group per split and fold; gives its Runs."""

    def write(kind):
        plan = []
        for i, (split, fold) in enumerate(
            [*(("train", k) for k in range(FOLDS)), ("tuning", 0), ("held_out", -1)]
        ):
            columns, signal = little_people(90, seed=i)
            columns |= {"split": [split] * 90, "fold": pa.array([fold] * 90, pa.int32())}
            columns |= outcome(kind, signal, np.random.default_rng(i))
            columns["weight"] = pa.array([1.0] * 90, pa.float32())
            path = Location(f"{lake.uri}/training/little/{split}-{i}.parquet")
            path.filesystem.makedirs(path.path.rpartition("/")[0], exist_ok=True)
            pq.write_table(pa.table(columns), path.path)
            plan.append({"file": f"{split}-{i}.parquet", "row_group": 0, "rows": 90, "bytes": 1})
            plan[-1] |= {"split": split, "fold": fold}
        return publish(
            lake, "training/little", little_manifest(kind), pa.Table.from_pylist(plan, schema=PLAN_SCHEMA)
        )

    return write


def outcome(kind, signal, random):
    if kind == "binary":
        return {"y_diabetes": (signal + random.normal(0, 0.7, len(signal)) > 0.3).astype(np.int8)}
    times, follow_up = random.exponential(600 * np.exp(-1.5 * signal)), random.uniform(100, 900, len(signal))
    return {"y_diabetes_time": np.minimum(times, follow_up), "y_diabetes_event": times < follow_up}


def play_ranks(job, settings, spark=None, lost=0):
    """Two ranks whose network is right about age; the modalities without age know nothing."""
    for fit in job.fits:
        network = build_network(job.manifest, fit.model, fit.modalities)
        folder = Location(job.work_uri) / fit.name
        weights = folder / registry.WEIGHTS
        (folder / registry.ARCHITECTURE).write_bytes(network.to_json().encode())
        (folder / registry.HISTORY).write_bytes(json.dumps([{"epoch": 0, "loss": 1.0}]).encode())
        network.save_weights(weights.path)
        for split, parts in fit.evaluate.items():
            predict(folder, split, parts, fit, job.manifest, lost)


def predict(folder, split, parts, fit, manifest, lost):
    tables = [read_part(part, None) for part in parts]
    people = pa.concat_tables(tables).slice(lost)
    arrays = inputs(people, manifest, manifest.statistics[fit.statistics_key], fit.modalities)
    age = arrays["clinical"][:, 0] if "clinical" in arrays else np.zeros(len(people))
    logits = np.repeat(2 * age[:, None] - 1, len(manifest.edges), 1).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(people))
    for rank in range(2):
        rows = order[rank::2]
        found = pa.table({"person_key": people["person_key"].take(rows), "logits": logits[rows].tolist()})
        target = folder / f"predictions/{split}-{rank}.parquet"
        sink = pa.BufferOutputStream()
        pq.write_table(found, sink)
        target.write_bytes(bytes(sink.getvalue()))


@pytest.fixture
def launched(monkeypatch):
    jobs = []

    def launch(job, settings, spark=None):
        jobs.append(job)
        play_ranks(job, settings)

    monkeypatch.setattr(task_module, "launch", launch)
    return jobs


@pytest.mark.parametrize("kind", ["binary", "survival"])
def test_a_task_becomes_a_bundle_with_a_judged_model(lake, little_study, table, launched, tmp_path, kind):
    settings = little_study(lake.uri, model={"single_modality": True}, split={"folds": FOLDS})
    trained = train_task(
        lake, table(kind), settings, settings.task("little"), Location.parse(str(tmp_path / "work"))
    )
    assert len(launched) == 1
    names = {fit.name for fit in launched[0].fits}
    folds = {f"fold_{k}" for k in range(FOLDS)}
    assert names == {"final", *folds, "only_clinical", "only_genomics", "only_imaging"}
    bundle = open_bundle(lake, "little", trained.digest, settings.trust)
    assert isinstance(bundle.network(), keras.Model)
    assert bundle.metrics == trained.metrics
    assert len(bundle.settings.risk_quantiles) == 101

    held_out, crossed = (bundle.metrics.evaluation(name) for name in ("held_out", "cross_validation"))
    assert (held_out.n, crossed.n) == (90, 360)
    primary = "auroc" if kind == "binary" else "c_index"
    for evaluation in (held_out, crossed):
        found = evaluation.predictor("model").metrics[primary]
        assert 0.7 < found.low < found.value < found.high <= 1
        assert evaluation.predictor("baseline_clinical").metrics[primary].value > 0.65
        assert evaluation.best_baseline in {"logistic", "cox", "gradient_boosting"}
        assert {difference.against for difference in evaluation.differences} >= {evaluation.best_baseline}
    assert held_out.predictor("only_imaging").metrics[primary].value == pytest.approx(0.5)


def test_the_evaluation_rows_hold_each_judged_person_once(lake, little_study, table, launched, tmp_path):
    settings = little_study(lake.uri, split={"folds": FOLDS})
    runs = table("survival")
    trained = train_task(lake, runs, settings, settings.task("little"), Location.parse(str(tmp_path / "work")))
    bundle = open_bundle(lake, "little", trained.digest, settings.trust)
    rows = pq.read_table(pa.BufferReader(bundle.files[registry.EVALUATION])).to_pandas()
    assert rows.groupby("evaluation").person_key.agg(["size", "nunique"]).to_dict("list") == {
        "size": [360, 90],
        "nunique": [360, 90],
    }
    assert rows[["risk_model", "risk_cox", "risk_gradient_boosting"]].notna().all().all()
    assert {"y_diabetes_time", "y_diabetes_event", "fold", "round"} <= set(rows.columns)


def test_nobody_is_trained_and_judged_in_the_same_round(lake, little_study, table, launched, tmp_path):
    settings = little_study(lake.uri, split={"folds": FOLDS})
    runs = table("binary")
    train_task(lake, runs, settings, settings.task("little"), Location.parse(str(tmp_path / "work")))
    for fit in launched[0].fits:
        uses = [{part.uri for part in parts} for parts in (fit.train, fit.tuning, fit.evaluate["held_out"])]
        assert not (uses[0] & uses[1] or uses[0] & uses[2] or uses[1] & uses[2])
        if fit.name.startswith("fold"):
            assert not any("held_out-" in uri for uri in set.union(*uses))


def test_a_lost_row_is_a_training_error(lake, little_study, table, monkeypatch, tmp_path):
    monkeypatch.setattr(task_module, "launch", lambda *a: play_ranks(*a, lost=1))
    settings = little_study(lake.uri)
    runs = table("binary")
    with pytest.raises(TrainingError, match="expected one each"):
        train_task(lake, runs, settings, settings.task("little"), Location.parse(str(tmp_path / "work")))


def test_a_split_in_which_nobody_fell_to_the_held_out_is_refused_before_the_launch(
    lake, little_study, table, launched, tmp_path, monkeypatch
):
    settings = little_study(lake.uri)
    runs = table("binary")
    real = task_module.read_plan
    keep = lambda t: t.filter(pa.compute.not_equal(t["split"], "held_out"))  # noqa: E731
    monkeypatch.setattr(task_module, "read_plan", lambda *a: keep(real(*a)))
    with pytest.raises(ConfigError, match="split"):
        train_task(lake, runs, settings, settings.task("little"), Location.parse(str(tmp_path / "work")))
    assert not launched
