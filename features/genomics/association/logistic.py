"""Logistic regression of an outcome on each of many variants beside the same covariates, by greatest likelihood.

Newton's steps are taken for all variants at once: the sums over people that a step wants are matrix products. They
begin one step from the covariates' own regression, whose weights all variants share. Where there is no greatest
likelihood, for the variant or a covariate tells somebody's outcome surely, it is penalised (Firth, Biometrika
1993;80:27; Heinze, Schemper, Stat Med 2002;21:2409), as `plink2 --glm` has it (`firth-fallback`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.genomics.association.regression import Alts, Flags, Matrix, inverses

MOST_STEPS, MOST_FIRTH_STEPS = 15, 1000
CONVERGED, FIRTH_CONVERGED = 1e-9, 1e-10
"""Steps, of slopes of what has a spread of about 1. Newton's next would be its square, Firth's a share of it."""
_LONGEST_STEP, _LARGEST_SHARE = 5.0, 0.9
_NO_ALLELE = 1e-6
"""Of a sum of ALTs: less is rounding."""
_WORSE = 1e-11
"""Of a likelihood: by so much rounding alone may lower it."""


@dataclass(frozen=True, slots=True)
class Logistic:
    """Regressions of a 0/1 `outcome` (people) on a variant and `covariates` (people, q), of which the first is the
    intercept; `null` (q) are the slopes without a variant, 0 where those have no end."""

    outcome: Matrix
    covariates: Matrix
    null: Matrix

    def separated(self, alts: Alts, centre: Matrix, n: npt.NDArray[np.int64]) -> tuple[Flags, Flags]:
        """Of variants with the mean `centre` over the n called: where all cases or all others have no ALT or no
        REF, which sends the slope to infinity, and where all or none are cases."""
        cases, carried = np.zeros(len(alts)), np.zeros(len(alts))
        for people, numbers, called in alts.pieces(centre):
            of_cases = called @ self.outcome[people]
            cases += of_cases
            carried += numbers @ self.outcome[people] + centre * of_cases
        others, carried_by_others = n - cases, centre * n - carried
        nobodys = [carried, carried_by_others, 2 * cases - carried, 2 * others - carried_by_others]
        return np.min(nobodys, 0) < _NO_ALLELE, np.minimum(cases, others) == 0

    def greatest_likelihood(self, alts: Alts, centre: Matrix) -> tuple[Matrix, Matrix]:
        """Slopes and standard errors of n variants, each less its `centre` (n); NaN where steps have no end."""
        slopes, errors = self._start(alts, centre), np.full(len(alts), np.nan)
        active = np.arange(len(alts))
        for _ in range(MOST_STEPS):
            score, information = self._sums(alts[active], centre[active], slopes[active])
            inverse = inverses(information)
            step = (inverse @ score[:, :, None])[:, :, 0]
            slopes[active] += step
            size = np.abs(step).max(1)
            done = size < CONVERGED
            errors[active[done]] = np.sqrt(inverse[done, -1, -1])
            active = active[~done & np.isfinite(size)]
            if not len(active):
                break
        return slopes[:, -1], errors

    def penalised(self, alts: Alts, centre: Matrix) -> tuple[Matrix, Matrix]:
        """The same with Firth's penalty, half the logarithm of the determinant of the information. A step that
        lowers the likelihood is halved, and every third is extrapolated, for their lengths fall by a share."""
        shape = len(alts), self.covariates.shape[1] + 1
        slopes, step, errors = np.zeros(shape), np.zeros(shape), np.full(len(alts), np.nan)
        best, active = np.full(len(alts), -np.inf), np.arange(len(alts))
        for number in range(MOST_FIRTH_STEPS):
            there = slopes[active] + step[active]
            likelihood, inverse = self._penalised_likelihood(alts[active], centre[active], there)
            worse = likelihood < best[active] - _WORSE * np.abs(likelihood)
            step[active[worse]] /= 2
            at, inverse = active[~worse], inverse[~worse]
            slopes[at], best[at] = there[~worse], likelihood[~worse]
            further = _bounded(self._penalised_step(alts[at], centre[at], slopes[at], inverse))
            size = np.abs(further).max(1)
            step[at] = further if number % 3 else _extrapolated(further, step[at])
            done = size < FIRTH_CONVERGED
            errors[at[done]] = np.sqrt(inverse[done, -1, -1])
            active = np.setdiff1d(active, at[done | ~np.isfinite(size)], assume_unique=True)
            if not len(active):
                break
        return slopes[:, -1], errors

    def _start(self, alts: Alts, centre: Matrix) -> Matrix:
        """Slopes (n, q + 1) one step from the covariates' own regression, as if nobody were missing."""
        mean = _expit(self.covariates @ self.null)
        weight = mean * (1 - mean)
        weighed = self.covariates * weight[:, None]
        score, square = np.zeros(len(alts)), np.zeros(len(alts))
        beside = np.zeros((len(alts), self.covariates.shape[1]))
        for people, numbers, _ in alts.pieces(centre):
            score += numbers @ (self.outcome - mean)[people]
            beside += numbers @ weighed[people]
            square += numbers**2 @ weight[people]
        told = beside @ inverses((weighed.T @ self.covariates)[None])[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.nan_to_num(score / (square - (told * beside).sum(1)))
        return np.column_stack([self.null - told * slope[:, None], slope])

    def _at(self, alts: Alts, centre: Matrix, slopes: Matrix) -> Iterator[tuple[slice, Matrix, Matrix, Matrix]]:
        """Some people after others: which, the variants' numbers, what is expected of the outcome, and its
        variance; where a call is missing the outcome itself, and 0."""
        for people, numbers, called in alts.pieces(centre):
            mean = slopes[:, :-1] @ self.covariates[people].T
            mean += slopes[:, -1:] * numbers
            mean = _expit(mean)
            weight = mean * (1 - mean)
            if not called.all():
                weight *= called
                mean = np.where(called, mean, self.outcome[people])
            yield people, numbers, mean, weight

    def _sums(self, alts: Alts, centre: Matrix, slopes: Matrix) -> tuple[Matrix, Matrix]:
        """The score (n, q + 1) and the information (n, q + 1, q + 1)."""
        score, information = np.zeros_like(slopes), _Information(*slopes.shape)
        for people, numbers, mean, weight in self._at(alts, centre, slopes):
            information.add(self.covariates[people], numbers, weight)
            rest = self.outcome[people] - mean
            score += _by_predictor(rest, self.covariates[people], numbers)
        return score, information.matrices()

    def _penalised_likelihood(self, alts: Alts, centre: Matrix, slopes: Matrix) -> tuple[Matrix, Matrix]:
        """The logarithm of the likelihood with its penalty (n), and the inverse of the information."""
        likelihood, information = np.zeros(len(alts)), _Information(*slopes.shape)
        for people, numbers, mean, weight in self._at(alts, centre, slopes):
            information.add(self.covariates[people], numbers, weight)
            chance = np.where(self.outcome[people] == 1, mean, 1 - mean)
            likelihood += np.log(np.maximum(chance, np.finfo(float).tiny)).sum(1)
        matrices = information.matrices()
        return likelihood + np.linalg.slogdet(matrices)[1] / 2, inverses(matrices)

    def _penalised_step(self, alts: Alts, centre: Matrix, slopes: Matrix, inverse: Matrix) -> Matrix:
        """Newton's step as if there were, of each person's leverage, half a case and half none more."""
        score, information = np.zeros_like(slopes), _Information(*slopes.shape)
        upper = np.triu_indices(self.covariates.shape[1])
        of_pairs = inverse[:, *upper] * np.where(upper[0] == upper[1], 1, 2)
        for people, numbers, mean, weight in self._at(alts, centre, slopes):
            own = self.covariates[people]
            leverage = of_pairs @ (own[:, upper[0]] * own[:, upper[1]]).T
            leverage += numbers * (2 * inverse[:, -1, :-1] @ own.T + numbers * inverse[:, -1:, -1])
            rest = self.outcome[people] - mean + weight * leverage * (0.5 - mean)
            score += _by_predictor(rest, own, numbers)
            information.add(own, numbers, weight * (1 + leverage))
        return (inverses(information.matrices()) @ score[:, :, None])[:, :, 0]


class _Information:
    """Sums of weighed products of the predictors of n variants, the last of which is the variant itself."""

    def __init__(self, variants: int, predictors: int) -> None:
        self._upper = np.triu_indices(predictors - 1)
        self._pairs = np.zeros((variants, len(self._upper[0])))
        self._last = np.zeros((variants, predictors))

    def add(self, covariates: Matrix, numbers: Matrix, weight: Matrix) -> None:
        self._pairs += weight @ (covariates[:, self._upper[0]] * covariates[:, self._upper[1]])
        self._last += _by_predictor(weight * numbers, covariates, numbers)

    def matrices(self) -> Matrix:
        predictors = self._last.shape[1]
        found = np.empty((len(self._last), predictors, predictors))
        found[:, *self._upper], found[:, *self._upper[::-1]] = self._pairs, self._pairs
        found[:, -1], found[:, :, -1] = self._last, self._last
        return found


def logistic(outcome: Matrix, covariates: Matrix) -> Logistic:
    """Of a 0/1 outcome (people) on covariates (people, k) without an intercept."""
    predictors = np.column_stack([np.ones(len(outcome)), covariates])
    slopes = np.zeros(predictors.shape[1])
    for _ in range(MOST_STEPS):
        mean = _expit(predictors @ slopes)
        information = (predictors * (mean * (1 - mean))[:, None]).T @ predictors
        step = inverses(information[None])[0] @ (predictors.T @ (outcome - mean))
        slopes += step
        if np.abs(step).max() < CONVERGED:
            return Logistic(outcome, predictors, slopes)
    return Logistic(outcome, predictors, np.zeros_like(slopes))


def _by_predictor(rest: Matrix, covariates: Matrix, numbers: Matrix) -> Matrix:
    """Sums over people of what is left, times each covariate and last the variant: (n, q + 1)."""
    return np.column_stack([rest @ covariates, np.einsum("ij,ij->i", rest, numbers)])


def _bounded(step: Matrix) -> Matrix:
    longest = np.abs(step).max(1, keepdims=True, initial=0)
    found: Matrix = step * (_LONGEST_STEP / np.maximum(longest, _LONGEST_STEP))
    return found


def _extrapolated(step: Matrix, before: Matrix) -> Matrix:
    """All the steps to come at once, if each is the same share of the one before (Aitken)."""
    share = (step * before).sum(1) / np.maximum((before * before).sum(1), np.finfo(float).tiny)
    found: Matrix = step / (1 - np.clip(share, 0, _LARGEST_SHARE))[:, None]
    return found


def _expit(along: Matrix) -> Matrix:
    with np.errstate(over="ignore"):
        found: Matrix = 1 / (1 + np.exp(-along))
    return found
