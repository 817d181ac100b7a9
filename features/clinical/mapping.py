"""What a source's mapping names: its columns, its code templates, and how a cell is reached."""

import re
from collections.abc import Callable, Iterator

from pyspark.sql import Column
from pyspark.sql import functions as sf

from features.contract.settings import ClinicalSource, EventMapping, PersonMapping, TimeMapping

Cell = Callable[[str], Column]
TEMPLATE = re.compile(r"\{([^{}]+)\}")


def mapped_columns(source: ClinicalSource) -> list[str]:
    """The columns of the file that the mapping names, each once, in its order."""
    names = [source.person_id, *(_person_columns(source.person) if source.person else ())]
    for event in source.events:
        names += _event_columns(event)
    return list(dict.fromkeys(names))


def cells_of(source: ClinicalSource) -> Cell:
    """A column's text in the rows that `read_rows` gives.

    Cells go by number, because headers may hold dots, or two names that differ by case alone.
    """
    fields = {name: field_name(place) for place, name in enumerate(mapped_columns(source))}
    return lambda name: sf.col("cells").getField(fields[name])


def field_name(place: int) -> str:
    return f"c{place}"


def time_columns(time: TimeMapping) -> list[str]:
    """The columns that make up a time."""
    return [name for name in (time.column, time.year, time.plus_days) if name is not None]


def template_columns(code: str) -> list[str]:
    """`LAB//{test}` holds the column `test`."""
    return TEMPLATE.findall(code)


def code_of(code: str, cell: Cell) -> Column:
    """The code with its `{column}`s filled in; null where one of them is."""
    parts = TEMPLATE.split(code)
    return sf.concat(*(cell(part) if place % 2 else sf.lit(part) for place, part in enumerate(parts)))


def _person_columns(person: PersonMapping) -> Iterator[str]:
    yield from (name for name in (person.sex, person.ancestry) if name is not None)
    for time in (person.birth_date, person.observation_start, person.observation_end):
        yield from time_columns(time) if time else ()


def _event_columns(event: EventMapping) -> list[str]:
    names = [*template_columns(event.code), *time_columns(event.time)]
    names += time_columns(event.known_at) if event.known_at else []
    return names + [name for name in (event.value, event.unit, event.text, event.when_column) if name is not None]
