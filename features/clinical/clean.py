"""Rows of text to persons and events, each accepted or refused by a named rule. DataFrame to DataFrame."""

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as sf

from features.clinical.mapping import Cell, cells_of, code_of, template_columns
from features.clinical.times import Bounds, is_given, parse_number, parse_time
from features.contract.persons import PersonKeyer
from features.contract.settings import ClinicalSource, EventMapping, PersonMapping, TimeMapping

PROVENANCE = ["source", "source_order", "source_digest", "location", "file", "position"]
WHERE_FROM = ["source_order", "file", "position"]
EVENT_IDENTITY = ["person_key", "time", "code", "numeric_value", "unit", "text_value"]
DESCRIPTION = ["birth_date", "sex", "ancestry", "period"]
UNKNOWN = "unknown"


def keyed_rows(rows: DataFrame, source: ClinicalSource, order: int, keyer: PersonKeyer) -> DataFrame:
    """Rows with the person's key and the record's id instead of the source's; rule `identifier`."""
    person_key = sf.udf(keyer.person_key, "string", useArrow=True)
    record_id = sf.udf(lambda place: keyer.digest("record", place), "string", useArrow=True)
    keyed = rows.withColumn("person_key", person_key(cells_of(source)(source.person_id)))
    refused = sf.when(sf.col("rule").isNull() & sf.col("person_key").isNull(), "identifier")
    return keyed.select(
        sf.lit(source.name).alias("source"),
        sf.lit(order).alias("source_order"),
        *PROVENANCE[2:],
        sf.coalesce("rule", refused).alias("rule"),
        "person_key",
        record_id(sf.concat_ws(":", "source_digest", "location")).alias("record_id"),
        "cells",
    )


def candidates(source: ClinicalSource) -> Column:
    """How many candidates a row gives: itself when refused, else its person and its events."""
    cell = cells_of(source)
    found = [sf.lit(1)] if source.person else []
    found += [sf.coalesce(is_present(event, cell), sf.lit(False)).cast("int") for event in source.events]
    return sf.when(sf.col("rule").isNotNull(), 1).otherwise(reduce(Column.__add__, found, sf.lit(0)))


def person_rows(rows: DataFrame, source: ClinicalSource, person: PersonMapping, bounds: Bounds) -> DataFrame:
    """`person_key, birth_date, sex, ancestry, period {start, end}, rule` of each accepted row.

    `period` is null where the source gives neither end; rule `date` refuses a date that cannot be.
    """
    cell = cells_of(source)
    birth, start, end = (
        _optional_time(mapping, cell)
        for mapping in (person.birth_date, person.observation_start, person.observation_end)
    )
    times = (person.birth_date, person.observation_start, person.observation_end)
    wrong = [_impossible(mapping, cell, bounds) for mapping in times if mapping]
    period = sf.when(start.isNotNull() | end.isNotNull(), sf.struct(start.alias("start"), end.alias("end")))
    return rows.filter("rule IS NULL").select(
        *PROVENANCE,
        "person_key",
        sf.to_date(birth).alias("birth_date"),
        _sex(person, cell).alias("sex"),
        (cell(person.ancestry) if person.ancestry else sf.lit(None).cast("string")).alias("ancestry"),
        period.alias("period"),
        sf.when(_any([*wrong, start > end]), "date").alias("rule"),
    )


def merged_persons(persons: DataFrame) -> DataFrame:
    """`place` 1 marks a person's first row, which gets the first value given of each column.

    `conflicting` says that the person's rows contradict each other.
    """
    order = Window.partitionBy("person_key", "rule").orderBy(*WHERE_FROM)
    whole = order.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    differ = [sf.min(name).over(whole) != sf.max(name).over(whole) for name in DESCRIPTION]
    return persons.select(
        *PROVENANCE,
        "person_key",
        "rule",
        sf.row_number().over(order).alias("place"),
        _any(differ).alias("conflicting"),
        *(sf.first(name, ignorenulls=True).over(whole).alias(name) for name in DESCRIPTION),
    )


