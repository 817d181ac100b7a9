"""No peeking, and the same numbers as DuckDB."""

from datetime import date
from typing import Any

import duckdb
import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from features.clinical.features import check_hidden, clinical_features
from features.contract.errors import DataGateError
from features.contract.schemas import EVENTS, PERSONS
from features.contract.settings import ClinicalFeature
from tests.features.assembly.rows import by_person, day, event, frame, key, person

FEATURES = [
    ClinicalFeature(name="age", aggregate="age"),
    ClinicalFeature(name="sex", aggregate="sex"),
    ClinicalFeature(name="last", aggregate="last", code="LAB"),
    ClinicalFeature(name="mean", aggregate="mean", code="LAB", window_days=200),
    ClinicalFeature(name="count", aggregate="count", code="LAB", window_days=200),
    ClinicalFeature(name="any", aggregate="any", code="DX"),
    ClinicalFeature(name="smokes", aggregate="is", code="SMOKING", text="current"),
]
NAN = float("nan")


def _features(spark: SparkSession, events: list[dict[str, Any]], people: list[dict[str, Any]]) -> DataFrame:
    index = spark.createDataFrame(
        [(p["person_key"], day(0)) for p in people], "person_key string, index_time timestamp"
    )
    return clinical_features(index, frame(spark, PERSONS, people), frame(spark, EVENTS, events), FEATURES)


def _bytes(found: DataFrame) -> dict[str, bytes]:
    return {k: np.array(x, dtype=np.float32).tobytes() for k, x in by_person(found, "x_clinical").items()}


def test_each_aggregate_reads_what_was_known_at_the_index(spark: SparkSession) -> None:
    events = [
        event("a", 0, "LAB", 7.0),
        event("a", -100, "LAB", 4.0),
        event("a", -200, "LAB", 1.0),
        event("a", -201, "LAB", 99.0),
        event("a", -10, "LAB", None),
        event("a", -400, "DX"),
        event("a", -30, "SMOKING", text_value="current"),
        event("a", -20, "SMOKING", text_value="never"),
    ]
    people = [person("a", date(1970, 1, 1), "male"), person("b", None, "unknown")]
    found = by_person(_features(spark, events, people), "x_clinical", "has_clinical", "n_usable")
    age = np.float32(18262 / 365.25)
    assert found[key("a")][0] == pytest.approx([age, 1, 7, 4, 4, 1, 0])
    assert found[key("a")][1:] == (True, 8)
    np.testing.assert_equal(np.array(found[key("b")][0]), [NAN, NAN, NAN, NAN, 0, 0, NAN])
    assert found[key("b")][1:] == (False, 0)


def test_an_event_after_the_index_or_not_yet_available_changes_no_feature_byte(spark: SparkSession) -> None:
    people, past = [person("a"), person("b")], [event("a", -5, "LAB", 3.0), event("b", -900, "DX")]
    later = [
        event("a", 0.001, "LAB", 50.0),
        event("a", 30, "DX"),
        event("a", -1, "LAB", 60.0, available_at=day(0.001)),
        event("b", 2, "SMOKING", text_value="current"),
        event("b", -2, "SMOKING", text_value="current", available_at=day(1)),
    ]
    moved = [
        {**e, "time": max(e["time"], day(0.001)), "numeric_value": -1.0, "available_at": day(999)} for e in later
    ]
    alone = _bytes(_features(spark, past, people))
    assert _bytes(_features(spark, past + later, people)) == alone
    assert _bytes(_features(spark, past + moved, people)) == alone


def test_too_many_hidden_events_stop_the_job_and_name_the_setting(spark: SparkSession) -> None:
    seen = [event("a", -i, "LAB", 1.0) for i in range(1, 4)]
    hidden = [event("a", -1, "LAB", 1.0, available_at=day(5))]
    found = _features(spark, [*seen, *hidden, event("a", 3, "LAB", 1.0)], [person("a")])
    assert check_hidden(found, 0.25, "t") == {"usable_events": 3, "hidden_events": 1}
    with pytest.raises(DataGateError, match=r"25\.0%.*features\.maximum_hidden_share = 0\.24"):
        check_hidden(found, 0.24, "t")


def test_random_histories_agree_with_duckdb(spark: SparkSession) -> None:
    rng = np.random.default_rng(3)
    names = [f"p{i}" for i in range(30)]
    codes, texts = ["LAB", "DX", "SMOKING", "OTHER"], ["never", "current", None]
    events = [
        event(
            names[rng.integers(30)],
            float(at := rng.integers(-300, 60)),
            str(rng.choice(codes)),
            None if rng.random() < 0.2 else float(rng.normal()),
            available_at=day(float(at + rng.integers(0, 20))),
            text_value=texts[rng.integers(3)],
            record_id=f"{i:04d}",
        )
        for i in range(1500)
    ]
    found = by_person(_features(spark, events, [person(n) for n in names]), "x_clinical")
    ours = np.array([found[key(n)] for n in names])[:, 2:]
    np.testing.assert_allclose(ours, _oracle(events, names), rtol=1e-6)


def _oracle(events: list[dict[str, Any]], names: list[str]) -> np.ndarray:
    columns = ["person_key", "time", "available_at", "code", "numeric_value", "text_value", "record_id"]
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(
        "CREATE TABLE events (person_key TEXT, time TIMESTAMPTZ, available_at TIMESTAMPTZ, code TEXT, "
        "numeric_value DOUBLE, text_value TEXT, record_id TEXT)"
    )
    connection.executemany(
        "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", [[e[c] for c in columns] for e in events]
    )
    rows = connection.execute(
        """
        WITH known AS (
          SELECT *, time >= TIMESTAMPTZ '2020-01-01' - INTERVAL 200 DAY AS recent FROM events
          WHERE time <= TIMESTAMPTZ '2020-01-01' AND available_at <= TIMESTAMPTZ '2020-01-01')
        SELECT person_key,
          last(numeric_value ORDER BY time, record_id) FILTER (code = 'LAB' AND numeric_value IS NOT NULL),
          avg(numeric_value) FILTER (code = 'LAB' AND recent),
          count(*) FILTER (code = 'LAB' AND recent),
          coalesce(bool_or(code = 'DX'), false)::INT,
          (last(text_value ORDER BY time, record_id)
             FILTER (code = 'SMOKING' AND text_value IS NOT NULL) = 'current')::INT
        FROM known GROUP BY person_key
        """
    ).fetchall()
    by_key = {row[0]: [NAN if value is None else float(value) for value in row[1:]] for row in rows}
    return np.array([by_key.get(key(name), [NAN, NAN, 0, 0, NAN]) for name in names])
