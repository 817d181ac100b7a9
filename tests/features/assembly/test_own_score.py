"""A task's own polygenic score: made of the outcomes in train alone, and a feature of everyone with a genome."""

import hashlib
from collections.abc import Callable, Iterator, Set
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from pyspark.sql import DataFrame, SparkSession

from features.assembly import build_features, own_score
from features.assembly.inputs import EVERY_SAMPLE, Inputs
from features.assembly.study import Study
from features.contract.manifest import own_score_path, read_manifest
from features.contract.paths import Location
from features.contract.runs import Run, Runs, append_run, open_delta
from features.contract.schemas import (
    ANCESTRY,
    EVENTS,
    FAMILIES,
    GENOTYPES,
    OBSERVATION_PERIODS,
    PERSONS,
    SAMPLES,
    VARIANTS,
)
from features.contract.settings import Settings
from features.genomics.polygenic import own
from features.lake import Written
from tests.features.assembly.rows import INDEX, event, frame, key, pack, period, person, write

PEOPLE = [f"p{i:03d}" for i in range(300)]
GENOMES = PEOPLE[:250]
SEXES = ("male", "female", "female")
SETTINGS: dict[str, Any] = {
    "name": "tests",
    "raw": "file:///raw",
    "lake": "file:///lake",
    "identity": {"namespace": "tests"},
    "clinical": {"sources": [], "latest": "2030-01-01"},
    "genomics": {"paths": [], "build": "GRCh38"},
    "tasks": [
        {
            "name": "risk",
            "cohort": {"index_date": "2020-01-01"},
            "outcome": {"name": "ill", "kind": "binary", "code": "ILL", "horizon_days": 100},
            "features": {"genomics": {"variants": ["rs1"], "own_score": {"largest_p": 1}}},
            "split": {"held_out": 0.3, "tuning": 0.2},
            "scoring": {"as_of": "2020-01-02"},
        }
    ],
}
Made = tuple[Written, bytes, pd.DataFrame]


