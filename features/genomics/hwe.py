"""The exact test of Hardy-Weinberg equilibrium: Wigginton, Cutler, Abecasis, Am J Hum Genet 2005;76:887.

Given the allele counts, the number of heterozygotes has a known distribution; the exact p is the
probability of all genotype counts at most as likely as the ones seen. The mid-p counts those just as
likely by half, which makes the test less conservative: Graffelman, Moreno, Stat Appl Genet Mol Biol
2013;12:433. On X the test also asks whether men and women have the same allele frequency: Graffelman,
Weir, Heredity 2016;116:558.
"""

from collections.abc import Mapping
from math import lgamma, log

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.special import gammaln

from features.genomics.contigs import Region

_TIE = 1e-10
"""Two probabilities this close (relatively) are equal, but for rounding."""
_NEGLIGIBLE = 1e-13
"""What all that is left out of a p may be, beside the p."""
_WEIGHTS_AT_ONCE = 1 << 15
"""What a core's cache holds."""

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def hwe_kernel(n_hom_ref: int, n_het: int, n_hom_alt: int) -> tuple[float, float]:
    """Exact p and mid-p of one variant's genotype counts; not a number where nobody was called."""
    if n_hom_ref + n_het + n_hom_alt == 0:
        return np.nan, np.nan
    weights, seen = _seen(n_hom_ref + n_het + n_hom_alt, 2 * min(n_hom_ref, n_hom_alt) + n_het, n_het)
    less, equal = _tails(weights, seen)
    total = float(weights.sum())
    return min((less + equal) / total, 1.0), min((less + equal / 2) / total, 1.0)


def hwe_x_kernel(n_hom_ref: int, n_het: int, n_hom_alt: int, n_ref: int, n_alt: int) -> tuple[float, float]:
    """Exact p and mid-p of one variant on X: women's genotype counts, then men's allele counts; not a number
    where no woman was called.

    plink2 2.00a3.5 gives the same but for one mid-p in a hundred of small tables, where it overlooks that
    some other tables are just as likely.
    """
    women, men = n_hom_ref + n_het + n_hom_alt, n_ref + n_alt
    if women == 0:
        return np.nan, np.nan
    alleles = n_het + 2 * n_hom_alt + n_alt
    fewest = max(0, alleles - 2 * women)
    mens = _hypergeometric(women, men, alleles)
    rare = min(alleles - n_alt, 2 * women - alleles + n_alt)
    womens, womens_seen = _seen(women, rare, n_het)
    seen = float(mens[n_alt - fewest] * womens_seen / womens.sum())
    if seen == 0:
        return 0.0, 0.0
    floor = seen * _NEGLIGIBLE / len(mens)
    less = equal = 0.0
    for place in np.flatnonzero(mens >= floor):
        carried = alleles - fewest - int(place)
        _, weights = _weights(women, min(carried, 2 * women - carried), floor)
        tails = _tails(weights * (mens[place] / weights.sum()), seen)
        less, equal = less + tails[0], equal + tails[1]
    return min(less + equal, 1.0), min(less + equal / 2, 1.0)


def _tails(weights: Floats, seen: float) -> tuple[float, float]:
    """The sum of the weights below the one seen, and of those that equal it."""
    less = float(weights[weights < seen * (1 - _TIE)].sum())
    return less, float(weights[np.abs(weights - seen) <= seen * _TIE].sum())


