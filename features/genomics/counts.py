"""How many people of each sex have which call of a variant: what every summary is summed from."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from features.genomics.contigs import Region
from features.genomics.packing import Codes, pack
from features.genomics.sexes import Sex, Sexes, copies

Counts = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

CALLS = ("n_hom_ref", "n_het", "n_hom_alt", "n_missing")
"""By code: 0, 1, 2 and missing. A haploid call counts as homozygous."""
SEXES = {"": None, "_female": Sex.FEMALE, "_male": Sex.MALE}
COUNTS = tuple(f"{call}{suffix}" for suffix in SEXES for call in CALLS)
"""Everyone's counts, then women's and men's; those of unknown sex are in the first alone."""

_LOW_BITS = np.uint64(0x5555_5555_5555_5555)


def members(sexes: Sexes, chosen: npt.NDArray[np.bool_] | None = None) -> list[npt.NDArray[np.bool_]]:
    """Who is counted under each suffix of SEXES: (people) each; of `chosen` people alone, if given."""
    everyone = np.ones(len(sexes), bool) if chosen is None else chosen
    return [everyone if sex is None else everyone & (sexes == sex) for sex in SEXES.values()]


def count_calls(packed: npt.NDArray[np.uint8], groups: Sequence[npt.NDArray[np.bool_]]) -> Counts:
    """CALLS of each group of people, from packed calls (variants, bytes): (variants, 4 x groups).

    The two bits of a code are counted in words of 32 people, so that nothing is unpacked.
    """
    words = _words(packed)
    low, high = words & _LOW_BITS, (words >> np.uint64(1)) & _LOW_BITS
    by_code = low & ~high, high & ~low, low & high
    found = np.zeros((len(packed), len(groups), len(CALLS)), np.int64)
    for number, group in enumerate(groups):
        if not group.any():
            continue
        mask = _words(pack(group.astype(np.uint8))[None])
        for code, bits in enumerate(by_code, start=1):
            found[:, number, code] = np.bitwise_count(bits & mask).sum(axis=1, dtype=np.int64)
        found[:, number, 0] = group.sum() - found[:, number, 1:].sum(axis=1)
    return found.reshape(len(packed), -1)


def _words(packed: npt.NDArray[np.uint8]) -> Words:
    """(rows, bytes) as (rows, words of 8 bytes); what is padded is 0."""
    size = -(-packed.shape[1] // 8) * 8
    padded = np.zeros((len(packed), size), np.uint8)
    padded[:, : packed.shape[1]] = packed
    return padded.view(np.uint64)


def sole_carriers(codes: Codes, sexes: Sexes, places: Sequence[Region], counts: Counts) -> list[int | None]:
    """Which of the people carries each variant's ALT, where one alone does, in one copy: perhaps a singleton. A
    heterozygous call of one copy is not believed. `counts` are those of `count_calls`, everyone's first."""
    _, n_het, n_hom_alt = (counts[:, place] for place in range(3))
    perhaps = (n_het == 1) & (n_hom_alt == 0) | (np.array(places) != Region.DIPLOID)
    found: list[int | None] = [None] * len(codes)
    for row in map(int, np.flatnonzero(perhaps)):
        diploid, haploid = copies(sexes, places[row])
        in_one_copy = (codes[row] == 1) & diploid | (codes[row] == 2) & haploid
        in_two = (codes[row] == 2) & diploid
        if in_one_copy.sum() == 1 and not in_two.any():
            found[row] = int(in_one_copy.argmax())
    return found
