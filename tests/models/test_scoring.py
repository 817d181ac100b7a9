"""Scoring: everybody gets exactly one row, and the same one again."""

from datetime import UTC, date, datetime

import keras
import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from features.contract.errors import ModelGateError
from features.contract.schemas import PREDICTIONS, population
from features.lake import read_table
from models import registry
from models.evaluate.calibration import Calibrator, logit_of_risk
from models.evaluate.results import Metrics
from models.explain.reasons import explainer, reason_names, top_reasons
from models.feed.arrays import inputs
from models.registry import BundleSettings, ensure_signing_key, open_bundle, write_bundle
from models.scoring import score_population
from models.zoo.multimodal import build_network

MODALITIES = ["clinical", "genomics", "imaging"]
KINDS = {"clinical": pa.list_(pa.float32()), "genomics": pa.list_(pa.float32()), "imaging": pa.binary()}
SCORED_AT = datetime(2024, 1, 2, tzinfo=UTC)


@pytest.fixture
def network(little_manifest, little_study, lake):
    keras.utils.set_random_seed(1)
    made = build_network(little_manifest("survival"), little_study(lake.uri).tasks[0].model, MODALITIES)
    random = np.random.default_rng(1)
    made.set_weights([weights + random.normal(0, 0.3, weights.shape) for weights in made.get_weights()])
    return made


@pytest.fixture
def bundle(lake, little_manifest, little_study, network, tmp_path):
    settings, manifest = little_study(lake.uri), little_manifest("survival")
    network.save_weights(tmp_path / "a.weights.h5")
    about = BundleSettings(
        task=settings.tasks[0],
        modalities=MODALITIES,
        statistics_key="train",
        training_version=0,
        manifest_digest="0",
        risk_quantiles=[0.0, 1.0],
    )
    metrics = Metrics(
        task="little", outcome="diabetes", kind="survival", horizon_days=365, modalities=MODALITIES,
        evaluations=[], notes=[],
    )  # fmt: skip
    x = np.random.default_rng(0).normal(size=100)
    files = {
        registry.ARCHITECTURE: network.to_json().encode(),
        registry.WEIGHTS: (tmp_path / "a.weights.h5").read_bytes(),
        registry.CALIBRATOR: Calibrator.fit(x, x > 0.5).model_dump_json().encode(),
        registry.MANIFEST: manifest.to_bytes(),
        registry.SETTINGS: about.model_dump_json().encode(),
        registry.METRICS: metrics.model_dump_json().encode(),
        registry.HISTORY: b"{}",
        registry.EVALUATION: b"",
    }
    ensure_signing_key(settings.signing, settings.trust)
    return write_bundle(lake, "little", files, settings.signing)


@pytest.fixture
def people(lake, little_people):
    """30 people: 0 to 3 ineligible, then one each with a short vector, an infinite value, nothing, and
    a value beyond all floats once it is standardised."""
    columns, _ = little_people(30)
    clinical = columns["x_clinical"].to_pylist()
    clinical[4], clinical[5] = [1.0], [float("inf"), 40.0]
    genomics = columns["x_genomics"].to_pylist()
    genomics[7] = [3.3e38]
    has = {f"has_{modality}": list(columns[f"has_{modality}"]) for modality in MODALITIES}
    for modality in MODALITIES:
        has[f"has_{modality}"][6] = False
    has["has_genomics"][7] = True
    columns |= {name: [bool(value) for value in values] for name, values in has.items()}
    columns["x_clinical"] = pa.array(clinical, KINDS["clinical"])
    columns["x_genomics"] = pa.array(genomics, KINDS["genomics"])
    columns["as_of"] = [date(2024, 1, 1)] * 30
    columns["ineligible_reason"] = ["outcome before the index"] * 4 + [None] * 26
    table = pa.table({n: columns[n] for n in population("little", KINDS).schema.names})
    table = table.cast(pa.schema([f.with_nullable(True) for f in population("little", KINDS).schema]))
    write_deltalake(f"{lake.uri}/population/little", table)
    return table


