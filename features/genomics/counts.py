"""How many people of each sex have which call of a variant: what every summary is summed from."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from features.genomics.contigs import Region
from features.genomics.packing import Codes
from features.genomics.sexes import Sex, Sexes, copies

Counts = npt.NDArray[np.int64]

CALLS = ("n_hom_ref", "n_het", "n_hom_alt", "n_missing")
"""By code: 0, 1, 2 and missing. A haploid call counts as homozygous."""
SEXES = {"": None, "_female": Sex.FEMALE, "_male": Sex.MALE}
COUNTS = tuple(f"{call}{suffix}" for suffix in SEXES for call in CALLS)
"""Everyone's counts, then women's and men's; those of unknown sex are in the first alone."""


def count_codes(codes: Codes, sexes: Sexes) -> Counts:
    """COUNTS of each variant: codes (variants, people) and the people's sexes in, (variants, 12) out."""
    of = np.stack([np.ones(len(sexes), bool), sexes == Sex.FEMALE, sexes == Sex.MALE]).astype(np.float32).T
    by_call = [(codes == code).astype(np.float32) @ of for code in range(len(CALLS))]  # exact up to 2^24 people
    return np.stack(by_call, axis=2).reshape(len(codes), len(COUNTS)).astype(np.int64)


def sole_carriers(codes: Codes, sexes: Sexes, places: Sequence[Region]) -> list[int | None]:
    """Which of the people carries each variant's ALT, where one alone does: perhaps a singleton. A heterozygous
    call of one copy is not believed."""
    carriers = (codes == 1) | (codes == 2)
    for row, place in enumerate(places):
        if place is not Region.DIPLOID:
            diploid, haploid = copies(sexes, place)
            carriers[row] &= diploid | (haploid & (codes[row] == 2))
    alone, first = carriers.sum(1) == 1, carriers.argmax(1)
    return [int(person) if only else None for person, only in zip(first, alone, strict=True)]
