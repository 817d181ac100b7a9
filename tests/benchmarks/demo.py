"""The demo from nothing: its time and memory, and its model beside baselines."""

import shutil
import sys
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

from features.contract.config import load_settings
from features.contract.paths import Location
from features.contract.runs import Runs
from jobs.cli.recovered import held_out_risks
from models.evaluate.bootstrap import difference, estimate
from models.evaluate.metrics import auroc_statistic
from tests.benchmarks.claims import Row
from tests.benchmarks.measure import Measured, measure

HOME = Path("build/bench/demo")
RISKLOOM = str(Path(sys.executable).parent / "riskloom")
GIB = 1 << 30


def run() -> list[Row]:
    """Two runs of the demo and the quality of its model; prints where the first run's time went."""
    shutil.rmtree(HOME, ignore_errors=True)
    raw, lake = str(HOME / "raw"), str(HOME / "lake")
    simulate = measure([RISKLOOM, "simulate", "--raw", raw])
    study = [RISKLOOM, "run", "conf/demo.yaml", "--raw", raw, "--lake", lake]
    first, second = measure(study), measure(study)
    _show_stages(first)
    return [*speed(simulate, first, second), *quality(raw, lake)]


def speed(simulate: Measured, first: Measured, second: Measured) -> list[Row]:
    """Wall time and memory of the demo, and of a second run with nothing new."""
    total, peak = simulate.seconds + first.seconds, max(simulate.peaks.tree_bytes, first.peaks.tree_bytes)
    again = {str(summary["status"]) for summary in second.summaries}
    return [
        Row("the demo after set-up", "at most 300 s", f"{total:.0f} s", total <= 300),
        Row("its resident memory in all", "at most 6 GiB", f"{peak / GIB:.2f} GiB", peak <= 6 * GIB),
        Row("a second run, nothing new", "at most 60 s", f"{second.seconds:.1f} s", second.seconds <= 60),
        Row("its stages that wrote", "none", ", ".join(sorted(again)), again == {"nothing new"}),
    ]


def quality(raw: str, lake: str) -> list[Row]:
    """The model beside the true risk, every single modality, and scikit-learn's baselines."""
    settings = load_settings("conf/demo.yaml", raw=raw, lake=lake)
    people = held_out_risks(settings, Runs.read(Location(settings.lake)))
    labels = people[f"y_{settings.tasks[0].outcome.name}"].to_numpy()
    n, events = len(labels), int(labels.sum())
    statistics = {
        name: auroc_statistic(labels, people[name].to_numpy())
        for name in people.column_names
        if name.startswith("risk_") or name == "true_risk"
    }
    found = {name: estimate(statistic, n, events) for name, statistic in statistics.items()}
    model, truth = found["risk_model"], found["true_risk"]
    assert model is not None and truth is not None
    gap = truth.value - model.value
    rows = [
        Row("held-out people", "at least 600", f"{n} ({events} events)", n >= 600),
        Row(
            "AUROC below the true risk's",
            "at most 0.03",
            f"{gap:.3f} ({model.value:.3f} of {truth.value:.3f})",
            gap <= 0.03,
        ),
    ]
    sklearn = metadata.version("scikit-learn")
    for name, statistic in statistics.items():
        if name in ("risk_model", "true_risk"):
            continue
        minus = difference(statistics["risk_model"], statistic, n, events)
        assert minus is not None
        single = "only" in name or "single" in name
        peer = name.removeprefix("risk_").replace("_", " ") + (
            "" if "only" in name else f" (scikit-learn {sklearn})"
        )
        figure = f"{minus.value:+.3f} ({minus.low:+.3f} to {minus.high:+.3f})"
        rows.append(
            Row(f"AUROC above {peer}", "above 0" if single else "shown", figure, not single or minus.value > 0)
        )
    return rows


def _show_stages(first: Measured) -> None:
    stages = Table("stage", "seconds")
    for summary in first.summaries:
        stages.add_row(str(summary["job"]), str(summary["seconds"]))
    Console().print(stages)
