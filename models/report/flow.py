"""What became of every record and person, stage by stage, from the counts that `runs` keeps."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from features.contract.runs import Run
from models.evaluate.results import Estimate
from models.report import plots
from models.report.document import Block, Cell, Figure, Figures, Paragraph, Table
from models.report.words import ABSENT, count, estimate, human, job_name, joined, spoken

BALANCES = "balances"
NUMBERS = ("records", "expanded", "used", "merged")
SAFE_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")  # as settings name things; anything else may be a path
DIGEST = re.compile(r"[0-9a-f]{64}")
REASONS = ("excluded", "ineligible")  # people by why they were left out
MANY = 12  # sources of one stage; above, those that balance are one row
LONGEST_LINE = 34
LINES = 5
BALANCE_COLUMNS = ["Source", "Records", "Expanded", "Used", "Merged", "Quarantined", "Balance"]
WHAT_BALANCES = (
    "Nothing may be lost: records + expanded = used + merged + quarantined. Expanded counts the further rows "
    "that records gave (below zero where they gave none)."
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one source's records (`features.quality.Balance`, as `runs` keeps it)."""

    job: str
    source: str
    records: int
    expanded: int
    used: int
    merged: int
    quarantined: dict[str, int]

    @classmethod
    def of(cls, job: str, source: str, part: Mapping[str, Any]) -> Self:
        records, expanded, used, merged = (int(part.get(key, 0)) for key in NUMBERS)
        return cls(job, source, records, expanded, used, merged, dict(part.get("quarantined", {})))

    @classmethod
    def total(cls, entries: Sequence["Entry"]) -> Self:
        rules: Counter[str] = Counter()
        for entry in entries:
            rules.update(entry.quarantined)
        records, expanded, used, merged = (sum(getattr(entry, key) for entry in entries) for key in NUMBERS)
        source = f"{count(len(entries))} sources"
        return cls(entries[0].job, source, records, expanded, used, merged, dict(rules))

    @property
    def name(self) -> str:
        return f"{job_name(self.job)}: {self.source}"

    @property
    def off(self) -> int:
        """Records lost; 0 when the balance holds."""
        return self.records + self.expanded - self.used - self.merged - sum(self.quarantined.values())


def flow_blocks(runs: Sequence[Run]) -> list[Block]:
    """The figure, the balance of every source, refusals by rule, and each run's other counts."""
    counted = [run for run in runs if run.counts and run.job != "report"]
    if not counted:
        return [Paragraph(f"{ABSENT} No run behind these results has recorded counts.", "note")]
    entries = [entry for run in counted for entry in _entries(run)]
    blocks: list[Block] = [Figures([_figure(counted)])]
    if entries:
        blocks = [Paragraph(WHAT_BALANCES), *_off(entries), *blocks, _balances(entries), _quarantined(entries)]
    return [*blocks, *(table for run in counted for table in _others(run))]


