"""How well a task's model did beside its baselines: sentences, tables and figures."""

import math

from features.contract.settings import TaskSettings
from models.evaluate.results import CalibrationBin, Difference, Estimate, Evaluation, Metrics, Predictor
from models.report import plots, verdict
from models.report.document import Block, Bullets, Cell, Figure, Figures, Paragraph, Table
from models.report.words import (
    ABSENT,
    EVALUATIONS,
    FAMILIES,
    METRICS,
    count,
    difference,
    estimate,
    human,
    interval,
    joined,
    metric_name,
    people,
    spoken,
)

HOW = {
    "held_out": "No model saw these people, in training or in tuning.",
    "cross_validation": "Every person was predicted by models that were trained and tuned on other people.",
}
READING = (
    "C-index and AUROC: 0.5 is chance, 1 is perfect. AUPRC: chance is the share of events. Brier score: 0 is "
    "best. Observed / expected and calibration slope: 1 is right. In brackets 95 % intervals (person-level "
    "bootstrap)"
)


def summary(metrics: Metrics, task: TaskSettings) -> str:
    """One sentence in plain words."""
    evaluation = widest(metrics)
    about = f"{human(task.name)} ({meaning(task)})"
    found = _primary(evaluation)
    if evaluation is None or found is None or not math.isfinite(found.value):
        return f"{about}: {ABSENT} how well the model ranks people is not defined on these people."
    return (
        f"{about}: {_pair(evaluation)} the model gave the higher risk to the right one {100 * found.value:.0f} "
        f"times in 100 ({metric_name(evaluation.primary)} {estimate(found)}; "
        f"{EVALUATIONS[evaluation.evaluation].lower()}); {verdict.against_best(evaluation)}."
    )


def meaning(task: TaskSettings) -> str:
    """The outcome in words: an event by the horizon, or a gene carried."""
    name = spoken(task.outcome.name)
    if task.outcome.genes:
        return f"{name} (a non-silent variant in {joined(task.outcome.genes)})"
    return f"{name} within {count(task.outcome.horizon_days)} days"


def widest(metrics: Metrics) -> Evaluation | None:
    """The evaluation on most people; on equal numbers the first."""
    return max(metrics.evaluations, key=lambda item: item.n, default=None)


def evaluation_blocks(evaluation: Evaluation, task: TaskSettings) -> list[Block]:
    """Who was judged, how each predictor did, what the differences say, and the figures."""
    blocks: list[Block] = [
        Paragraph(_who(evaluation)),
        _scores(evaluation),
        _differences(evaluation),
        Paragraph(f"Model and best baseline. {_sentence(verdict.against_best(evaluation))}", "note"),
    ]
    if any("imaging" in predictor.modalities for predictor in evaluation.predictors):
        blocks.append(Paragraph(f"Imaging. {verdict.imaging(evaluation)}", "note"))
    return [*blocks, *_figures(evaluation, task)]


def notes(metrics: Metrics) -> list[Block]:
    if not metrics.notes:
        return []
    return [Paragraph("Notes from training and evaluation:"), Bullets(list(metrics.notes))]


def _who(evaluation: Evaluation) -> str:
    censored = f", {count(evaluation.censored)} of unknown status at the horizon" if evaluation.censored else ""
    return f"{HOW[evaluation.evaluation]} Here {people(evaluation.n, evaluation.events)}{censored}."


def _pair(evaluation: Evaluation) -> str:
    if evaluation.primary == "c_index":
        return "of two people, one of whom has it sooner,"
    return "of two people, one with it and one without,"


def _model(evaluation: Evaluation) -> Predictor | None:
    return next((item for item in evaluation.predictors if item.family == "model"), None)


def _primary(evaluation: Evaluation | None) -> Estimate | None:
    model = None if evaluation is None else _model(evaluation)
    return None if evaluation is None or model is None else model.metrics.get(evaluation.primary)


