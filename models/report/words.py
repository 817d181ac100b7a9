"""Numbers and names as people read them; a number that is not there is an en dash, never NaN."""

import math
from datetime import datetime

from models.evaluate.results import Estimate
from models.report.document import Value

EN_DASH = "\N{EN DASH}"
ABSENT = EN_DASH
MINUS = "\N{MINUS SIGN}"
NARROW = 0.03  # an interval narrower than this shows three decimals

METRICS = {
    "c_index": "C-index",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "brier": "Brier score",
    "observed_over_expected": "Observed / expected",
    "calibration_slope": "Calibration slope",
}
FAMILIES = {
    "model": "model",
    "single_modality": "model on one modality",
    "baseline": "baseline",
    "single_modality_baseline": "baseline on one modality",
}
EVALUATIONS = {
    "held_out": "Held-out people",
    "cross_validation": "Cross-validation",
}
BASELINES = {
    "logistic": "Logistic regression",
    "cox": "Cox regression",
    "gradient_boosting": "Gradient boosting",
}
JOBS = {
    "ingest_genomics": "Genomics",
    "ingest_clinical": "Clinical histories",
    "ingest_imaging": "Imaging",
    "qc_genomes": "Genome QC",
    "relate_genomes": "Relatives",
    "infer_ancestry": "Ancestry",
    "score_genomes": "Polygenic scores",
    "build_features": "Features",
    "train_model": "Training",
    "score_population": "Scoring",
}


def human(key: str) -> str:
    """`held_out` is Held out."""
    text = key.replace("_", " ").strip()
    return text[:1].upper() + text[1:]


def spoken(key: str) -> str:
    """`type_2_diabetes` inside a sentence."""
    return key.replace("_", " ").strip()


def metric_name(metric: str) -> str:
    return METRICS.get(metric, human(metric))


def baseline_name(name: str) -> str:
    return BASELINES.get(name, human(name))


def job_name(job: str) -> str:
    return JOBS.get(job, human(job))


def count(number: int) -> str:
    return f"{number:,}"


def decimal(number: float, digits: int = 3) -> str:
    """A true minus sign; never `-0.000`."""
    if not math.isfinite(number):
        return ABSENT
    text = f"{number:.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text.lstrip("-")


def interval(low: float, high: float) -> str:
    """0.78-0.84 with an en dash; `-0.012 to 0.031` where a bound is negative and a dash would mislead."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "interval not defined"
    digits = 2 if high - low >= NARROW and low >= 0 else 3
    between = EN_DASH if low >= 0 else " to "
    return f"{decimal(low, digits)}{between}{decimal(high, digits)}"


def people(n: int, events: int) -> str:
    return f"n = {count(n)}, {count(events)} events"


def estimate(found: Estimate | None, why: str = "not defined here") -> Value:
    """`0.812 (0.78-0.84), n = 800, 213 events`; or an en dash and why."""
    if found is None or not math.isfinite(found.value):
        return Value(ABSENT, f"({why})")
    return Value(decimal(found.value), f"({interval(found.low, found.high)}), {people(found.n, found.events)}")


def difference(found: Estimate) -> Value:
    """As `estimate`, with a plus sign where it is positive and bounds to the third decimal."""
    shown = estimate(found)
    if shown.main == ABSENT:
        return shown
    bounds = f"({_bound(found.low)} to {_bound(found.high)}), {people(found.n, found.events)}"
    return Value(f"+{shown.main}" if found.value > 0 else shown.main, bounds)


def moment(when: datetime | None) -> str:
    return ABSENT if when is None else f"{when:%Y-%m-%d %H:%M} UTC"


def joined(items: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def _bound(number: float) -> str:
    """Enough decimals that a bound beside 0 is not shown as 0."""
    if not math.isfinite(number):
        return ABSENT
    digits = 3 if number == 0 or abs(number) >= 0.0005 else min(8, 1 - math.floor(math.log10(abs(number))))
    return decimal(number, digits)
