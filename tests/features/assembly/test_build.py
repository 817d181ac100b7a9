"""Training and population tables of two tasks, written to a lake and read back."""

import hashlib
import json
from collections import Counter
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from features.assembly import build_features
from features.assembly.gates import check_split
from features.contract.errors import ConfigError, DataGateError
from features.contract.manifest import Manifest, manifest_path, plan_path, read_manifest, read_plan
from features.contract.paths import Location
from features.contract.runs import Run, Runs, append_run, open_delta
from features.contract.schemas import (
    EVENTS,
    FAMILIES,
    GENOTYPES,
    IMAGES,
    KINSHIP,
    OBSERVATION_PERIODS,
    PERSONS,
    SAMPLES,
    SERIES,
    VARIANTS,
)
from features.contract.settings import Settings
from features.lake import Written
from tests.features.assembly.rows import event, key, pack, period, person, write

PEOPLE = [f"p{i:03d}" for i in range(300)]
LABS = {"aggregate": "last", "code": "LAB"}
SETTINGS: dict[str, Any] = {
    "name": "tests",
    "raw": "file:///raw",
    "lake": "file:///lake",
    "identity": {"namespace": "tests"},
    "clinical": {"sources": [], "latest": "2030-01-01"},
    "genomics": {"paths": [], "build": "GRCh38", "relatives": {"minimum_kinship": 0.1}},
    "imaging": {"paths": []},
    "tasks": [
        {
            "name": "whole",
            "cohort": {"index_date": "2020-01-01", "observed_days_before": 30},
            "outcome": {"name": "ill", "kind": "binary", "code": "ILL", "horizon_days": 100},
            "features": {
                "genomics": {"variants": ["rs1"]},
                "clinical": [{"name": "age", "aggregate": "age"}, {"name": "lab", **LABS}],
                "imaging": {"size": 8, "channels": [{"series_description": "FLAIR"}]},
            },
            "split": {"folds": 3, "relatives_together": True},
            "scoring": {"as_of": "2020-03-01"},
        },
        {
            "name": "curve",
            "cohort": {"index_event": "LAB"},
            "outcome": {"name": "ill", "kind": "survival", "code": "ILL", "horizon_days": 90, "intervals": 4},
            "features": {"clinical": [{"name": "lab", **LABS}]},
            "scoring": {"as_of": "2020-02-01"},
        },
    ],
}


def _write_inputs(lake: Location) -> dict[str, int]:
    rng = np.random.default_rng(5)
    labs = [
        event(n, -float(rng.integers(1, 90)), "LAB", float(rng.normal())) for n in PEOPLE if rng.random() < 0.8
    ]
    ills = [event(n, float(rng.integers(-20, 200)), "ILL") for n in PEOPLE if rng.random() < 0.4]
    ends = {n: 400 if rng.random() < 0.9 else 50 for n in PEOPLE}
    genomes, scanned = PEOPLE[:200], PEOPLE[100:250]
    calls = pack(rng.integers(0, 4, len(genomes)).tolist())
    shown = {"pixels": bytes(range(64)), "dtype": "uint8", "shape": [8, 8], "instance_number": 1}
    rows = [
        (PERSONS, [person(n, date(1950 + i % 50, 1, 1)) for i, n in enumerate(PEOPLE)]),
        (OBSERVATION_PERIODS, [period(n, -900, end) for n, end in ends.items()]),
        (EVENTS, labs + ills),
        (VARIANTS, [{"variant_key": "v", "rsid": "rs1", "position": 1}]),
        (GENOTYPES, [{"variant_key": "v", "sample_block": "b", "calls": calls}]),
        (SAMPLES, [{"sample_block": "b", "sample_index": i, "person_key": key(n)} for i, n in enumerate(genomes)]),
        (SERIES, [{"series_key": n, "person_key": key(n), "series_description": "FLAIR"} for n in scanned]),
        (IMAGES, [{"image_key": n, "series_key": n, "person_key": key(n), **shown} for n in scanned]),
    ]
    return {table.path: write(lake, table, found) for table, found in rows}