def scored(spark, lake, little_study, runs, bundle):
    settings = little_study(lake.uri)
    people = read_table(spark, lake, runs, "population/little")
    frame = score_population(people, lake, runs, settings, settings.tasks[0], "run-1", SCORED_AT, bundle)
    return frame.toPandas().sort_values("person_key", ignore_index=True)


def test_everybody_is_scored_ineligible_or_refused(
    spark, lake, little_manifest, little_study, publish, bundle, people, network
):
    runs = publish(lake, "population/little", little_manifest("survival"))
    rows = scored(spark, lake, little_study, runs, bundle)
    assert list(rows.columns) == PREDICTIONS.schema.names
    assert rows.person_key.tolist() == people["person_key"].to_pylist()
    assert rows.status.value_counts().to_dict() == {"scored": 22, "ineligible": 4, "refused": 4}
    reasons = rows.reason[4:8].tolist()
    assert reasons == [
        "clinical: not of the expected length 2",
        "clinical: an infinite value",
        "no modality is present",
        "the network gives no finite risk",
    ]
    done = rows[rows.status == "scored"]
    assert ((done.risk_low <= done.risk) & (done.risk <= done.risk_high) & done.risk.between(0, 1)).all()
    assert rows[rows.status != "scored"].risk.isna().all()
    assert (done.band == np.select([done.risk >= 0.3, done.risk >= 0.1], ["high", "medium"], "low")).all()
    assert done.top_reasons.map(len).max() == 3
    assert (rows.model_version == bundle).all()

    settings, manifest = little_study(lake.uri), little_manifest("survival")
    usable = people.take(done.index.to_numpy())
    logits = network(inputs(usable, manifest, manifest.statistics["train"], MODALITIES))
    calibrator = open_bundle(lake, "little", bundle, settings.trust).calibrator
    assert done.risk.to_numpy() == pytest.approx(calibrator.risk(logit_of_risk(logits)), abs=1e-5)

    again = scored(spark, lake, little_study, runs, bundle)
    assert again.astype(str).equals(rows.astype(str))


def test_a_bundle_of_another_vocabulary_is_refused(
    spark, lake, little_manifest, little_study, publish, bundle, people
):
    other = {"clinical": ["hba1c_last", "age"], "genomics": ["rs1"]}
    runs = publish(lake, "population/little", little_manifest("survival", vocabulary=other))
    with pytest.raises(ModelGateError, match="other columns"):
        scored(spark, lake, little_study, runs, bundle)


def test_a_bundle_of_another_own_score_is_refused(
    spark, lake, little_manifest, little_study, publish, bundle, people
):
    """The column is called the same, and other variants weigh in it."""
    runs = publish(lake, "population/little", little_manifest("survival", own_score="f" * 64))
    with pytest.raises(ModelGateError, match="other weights of its own polygenic score"):
        scored(spark, lake, little_study, runs, bundle)


def test_reasons_name_what_moved_the_logit(network, little_manifest, little_people):
    manifest = little_manifest("survival")
    columns, _ = little_people(20)
    x = inputs(pa.table(columns), manifest, manifest.statistics["train"], MODALITIES)
    hazards, contributions = (a.numpy() for a in explainer(network, manifest, MODALITIES)(x))
    names = reason_names(manifest, MODALITIES)
    assert contributions.shape == (20, len(names))
    absent = x["has_imaging"][:, 0] == 0
    assert (contributions[absent, names.index("imaging")] == 0).all()
    nudged = {**x, "clinical": x["clinical"] * np.array([1.001, 1, 1, 1], np.float32)}
    moved = (logit_of_risk(network(nudged)) - logit_of_risk(hazards)) / 0.001
    assert moved == pytest.approx(contributions[:, names.index("clinical:age")], abs=0.02)
    first = top_reasons(contributions, names, 2)[0]
    strongest = np.argmax(np.abs(contributions[0]))
    assert first[0] == f"{names[strongest]} ({contributions[0, strongest]:+.2f})"
