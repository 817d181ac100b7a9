"""Who takes part in the regressions of a region of the genome, and beside which covariates, as plink2 has it.

On X outside of its PAR recorded sex is one more covariate where both sexes are among the people, unless the
covariates tell it; whoever has no recorded sex is left out there. On Y there are men alone. A covariate that does
not vary among the people of a region is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pyspark.sql import DataFrame

from features.contract.errors import DataGateError
from features.genomics.association.logistic import Logistic, logistic
from features.genomics.association.regression import Flags, Matrix, collinear
from features.genomics.contigs import Region
from features.genomics.sexes import Sex, Sexes

Places = npt.NDArray[np.int64]


class Outcome(StrEnum):
    """What an outcome is, which says how it is regressed."""

    QUANTITATIVE = "quantitative"
    BINARY = "binary"


@dataclass(frozen=True, slots=True)
class Cohort:
    """The chosen people, 8 (k + 1) + 9 bytes each: where they lie in each block, and in that order their `outcome`
    (n), `covariates` (n, k) and `sexes` (n)."""

    places: dict[str, Places]
    outcome: Matrix
    covariates: Matrix
    sexes: Sexes


def cohort_of(people: DataFrame, sexes: Mapping[str, Sexes], kind: Outcome) -> Cohort:
    """Whom `associate` is about, checked."""
    rows = people.select("sample_block", "sample_index", "outcome", "covariates").toPandas()
    rows = rows.sort_values(["sample_block", "sample_index"], ignore_index=True)
    if rows.empty:
        raise DataGateError("association: nobody is chosen; are there people with a genome and an outcome?")
    if rows.duplicated(["sample_block", "sample_index"]).any():
        raise DataGateError("association: a sample is chosen twice; give each one outcome")
    outcome = rows["outcome"].to_numpy(np.float64)
    covariates = _covariates(rows["covariates"])
    _check_outcome(outcome, kind)
    _check_covariates(covariates)
    places = {str(block): own.to_numpy(np.int64) for block, own in rows.groupby("sample_block")["sample_index"]}
    of_people = np.concatenate([sexes[block][own] for block, own in places.items()])
    return Cohort(places, outcome, covariates, of_people)


def _covariates(column: "pd.Series[Any]") -> Matrix:
    if column.isna().any():
        raise DataGateError("association: somebody has no covariates; leave such people out")
    sizes = column.map(len)
    if sizes.min() != sizes.max():
        raise DataGateError(
            f"association: people have from {sizes.min()} to {sizes.max()} covariates, expected one number"
        )
    return np.array(column.to_list(), np.float64).reshape(len(column), -1)


def _check_outcome(outcome: Matrix, kind: Outcome) -> None:
    if not np.isfinite(outcome).all():
        raise DataGateError("association: an outcome is no number; leave such people out")
    if kind is Outcome.BINARY and not np.isin(outcome, (0, 1)).all():
        raise DataGateError("association: an outcome is neither 0 nor 1; is it quantitative?")
    if outcome.min() == outcome.max():
        raise DataGateError(f"association: the outcome is the same for all {len(outcome):,} people")


def _check_covariates(covariates: Matrix) -> None:
    """Numbers of covariates are told as people count them, from 1."""
    if not np.isfinite(covariates).all():
        raise DataGateError("association: a covariate is no number; leave such people out, or fill it in")
    varying = np.flatnonzero(np.ptp(covariates, axis=0) > 0)
    told = collinear(covariates[:, varying])
    if told:
        which = "; ".join(" and ".join(str(varying[place] + 1) for place in places) for places in told)
        raise DataGateError(
            f"association: of {covariates.shape[1]} covariates the others tell number {which}; leave one out"
        )


@dataclass(frozen=True, slots=True)
class Design:
    """The people of a region: where they lie in each block, standardised covariates and the outcome, less its mean
    and for least squares less what covariates tell of it (n, k + 1), and how many copies an ALT of one is."""

    places: dict[str, Places]
    columns: Matrix
    regression: Logistic | None
    copies: float

    @property
    def people(self) -> int:
        return len(self.columns)


def design_of(cohort: Cohort, region: Region, kind: Outcome) -> Design:
    chosen, covariates = _of_region(cohort, region)
    standardised = _standardised(covariates)
    outcome = cohort.outcome[chosen]
    places, first = {}, 0
    for block, own in cohort.places.items():
        places[block] = own[chosen[first : first + len(own)]]
        first += len(own)
    regression = logistic(outcome, standardised) if kind is Outcome.BINARY else None
    rest = outcome - outcome.mean() if len(outcome) else outcome
    if kind is Outcome.QUANTITATIVE:
        rest = rest - standardised @ np.linalg.lstsq(standardised, rest, rcond=None)[0]
    copies = 0.5 if region in (Region.Y, Region.MT) else 1.0
    return Design(places, np.column_stack([standardised, rest]), regression, copies)


def _of_region(cohort: Cohort, region: Region) -> tuple[Flags, Matrix]:
    """Who takes part in a region (people), and their covariates."""
    men, women = cohort.sexes == Sex.MALE, cohort.sexes == Sex.FEMALE
    if region is Region.Y:
        return men, cohort.covariates[men]
    if region is not Region.X or not (men.any() and women.any()):
        return np.ones(len(men), bool), cohort.covariates
    known = men | women
    covariates = cohort.covariates[known]
    with_sex = np.column_stack([covariates, men[known]])
    varying = with_sex[:, np.ptp(with_sex, axis=0) > 0]
    return known, covariates if collinear(varying) else with_sex


def _standardised(covariates: Matrix) -> Matrix:
    """Those that vary (people, k), with means of 0 and variances of 1."""
    if not len(covariates):
        return covariates[:, :0]
    varying = covariates[:, np.ptp(covariates, axis=0) > 0]
    found: Matrix = (varying - varying.mean(0)) / varying.std(0)
    found -= found.mean(0)
    return found
