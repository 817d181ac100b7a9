"""Three small sources with every kind of dirt, ingested once; then one statement at a time."""

from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from features.clinical.ingest import ingest_clinical
from features.contract.errors import ConfigError, DataGateError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.runs import open_delta
from features.contract.settings import IdentitySettings, Settings
from features.lake import Written

Rows = list[dict[str, Any]]

PERSONS = b"""\xef\xbb\xbfid,born,sex,ancestry,from,to
A-1,1950-01-01,F,coast,2000-01-01,2020-12-31
a_1-01B,1950-01-01,F,coast,2000-01-01,2020-12-31
A-2,1960-02-02,M,,,
A-2,1960-02-03,M,inland,,
A-3,,X,,2001-01-01,
A-9,1970-01-01,M,,,
???,1950-01-01,F,,,
A-4,2101-01-01,F,,,
A-5,soon,F,,,
A-6,1066-10-14,F,,,
A-7,1950-01-01,F,,2010-01-01,2009-01-01
A-8,1950-01-01
A-8,\xff,F,,,
"""
EVENTS = b"""id,date,code,value,unit,text
A-1,2015-01-01,LAB,5.5,mmol/L,
a_1,2015-01-01,LAB,5.5,mmol/L,
A-1,2015-01-01,LAB,5.6,mmol/L,
A-3,2010-03-03,LAB, 4.0e0 ,,
A-2,2016-05-05,NOTE,,,=cmd|' /C calc'!A0
A-2,2016-05-05,OTHER,1,,
B-77,2016-05-05,LAB,5,,
A-5,2016-05-05,LAB,5,,
nobody,2016-05-05,LAB,5,,
A-1,2015-02-30,LAB,5,,
A-1,99999-01-01,LAB,5,,
A-1,+999999999-01-01,LAB,5,,
A-1,-2015-01-01,LAB,5,,
A-1,1899-12-31,LAB,5,,
A-1,2024-01-01,LAB,5,,
A-1,,LAB,5,,
A-1,2015-1-2,LAB,5,,
A-1,2015-01-01,LAB,high,,
A-1,2015-01-01,LAB,NaN,,
A-1,2015-01-01,LAB,Infinity,,
A-1,2015-01-01,LAB,1e999,,
A-1,2015-01-01,LAB,=2+3,,
A-1,2015-01-01,LAB,5d,,
A-1,2015-01-01,LAB,99,,
A-1,2015-01-01,LAB,"5,5",,
A-1,2015-01-01,LAB
"""
TUMOURS = b"""id\tyear\tdays.to death\tdead\tgrade\tsize\tseen
A-2\t2012\t366.0\t1.0\tG3\t12\t2013-01-15
A-3\t2012\t\t0.0\t[Unknown]\t\t
A-1\t2012\t1e300\t1.0\tG2\t\tlater
"""
DIAGNOSED = {"year": "year"}
CLINICAL = {
    "latest": "2023-12-31",
    "sources": [
        {
            "name": "persons",
            "path": "persons.csv",
            "person_id": "id",
            "person": {
                "birth_date": {"column": "born"},
                "sex": "sex",
                "sex_values": {"F": "female", "M": "male"},
                "ancestry": "ancestry",
                "observation_start": {"column": "from"},
                "observation_end": {"column": "to"},
            },
        },
        {
            "name": "events",
            "path": "events.csv",
            "person_id": "id",
            "events": [
                {
                    "code": "LAB//{code}",
                    "when_column": "code",
                    "when_values": ["LAB"],
                    "time": {"column": "date"},
                    "value": "value",
                    "unit": "unit",
                    "value_range": [3, 20],
                    "lag_days": 3,
                },
                {
                    "code": "NOTE",
                    "when_column": "code",
                    "when_values": ["NOTE"],
                    "time": {"column": "date"},
                    "text": "text",
                },
            ],
        },
        {
            "name": "tumours",
            "path": "tumours.tsv",
            "delimiter": "\t",
            "nulls": ["", "[Unknown]"],
            "person_id": "id",
            "events": [
                {"code": "DIAGNOSIS", "time": DIAGNOSED},
                {
                    "code": "DEATH",
                    "time": {"year": "year", "plus_days": "days.to death"},
                    "when_column": "dead",
                    "when_values": ["1.0"],
                },
                {"code": "GRADE", "time": DIAGNOSED, "text": "grade", "known_at": {"column": "seen"}},
                {"code": "SIZE", "time": DIAGNOSED, "value": "size"},
            ],
        },
    ],
}
FILES = {"persons.csv": PERSONS, "events.csv": EVENTS, "tumours.tsv": TUMOURS}
KEYER = PersonKeyer(
    bytes(range(32)), IdentitySettings(namespace="tests", case="upper", pattern=r"^([A-Z]+-[0-9]+)")
)


