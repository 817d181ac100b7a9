"""The published predictions of one task, added up batch by batch."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.contract.runs import Runs, open_delta
from features.contract.schemas import PREDICTIONS
from features.contract.settings import ScoringSettings, TaskSettings
from models.report import plots
from models.report.document import Block, Cell, Figure, Figures, Paragraph, Table, Value
from models.report.words import ABSENT, EN_DASH, count, decimal, human, interval

FINE = 1000  # bins of risk from 0 to 1 that every batch is added to
BARS = 40
COLUMNS = ["status", "reason", "band", "risk", "risk_low", "risk_high", "model_version"]


@dataclass(slots=True)
class Band:
    """Sums over the people of one risk band; `bins` [FINE] counts them by risk."""

    n: int = 0
    risk: float = 0.0
    low: float = 0.0
    high: float = 0.0
    with_interval: int = 0
    bins: NDArray[np.int64] = field(default_factory=lambda: np.zeros(FINE, np.int64))

    def add(self, rows: pa.Table) -> None:
        risk = rows["risk"].to_numpy()
        both = rows.filter(pc.and_(pc.is_valid(rows["risk_low"]), pc.is_valid(rows["risk_high"])))
        self.n += len(risk)
        self.risk += float(risk.sum())
        self.low += float(both["risk_low"].to_numpy().sum())
        self.high += float(both["risk_high"].to_numpy().sum())
        self.with_interval += len(both)
        self.bins += np.histogram(risk, np.linspace(0, 1, FINE + 1))[0]


@dataclass(slots=True)
class Predicted:
    """A population by status and reason, by band, and by the bundle that scored it."""

    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    bundles: Counter[str] = field(default_factory=Counter)
    bands: dict[str, Band] = field(default_factory=dict)

    @property
    def persons(self) -> int:
        return self.statuses.total()

    @property
    def scored(self) -> int:
        return sum(band.n for band in self.bands.values())

    def add(self, batch: pa.RecordBatch) -> None:
        rows = pa.Table.from_batches([batch])
        for row in _counted(rows, ["status", "reason"]):
            self.statuses[(row["status"], row["reason"] or "")] += row["count_all"]
        scored = rows.filter(pc.equal(rows["status"], "scored"))
        for row in _counted(scored, ["model_version", "band"]):
            self.bundles[row["model_version"]] += row["count_all"]
            self.bands.setdefault(row["band"] or "", Band())
        for name, band in self.bands.items():
            band.add(scored.filter(pc.equal(pc.fill_null(scored["band"], ""), name)))


def read_predictions(lake: Location, runs: Runs, task: TaskSettings) -> Predicted:
    """The task's rows of its scoring date, at the published version; memory does not grow with them."""
    table = open_delta(lake, PREDICTIONS.path, runs.version(PREDICTIONS.path))
    if table is None:
        raise DataGateError(f"table {PREDICTIONS.path} is published but not in this lake; run score_population")
    wanted = (pc.field("model") == task.name) & (pc.field("as_of") == pa.scalar(task.scoring.as_of))
    found = Predicted()
    for batch in table.to_pyarrow_dataset().to_batches(columns=COLUMNS, filter=wanted):
        found.add(batch)
    return found


def population_blocks(
    predicted: Predicted, task: TaskSettings, digest: str, persons: int | None = None
) -> list[Block]:
    """Who was scored, at what risk; `digest` is the bundle that this page describes, `persons` how many
    people the population has by the counts of its own run."""
    if not predicted.persons:
        return [Paragraph(f"{ABSENT} Nobody has a prediction for {task.scoring.as_of}.", "warning")]
    blocks: list[Block] = [_statuses(predicted, persons)]
    if others := predicted.bundles.total() - predicted.bundles[digest]:
        text = f"{count(others)} of these predictions were made by another bundle than the one evaluated above."
        blocks.append(Paragraph(text, "warning"))
    if not predicted.scored:
        return [*blocks, Paragraph(f"{ABSENT} Nobody was scored, so there are no risks to show.", "note")]
    names = _in_order(predicted, task.scoring)
    return [*blocks, _bands(predicted, names, task.scoring), Figures([_figure(predicted, names, task)])]


