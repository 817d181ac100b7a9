"""What `metrics.json` in a bundle holds, for the report and whoever else reads it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Family = Literal["model", "single_modality", "baseline", "single_modality_baseline"]


class Result(BaseModel):
    """A part of the results: frozen, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Estimate(Result):
    """A number with its 95 % interval (person-level percentile bootstrap), people and events."""

    value: float
    low: float
    high: float
    n: int
    events: int


class RocPoint(Result):
    """One threshold on the risk: 1 - specificity and sensitivity."""

    false_positive_rate: float
    true_positive_rate: float
    threshold: float


class CalibrationBin(Result):
    """People of similar risk: mean predicted risk, and the observed share with a Wilson interval.

    For censored outcomes the share is weighted (IPCW); `n` counts people of known status.
    """

    predicted: float
    observed: float
    low: float
    high: float
    n: int
    events: int


class RiskHistogram(Result):
    """People by risk, [i] from `edges[i]` to `edges[i + 1]`, with and without a known event."""

    edges: list[float]
    events: list[int]
    others: list[int]


class Predictor(Result):
    """One predictor in one evaluation. `metrics` are by name: c_index (survival only), auroc, auprc,
    brier, observed_over_expected, calibration_slope; one that is undefined here is left out.

    A `single_modality_baseline` names in `kind` which baseline was best on the tuning people.
    """

    name: str
    family: Family
    modalities: list[str]
    kind: str | None = None
    metrics: dict[str, Estimate]
    roc: list[RocPoint]
    calibration: list[CalibrationBin]
    histogram: RiskHistogram


class Difference(Result):
    """A metric of `name` minus that of `against` on the same people, drawn together."""

    name: str
    against: str
    metric: str
    estimate: Estimate


class Evaluation(Result):
    """All predictors on the same people.

    `events` are those within the horizon, `censored` the people whose status there is unknown.
    `best_baseline` was chosen on the tuning people, not on these.
    """

    evaluation: Literal["held_out", "cross_validation"]
    n: int
    events: int
    censored: int
    primary: str
    best_baseline: str | None
    predictors: list[Predictor]
    differences: list[Difference]

    def predictor(self, name: str) -> Predictor:
        return next(predictor for predictor in self.predictors if predictor.name == name)


class Metrics(Result):
    """`metrics.json`. `notes` say in plain words what was sampled, skipped or could not be done."""

    task: str
    outcome: str
    kind: Literal["binary", "survival"]
    horizon_days: int
    modalities: list[str]
    evaluations: list[Evaluation]
    notes: list[str]

    def evaluation(self, name: str) -> Evaluation | None:
        return next((item for item in self.evaluations if item.evaluation == name), None)
