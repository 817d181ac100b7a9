"""Least squares of an outcome on each of many variants beside the same covariates, as `plink2 --glm` has them.

Everything is sums over people: of ALT counts with themselves, the covariates and the outcome, which matrix
products give for many variants at once, and of covariates and outcome with themselves, which are known once and
from which the people that a variant lacks are taken. So a missing call leaves a person out of that variant's
regression alone, and exactly.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from features.genomics.dosages import COPY, Dosages
from features.genomics.dosages import MISSING as NO_DOSAGE
from features.genomics.packing import MISSING, Codes

MOST_VIF = 50.0
MOST_CORRELATION = 0.999
"""Of one predictor with another. Both limits are those of `plink2 --vif` and `--max-corr`, its defaults."""
PEOPLE_AT_ONCE = 2048
_NOTHING = 1e-18
"""Of an outcome's spread: what rounding leaves of one that does not vary."""

Matrix = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class NoResult(StrEnum):
    """Why a variant has no result."""

    CONSTANT = "constant"
    """Everyone used has the same genotype, or the same outcome."""
    COLLINEAR = "collinear"
    """A covariate tells the genotype, or covariates each other, in those used: by MOST_VIF or MOST_CORRELATION."""
    TOO_FEW = "too_few"
    """As many numbers to be estimated as people, or more."""
    NOT_CONVERGED = "not_converged"


@dataclass(frozen=True, slots=True)
class Alts:
    """Numbers of ALTs as they are stored, (variants, people): codes of calls, or dosages."""

    stored: Codes | Dosages

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> "Alts":
        return Alts(self.stored[rows])

    @property
    def missing(self) -> int:
        """The largest number that is stored."""
        return MISSING if self.stored.dtype == np.uint8 else NO_DOSAGE

    @property
    def called(self) -> Flags:
        found: Flags = self.stored != self.missing
        return found

    @property
    def unit(self) -> float:
        return 1.0 if self.stored.dtype == np.uint8 else 1 / COPY

    def pieces(self, centre: Matrix) -> Iterator[tuple[slice, Matrix, Flags]]:
        """Some people after others: which, their numbers less the `centre` (variants), 0 where missing, and who
        was called."""
        for first in range(0, self.stored.shape[1], PEOPLE_AT_ONCE):
            people = slice(first, first + PEOPLE_AT_ONCE)
            part = Alts(self.stored[:, people])
            called = part.called
            numbers = part.stored * self.unit - centre[:, None]
            if not called.all():
                numbers *= called
            yield people, numbers, called


@dataclass(frozen=True, slots=True)
class Moments:
    """What n variants and k covariates have to do with each other, each about its mean over those called.

    `n`, `mean` and `square` (n) are of the ALT counts, `products` (n, k + 1) of these with covariates and outcome,
    `within[place]` (k + 1, k + 1) of covariates and outcome with each other: the first of all variants that lack
    nobody.
    """

    n: npt.NDArray[np.int64]
    mean: Matrix
    constant: Flags
    square: Matrix
    products: Matrix
    within: Matrix
    place: npt.NDArray[np.int64]


def moments(alts: Alts, columns: Matrix) -> Moments:
    """`columns` (people, k + 1) are covariates and the outcome, each with a mean of 0."""
    called = alts.called
    n = called.sum(1)
    known = np.where(called, alts.stored, 0)
    mean = known.sum(1, dtype=np.float64) * alts.unit / np.maximum(n, 1)
    largest, smallest = known.max(1, initial=0), alts.stored.min(1, initial=alts.missing)
    square, products = np.zeros(len(alts)), np.zeros((len(alts), columns.shape[1]))
    for people, numbers, _ in alts.pieces(mean):
        square += np.einsum("ij,ij->i", numbers, numbers)
        products += numbers @ columns[people]
    lacking = np.flatnonzero(n < called.shape[1])
    everyone = columns.T @ columns
    within = np.stack([everyone, *(_within(columns, everyone, called[row]) for row in lacking)])
    place = np.zeros(len(alts), np.int64)
    place[lacking] = np.arange(1, len(lacking) + 1)
    return Moments(n, mean, (n == 0) | (smallest == largest), square, products, within, place)