def settings(raw: Path, clinical: dict[str, Any]) -> Settings:
    task = {
        "name": "t",
        "cohort": {"index_date": "2020-01-01"},
        "outcome": {"name": "o", "kind": "binary", "code": "DEATH", "horizon_days": 1},
        "features": {},
        "scoring": {"as_of": "2020-01-01"},
    }
    study = {"name": "t", "raw": f"file://{raw}", "lake": f"file://{raw}/../lake", "tasks": [task]}
    return Settings.model_validate(study | {"identity": {"namespace": "tests"}, "clinical": clinical})


def ingest(spark: SparkSession, root: Path, files: dict[str, bytes], clinical: dict[str, Any]) -> Written:
    raw = root / "raw"
    raw.mkdir()
    for name, data in files.items():
        (raw / name).write_bytes(data)
    study = settings(raw, clinical)
    found = {file.path: file for file in Location(study.raw).files()}
    by_source = {s.name: [found[s.path]] if s.path in found else [] for s in study.clinical.sources}
    return ingest_clinical(spark, Location.parse(str(root / "lake")), study, KEYER, by_source)


@pytest.fixture(scope="module")
def done(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Location, Written]:
    root = tmp_path_factory.mktemp("clinical")
    return Location.parse(str(root / "lake")), ingest(spark, root, FILES, CLINICAL)


def table(done: tuple[Location, Written], name: str) -> Rows:
    found = open_delta(done[0], name, done[1].tables[name])
    assert found is not None
    rows: Rows = found.to_pyarrow_table().to_pylist()
    return rows


def key(source_id: str) -> str:
    found = KEYER.person_key(source_id)
    assert found is not None
    return found


def refusals(done: tuple[Location, Written], file: str) -> Counter[str]:
    digest = KEYER.path_digest(file)
    return Counter(
        row["rule"] for row in table(done, "quarantine/ingest_clinical") if row["source_digest"] == digest
    )


def codes(done: tuple[Location, Written], code: str) -> dict[str, Rows]:
    found: dict[str, Rows] = {}
    for row in table(done, "events"):
        if row["code"] == code:
            found.setdefault(row["person_key"], []).append(row)
    return found


def test_a_person_spelt_in_two_ways_is_one_person(done: tuple[Location, Written]) -> None:
    people = {row["person_key"]: row for row in table(done, "persons")}
    assert set(people) == {key(name) for name in ("A-1", "A-2", "A-3", "A-9")}
    assert len(table(done, "persons")) == 4
    assert people[key("a_1")] == {
        "person_key": key("A-1"),
        "birth_date": date(1950, 1, 1),
        "sex": "female",
        "ancestry": "coast",
    }


def test_rows_that_contradict_each_other_are_counted_and_the_first_wins(done: tuple[Location, Written]) -> None:
    (row,) = (row for row in table(done, "persons") if row["person_key"] == key("A-2"))
    assert (row["birth_date"], row["ancestry"]) == (date(1960, 2, 2), "inland")
    assert done[1].counts["persons_conflicting"] == 1


def test_a_sex_the_mapping_does_not_know_is_unknown(done: tuple[Location, Written]) -> None:
    (row,) = (row for row in table(done, "persons") if row["person_key"] == key("A-3"))
    assert (row["sex"], row["birth_date"]) == ("unknown", None)


def test_every_impossible_person_is_refused_by_its_rule(done: tuple[Location, Written]) -> None:
    assert refusals(done, "persons.csv") == {"identifier": 1, "date": 4, "columns": 1, "encoding": 1}


def test_every_impossible_event_is_refused_by_its_rule(done: tuple[Location, Written]) -> None:
    expected = {"date": 8, "value": 8, "unknown_person": 2, "identifier": 1, "columns": 1}
    assert refusals(done, "events.csv") == expected


def test_a_refusal_says_where_its_line_lies(done: tuple[Location, Written]) -> None:
    digest = KEYER.path_digest("persons.csv")
    (place,) = (
        row["location"]
        for row in table(done, "quarantine/ingest_clinical")
        if (row["source_digest"], row["rule"]) == (digest, "encoding")
    )
    offset, length = map(int, place.split("+"))
    assert PERSONS[offset : offset + length] == b"A-8,\xff,F,,,"


def test_identical_events_are_one_and_others_of_the_day_stay(done: tuple[Location, Written]) -> None:
    rows = codes(done, "LAB//LAB")[key("A-1")]
    assert sorted(row["numeric_value"] for row in rows) == [5.5, 5.6]
    assert codes(done, "LAB//LAB")[key("A-3")][0]["numeric_value"] == 4.0


