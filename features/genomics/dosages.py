"""Dosages: how many ALTs a sample is expected to carry, where imputation tells more than a call.

They are whole numbers of 1/16,384 of an ALT, as plink2 stores them: `dosages` of `genotypes` has two bytes (little
endian) a sample, 0 to 2 ALTs, those of one copy twice as it is with calls, and 65,535 where nothing is known. A
dosage within 0.1 of a whole number is a call, another is none (`plink2 --hard-call-threshold`, its default).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from features.genomics.packing import MISSING as NO_CALL
from features.genomics.packing import Codes

COPY = 1 << 14
"""One ALT."""
MISSING = (1 << 16) - 1
DTYPE = "<u2"
_NEAR = COPY // 10
_FAR_FROM_ONE = 0.1 + 1e-9
"""Of probabilities that were rounded to one digit."""

Flags = npt.NDArray[np.bool_]
Dosages = npt.NDArray[np.uint16]
Floats = npt.NDArray[np.float64]


class WrongDosageError(ValueError):
    """A value is no number, or none that it can be; or there are too many or too few."""


@dataclass(frozen=True, slots=True)
class Imputed:
    """What is expected of the samples of one variant: `dosages`, None where calls tell all of it, and the sum of
    the variances of their ALT counts (in the square of the dosages' unit), which only probabilities tell."""

    dosages: Dosages | None
    variance: int | None = None


def or_called(dosages: Dosages, called: Codes | None) -> Dosages:
    """Where a dosage is missing, what was called."""
    if called is None:
        return dosages
    return np.where((dosages == MISSING) & (called != NO_CALL), called * np.uint16(COPY), dosages)


def from_probabilities(
    shares: Floats, haploid: Flags, allele: int, alleles: int, called: Codes | None
) -> tuple[Dosages, int]:
    """Dosages of one of the alleles, and the sum of their variances, from the shares of `as_shares`; where a
    sample's are NaN, what was called counts."""
    mean, square = np.empty(len(shares)), np.empty(len(shares))
    for copies, chosen in ((2, ~haploid), (1, haploid)):
        counts = genotype_counts(alleles, copies)[:, allele]
        own = shares[chosen, : len(counts)]
        mean[chosen], square[chosen] = own @ counts, own @ counts**2
    variance = np.nan_to_num(np.maximum(square - mean**2, 0))
    units = np.floor(variance * COPY**2 + 0.5).astype(np.int64)
    return or_called(rounded(mean), called), int(units.sum())


def as_shares(probabilities: Floats, haploid: Flags, alleles: int) -> Floats:
    """(samples, genotypes of two copies): probabilities as shares of their sum, NaN where none is given or all are
    0. WrongDosageError for too few of them, and for what is far from summing to 1."""
    number = np.where(haploid, alleles, len(genotype_alleles(alleles, 2)))
    given = (~np.isnan(probabilities)).sum(1)
    total = np.nansum(probabilities, axis=1)
    sums = np.abs(total - 1) <= _FAR_FROM_ONE
    if (probabilities < 0).any() or not ((given == 0) | ((given == number) & (sums | (total == 0)))).all():
        raise WrongDosageError
    with np.errstate(invalid="ignore", divide="ignore"):
        shares: Floats = probabilities / total[:, None]
    return shares


def as_copies(expected: Floats, haploid: Flags) -> Floats:
    """(samples, ALTs): what is expected of each ALT, that of one copy twice. WrongDosageError where all ALTs
    together are far more than the copies."""
    copies = np.where(haploid[:, None], 2 * expected, expected)
    if (np.nansum(copies, axis=1) > 2 + 2 * _FAR_FROM_ONE).any():
        raise WrongDosageError
    return copies


def rounded(expected: Floats) -> Dosages:
    """Of expected ALT counts, missing where NaN. WrongDosageError for what is not from 0 to 2."""
    units = np.floor(expected * COPY + 0.5)
    if (units > 2 * COPY).any() or (units < 0).any():
        raise WrongDosageError
    return np.where(np.isnan(units), MISSING, units).astype(np.uint16)


def calls_of(dosages: Dosages) -> Codes:
    """The codes of calls: the whole number that is near, or missing."""
    nearest = (dosages.astype(np.int32) + COPY // 2) // COPY
    near = np.abs(dosages.astype(np.int32) - nearest * COPY) <= _NEAR
    return np.where(near & (dosages != MISSING), nearest, NO_CALL).astype(np.uint8)


def are_calls(dosages: Dosages, codes: Codes) -> bool:
    """Whether these calls tell all that the dosages do."""
    return np.array_equal(dosages, np.where(codes == NO_CALL, MISSING, codes * np.uint16(COPY)))


def in_alts(dosages: Dosages) -> Floats:
    """As numbers of ALTs, NaN where missing."""
    return np.where(dosages == MISSING, np.nan, dosages / COPY)


MOST_ALLELES = 16
"""Of a variant with probabilities: genotypes are about half as many as its square."""


def genotype_alleles(alleles: int, copies: int) -> list[Sequence[int]]:
    """The alleles of each genotype of so many copies (1 or 2), in the order of VCF's GP and of BGEN.
    WrongDosageError for more than MOST_ALLELES."""
    if alleles > MOST_ALLELES:
        raise WrongDosageError
    if copies == 1:
        return [(a,) for a in range(alleles)]
    return [(a, b) for b in range(alleles) for a in range(b + 1)]


@cache
def genotype_counts(alleles: int, copies: int) -> npt.NDArray[np.int64]:
    """(genotypes, alleles): how many of each allele a genotype has; of one copy counted twice."""
    genotypes = genotype_alleles(alleles, copies)
    found = np.zeros((len(genotypes), alleles), np.int64)
    for row, genotype in enumerate(genotypes):
        for allele in genotype:
            found[row, allele] += 2 // copies
    return found


DOSED = (
    *("n_dosage", "n_dosage_female", "n_dosage_male", "dosage_sum", "dosage_sum_female", "dosage_sum_male"),
    *("dosage_square_sum", "dosage_excess_sum", "dosage_variance"),
)
"""What is counted of a variant's dosages in a block: how many are known and their sum, of everyone, women and men;
of everyone the sum of squares, of what is above one ALT, and of variances where probabilities tell them."""


def sum_dosages(dosages: Dosages, groups: Sequence[npt.NDArray[np.bool_]]) -> npt.NDArray[np.int64]:
    """Of (variants, samples): how many each group has and their sum, then the first's sum of squares, and of what
    is above one ALT: (variants, 2 x groups + 2)."""
    known = dosages != MISSING
    values = np.where(known, dosages, 0).astype(np.int64)
    numbers = [(known & group).sum(1) for group in groups]
    sums = [values @ group for group in groups]
    of_first = values[:, groups[0]]
    return np.stack([*numbers, *sums, (of_first**2).sum(1), np.maximum(of_first - COPY, 0).sum(1)], axis=1)