def _within(columns: Matrix, everyone: Matrix, called: Flags) -> Matrix:
    """Sums of products of those called, about their means, from those of everyone, whose means are 0; the fewer,
    these or the others, are summed over."""
    n = int(called.sum())
    if 2 * n < len(called):
        own = columns[called]
        sums, total = own.T @ own, own.sum(0)
    else:
        others = columns[~called]
        sums, total = everyone - others.T @ others, -others.sum(0)
    found: Matrix = sums - np.outer(total, total) / max(n, 1)
    return found


@dataclass(frozen=True, slots=True)
class Projection:
    """What the covariates tell of n variants: `slopes` (n, k), of both standardised, and the share `left` (n) of a
    variant's spread that they do not tell; `inverse` (k, k) of the covariates' correlations by `place`, and their
    `spread` (k)."""

    collinear: Flags
    slopes: Matrix
    left: Matrix
    inverse: Matrix
    spread: Matrix


def projection(found: Moments) -> Projection:
    """As `plink2` has it, a variant is collinear where one of its predictors, or a covariate, has a variance
    inflation factor above MOST_VIF, or two a correlation above MOST_CORRELATION."""
    covariates = found.within[:, :-1, :-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(np.einsum("ijj->ij", covariates))
        correlations = covariates / (spread[:, :, None] * spread[:, None, :])
        inverse = inverses(correlations)
        own = found.products[:, :-1] / (spread[found.place] * np.sqrt(found.square)[:, None])
        slopes = (inverse[found.place] @ own[:, :, None])[:, :, 0]
        left = 1 - (own * slopes).sum(1)
        inflation = np.einsum("ijj->ij", inverse)[found.place] + slopes**2 / left[:, None]
        highest = np.abs(np.tril(correlations, -1)).max((1, 2), initial=0)[found.place]
        highest = np.maximum(highest, np.abs(own).max(1, initial=0))
        fine = (highest <= MOST_CORRELATION) & _bearable(inflation).all(1) & _bearable(1 / left)
    return Projection(~fine, slopes, left, inverse, spread)


def _bearable(inflation: Matrix) -> Flags:
    """Below 1 it is but the rounding of an endless one."""
    found: Flags = (inflation > 0.5) & (inflation <= MOST_VIF)
    return found


def inverses(matrices: Matrix) -> Matrix:
    """Of each matrix; NaN for one that has none."""
    with np.errstate(invalid="ignore"):
        singular = ~(np.abs(np.linalg.det(matrices)) > 0)
    found = np.linalg.inv(np.where(singular[:, None, None], np.eye(matrices.shape[1]), matrices))
    found[singular] = np.nan
    return found


def collinear(covariates: Matrix) -> list[tuple[int, ...]]:
    """Columns (people, k) that no regression can tell apart: pairs by their correlation, or single ones by the
    variance inflation factor, numbered from 0."""
    with np.errstate(invalid="ignore"):
        correlations = np.corrcoef(covariates, rowvar=False).reshape(covariates.shape[1], -1)
    pairs = np.argwhere(np.abs(np.tril(correlations, -1)) > MOST_CORRELATION)
    if len(pairs):
        return [(int(other), int(one)) for one, other in pairs]
    inflation = np.diag(inverses(correlations[None])[0])
    return [(int(place),) for place in np.flatnonzero(~_bearable(inflation))]


def least_squares(found: Moments, projected: Projection) -> tuple[Matrix, Matrix, Flags]:
    """Slopes of the outcome per ALT and their standard errors (n), and whether the outcome does not vary.

    By Frisch and Waugh (Econometrica 1933;1:387): of what covariates leave of the outcome on what they leave of
    the counts.
    """
    k = found.products.shape[1] - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        told = found.within[:, :-1, -1] / projected.spread
        by_covariates = (told[:, None, :] @ projected.inverse @ told[:, :, None])[:, 0, 0]
        outcome = (found.within[:, -1, -1] - by_covariates)[found.place]
        square = found.square * projected.left
        own = (projected.slopes * told[found.place]).sum(1)
        product = found.products[:, -1] - np.sqrt(found.square) * own
        beta = product / square
        rest = np.maximum(outcome - beta * product, 0)
        se = np.sqrt(rest / (found.n - k - 2) / square)
    return beta, se, outcome <= _NOTHING * found.within[0, -1, -1]
