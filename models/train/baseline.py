"""The simple models that every network is printed beside, trained on the same people in one process.

A penalised logistic or Cox regression, and a gradient-boosted tree. `BaselineSettings.penalty` is a
ridge on standardised columns beside the mean log-likelihood, for both regressions alike.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from lifelines import CoxPHFitter
from lifelines.exceptions import ConvergenceError
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from features.contract.manifest import Manifest
from features.contract.training_settings import BaselineSettings
from models.evaluate.metrics import Floats
from models.evaluate.summary import Outcomes

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CONSTANT = 1e-8
FEW_VALUES = 2_000_000
Scorer = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Baselines:
    """Fitted baselines by name: each gives risks [N] for a design matrix [N, p]. `notes` say which
    could not be fitted."""

    scorers: dict[str, Scorer]
    notes: list[str] = field(default_factory=list)


def design_matrix(table: pa.Table, manifest: Manifest, modalities: list[str]) -> tuple[Floats, list[str]]:
    """Columns of the modalities, [N, p], and their names; NaN where a value or a modality is missing.

    Vectors as they are; an image as mean, standard deviation and five quantiles of each channel
    (0 to 255); and `has_<modality>` as 0 or 1.
    """
    blocks, names = [np.empty((len(table), 0))], list[str]()
    for modality in modalities:
        has = table[f"has_{modality}"].to_numpy().astype(float)
        values, columns = _values(table, manifest, modality)
        values[has == 0] = np.nan
        blocks += [values, has[:, None]]
        names += [*(f"{modality}:{column}" for column in columns), f"has_{modality}"]
    return np.concatenate(blocks, axis=1), names


def fit_baselines(
    design: Floats, outcomes: Outcomes, horizon_days: int, settings: BaselineSettings, seed: int = 1
) -> Baselines:
    """Fit on the people of `design` [N, p] (at most `max_rows`: the caller draws the sample)."""
    fitters: dict[str, Callable[[], Scorer]] = {
        "gradient_boosting": lambda: _gradient_boosting(design, outcomes, seed),
    }
    if outcomes.times is None:
        fitters["logistic"] = lambda: _logistic(design, outcomes, settings.penalty)
    else:
        fitters["cox"] = lambda: _cox(design, outcomes, horizon_days, settings.penalty)
    scorers, notes = {}, []
    for name, fit in sorted(fitters.items()):
        try:
            scorers[name] = fit()
        except (ConvergenceError, ValueError, np.linalg.LinAlgError) as error:
            notes.append(f"baseline {name} could not be fitted: {_first_line(error)}")
    return Baselines(scorers, notes)


def _values(table: pa.Table, manifest: Manifest, modality: str) -> tuple[Floats, list[str]]:
    column = table[f"x_{modality}"].combine_chunks()
    if modality in manifest.vocabulary:
        columns = manifest.vocabulary[modality]
        flat = column.flatten().to_numpy(zero_copy_only=False).astype(float)
        return flat.reshape(len(table), len(columns)), list(columns)
    shape = manifest.image_shape or []
    pixels = np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(len(table), -1, shape[-1])
    parts = [pixels.mean(1), pixels.std(1), *np.quantile(pixels, QUANTILES, axis=1)]
    labels = ["mean", "std", *(f"q{int(100 * q)}" for q in QUANTILES)]
    names = [f"{label}_{channel}" for label in labels for channel in range(shape[-1])]
    return np.concatenate(parts, axis=1).astype(float), names


def _preparation() -> Pipeline:
    """Training means for the missing, a flag for each column that misses some, unit variance."""
    return make_pipeline(
        SimpleImputer(strategy="mean", add_indicator=True, keep_empty_features=True), StandardScaler()
    )


def _gradient_boosting(design: Floats, outcomes: Outcomes, seed: int) -> Scorer:
    """Untuned; status at the horizon with IPCW weights where the outcome is censored."""
    known = outcomes.weights > 0
    model = HistGradientBoostingClassifier(random_state=seed, early_stopping=False, max_iter=100)
    with _threads_for(design):
        model.fit(design[known], _both(outcomes.case[known]), outcomes.weights[known])

    def risk(x: Floats) -> Floats:
        with _threads_for(x):
            return np.asarray(model.predict_proba(x)[:, 1])

    return risk


def _threads_for(design: Floats) -> Any:
    """One OpenMP thread for small data: beside busy neighbours, waiting threads cost tenfold."""
    return threadpool_limits(1 if design.size < FEW_VALUES else None, user_api="openmp")


def _logistic(design: Floats, outcomes: Outcomes, penalty: float) -> Scorer:
    strength = 1 / max(penalty * len(design), 1e-9)
    model = make_pipeline(_preparation(), LogisticRegression(C=strength, max_iter=2000))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(design, _both(outcomes.case))
        except ConvergenceWarning as warning:
            raise ValueError(f"no convergence: {warning}") from None
    return lambda x: np.asarray(model.predict_proba(x)[:, 1])


def _cox(design: Floats, outcomes: Outcomes, horizon_days: int, penalty: float) -> Scorer:
    """Penalised Cox regression; the risk is 1 - S(horizon | x)."""
    _both(outcomes.case)
    preparation = _preparation().fit(design)
    columns = preparation.transform(design)
    varying = np.flatnonzero(columns.std(0) > CONSTANT)
    frame = pd.DataFrame(columns[:, varying]).assign(time=outcomes.times, event=outcomes.events)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = CoxPHFitter(penalizer=penalty).fit(frame, "time", "event")

    def risk(x: Floats) -> Floats:
        prepared = pd.DataFrame(preparation.transform(x)[:, varying])
        return np.asarray(1 - model.predict_survival_function(prepared, times=[horizon_days]).to_numpy()[0])

    return risk


def _both(case: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if case.all() or not case.any():
        raise ValueError("the training people hold only one kind of outcome")
    return case


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