def leaves(counts: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every count with the keys that lead to it; an estimate stays whole, beside its interval."""
    for key, value in counts.items():
        if isinstance(value, Mapping) and set(value) != set(Estimate.model_fields):
            yield from leaves(value, (*path, str(key)))
        else:
            yield (*path, str(key)), value


def _entries(run: Run) -> list[Entry]:
    """A run's balances; of many files those that do not balance, and the sum of the others."""
    balances = run.counts.get(BALANCES, {})
    found = [
        Entry.of(run.job, _source(name, i), part) for i, (name, part) in enumerate(sorted(balances.items()), 1)
    ]
    if len(found) <= MANY:
        return found
    right = [entry for entry in found if not entry.off]
    return [entry for entry in found if entry.off] + ([Entry.total(right)] if right else [])


def _off(entries: Sequence[Entry]) -> list[Block]:
    wrong = [entry.name for entry in entries if entry.off]
    return [Paragraph(f"The balance does not hold for {joined(wrong)}.", "warning")] if wrong else []


def _balances(entries: Sequence[Entry]) -> Table:
    rows: list[list[Cell]] = [
        [e.name, e.records, e.expanded, e.used, e.merged, sum(e.quarantined.values()), _mark(e)] for e in entries
    ]
    return Table("Raw records by source", BALANCE_COLUMNS, rows)


def _mark(entry: Entry) -> str:
    return f"✗ off by {count(entry.off)}" if entry.off else "✓ holds"


def _quarantined(entries: Sequence[Entry]) -> Block:
    rows: list[list[Cell]] = [
        [entry.name, human(rule), number]
        for entry in entries
        for rule, number in sorted(entry.quarantined.items())
    ]
    if not rows:
        return Paragraph("No record was quarantined.")
    return Table("Quarantined records by rule", ["Source", "Rule", "Records"], rows)


def _others(run: Run) -> list[Block]:
    rest = {key: value for key, value in run.counts.items() if key != BALANCES}
    rows = [_row(path, value) for path, value in leaves(rest) if not _is_for_jobs(path, value)]
    return [Table(f"{job_name(run.job)}: counts of the run", ["What", "Count"], rows)] if rows else []


def _is_for_jobs(path: tuple[str, ...], value: Any) -> bool:
    """Whether a later run needs it and no reader: what is said of a file or a basis by its digest, and lists."""
    return isinstance(value, list) or any(DIGEST.fullmatch(str(part)) for part in (*path, value))


def _source(name: str, index: int) -> str:
    """A source's name from the configuration, or a file's keyed digest; never a path."""
    if DIGEST.fullmatch(name):
        return f"file {name[:12]}"
    return spoken(name) if SAFE_NAME.fullmatch(name) else f"source {index}"


def _row(path: tuple[str, ...], value: Any) -> list[Cell]:
    return [": ".join(human(part) for part in path), _shown(value)]


def _shown(value: Any) -> Cell:
    if isinstance(value, Mapping):
        return estimate(Estimate.model_validate(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if math.isfinite(value) else f"{ABSENT} (not defined)"
    if value is None:
        return f"{ABSENT} (not counted)"
    if isinstance(value, int):
        return value
    return str(value)


def _figure(runs: Sequence[Run]) -> Figure:
    rows: list[list[plots.Box]] = []
    for stage in _stages(runs):
        boxes = [box for run in stage for box in _boxes(run)]
        rows += [boxes[start : start + 3] for start in range(0, len(boxes), 3)]
    words = "; ".join(f"{box.title}: {', '.join(box.lines)}" for row in rows for box in row)
    frame = plots.Frame("flow", "Counts through the stages", words)
    return Figure(plots.flow(frame, rows), "From raw records to predictions. The tables below have every count.")


def _stages(runs: Sequence[Run]) -> list[list[Run]]:
    """All ingests stand beside each other; every other job has its own row."""
    ingests = [run for run in runs if BALANCES in run.counts]
    return [stage for stage in (ingests, *([run] for run in runs if run not in ingests)) if stage]


def _boxes(run: Run) -> list[plots.Box]:
    name = job_name(run.job)
    if run.counts.get(BALANCES):
        return [plots.Box(name, _totals(Entry.total(_entries(run))))]
    parts = {part: counts for part, counts in run.counts.items() if isinstance(counts, Mapping)}
    if any(isinstance(value, int) for value in run.counts.values()) or not parts:
        return [plots.Box(name, _leading(run.counts))]
    return [plots.Box(f"{name}: {spoken(part)}", _leading(counts)) for part, counts in parts.items()]


def _totals(entry: Entry) -> list[str]:
    named = {"records": entry.records, "expanded": entry.expanded, "used": entry.used, "merged": entry.merged}
    return [f"{count(n)} {what}" for what, n in (named | {"quarantined": sum(entry.quarantined.values())}).items()]


def _leading(counts: Mapping[str, Any]) -> list[str]:
    """The counts at the top, large ones first, and who was left out; below the top where it has none."""
    top = {key: value for key, value in counts.items() if isinstance(value, int)}
    left_out = {key: sum(counts[key].values()) for key in REASONS if isinstance(counts.get(key), Mapping)}
    deeper = {" ".join(path[-2:]): n for path, n in leaves(counts) if isinstance(n, int)}
    chosen = sorted((top | left_out or deeper).items(), key=lambda item: -item[1])
    lines = [f"{count(n)} {spoken(key)}" for key, n in chosen[:LINES]]
    return [line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…" for line in lines]
