"""Figures as SVG text: numbers in, the same bytes out each time."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from models.evaluate.results import CalibrationBin, RiskHistogram, RocPoint

INK, QUIET, LINE = "#22313b", "#6b7a85", "#d5dce1"
BLUE, OCHRE, PALE = "#2b6a8f", "#c07f2a", "#eef3f6"
BANDS = ("#9dbfd1", "#e2b569", "#b5533c", "#7a5c8e", "#4f7d5c", "#55606a")
MINUS = "\N{MINUS SIGN}"
WIDTH = 4.6  # inches; at 400 px its text is about as large as the page's notes
STYLE = {
    "svg.hashsalt": "riskloom",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}
NOTHING = {"Date": None, "Creator": None, "Format": None, "Type": None}


@dataclass(frozen=True, slots=True)
class Frame:
    """What every figure needs: an id unlike any other on the page, a title, a description."""

    id: str
    title: str
    description: str


@dataclass(frozen=True, slots=True)
class Curve:
    label: str
    points: Sequence[RocPoint]


@dataclass(frozen=True, slots=True)
class Box:
    """A box of the flow: what it is, and its counts, a line each."""

    title: str
    lines: Sequence[str]


def roc(frame: Frame, curves: Sequence[Curve]) -> str:
    """Sensitivity against 1 - specificity; the first curve is the model."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)))
        for curve, colour, dashes in zip(curves, (BLUE, OCHRE, INK), ("-", (0, (5, 2)), ":"), strict=False):
            x = [point.false_positive_rate for point in curve.points]
            y = [point.true_positive_rate for point in curve.points]
            axes.plot(x, y, color=colour, linestyle=dashes, linewidth=1.8, label=curve.label)
        axes.set(
            xlim=(0, 1), ylim=(0, 1.005), xlabel=f"1 {MINUS} specificity", ylabel="Sensitivity", aspect="equal"
        )
        axes.grid(True)
        axes.legend(loc="lower right", fontsize=8, handlelength=2.6)

    return _render(frame, WIDTH, draw)


def calibration(frame: Frame, bins: Sequence[CalibrationBin], histogram: RiskHistogram) -> str:
    """Observed share against predicted risk with intervals; under it, how many people have which risk."""
    limit = _limit([*(bin.predicted for bin in bins), *(bin.high for bin in bins), *histogram.edges[-1:]])

    def draw(figure: Any) -> None:
        above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (4, 1), "hspace": 0.12})
        above.plot([0, limit], [0, limit], color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)))
        x, y = np.array([bin.predicted for bin in bins]), np.array([bin.observed for bin in bins])
        reach = np.array([[bin.observed - bin.low for bin in bins], [bin.high - bin.observed for bin in bins]])
        above.errorbar(x, y, np.maximum(reach, 0), fmt="o-", color=BLUE, ecolor=BLUE, ms=4, lw=1.2, elinewidth=1)
        above.set(xlim=(0, limit), ylim=(0, limit), ylabel="Observed share")
        above.grid(True)
        _people_by_risk(below, histogram)

    return _render(frame, WIDTH, draw)


def risk_bands(frame: Frame, edges: Sequence[float], people: Mapping[str, Sequence[int]]) -> str:
    """People by risk, stacked by band; `people` has len(edges) - 1 counts per band."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        bottom = np.zeros(len(edges) - 1)
        for (band, counts), colour in zip(people.items(), _colours(len(people)), strict=True):
            widths = np.diff(edges)
            axes.bar(
                edges[:-1], counts, widths, bottom, align="edge", color=colour, label=band, ec="white", lw=0.4
            )
            bottom += np.asarray(counts)
        axes.set(xlim=(edges[0], edges[-1]), xlabel="Predicted risk", ylabel="People")
        _count_axis(axes, 5)
        axes.legend(fontsize=8)

    return _render(frame, 3.0, draw)


def losses(frame: Frame, fits: Mapping[str, Sequence[tuple[int, float, float]]]) -> str:
    """Training loss (dotted) and tuning loss by epoch, of each fit (epoch, loss, tuning loss)."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for (fit, epochs), colour in zip(fits.items(), _colours(len(fits)), strict=True):
            epoch, loss, tuning_loss = zip(*epochs, strict=True)
            axes.plot(epoch, loss, color=colour, linestyle=":", linewidth=1.2)
            axes.plot(epoch, tuning_loss, color=colour, linewidth=1.8, label=fit)
        axes.set(xlabel="Epoch", ylabel="Loss (dotted: training)")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(True)
        axes.legend(fontsize=8)

    return _render(frame, 3.0, draw)


