"""Times and numbers out of text: what cannot be one is null, and never an error of the whole job."""

from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column
from pyspark.sql import functions as sf

from features.clinical.mapping import Cell, time_columns
from features.contract.settings import ClinicalSettings, TimeMapping

MICROSECONDS_PER_DAY = 86_400_000_000
MOST_DAYS = 4_000_000
# Spark and pyarrow disagree about days before.
FIRST_DAY = date(1900, 1, 1)
NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
YEAR = r"^\s*(\d{4})(\.0*)?\s*$"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The first and the last possible day."""

    earliest: date
    latest: date

    @classmethod
    def of(cls, settings: ClinicalSettings) -> "Bounds":
        return cls(max(settings.earliest, FIRST_DAY), settings.latest)

    def hold(self, time: Column) -> Column:
        """True inside the bounds, both days included; false for null."""
        day = sf.to_date(time)
        return sf.coalesce(day.between(sf.lit(self.earliest), sf.lit(self.latest)), sf.lit(False))


def is_given(mapping: TimeMapping, cell: Cell) -> Column:
    """Whether the row has something in every column that the time is made of."""
    given = sf.lit(True)
    for name in time_columns(mapping):
        given = given & cell(name).isNotNull()
    return given


def parse_time(mapping: TimeMapping, cell: Cell) -> Column:
    """The time, UTC; null where it is not given or cannot be read."""
    base = (
        _from_year(cell(mapping.year)) if mapping.year else _from_text(cell(mapping.column or ""), mapping.format)
    )
    return base if mapping.plus_days is None else plus_days(base, parse_number(cell(mapping.plus_days)))


def plus_days(time: Column, days: Column) -> Column:
    """A time some days later (fractions count); null where the days are absurd."""
    micros = sf.unix_micros(time) + sf.round(days * MICROSECONDS_PER_DAY).cast("long")
    return sf.when(sf.abs(days) <= MOST_DAYS, sf.timestamp_micros(micros))


def parse_number(text: Column) -> Column:
    """A finite decimal number; null for anything else (`NaN`, `1e999`, `0x10`, `12,5`, `=1+1`, `3d`)."""
    number = sf.when(text.rlike(NUMBER), sf.trim(text).cast("double"))
    return sf.when(sf.abs(number) < float("inf"), number)


def _from_text(text: Column, form: str) -> Column:
    """Five-digit and negative years are left out before Spark's arithmetic could overflow on them."""
    plain = sf.when(~sf.trim(text).rlike("^[+-]") & (sf.length(text) <= 64), sf.trim(text))
    return sf.try_to_timestamp(plain, sf.lit(form))


def _from_year(text: Column) -> Column:
    year = sf.regexp_extract(text, YEAR, 1)
    return sf.try_to_timestamp(sf.concat(year, sf.lit("-07-01")), sf.lit("yyyy-MM-dd"))
