"""The real brain tumour records, against a second reading of the same file with DuckDB."""

import duckdb
import pytest
from pyspark.sql import SparkSession

from features.clinical.ingest import ingest_clinical
from features.contract.config import load_settings
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.runs import open_delta
from features.contract.settings import Settings
from features.lake import Written
from tests.command import REPOSITORY, SHARED

LGG = SHARED / "lgg"
FILE = "lgg_tcga_clinical_cdr.tsv"
pytestmark = pytest.mark.skipif(
    not LGG.is_dir(), reason=f"no {LGG}: the data of real people is not in the repository"
)
Done = tuple[Settings, PersonKeyer, Written]


@pytest.fixture(scope="module")
def done(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Done:
    lake = str(tmp_path_factory.mktemp("lgg") / "lake")
    settings = load_settings(str(REPOSITORY / "conf" / "lgg.yaml"), raw=str(LGG), lake=lake)
    keyer = PersonKeyer(bytes(range(32)), settings.identity)
    files = {"clinical": [file for file in Location(settings.raw).files() if file.path == FILE]}
    return settings, keyer, ingest_clinical(spark, Location(settings.lake), settings, keyer, files)


def independently(query: str) -> list[tuple[str, ...]]:
    source = f"read_csv('{LGG / FILE}', delim='\t', header=true, all_varchar=true, quote='')"
    return duckdb.sql(query.format(source=source)).fetchall()


def column(done: Done, table: str, name: str, where: str = "true") -> list[object]:
    settings, _, written = done
    found = open_delta(Location(settings.lake), table, written.tables[table])
    assert found is not None
    rows = found.to_pyarrow_table()
    return [value for (value,) in duckdb.sql(f"SELECT {name} FROM rows WHERE {where}").fetchall() if rows.num_rows]


def test_all_511_people_are_there_each_once_with_a_period(done: Done) -> None:
    keys = column(done, "persons", "person_key")
    ids = {done[1].person_key(name) for (name,) in independently("SELECT patient_id FROM {source}")}
    assert (len(keys), set(keys)) == (511, ids)
    assert sorted(column(done, "observation_periods", "person_key")) == sorted(keys)


def test_those_and_only_those_who_died_have_a_death_on_its_day(done: Done) -> None:
    dead = independently(
        "SELECT patient_id, make_date(year_of_initial_pathologic_diagnosis::int, 7, 1)"
        ' + "CDR_OS.time"::double::int FROM {source} WHERE CDR_OS::double = 1'
    )
    expected = {f"{done[1].person_key(name)} {day}" for name, day in dead}
    found = column(done, "events", "person_key || ' ' || time::date", "code = 'DEATH'")
    assert (len(found), set(found)) == (len(expected), expected)
    assert len(found) == 123


def test_placeholders_are_no_values(done: Done) -> None:
    assert column(done, "events", "text_value", "starts_with(text_value, '[')") == []


def test_only_performance_scores_without_a_day_are_refused(done: Done) -> None:
    (balance,) = done[2].counts["balances"].values()
    scored = independently(
        "SELECT count(*) FROM {source} WHERE regexp_full_match(karnofsky_performance_score, '[0-9]+')"
        " AND NOT regexp_full_match(days_to_initial_score_performance_status_scale, '-?[0-9.]+')"
    )
    assert balance["quarantined"] == {"date": scored[0][0]}


def test_no_outcome_column_is_an_event(done: Done) -> None:
    names = {name for event in done[0].clinical.sources[0].events for name in (event.value, event.text) if name}
    outcomes = ("vital", "status_scale_timing", "cancer_status", "new_tumor", "radiation", "outcome", "followup")
    assert not [name for name in names if any(word in name for word in outcomes)]