def _seen(people: int, rare: int, n_het: int) -> tuple[Floats, float]:
    """The weights that matter beside the one of `n_het` heterozygotes, and that one."""
    expected = rare * (1 - rare / (2 * people))
    likely = rare % 2 + 2 * round((expected - rare % 2) / 2)
    about = _log_weight(people, rare, n_het) - _log_weight(people, rare, min(likely, rare))
    hets, weights = _weights(people, rare, float(np.exp(min(about, 0.0))) * _NEGLIGIBLE / (rare + 1))
    return weights, float(weights[(n_het - int(hets[0])) // 2])


def _log_weight(people: int, rare: int, n_het: int) -> float:
    """log P(heterozygotes = n_het), but for a constant; its error grows with people, to 1e-8 at a million."""
    rare_homs = (rare - n_het) // 2
    return n_het * log(2) - lgamma(n_het + 1) - lgamma(rare_homs + 1) - lgamma(people - n_het - rare_homs + 1)


def _weights(people: int, rare: int, floor: float) -> tuple[Floats, Floats]:
    """Numbers h of heterozygotes that so many of the rarer allele allow in `people`, ascending, and of each P(h)
    over P of the likeliest. Those far in the tails, where it is below `floor`, may be left out.

    From P(h + 2) / P(h) = 4 x rarer homozygotes x commoner ones / ((h + 1)(h + 2)), outwards from the
    mode, so that what underflows is nothing but the far tails.
    """
    first, end = 0, rare // 2 + 1
    if floor:
        # Bernstein's inequality for the rarer homozygotes, of whom about `mean` are expected; and some to spare.
        mean, exponent = rare**2 / (4 * people), -np.log(floor)
        reach = 64 + 2 * (2 / 3 * exponent + np.sqrt(2 * mean * exponent))
        expected = rare * (1 - rare / (2 * people))
        first, end = max(int(expected - reach) // 2, 0), min(int(expected + reach) // 2 + 1, end)
    hets = rare % 2 + 2 * np.arange(first, end, dtype=np.float64)
    rare_homs = (rare - hets[:-1]) / 2
    common_homs = people - hets[:-1] - rare_homs
    return hets, _from_mode(4 * rare_homs * common_homs / ((hets[:-1] + 1) * (hets[:-1] + 2)))


def _hypergeometric(women: int, men: int, alleles: int) -> Floats:
    """P(men carry m of the `alleles`), for every m that is possible, ascending."""
    m = np.arange(max(0, alleles - 2 * women), min(men, alleles), dtype=np.float64)
    weights = _from_mode((men - m) * (alleles - m) / ((m + 1) * (2 * women - alleles + m + 1)))
    found: Floats = weights / weights.sum()
    return found


def _from_mode(ratios: Floats) -> Floats:
    """The weights whose successive ratios fall as these do, the largest being 1."""
    mode = int(np.count_nonzero(ratios >= 1))
    below = np.cumprod(1 / ratios[:mode][::-1])[::-1]
    return np.concatenate([below, [1.0], np.cumprod(ratios[mode:])])


def hwe_p(counts: Counts) -> tuple[Floats, Floats]:
    """Exact p and mid-p of n variants, two arrays of n. `counts` is (n, 5): homozygous REF, heterozygous and
    homozygous ALT, then the REF and ALT of men on X, 0 elsewhere. Like counts are computed once."""
    different, places = np.unique(counts, axis=0, return_inverse=True)
    on_x = different[:, 3:].any(axis=1)
    pairs = np.empty((len(different), 2))
    pairs[~on_x] = hwe_kernels(different[~on_x, :3])
    pairs[on_x] = np.array([hwe_x_kernel(*map(int, row)) for row in different[on_x]]).reshape(-1, 2)
    found = pairs[places.reshape(-1)]
    return found[:, 0], found[:, 1]


def hwe_kernels(counts: Counts) -> Floats:
    """(n, 2): `hwe_kernel` of each of n rows of genotype counts, many at once; one by one where the weights of the
    heterozygotes leave what floats hold."""
    people, n_het = counts.sum(axis=1), counts[:, 1]
    rare = 2 * np.minimum(counts[:, 0], counts[:, 2]) + n_het
    first, end = _ranges(people, rare, n_het)
    found = np.full((len(counts), 2), np.nan)
    order = np.argsort(end - first)
    order = order[people[order] > 0]
    while len(order):
        size = np.arange(1, len(order) + 1) * (end - first)[order]
        some, order = np.split(order, [max(1, int(np.searchsorted(size, _WEIGHTS_AT_ONCE)))])
        found[some] = _many(people[some], rare[some], n_het[some], first[some], end[some])
    for row in np.flatnonzero(np.isnan(found[:, 0]) & (people > 0)):
        found[row] = hwe_kernel(*map(int, counts[row]))
    return found


def _ranges(people: Counts, rare: Counts, n_het: Counts) -> tuple[Counts, Counts]:
    """For each row the first of the possible numbers of heterozygotes that matters, by its place among them, and
    the one behind the last: as in `_weights`."""
    expected = rare * (1 - rare / np.maximum(2 * people, 1))
    likely = np.minimum(rare % 2 + 2 * np.round((expected - rare % 2) / 2), rare)
    about = np.minimum(_log_weights(people, rare, n_het) - _log_weights(people, rare, likely), 0)
    exponent = np.log(rare + 1) - np.log(_NEGLIGIBLE) - about
    mean = rare**2 / np.maximum(4 * people, 1)
    reach = 64 + 2 * (2 / 3 * exponent + np.sqrt(2 * mean * exponent))
    first = np.maximum((expected - reach) // 2, 0).astype(np.int64)
    return first, np.minimum((expected + reach) // 2 + 1, rare // 2 + 1).astype(np.int64)


def _log_weights(people: Counts, rare: Counts, n_het: Floats | Counts) -> Floats:
    """`_log_weight` of many."""
    rare_homs = (rare - n_het) / 2
    common_homs = people - n_het - rare_homs
    found: Floats = n_het * log(2) - gammaln(n_het + 1) - gammaln(rare_homs + 1) - gammaln(common_homs + 1)
    return found


def _many(people: Counts, rare: Counts, n_het: Counts, first: Counts, end: Counts) -> Floats:
    """(n, 2): both p of each row from the weights of its heterozygotes, upwards from the first; not a number where
    they leave what floats hold."""
    places = first[:, None] + np.arange(int((end - first).max()))
    hets = (rare % 2)[:, None] + 2.0 * places[:, :-1]
    rare_homs = (rare[:, None] - hets) / 2
    ratios = 4 * rare_homs * (people[:, None] - hets - rare_homs) / ((hets + 1) * (hets + 2))
    ratios[places[:, 1:] >= end[:, None]] = 0
    with np.errstate(over="ignore", invalid="ignore"):
        weights = np.cumprod(np.column_stack([np.ones(len(people)), ratios]), axis=1)
        seen = np.take_along_axis(weights, (n_het // 2 - first)[:, None], axis=1)
        less = np.sum(weights, axis=1, where=weights < seen * (1 - _TIE))
        equal = np.sum(weights, axis=1, where=np.abs(weights - seen) <= seen * _TIE)
        total = weights.sum(axis=1)
        both = np.stack([less + equal, less + equal / 2], axis=1) / total[:, None]
    both[~np.isfinite(total) | (seen[:, 0] < np.finfo(float).tiny)] = np.nan
    found: Floats = np.minimum(both, 1.0)
    return found


def hwe_of(variants: Mapping[str, pa.Array], group: str) -> list[pa.Array]:
    """Exact p and mid-p of each variant: null on Y and MT, of which everyone has one copy at most, and where
    nobody (on X: no woman) was called. On X those count whose sex is recorded. The test is of the people whose
    counts are in the columns that end in `group`."""
    regions = variants["region"].to_numpy()
    on_x = regions == Region.X
    everyone, women, men = (_columns(variants, f"{sex}{group}") for sex in ("", "_female", "_male"))
    mens = np.where(on_x[:, None], men[:, [0, 2]], 0)
    found = hwe_p(np.hstack([np.where(on_x[:, None], women, everyone), mens]))
    haploid = (regions == Region.Y) | (regions == Region.MT)
    return [pa.array(p, mask=haploid | np.isnan(p)) for p in found]


def _columns(batch: Mapping[str, pa.Array], suffix: str) -> Counts:
    names = (f"{name}{suffix}" for name in ("n_hom_ref", "n_het", "n_hom_alt"))
    return np.stack([batch[name].to_numpy() for name in names], axis=1)
