"""What became of the records, and how long each person was watched."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from features.clinical import clean
from features.contract.settings import ClinicalSource
from features.quality import Balance


@dataclass(slots=True)
class Fate:
    """Of one source: data rows, the candidates they give, and what became of those."""

    records: int = 0
    candidates: int = 0
    used: Counter[str] = field(default_factory=Counter)
    merged: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Tally:
    fates: dict[str, Fate]
    persons_conflicting: int

    def as_counts(self) -> dict[str, object]:
        """For `runs`: the balance of each source, and what is in the tables."""
        used = sum((fate.used for fate in self.fates.values()), Counter[str]())
        return {
            "balances": {name: balance.as_counts() for name, balance in balances(self).items()},
            "persons": used["persons"],
            "events": used["events"],
            "persons_conflicting": self.persons_conflicting,
        }


def tally(
    read: Sequence[DataFrame], sources: Sequence[ClinicalSource], persons: DataFrame, events: DataFrame
) -> Tally:
    """Count every source's records before and after; the candidates are counted in the rows alone."""
    fates = {source.name: Fate() for source in sources}
    for rows, source in zip(read, sources, strict=True):
        for rule, count, given in _rows_by_rule(rows, source):
            fates[source.name].records += count
            fates[source.name].candidates += given
            if rule is not None:
                fates[source.name].quarantined[rule] += count
    conflicting = 0
    for kind, judged in (("persons", persons), ("events", events.withColumn("conflicting", sf.lit(False)))):
        for name, rule, first, count, contradict in _fates(judged):
            _add(fates[name], kind, rule, first, count)
            conflicting += contradict if rule is None and first else 0
    return Tally(fates, conflicting)


def balances(found: Tally) -> dict[str, Balance]:
    """DESIGN, promise 1, for each source."""
    return {
        name: Balance(
            records=fate.records,
            expanded=fate.candidates - fate.records,
            used=fate.used.total(),
            merged=fate.merged,
            quarantined=dict(fate.quarantined),
        )
        for name, fate in found.fates.items()
    }


def observation_periods(persons: DataFrame, events: DataFrame) -> DataFrame:
    """`person_key, start, end`: as the source says, else from the first event to the last.

    An end that is not given is never before the start that is, and the other way round; who has
    neither a period nor an event has no row.
    """
    seen = events.groupBy("person_key").agg(sf.min("time").alias("first"), sf.max("time").alias("last"))
    given = persons.select("person_key", "period.start", "period.end").join(seen, "person_key", "left")
    start = sf.coalesce("start", sf.least("first", "end"))
    end = sf.coalesce("end", sf.greatest("last", "start"))
    return given.select("person_key", start.alias("start"), end.alias("end")).filter("start IS NOT NULL")


def _rows_by_rule(rows: DataFrame, source: ClinicalSource) -> Iterator[tuple[str | None, int, int]]:
    given = sf.sum(clean.candidates(source)).alias("given")
    for row in rows.groupBy("rule").agg(sf.count(sf.lit(1)).alias("n"), given).collect():
        yield row["rule"], row["n"], row["given"]


def _fates(judged: DataFrame) -> Iterator[tuple[str, str | None, bool, int, int]]:
    first = (sf.col("place") == 1).alias("first")
    counts = [sf.count(sf.lit(1)).alias("n"), sf.count_if("conflicting").alias("conflicting")]
    for row in judged.groupBy("source", "rule", first).agg(*counts).collect():
        yield row["source"], row["rule"], row["first"], row["n"], row["conflicting"]


def _add(fate: Fate, kind: str, rule: str | None, first: bool, count: int) -> None:
    if rule is not None:
        fate.quarantined[rule] += count
    elif first:
        fate.used[kind] += count
    else:
        fate.merged += count
