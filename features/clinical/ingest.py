"""The clinical sources to `persons`, `observation_periods`, `events` and what was refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.storagelevel import StorageLevel

from features import quality
from features.clinical import clean
from features.clinical.read import read_rows
from features.clinical.summarise import Tally, balances, observation_periods, tally
from features.clinical.times import Bounds
from features.contract import schemas
from features.contract.errors import ConfigError, DataGateError
from features.contract.paths import FileStat, Location
from features.contract.persons import PersonKeyer
from features.contract.settings import ClinicalSource, Settings
from features.lake import Written, write_table

JOB = "ingest_clinical"
Files = dict[str, list[FileStat]]


@dataclass(frozen=True, slots=True)
class Judged:
    """All candidates of all sources, each used, merged or refused: what the tables are cut from."""

    rows: DataFrame
    persons: DataFrame
    events: DataFrame

    @property
    def used_persons(self) -> DataFrame:
        return _used(self.persons)

    @property
    def used_events(self) -> DataFrame:
        return _used(self.events)

    def unpersist(self) -> None:
        for frame in (self.persons, self.events):
            frame.unpersist()


def ingest_clinical(
    spark: SparkSession, lake: Location, settings: Settings, keyer: PersonKeyer, files: Files
) -> Written:
    """Read each file once, judge every record, write each table once.

    `files` are the raw files by source name. Raises DataGateError for a source without files or
    without a mapped column.
    """
    sources = settings.clinical.sources
    _check_sources(sources, files)
    read = [
        _kept(clean.keyed_rows(read_rows(spark, Location(settings.raw), s, files[s.name], keyer), s, order, keyer))
        for order, s in enumerate(sources)
    ]
    judged = _judge(read, sources, Bounds.of(settings.clinical))
    try:
        return _write(lake, judged, tally(read, sources, judged.persons, judged.events))
    finally:
        judged.unpersist()
        for rows in read:
            rows.unpersist()


def _check_sources(sources: Sequence[ClinicalSource], files: Files) -> None:
    if not any(source.person for source in sources):
        raise ConfigError("clinical.sources: none has a person section, so no person would be known")
    for source in sources:
        if not files.get(source.name):
            raise DataGateError(f"clinical source {source.name}: no raw file matches {source.path}")


def _judge(read: Sequence[DataFrame], sources: Sequence[ClinicalSource], bounds: Bounds) -> Judged:
    pairs = list(zip(read, sources, strict=True))
    people = [clean.person_rows(rows, s, s.person, bounds) for rows, s in pairs if s.person]
    persons = _kept(clean.merged_persons(_all(people)))
    events = [clean.event_rows(rows, s, bounds) for rows, s in pairs if s.events]
    known = clean.refuse_strangers(_all(events), _used(persons)) if events else _no_events(persons)
    rows = _all([rows.select(*clean.PROVENANCE, "rule") for rows in read])
    return Judged(rows, persons, _kept(clean.merged_events(known)))


def _write(lake: Location, judged: Judged, found: Tally) -> Written:
    quality.check(balances(found))
    persons = judged.used_persons.withColumn("sex", sf.coalesce("sex", sf.lit(clean.UNKNOWN)))
    periods = observation_periods(judged.used_persons, judged.used_events)
    wanted = ["source_digest", "location", "rule"]
    frames = (judged.rows, judged.persons, judged.events)
    refused = _all([frame.filter("rule IS NOT NULL").select(wanted) for frame in frames])
    tables = [
        (schemas.PERSONS, persons),
        (schemas.OBSERVATION_PERIODS, periods),
        (schemas.EVENTS, judged.used_events),
        (schemas.quarantine(JOB), quality.refused(refused, JOB)),
    ]
    versions = {table.path: write_table(frame.select(table.schema.names), lake, table) for table, frame in tables}
    return Written(versions, found.as_counts())


def _used(frame: DataFrame) -> DataFrame:
    return frame.filter("rule IS NULL AND place = 1")


def _no_events(persons: DataFrame) -> DataFrame:
    """Events of sources that only describe people."""
    columns = {
        **dict.fromkeys(("record_id", "code", "unit", "text_value"), "string"),
        **dict.fromkeys(("time", "available_at"), "timestamp"),
        "numeric_value": "double",
    }
    none = persons.filter("false").select(*clean.PROVENANCE, "person_key", "rule")
    return none.withColumns({name: sf.lit(None).cast(kind) for name, kind in columns.items()})


def _all(frames: Sequence[DataFrame]) -> DataFrame:
    return reduce(DataFrame.unionByName, frames)


def _kept(frame: DataFrame) -> DataFrame:
    """Computed once, however many tables are cut from it."""
    return frame.persist(StorageLevel.MEMORY_AND_DISK)