SIBLINGS = list(pairwise(PEOPLE[:40]))[::2]


def _write_families(lake: Location) -> dict[str, int]:
    """p000 and p001 are siblings, so are p002 and p003, and on."""
    pairs = [sorted(map(key, pair)) for pair in SIBLINGS]
    kin = [{"person_key_1": a, "person_key_2": b, "kinship": 0.25, "relation": "first_degree"} for a, b in pairs]
    people = [
        {"person_key": end, "family": pair[0], "unrelated": end == pair[0]} for pair in pairs for end in pair
    ]
    return {table.path: write(lake, table, rows) for table, rows in ((KINSHIP, kin), (FAMILIES, people))}


def _publish(lake: Location, tables: dict[str, int], digests: dict[str, str], **more: Any) -> Runs:
    wrote = {name: str(version) for name, version in tables.items()}
    now = datetime.now(UTC)
    append_run(lake, Run(f"r{now.timestamp()}", "test", now, "", "", "", wrote=wrote, digests=digests, **more))
    return Runs.read(lake)


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings.model_validate(SETTINGS)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> Location:
    lake = Location.parse(str(tmp_path_factory.mktemp("features") / "lake"))
    read = _write_inputs(lake)
    _publish(lake, read, {})
    assert settings.genomics is not None and settings.genomics.relatives is not None
    made_by = {"settings": settings.genomics.relatives.model_dump_json()}
    _publish(lake, _write_families(lake), {}, read=read, counts=made_by)
    return lake


@pytest.fixture(scope="module")
def built(spark: SparkSession, lake: Location, settings: Settings) -> Written:
    return build_features(spark, lake, Runs.read(lake), settings)


@pytest.fixture(scope="module")
def runs(lake: Location, built: Written) -> Runs:
    return _publish(lake, built.tables, built.digests)


def _rows(lake: Location, table: str, version: int | None = None) -> pd.DataFrame:
    found = open_delta(lake, table, version)
    assert found is not None
    return found.to_pyarrow_table().to_pandas().sort_values("person_key", ignore_index=True)


def test_the_plan_covers_every_row_and_a_file_is_one_row_group_of_one_split_and_fold(
    lake: Location, built: Written, runs: Runs
) -> None:
    for task in ("whole", "curve"):
        plan = read_plan(lake, runs, f"training/{task}").to_pylist()
        assert sum(file["rows"] for file in plan) == len(_rows(lake, f"training/{task}")) > 100
        for file in plan:
            with (lake / f"training/{task}/{file['file']}").open() as stream:
                parquet = pq.ParquetFile(stream)
                rows = parquet.read(columns=["split", "fold"]).to_pylist()
                assert parquet.metadata.num_row_groups == 1
            assert {(row["split"], row["fold"]) for row in rows} == {(file["split"], file["fold"])}
            assert (len(rows), file["row_group"]) == (file["rows"], 0)
    folds = {(f["split"], f["fold"]) for f in read_plan(lake, runs, "training/whole").to_pylist()}
    assert folds == {("held_out", -1), *((s, k) for s in ("train", "tuning") for k in range(3))}


@pytest.mark.parametrize("group", ["train", "fold_0", "fold_1", "fold_2"])
def test_the_statistics_are_those_of_numpy(lake: Location, runs: Runs, group: str) -> None:
    manifest, _ = read_manifest(lake, runs, "training/whole")
    rows = _rows(lake, "training/whole")
    chosen = rows[rows.split == "train"]
    if group != "train":
        k = int(group[-1])
        chosen = rows[(rows.split != "held_out") & ~rows.fold.isin([k, (k + 1) % 3])]
    for modality in ("genomics", "clinical"):
        x = np.stack(chosen[chosen[f"has_{modality}"]][f"x_{modality}"].to_list()).astype(np.float64)
        found = manifest.statistics[group][modality]
        np.testing.assert_allclose(found.mean, np.nanmean(x, axis=0), rtol=1e-12)
        np.testing.assert_allclose(found.std, np.nanstd(x, axis=0, ddof=1), rtol=1e-12)
        np.testing.assert_equal(found.count, (~np.isnan(x)).sum(axis=0))
        assert min(found.count) > 10