@pytest.fixture(scope="module")
def two_parts() -> Iterator[None]:
    """Three fits instead of six."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own, "PARTS", 2)
        patch.setattr(own_score, "PARTS", 2)
        yield


@pytest.fixture(scope="module")
def make(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, two_parts: None
) -> Callable[[Set[str]], Made]:
    """What is written, the weights and the training table, of a lake where the outcome of some keys is turned."""

    def build(turned: Set[str]) -> Made:
        lake = Location.parse(str(tmp_path_factory.mktemp("own") / "lake"))
        rng = np.random.default_rng(5)
        ill = {name: (rng.random() < 0.4) != (key(name) in turned) for name in PEOPLE}
        calls = rng.choice(4, (4, len(GENOMES)), p=[0.5, 0.3, 0.15, 0.05])
        keys = [f"GRCh38:{n}:100:A:C" for n in range(1, 5)]
        called = zip(keys, calls, strict=True)
        alleles = {"build": "GRCh38", "position": 100, "ref": "A", "alt": "C"}
        variants = [
            {"variant_key": k, "contig": str(n), "rsid": f"rs{n}", "allele_frequency": 0.3, "mean_excess": 0.15}
            for n, k in enumerate(keys, start=1)
        ]
        samples = [
            {"sample_block": "b", "sample_index": i, "person_key": key(name), "sex": "unknown"}
            for i, name in enumerate(GENOMES)
        ]
        tables = [
            (
                PERSONS,
                [
                    person(n, date(1950 + i % 50, 1, 1), "male" if i % 3 else "female")
                    for i, n in enumerate(PEOPLE)
                ],
            ),
            (OBSERVATION_PERIODS, [period(n, -900, 400) for n in PEOPLE]),
            (EVENTS, [event(n, 50, "ILL") for n in PEOPLE if ill[n]]),
            (VARIANTS, [row | alleles for row in variants]),
            (GENOTYPES, [{"variant_key": k, "sample_block": "b", "calls": pack(c)} for k, c in called]),
            (SAMPLES, samples),
        ]
        publish(lake, {table.path: write(lake, table, rows) for table, rows in tables}, {})
        written = build_features(spark, lake, Runs.read(lake), Settings.model_validate(SETTINGS))
        runs = publish(lake, written.tables, written.digests)
        assert read_manifest(lake, runs, "training/risk")[0].vocabulary == {"genomics": ["rs1", "own_score"]}
        weights = (lake / own_score_path("training/risk", written.tables["training/risk"])).read_bytes()
        return written, weights, rows_of(lake, "training/risk")

    return build


@pytest.fixture(scope="module")
def made(make: Callable[[Set[str]], Made]) -> Made:
    return make(set())


def publish(lake: Location, tables: dict[str, int], digests: dict[str, str]) -> Runs:
    now = datetime.now(UTC)
    wrote = {name: str(version) for name, version in tables.items()}
    append_run(lake, Run(f"r{now.timestamp()}", "test", now, "", "", "", wrote=wrote, digests=digests))
    return Runs.read(lake)


def rows_of(lake: Location, table: str) -> pd.DataFrame:
    found = open_delta(lake, table)
    assert found is not None
    rows = found.to_pyarrow_table().to_pandas().set_index("person_key").sort_index()
    return rows.assign(x_genomics=[np.array(x, np.float32).tobytes() for x in rows["x_genomics"]])


def test_everyone_with_a_genome_has_a_score_and_its_weights_are_beside_the_table(made: Made) -> None:
    written, weights, rows = made
    version = written.tables["training/risk"]
    assert written.digests[own_score_path("training/risk", version)] == hashlib.sha256(weights).hexdigest()
    scores = np.frombuffer(b"".join(rows[rows["has_genomics"]]["x_genomics"]), np.float32)[1::2]
    assert np.isfinite(scores).all() and scores.std() > 0
    assert set(rows.index[rows["has_genomics"]]) == set(map(key, GENOMES)) & set(rows.index)


def test_only_outcomes_in_train_make_the_score(made: Made, make: Callable[[Set[str]], Made]) -> None:
    _, weights, rows = made
    others = set(rows.index[rows["split"] != "train"])
    assert len(others) > 100
    _, same, after = make(others)
    assert same == weights
    assert after["x_genomics"].equals(rows["x_genomics"])
    assert (after["y_ill"] != rows["y_ill"]).sum() == len(others)
    _, other, _ = make(set(rows.index[rows["split"] == "train"][:40]))
    assert other != weights


@pytest.mark.parametrize(
    ("section", "change", "told"),
    [
        ("outcome", {"kind": "survival"}, "own_score: it is made of a binary outcome"),
        ("split", {"folds": 3}, "own_score: it is made of everyone in train"),
    ],
)
def test_where_it_would_mislead_there_is_none(section: str, change: dict[str, Any], told: str) -> None:
    task = SETTINGS["tasks"][0]
    with pytest.raises(ValidationError, match=told):
        Settings.model_validate(SETTINGS | {"tasks": [task | {section: task[section] | change}]})


def test_families_are_of_one_part_and_genes_of_the_outcome_have_none(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is handed on: a gene that defines the outcome must not leak into it, nor a sibling's outcome."""
    task = SETTINGS["tasks"][0] | {"split": {"relatives_together": True}}
    task["outcome"] = {"name": "ill", "kind": "binary", "genes": ["TP53"], "horizon_days": 100}
    genomics = {
        "paths": [],
        "build": "GRCh38",
        "gene_field": "GENE",
        "relatives": {},
        "ancestry": {},
    }
    settings = Settings.model_validate(SETTINGS | {"genomics": genomics, "tasks": [task]})
    people = PEOPLE[:60]
    of_three = [(n, people[i // 3 * 3]) for i, n in enumerate(people)]
    kin = [{"person_key": key(n), "family": key(first), "unrelated": False} for n, first in of_three]
    placed = [{"person_key": key(n), "components": [1.0, 2.0], "reference": False} for n in people[1:]]
    variants = [{"variant_key": gene or "none", "gene": gene} for gene in ("TP53", "EGFR", None)]
    described = [person(n, None if n == people[2] else date(1950, 1, 1)) for n in people]
    frames = {
        "persons": frame(spark, PERSONS, described),
        "variants": frame(spark, VARIANTS, variants),
        "genotypes": frame(spark, GENOTYPES, []),
        "samples": frame(spark, SAMPLES, []),
        EVERY_SAMPLE: frame(spark, SAMPLES, [{"sample_block": "b", "sample_index": 0, "sex": "unknown"}]),
        "families": frame(spark, FAMILIES, kin),
        "ancestry": frame(spark, ANCESTRY, placed),
    }
    given = {}

    def fits(training: DataFrame, genomes: own.Genomes, _: object) -> own.OwnScores:
        given["people"] = training.toPandas().set_index("person_key")
        given["variants"] = {row["variant_key"] for row in genomes.variants.collect()}
        return own.OwnScores(spark.range(1).toDF("total"), own.WEIGHTS.empty_table())

    monkeypatch.setattr(own_score, "own_scores", fits)
    rows = [(key(n), INDEX, "held_out" if n == people[5] else "train", 1) for n in people]
    cohort = spark.createDataFrame(rows, "person_key string, index_time timestamp, split string, y_ill int")
    lake, inputs = Location("file:///lake"), Inputs(frames, {})
    study = Study(spark, lake, settings, settings.task("risk"), inputs, lambda frame: frame)
    own_score.with_own_score(study, cohort)
    assert given["variants"] == {"EGFR", "none"}
    found = given["people"]
    assert set(found.index) == {key(n) for n in people if n != people[5]}
    parts = [{found.loc[key(n), "part"] for n in people[i : i + 3] if n != people[5]} for i in range(0, 60, 3)]
    assert all(len(part) == 1 for part in parts) and len(set.union(*parts)) == own_score.PARTS
    known = found.loc[[key(n) for n in people[6:]], "covariates"]
    assert {tuple(c[1:]) for c in known} == {(0.0, 1.0, 2.0)}
    assert found.loc[key(people[0]), "covariates"] is None  # not placed among ancestries
    assert not pd.notna(found.loc[key(people[2]), "covariates"][0])  # born nobody knows when