def _counted(rows: pa.Table, by: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rows.group_by(by).aggregate([([], "count_all")]).to_pylist()
    return found


def _statuses(predicted: Predicted, persons: int | None) -> Table:
    rows: list[list[Cell]] = [
        [human(status), human(reason) if reason else "no reason needed" if status == "scored" else ABSENT, n]
        for (status, reason), n in sorted(
            predicted.statuses.items(), key=lambda item: (item[0][0] != "scored", item)
        )
    ]
    mark = "all of the above"
    if persons is not None:
        mark = (
            "✓ as in the population" if persons == predicted.persons else f"✗ the population has {count(persons)}"
        )
    return Table(
        "Everybody on the scoring date: scored + ineligible + refused = persons",
        ["Status", "Reason", "People"],
        [*rows, ["Persons", mark, predicted.persons]],
    )


def _bands(predicted: Predicted, names: list[str], scoring: ScoringSettings) -> Table:
    rows: list[list[Cell]] = []
    for name in names:
        band = predicted.bands[name]
        share = Value(f"{100 * band.n / predicted.scored:.1f} %", f"of {count(predicted.scored)} scored")
        rows.append([_band_name(name, scoring), band.n, share, _mean_risk(band)])
    caption = (
        "Predicted risk by band. In brackets the means of people's 95 % intervals, which say how sure the "
        "calibration is; events are not known yet on the scoring date"
    )
    return Table(caption, ["Band", "People", "Share", "Mean predicted risk"], rows)


def _mean_risk(band: Band) -> Value:
    mean, n = decimal(band.risk / band.n), f"n = {count(band.n)}"
    if band.with_interval < band.n:
        return Value(mean, f"({ABSENT} no interval for {count(band.n - band.with_interval)} people), {n}")
    return Value(mean, f"({interval(band.low / band.n, band.high / band.n)}), {n}")


def _in_order(predicted: Predicted, scoring: ScoringSettings) -> list[str]:
    """Rising thresholds; bands that the configuration does not know last."""
    known = sorted(scoring.bands, key=lambda name: scoring.bands[name])
    return [name for name in known if name in predicted.bands] + sorted(set(predicted.bands) - set(known))


def _band_name(name: str, scoring: ScoringSettings) -> str:
    if name not in scoring.bands:
        return human(name) or "No band"
    start = scoring.bands[name]
    above = [limit for limit in scoring.bands.values() if limit > start]
    return f"{human(name)}, {start:g}{EN_DASH}{min(above, default=1.0):g}"


def _figure(predicted: Predicted, names: list[str], task: TaskSettings) -> Figure:
    occupied = np.flatnonzero(sum(predicted.bands[name].bins for name in names))
    per_bar = -(-(int(occupied[-1]) + 1) // BARS)
    bars = -(-(int(occupied[-1]) + 1) // per_bar)
    edges = [index * per_bar / FINE for index in range(bars + 1)]
    people = {_band_name(name, task.scoring): _bars(predicted.bands[name], per_bar, bars) for name in names}
    frame = plots.Frame(
        f"{task.name}-risk",
        "Predicted risk of the population",
        "Histogram of people by predicted risk, in bands: "
        + "; ".join(
            f"{_band_name(name, task.scoring)}: {count(predicted.bands[name].n)} people" for name in names
        ),
    )
    caption = f"Predicted risk of {count(predicted.scored)} people on {task.scoring.as_of}, by band."
    return Figure(plots.risk_bands(frame, edges, people), caption)


def _bars(band: Band, per_bar: int, bars: int) -> list[int]:
    padded = np.zeros(per_bar * bars, np.int64)
    kept = band.bins[: per_bar * bars]
    padded[: len(kept)] = kept
    return [int(number) for number in padded.reshape(bars, per_bar).sum(axis=1)]