def test_the_manifest_says_what_the_columns_mean(lake: Location, runs: Runs) -> None:
    manifest, _ = read_manifest(lake, runs, "training/whole")
    rows = _rows(lake, "training/whole")
    assert manifest.vocabulary == {"genomics": ["rs1"], "clinical": ["age", "lab"]}
    assert (manifest.image_shape, manifest.edges, manifest.folds) == ([8, 8, 1], [100.0], 3)
    assert manifest.rows == rows.groupby("split").size().to_dict()
    assert manifest.positives == rows.groupby("split").y_ill.sum().to_dict()
    assert manifest.certificate.persons == manifest.certificate.distinct_persons == len(rows)
    assert set(manifest.read) == {
        *("persons", "observation_periods", "events", "variants", "genotypes", "samples", "series", "images"),
        *("kinship", "families"),
    }


def test_siblings_are_on_one_side_and_in_one_fold_where_asked_for(lake: Location, runs: Runs) -> None:
    place = _rows(lake, "training/whole").set_index("person_key")[["split", "fold"]].apply(tuple, axis=1)
    both = [pair for pair in (tuple(map(key, names)) for names in SIBLINGS) if set(pair) <= set(place.index)]
    assert len(both) > 10 and len({place[one] for one, _ in both}) > 2
    assert all(place[one] == place[other] for one, other in both)
    certificates = [read_manifest(lake, runs, f"training/{task}")[0].certificate for task in ("whole", "curve")]
    assert [found.relatives_across_splits for found in certificates] == [0, None]


def test_the_interval_edges_are_quantiles_of_the_event_times_in_train(lake: Location, runs: Runs) -> None:
    manifest, _ = read_manifest(lake, runs, "training/curve")
    rows = _rows(lake, "training/curve")
    times = rows[(rows.split == "train") & (rows.y_ill_event == 1)].y_ill_time
    np.testing.assert_allclose(manifest.edges, [*np.quantile(times, [0.25, 0.5, 0.75]), 90])
    assert rows.y_ill_time.between(1, 90).all()


def test_an_absent_modality_is_zeros_of_full_length(lake: Location, built: Written) -> None:
    rows = _rows(lake, "training/whole")
    present, absent = rows[rows.has_imaging], rows[~rows.has_imaging]
    assert set(present.x_imaging) == {bytes(range(64))}
    assert set(absent.x_imaging) == {bytes(64)}
    assert {tuple(x) for x in rows[~rows.has_genomics].x_genomics} == {(0.0,)}
    assert {len(x) for x in rows.x_clinical} == {2}
    assert (rows.weight == 1).all()


def test_the_population_is_everybody_and_says_who_is_ineligible_and_why(
    lake: Location, built: Written, settings: Settings
) -> None:
    for task in settings.tasks:
        rows = _rows(lake, f"population/{task.name}")
        counts = built.counts[task.name]["population"]
        assert rows.person_key.tolist() == sorted(map(key, PEOPLE))
        reasons = Counter(rows.ineligible_reason.dropna())
        assert reasons == counts["ineligible"]
        assert sum(reasons.values()) + counts["eligible"] == counts["persons"] == len(PEOPLE)
        out = rows[rows.ineligible_reason.notna()]
        assert (out.index_time == pd.Timestamp(task.scoring.as_of, tz="UTC")).all()
        assert not out.has_clinical.any()
        assert {float(np.abs(x).sum()) for x in out.x_clinical} == {0.0}