def test_an_event_is_available_after_its_lag(done: tuple[Location, Written]) -> None:
    (row,) = codes(done, "LAB//LAB")[key("A-3")]
    assert row["time"] == datetime(2010, 3, 3, tzinfo=UTC)
    assert row["available_at"] == datetime(2010, 3, 6, tzinfo=UTC)


def test_an_event_is_available_when_the_source_says_so(done: tuple[Location, Written]) -> None:
    (row,) = codes(done, "GRADE")[key("A-2")]
    assert (row["text_value"], row["time"]) == ("G3", datetime(2012, 7, 1, tzinfo=UTC))
    assert row["available_at"] == datetime(2013, 1, 15, tzinfo=UTC)


def test_a_wide_row_gives_an_event_for_each_cell_that_has_a_value(done: tuple[Location, Written]) -> None:
    found = Counter(
        (row["person_key"], row["code"]) for row in table(done, "events") if row["source"] == "tumours"
    )
    assert found == {
        (key("A-2"), "DIAGNOSIS"): 1,
        (key("A-2"), "DEATH"): 1,
        (key("A-2"), "GRADE"): 1,
        (key("A-2"), "SIZE"): 1,
        (key("A-3"), "DIAGNOSIS"): 1,
        (key("A-1"), "DIAGNOSIS"): 1,
    }


def test_decimal_days_count_from_the_first_of_july(done: tuple[Location, Written]) -> None:
    assert codes(done, "DEATH")[key("A-2")][0]["time"] == datetime(2013, 7, 2, tzinfo=UTC)


def test_absurd_days_and_an_unreadable_time_of_knowing_are_refused(done: tuple[Location, Written]) -> None:
    assert refusals(done, "tumours.tsv") == {"date": 2}


def test_text_that_looks_like_a_formula_stays_text(done: tuple[Location, Written]) -> None:
    (row,) = codes(done, "NOTE")[key("A-2")]
    assert (row["text_value"], row["numeric_value"]) == ("=cmd|' /C calc'!A0", None)


def test_a_record_has_a_keyed_id_that_stays(done: tuple[Location, Written]) -> None:
    (row,) = codes(done, "LAB//LAB")[key("A-3")]
    line = b"A-3,2010-03-03,LAB, 4.0e0 ,,"
    place = f"{KEYER.path_digest('events.csv')}:{EVENTS.index(line)}+{len(line)}"
    assert row["record_id"] == KEYER.digest("record", place)


def test_people_are_observed_as_given_or_from_first_to_last_event(done: tuple[Location, Written]) -> None:
    periods = {
        row["person_key"]: (row["start"].date(), row["end"].date()) for row in table(done, "observation_periods")
    }
    assert periods == {
        key("A-1"): (date(2000, 1, 1), date(2020, 12, 31)),
        key("A-2"): (date(2012, 7, 1), date(2016, 5, 5)),
        key("A-3"): (date(2001, 1, 1), date(2012, 7, 1)),
    }


def test_nothing_is_lost(done: tuple[Location, Written]) -> None:
    balances = done[1].counts["balances"]
    assert balances["persons"] | {"quarantined": None} == {
        "records": 13,
        "expanded": 0,
        "used": 4,
        "merged": 2,
        "quarantined": None,
    }
    assert (balances["events"]["records"], balances["events"]["expanded"]) == (26, -1)
    assert (balances["events"]["used"], balances["events"]["merged"]) == (4, 1)
    assert (balances["tumours"]["records"], balances["tumours"]["expanded"]) == (3, 5)


def test_no_id_or_path_of_a_source_is_in_any_table(done: tuple[Location, Written]) -> None:
    for name in done[1].tables:
        text = repr(table(done, name))
        assert not any(word in text for word in ("A-1", "a_1", "???", "nobody", "persons.csv", "B-77"))


def test_a_file_without_a_mapped_column_fails_before_anything_is_written(
    spark: SparkSession, tmp_path: Path
) -> None:
    files = FILES | {"persons.csv": PERSONS.replace(b"born", b"borne")}
    digest = KEYER.path_digest("persons.csv")
    with pytest.raises(
        DataGateError, match=f"source persons, file {digest}: no column born; the nearest there is borne"
    ):
        ingest(spark, tmp_path, files, CLINICAL)
    assert not (tmp_path / "lake").exists()


def test_a_source_without_a_file_and_a_study_without_people_fail_early(
    spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(DataGateError, match=r"clinical source events: no raw file matches events\.csv"):
        ingest(spark, tmp_path, {"persons.csv": PERSONS}, CLINICAL)
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match="none has a person section"):
        ingest(spark, tmp_path / "other", FILES, CLINICAL | {"sources": CLINICAL["sources"][1:]})
