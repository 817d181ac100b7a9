"""What a difference between two predictors lets one say, and no more."""

from models.evaluate.results import Difference, Evaluation, Predictor
from models.report.words import baseline_name, difference, human, joined, metric_name

RISING = ("c_index", "auroc", "auprc")  # more is better
OF_ONE_MODEL = ("model", "single_modality")
TOGETHER = "the interval includes 0: the data cannot tell them apart"


def predictor_name(predictor: Predictor) -> str:
    """`only_imaging` is Model on imaging alone."""
    alone = f"on {joined(predictor.modalities)} alone"
    kinds = [baseline_name(kind) for kind in (predictor.kind or "").split(", ") if kind]
    kind = f" ({joined(kinds)})" if kinds else ""
    match predictor.family:
        case "model":
            return "Model"
        case "single_modality":
            return f"Model {alone}"
        case "single_modality_baseline":
            return f"Baseline {alone}{kind}"
        case "baseline":
            return f"{baseline_name(predictor.name)}{kind}"


def name_in(evaluation: Evaluation, name: str) -> str:
    known = {predictor.name: predictor for predictor in evaluation.predictors}
    return predictor_name(known[name]) if name in known else human(name)


def includes_zero(found: Difference) -> bool:
    """Also when a bound is not a number: then nothing is shown either."""
    return not (found.estimate.low > 0 or found.estimate.high < 0)


def verdict(evaluation: Evaluation, found: Difference) -> str:
    """A sentence about one difference; a side is taken only where the interval excludes 0."""
    if includes_zero(found):
        return f"{TOGETHER[0].upper()}{TOGETHER[1:]}."
    side = "higher" if found.estimate.low > 0 else "lower"
    better = (side == "higher") == (found.metric in RISING)
    judged = f", which is {'better' if better else 'worse'}" if found.metric in (*RISING, "brier") else ""
    return f"{name_in(evaluation, found.name)} is {side}{judged}; the interval excludes 0."


def against_best(evaluation: Evaluation) -> str:
    """Half a sentence: the model beside the best baseline."""
    best = evaluation.best_baseline
    if best is None:
        return "there is no baseline to compare it with"
    name = name_in(evaluation, best)
    model = next((item.name for item in evaluation.predictors if item.family == "model"), None)
    found = [item for item in evaluation.differences if (item.name, item.against) == (model, best)]
    if not found:
        return f"its difference from the best baseline ({name}) is not defined here"
    shown = f"{metric_name(found[0].metric)} minus that of the best baseline ({name}): {_shown(found[0])}"
    if includes_zero(found[0]):
        return f"{shown}; {TOGETHER}"
    return f"{shown}; the model is {'higher' if found[0].estimate.low > 0 else 'lower'}, the interval excludes 0"


def imaging(evaluation: Evaluation) -> str:
    """Whether images help: only a pair that differs in nothing but imaging can say."""
    found = next((item for item in evaluation.differences if _isolates_imaging(evaluation, item)), None)
    if found is None:
        return "No comparison here differs in imaging alone, so these results do not say whether imaging helps."
    shown = f"{metric_name(found.metric)} with imaging minus without: {_shown(found)}"
    if includes_zero(found):
        return f"{shown}. The interval includes 0: the data cannot tell whether imaging helps."
    side = "higher" if found.estimate.low > 0 else "lower"
    return f"{shown}. With imaging it is {side}; the interval excludes 0."


def _isolates_imaging(evaluation: Evaluation, found: Difference) -> bool:
    known = {predictor.name: predictor for predictor in evaluation.predictors}
    if found.metric not in RISING or not {found.name, found.against} <= set(known):
        return False
    one, other = known[found.name], known[found.against]
    more, less = set(one.modalities), set(other.modalities)
    same_kind = one.family in OF_ONE_MODEL and other.family in OF_ONE_MODEL
    return same_kind and less < more and more - less == {"imaging"}


def _shown(found: Difference) -> str:
    return str(difference(found.estimate))