def event_rows(rows: DataFrame, source: ClinicalSource, bounds: Bounds) -> DataFrame:
    """The events of each accepted row, one row each; rules `date` and `value`."""
    cell = cells_of(source)
    events = sf.array(*(_event(event, cell, bounds) for event in source.events))
    exploded = rows.filter("rule IS NULL").select(
        *PROVENANCE, "person_key", "record_id", sf.explode(events).alias("event")
    )
    return exploded.filter("event IS NOT NULL").select(*PROVENANCE, "person_key", "record_id", "event.*")


def refuse_strangers(events: DataFrame, persons: DataFrame) -> DataFrame:
    """Rule `unknown_person`: an event of somebody whom no source describes."""
    known = persons.select("person_key", sf.lit(True).alias("known"))
    stranger = sf.when(sf.col("known").isNull(), "unknown_person")
    joined = events.join(known, "person_key", "left")
    return joined.withColumn("rule", sf.coalesce("rule", stranger)).drop("known")


def merged_events(events: DataFrame) -> DataFrame:
    """`place` 1 marks the first of identical events; it was available when the first of them was."""
    same = Window.partitionBy(*EVENT_IDENTITY, "rule")
    order = same.orderBy(*WHERE_FROM)
    earliest = sf.min("available_at").over(same)
    return events.withColumns({"place": sf.row_number().over(order), "available_at": earliest})


def is_present(event: EventMapping, cell: Cell) -> Column:
    """Whether a row holds such an event: `when_column` agrees, its code is whole, and where code and
    condition do not come from the row's own code, there is something to record."""
    needed = [cell(name).isNotNull() for name in template_columns(event.code)]
    if event.when_column:
        when = cell(event.when_column)
        needed.append(when.isin(event.when_values) if event.when_values else when.isNotNull())
    elif not needed and (event.value or event.text):
        needed.append(_any([cell(name).isNotNull() for name in (event.value, event.text) if name]))
    return reduce(Column.__and__, needed, sf.lit(True))


def _event(event: EventMapping, cell: Cell, bounds: Bounds) -> Column:
    """A struct of the event; null where the row holds none."""
    time = parse_time(event.time, cell)
    lagged = sf.timestamp_micros(sf.unix_micros(time) + sf.lit(event.lag_days).cast("long") * 86_400_000_000)
    known = sf.coalesce(parse_time(event.known_at, cell), lagged) if event.known_at else lagged
    number = parse_number(cell(event.value)) if event.value else sf.lit(None).cast("double")
    wrong_date = ~bounds.hold(time)
    if event.known_at:
        wrong_date |= _impossible(event.known_at, cell, bounds)
    return sf.when(
        is_present(event, cell),
        sf.struct(
            time.alias("time"),
            code_of(event.code, cell).alias("code"),
            number.alias("numeric_value"),
            _text(event.unit, cell).alias("unit"),
            _text(event.text, cell).alias("text_value"),
            known.alias("available_at"),
            sf.when(wrong_date, "date").when(_wrong_value(event, cell, number), "value").alias("rule"),
        ),
    )


def _wrong_value(event: EventMapping, cell: Cell, number: Column) -> Column:
    if event.value is None:
        return sf.lit(False)
    inside = number.between(*event.value_range) if event.value_range else number.isNotNull()
    return cell(event.value).isNotNull() & ~sf.coalesce(inside, sf.lit(False))


def _impossible(mapping: TimeMapping, cell: Cell, bounds: Bounds) -> Column:
    """A time that is given and cannot be."""
    return is_given(mapping, cell) & ~bounds.hold(parse_time(mapping, cell))


def _optional_time(mapping: TimeMapping | None, cell: Cell) -> Column:
    return parse_time(mapping, cell) if mapping else sf.lit(None).cast("timestamp")


def _text(name: str | None, cell: Cell) -> Column:
    return cell(name) if name else sf.lit(None).cast("string")


def _sex(person: PersonMapping, cell: Cell) -> Column:
    """`male` or `female`; null where the source does not say which."""
    chosen = sf.lit(None).cast("string")
    for text, sex in person.sex_values.items() if person.sex else ():
        known = sf.lit(sex if sex != UNKNOWN else None)
        chosen = sf.when(cell(person.sex or "") == text, known).otherwise(chosen)
    return chosen


def _any(conditions: list[Column]) -> Column:
    """True where one is true; null counts as false."""
    found = sf.lit(False)
    for condition in conditions:
        found = found | sf.coalesce(condition, sf.lit(False))
    return found