def test_the_population_carries_the_manifest_it_was_trained_by(lake: Location, built: Written, runs: Runs) -> None:
    for task in ("whole", "curve"):
        training, population = (read_manifest(lake, runs, f"{kind}/{task}") for kind in ("training", "population"))
        assert training == population


def test_the_digests_are_those_of_the_files(lake: Location, built: Written) -> None:
    expected = set()
    for table, version in built.tables.items():
        paths = [manifest_path, plan_path] if table.startswith("training") else [manifest_path]
        expected |= {path(table, version) for path in paths}
    assert set(built.digests) == expected
    for path, digest in built.digests.items():
        assert hashlib.sha256((lake / path).read_bytes()).hexdigest() == digest


def test_the_flow_of_people_adds_up_and_can_be_kept_in_runs(built: Written) -> None:
    for task in ("whole", "curve"):
        counts = json.loads(json.dumps(built.counts[task]))
        assert counts["persons"] == counts["cohort"] + sum(counts["excluded"].values()) == len(PEOPLE)
        assert counts["cohort"] == sum(split["rows"] for split in counts["splits"].values())
    assert built.counts["whole"]["splits"]["train"]["genomics"] > 0
    assert built.counts["whole"]["hidden_events"] == 0


def test_the_same_input_gives_the_same_files_in_the_same_order(
    spark: SparkSession, lake: Location, built: Written, runs: Runs, settings: Settings
) -> None:
    only = settings.model_copy(update={"tasks": [settings.task("whole")]})
    again = build_features(spark, lake, runs, only)
    first, second = (_contents(lake, "training/whole", w.tables["training/whole"]) for w in (built, again))
    assert [t.equals(u) for t, u in zip(first, second, strict=True)] == [True] * len(first)
    manifests = [_manifest(lake, w) for w in (built, again)]
    assert manifests[0] == manifests[1]


def _contents(lake: Location, table: str, version: int) -> list[pa.Table]:
    plan = pq.read_table((lake / plan_path(table, version)).path)
    # NaN is no value to Arrow's equality: its bits are.
    return [_bits(pq.read_table((lake / f"{table}/{file}").path)) for file in plan["file"].to_pylist()]


def _bits(table: pa.Table) -> pa.Table:
    for place, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            rows = [np.array(x, np.float32).tobytes() for x in table[field.name].to_pylist()]
            table = table.set_column(place, field.name, pa.array(rows, pa.binary()))
    return table


def _manifest(lake: Location, written: Written) -> Manifest:
    path = manifest_path("training/whole", written.tables["training/whole"])
    return Manifest.model_validate_json((lake / path).read_bytes())


def test_a_gene_feature_needs_a_field_that_names_the_gene(
    spark: SparkSession, lake: Location, settings: Settings
) -> None:
    document = settings.model_dump(mode="json")
    document["tasks"][0]["features"]["genomics"]["genes"] = ["TP53"]
    with pytest.raises(ConfigError, match=r"tasks\.whole\.features\.genomics\.genes: set genomics\.gene_field"):
        build_features(spark, lake, Runs.read(lake), Settings.model_validate(document))


def test_relatives_are_kept_together_only_where_they_are_known(
    spark: SparkSession, lake: Location, settings: Settings
) -> None:
    document = settings.model_dump(mode="json")
    document["genomics"]["relatives"] = None
    with pytest.raises(ConfigError, match=r"tasks\.whole\.split\.relatives_together: set genomics\.relatives"):
        build_features(spark, lake, Runs.read(lake), Settings.model_validate(document))


def test_a_family_of_everyone_leaves_nobody_to_learn_from(settings: Settings) -> None:
    task, empty = settings.task("whole"), {"train": {"rows": 0}, "tuning": {"rows": 9}, "held_out": {"rows": 9}}
    with pytest.raises(DataGateError, match="task whole: nobody is left for train once relatives are together"):
        check_split(empty, task)
    check_split(empty, settings.task("curve"))  # which does not ask for it