def _scores(evaluation: Evaluation) -> Table:
    names = [name for name in METRICS if any(name in item.metrics for item in evaluation.predictors)]
    names += sorted({name for item in evaluation.predictors for name in item.metrics} - set(METRICS))
    rows: list[list[Cell]] = []
    for item in evaluation.predictors:
        best = ", best on the tuning people" if item.name == evaluation.best_baseline else ""
        what = f"{FAMILIES[item.family]}{best}; {joined(item.modalities)}"
        rows.append([verdict.predictor_name(item), what, *(_score(item, name) for name in names)])
    return Table(READING, ["Predictor", "What it is", *map(metric_name, names)], rows)


def _score(predictor: Predictor, metric: str) -> Cell:
    return estimate(predictor.metrics.get(metric), "not defined on these people")


def _differences(evaluation: Evaluation) -> Block:
    if not evaluation.differences:
        return Paragraph(f"{ABSENT} No difference between predictors is defined on these people.", "quiet")
    rows: list[list[Cell]] = [
        [_compared(evaluation, item), difference(item.estimate), verdict.verdict(evaluation, item)]
        for item in evaluation.differences
    ]
    caption = "Differences on the same people, drawn together, with 95 % intervals"
    return Table(caption, ["Difference", "Value", "What it says"], rows)


def _compared(evaluation: Evaluation, item: Difference) -> str:
    names = [verdict.name_in(evaluation, name) for name in (item.name, item.against)]
    return f"{metric_name(item.metric)}: {' minus '.join(names)}"


def _figures(evaluation: Evaluation, task: TaskSettings) -> list[Block]:
    model = _model(evaluation)
    if model is None:
        return [Paragraph(f"{ABSENT} This evaluation holds no model, so there are no figures.", "quiet")]
    drawn = [figure for figure in (_roc(evaluation, model, task), _calibration(evaluation, model, task)) if figure]
    missing = [] if model.roc else ["ROC curve (it needs people with and without an event)"]
    missing += [] if model.calibration else ["calibration (nobody's status at the horizon is known)"]
    blocks: list[Block] = [Figures(drawn)] if drawn else []
    if missing:
        blocks.append(Paragraph(f"{ABSENT} Not drawn: {joined(missing)}.", "quiet"))
    if model.calibration:
        blocks.append(_calibration_table(model))
    return blocks


def _roc(evaluation: Evaluation, model: Predictor, task: TaskSettings) -> Figure | None:
    drawn = [item for item in evaluation.predictors if item in (model,) or item.name == evaluation.best_baseline]
    drawn = sorted((item for item in drawn if item.roc), key=lambda item: item is not model)
    if not model.roc:
        return None
    curves = [plots.Curve(_label(item), item.roc) for item in drawn]
    words = "; ".join(f"{verdict.predictor_name(i)}: AUROC {estimate(i.metrics.get('auroc'))}" for i in drawn)
    frame = plots.Frame(f"{task.name}-{evaluation.evaluation}-roc", "ROC curve", words)
    return Figure(plots.roc(frame, curves), f"ROC curve. {words}.")


def _label(predictor: Predictor) -> str:
    found = predictor.metrics.get("auroc")
    value = f"\nAUROC {estimate(found).main} ({interval(found.low, found.high)})" if found else ""
    return f"{verdict.predictor_name(predictor)}{value}"


def _calibration(evaluation: Evaluation, model: Predictor, task: TaskSettings) -> Figure | None:
    if not model.calibration:
        return None
    words = (
        f"Observed share of events against predicted risk in {len(model.calibration)} groups of similar risk with "
        f"95 % Wilson intervals, {people(evaluation.n, evaluation.events)}; on the diagonal, risks are right"
    )
    frame = plots.Frame(f"{task.name}-{evaluation.evaluation}-calibration", "Calibration of the model", words)
    drawn = plots.calibration(frame, model.calibration, model.histogram)
    return Figure(drawn, f"Calibration of the model. {words}. Below: people by predicted risk.")


def _calibration_table(model: Predictor) -> Table:
    rows: list[list[Cell]] = [_bin(index, item) for index, item in enumerate(model.calibration, 1)]
    return Table(
        "Calibration of the model as numbers", ["Group", "Predicted", "Observed share"], rows, folded=True
    )


def _bin(index: int, item: CalibrationBin) -> list[Cell]:
    observed = f"{item.observed:.3f} ({interval(item.low, item.high)}), {people(item.n, item.events)}"
    return [str(index), f"{item.predicted:.3f}", observed]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