def trials(frame: Frame, scored: Sequence[tuple[int, float, Mapping[str, Any]]]) -> str:
    """A search: the score of each trial (number, score, settings) with the best so far, then the score by
    each setting. The first trial is what was configured."""
    numbers, scores = [number for number, _, _ in scored], [score for _, score, _ in scored]
    names = list(scored[0][2])

    def draw(figure: Any) -> None:
        whole, below = figure.subfigures(2, 1, height_ratios=(2, 1.4 * len(names)))
        above = whole.add_subplot()
        above.step(numbers, np.minimum.accumulate(scores), where="post", color=OCHRE, lw=1.2, label="best so far")
        above.plot(numbers, scores, "o", color=BLUE, ms=4, label="trial")
        above.set(xlabel="Trial (the first: as configured)", ylabel="Tuning loss")
        above.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        above.legend(fontsize=8)
        for axes, name in zip(np.ravel(below.subplots(len(names), 1, sharey=True)), names, strict=True):
            _score_by_setting(axes, name, [settings[name] for _, _, settings in scored], scores)

    return _render(frame, 2.4 + 1.5 * len(names), draw)


def flow(frame: Frame, rows: Sequence[Sequence[Box]]) -> str:
    """Stages from above to below; boxes of one stage side by side."""
    heights = [0.34 + 0.17 * max(len(box.lines) for box in row) for row in rows]
    gap = 0.26
    total = sum(heights) + gap * (len(rows) - 1) + 0.06

    def draw(figure: Any) -> None:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, WIDTH), ylim=(0, total))
        axes.axis("off")
        top = total - 0.03
        for row, height in zip(rows, heights, strict=True):
            _boxes(axes, row, top, height)
            if row is not rows[-1]:
                _arrow(axes, top - height, gap)
            top -= height + gap

    return _render(frame, total, draw, tight=False)


def _render(frame: Frame, height: float, draw: Callable[[Any], None], tight: bool = True) -> str:
    stream = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained" if tight else None)
        FigureCanvasSVG(figure)
        draw(figure)
        figure.savefig(stream, format="svg", metadata=NOTHING, transparent=True)
    return _inline(stream.getvalue(), frame)


def _inline(text: str, frame: Frame) -> str:
    """For a page that holds several: no prologue, ids of its own, and words for who cannot see it."""
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{frame.id}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{frame.id}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{frame.id}-\1)", body)
    words = f"<title>{escape(frame.title)}</title><desc>{escape(frame.description)}</desc>"
    label = escape(f"{frame.title}. {frame.description}")
    return re.sub(
        r"<svg\b([^>]*)>", lambda m: f'<svg role="img" aria-label="{label}"{m[1]}>{words}', body, count=1
    )


def _people_by_risk(axes: Any, histogram: RiskHistogram) -> None:
    edges, others = np.array(histogram.edges), np.array(histogram.others)
    axes.bar(edges[:-1], others, np.diff(edges), align="edge", color=LINE, label="no known event")
    axes.bar(edges[:-1], histogram.events, np.diff(edges), others, align="edge", color=OCHRE, label="event")
    axes.set(xlabel="Predicted risk", ylabel="People")
    _count_axis(axes, 2)
    axes.legend(fontsize=7, loc="upper right", ncols=2, handlelength=1, borderpad=0, columnspacing=1)


def _score_by_setting(axes: Any, name: str, values: Sequence[Any], scores: Sequence[float]) -> None:
    """Numbers along their axis, by order of magnitude where they span more than one; other settings side
    by side."""
    numeric = all(isinstance(value, int | float) for value in values)
    words = sorted({str(value) for value in values})
    axes.plot(values if numeric else [words.index(str(value)) for value in values], scores, "o", color=BLUE, ms=4)
    if not numeric:
        axes.set_xticks(range(len(words)), words)
    elif min(values) > 0 and max(values) > 10 * min(values):
        axes.set_xscale("log")
    axes.set(xlabel=name, ylabel="Tuning loss")
    axes.grid(True)


def _boxes(axes: Any, row: Sequence[Box], top: float, height: float) -> None:
    space = 0.12
    width = (WIDTH - 0.06 - space * (len(row) - 1)) / len(row)
    for index, box in enumerate(row):
        left = 0.03 + index * (width + space)
        shape = FancyBboxPatch(
            (left, top - height), width, height, "round,pad=0,rounding_size=0.06", fc=PALE, ec=LINE, lw=0.9
        )
        axes.add_patch(shape)
        axes.text(left + 0.09, top - 0.10, box.title, va="top", fontsize=8, weight="bold")
        for line, text in enumerate(box.lines):
            axes.text(left + 0.09, top - 0.29 - 0.17 * line, text, va="top", fontsize=8)


def _arrow(axes: Any, top: float, gap: float) -> None:
    arrow = {"arrowstyle": "-|>", "color": QUIET, "lw": 1, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (WIDTH / 2, top - gap + 0.03), (WIDTH / 2, top - 0.03), arrowprops=arrow)


def _count_axis(axes: Any, ticks: int) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(ticks, integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _colours(count: int) -> list[str]:
    return [BANDS[index % len(BANDS)] for index in range(count)]


def _limit(values: Sequence[float]) -> float:
    """The end of both axes: a little above the largest, at most 1."""
    return min(1.0, max([0.02, *values]) * 1.04)
