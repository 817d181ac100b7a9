"""How many people of each sex have which call of a variant: what every summary is summed from."""

import numpy as np

from features.genomics.contigs import Region
from features.genomics.packing import Codes
from features.genomics.sexes import Sex, Sexes, copies

CALLS = ("n_hom_ref", "n_het", "n_hom_alt", "n_missing")
"""By code: 0, 1, 2 and missing. A haploid call counts as homozygous."""
SEXES = {"": None, "_female": Sex.FEMALE, "_male": Sex.MALE}
COUNTS = tuple(f"{call}{suffix}" for suffix in SEXES for call in CALLS)
"""Everyone's counts, then women's and men's; those of unknown sex are in the first alone."""


def count_codes(codes: Codes, sexes: Sexes) -> tuple[int, ...]:
    """COUNTS of one variant: codes and sexes of n people."""
    found = np.bincount(codes + 4 * sexes, minlength=12).reshape(3, 4)
    return tuple(np.concatenate([found.sum(0), found[Sex.FEMALE], found[Sex.MALE]]).tolist())


def sole_carrier(codes: Codes, sexes: Sexes, place: Region) -> int | None:
    """Which of n people carries ALT, where one alone does: perhaps a singleton. A heterozygous call of one copy
    is not believed."""
    carriers = (codes == 1) | (codes == 2)
    if place is not Region.DIPLOID:
        diploid, haploid = copies(sexes, place)
        carriers &= diploid | (haploid & (codes == 2))
    found = np.flatnonzero(carriers)
    return int(found[0]) if len(found) == 1 else None
