"""Planted dirt: records that a careful ingest must refuse or merge, each breaking exactly one rule.

The keys of every count are the rules under which the ingest job quarantines such a record; `merged`
counts second copies, of which the first stays. Dirt is always added: no good record is spoilt.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from features.simulation.people import spell

Counts = dict[str, int]
Files = dict[str, bytes]

VARIANT_DIRT = {"columns": 3, "position": 2, "allele": 4, "genotype": 3, "merged": 5}
EVENT_DIRT = {"columns": 17, "identifier": 23, "date": 29, "value": 31, "merged": 37}
PERSON_DIRT = {"columns": 3, "identifier": 5, "date": 7, "merged": 40}
IMAGE_DIRT = {"unreadable": 11, "no_patient_id": 6, "merged": 9}

NOT_IDS = ("???", "unknown", "RLM-12", "test patient")
NOT_DATES = ("2999-01-01", "2014-02-30", "soon", "1066-10-14")
NOT_VALUES = (("LAB//hba1c", "-5", "%"), ("VITAL//bmi", "900", "kg/m2"), ("LAB//ldl", "high", "mmol/L"))


def plant_variants(lines: Sequence[bytes], rng: np.random.Generator) -> tuple[list[bytes], Counts]:
    """The lines of a VCF's body with bad ones among them."""
    rules = [rule for rule, count in VARIANT_DIRT.items() for _ in range(count)]
    chosen = rng.choice(len(lines), len(rules), replace=False)
    bad = {site: _bad_line(lines[site], rule, n) for n, (site, rule) in enumerate(zip(chosen, rules, strict=True))}
    mixed = [text for site, line in enumerate(lines) for text in (line, bad.get(site)) if text is not None]
    return mixed, dict(VARIANT_DIRT)


def plant_persons(rows: Sequence[str], rng: np.random.Generator) -> tuple[list[str], Counts]:
    """The rows of persons.csv with strangers' bad rows and second rows of the same people among them."""
    columns = [f"RLM-{910_000 + n},1950-01-01" for n in range(PERSON_DIRT["columns"])]
    nobody = [f"{NOT_IDS[n % len(NOT_IDS)]},1950-01-0{n + 1},F,coast,," for n in range(PERSON_DIRT["identifier"])]
    unborn = [f"RLM-{920_000 + n},210{n}-01-01,M,coast,," for n in range(PERSON_DIRT["date"])]
    twice = _second_copies(rows, PERSON_DIRT["merged"], rng)
    return _mix(rows, [*columns, *nobody, *unborn, *twice], rng), dict(PERSON_DIRT)


def plant_events(rows: Sequence[str], rng: np.random.Generator) -> tuple[list[str], Counts]:
    """The rows of events.csv with bad ones and second copies among them."""
    makers: dict[str, Callable[[str, int], str]] = {
        "columns": lambda row, n: ",".join(row.split(",")[: 2 + n % 3]),
        "identifier": lambda row, n: _replace(row, {0: NOT_IDS[n % len(NOT_IDS)]}),
        "date": lambda row, n: _replace(row, {1: NOT_DATES[n % len(NOT_DATES)]}),
        "value": lambda row, n: _replace(row, dict(zip((2, 3, 4), NOT_VALUES[n % len(NOT_VALUES)], strict=True))),
    }
    bad = [
        make(rows[source], n)
        for rule, make in makers.items()
        for n, source in enumerate(rng.choice(len(rows), EVENT_DIRT[rule], replace=False))
    ]
    return _mix(rows, [*bad, *_second_copies(rows, EVENT_DIRT["merged"], rng)], rng), dict(EVENT_DIRT)


def plant_images(
    good: Sequence[bytes], fresh: Sequence[bytes], anonymous: Sequence[bytes], rng: np.random.Generator
) -> tuple[list[bytes], Counts]:
    """Bad files: `fresh` ones cut short, notes that are no DICOM, `anonymous` ones, and second copies."""
    unreadable = [_cut(data, n) for n, data in enumerate(fresh)]
    copies = [good[source] for source in rng.choice(len(good), IMAGE_DIRT["merged"], replace=False)]
    return [*unreadable, *anonymous, *copies], dict(IMAGE_DIRT)


def total(*parts: Counts) -> Counts:
    """Counts by rule, summed."""
    summed: Counter[str] = Counter()
    for part in parts:
        summed.update(part)
    return dict(summed)


def _bad_line(line: bytes, rule: str, n: int) -> bytes:
    """A second copy of a line, or one at the next position that breaks a rule."""
    if rule == "merged":
        return line
    fields = line.split(b"\t")
    fields[1:3] = [str(int(fields[1]) + 1).encode(), b"."]
    if rule == "columns":
        return b"\t".join(fields[: 5 if n % 2 else -3])
    column, text = {
        "position": (1, (b"12x45", b"")[n % 2]),
        "allele": ((3, b"Q"), (4, b""), (3, b""), (4, b"A?"))[n % 4],
        "genotype": (9 + n, (b"0/7", b"0/x", b"")[n % 3]),
    }[rule]
    fields[column] = text
    return b"\t".join(fields)


def _second_copies(rows: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """Rows once more, half of them with the id spelt anew."""
    copies = [rows[source] for source in rng.choice(len(rows), count, replace=False)]
    return [_respelt(row, rng) if n % 2 else row for n, row in enumerate(copies)]


def _respelt(row: str, rng: np.random.Generator) -> str:
    normal = row.split(",")[0].upper().replace("_", "-")
    return _replace(row, {0: spell(normal, rng)})


def _replace(row: str, changes: dict[int, str]) -> str:
    fields = row.split(",")
    return ",".join(changes.get(column, text) for column, text in enumerate(fields))


def _mix(rows: Sequence[str], bad: Sequence[str], rng: np.random.Generator) -> list[str]:
    """The bad rows scattered among the others, whose order stays."""
    places = np.concatenate([np.arange(len(rows)), rng.uniform(0, len(rows), len(bad))])
    together = [*rows, *bad]
    return [together[i] for i in np.argsort(places, kind="stable")]


def _cut(data: bytes, n: int) -> bytes:
    """Half of the pixels missing, half of the header missing, or not DICOM at all."""
    return (data[:-400], data[:200], b"This file was lost in the migration of 2017.\n")[n % 3]
