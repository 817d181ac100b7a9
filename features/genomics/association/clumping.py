"""Clumps of associated variants, each around one of small p that stands for it, as `plink1.9 --clump` has them.

The variant of smallest p takes those near it that go together with it, the next one that is not taken does so too,
and so on. There r2 is that of haplotypes, whose frequencies are the likeliest for the genotypes of both variants,
not of counts as in `linkage`: Gaunt, Rodriguez, Day, BMC Bioinformatics 2007;8:428. On X outside of its PAR a man
is one haplotype, and on Y there are men alone; there a heterozygous call of one copy does not count, but on MT it
does, as of a mixture.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf
from scipy.special import xlogy

from features.genomics.blocks import Masks
from features.genomics.contigs import Region, region_of
from features.genomics.packing import MISSING, Codes
from features.genomics.sexes import Sexes, copies
from features.genomics.structure.linkage import linked_pairs, ranked_by, taken

LARGEST_INDEX_P, LARGEST_OTHER_P = 1e-4, 0.01
MOST_R2 = 0.5
KILOBASES = 250
"""Defaults of `--clump-p1`, `-p2`, `-r2` and `-kb`."""
_PEOPLE_AT_ONCE = 4096

Matrix = npt.NDArray[np.float64]


def clump(
    associations: DataFrame,
    genotypes: DataFrame,
    people: Masks,
    sexes: Mapping[str, Sexes],
    build: str,
    p1: float = LARGEST_INDEX_P,
    p2: float = LARGEST_OTHER_P,
    r2: float = MOST_R2,
    kilobases: int = KILOBASES,
) -> DataFrame:
    """`variant_key, index_key` of the variants of all clumps, an index variant with itself.

    An index variant has p <= `p1`; what it takes has p < `p2` (at least `p1`), an r2 with it above `r2` in these
    people (of each block, who), and lies less than `kilobases` away. Where p is the same, as where
    it is too small for a number that is not 0, the larger `statistic` comes first, then the first by position and
    by key. `associations` are `variant_key, contig, position, p, statistic`, and read more than once: persist
    them.
    """
    candidates = associations.filter((sf.col("p") <= p1) | (sf.col("p") < p2))
    candidates = candidates.withColumn("region", region_of(build))
    # Variants of X's PAR go with none outside of it.
    contig = sf.concat_ws(":", "contig", sf.col("region").cast("string"))
    ranked = ranked_by(
        candidates.withColumns({"contig": contig, "weaker": -sf.abs("statistic")}),
        sf.struct("p", "weaker", "contig", "position", "variant_key"),
    )
    number, indexes = candidates.agg(sf.count("*"), sf.count_if(sf.col("p") <= p1)).collect()[0]
    chosen = np.concatenate([sexes[block][mask] for block, mask in people.items()])
    window = 1000 * kilobases - 1
    pairs = linked_pairs(genotypes, ranked, number, people, window, r2, Haplotypes(chosen))
    by_taker = ranked.join(taken(pairs, indexes), "rank", "left")
    members = by_taker.filter((sf.col("rank") < indexes) | sf.col("by").isNotNull())
    index = ranked.select(sf.col("rank").alias("index"), sf.col("variant_key").alias("index_key"))
    own = members.withColumn("index", sf.coalesce("by", "rank"))
    return own.join(index, "index").select("variant_key", "index_key")


@dataclass(frozen=True, slots=True)
class Haplotypes:
    """An `Above` of linkage by haplotypes of people of these `sexes`; a contig's name ends in its Region."""

    sexes: Sexes

    def __call__(self, most_r2: float, contig: str, codes: Codes, first: int) -> npt.NDArray[np.bool_]:
        region = Region(int(contig.rsplit(":", 1)[1]))
        diploid, haploid = copies(self.sexes, Region.DIPLOID if region is Region.MT else region)
        unknown = ~(diploid | haploid) | (haploid & (codes == 1))
        n, x, y, xy, both = _sums(np.where(unknown, MISSING, codes), first, np.where(haploid, 0.5, 1.0))
        return linked_haplotypes(n, x, y, xy, both, most_r2)


def _sums(codes: Codes, first: int, weight: Matrix) -> tuple[Matrix, ...]:
    """Of each of the first rows with each row, over people called in both: their number, the ALTs of the one and
    of the other, the products of these, and how many are heterozygous in both. Exact, for all are halves."""
    n, x, y, xy, both = (np.zeros((first, len(codes))) for _ in range(5))
    for start in range(0, codes.shape[1], _PEOPLE_AT_ONCE):
        part = codes[:, start : start + _PEOPLE_AT_ONCE]
        called, het = ((part != MISSING).astype(np.float32), (part == 1).astype(np.float32))
        count = called * part
        weighed = weight[start : start + _PEOPLE_AT_ONCE].astype(np.float32)
        n += (called[:first] * weighed) @ called.T
        x += (count[:first] * weighed) @ called.T
        y += (called[:first] * weighed) @ count.T
        xy += (count[:first] * weighed) @ count.T
        both += het[:first] @ het.T
    return n, x, y, xy, both


def linked_haplotypes(
    n: Matrix, x: Matrix, y: Matrix, xy: Matrix, both: Matrix, most_r2: float
) -> npt.NDArray[np.bool_]:
    """Whether r2 is above: D^2 > most_r2 x p (1 - p) q (1 - q), in haplotypes, not shares of them.

    Of 2n haplotypes, x have ALT at the one variant and y at the other; (xy - both) / 2 surely have both, and of
    each person who is heterozygous in both one more or none. D grows with how many more, so that where it is too
    small at either end the likeliest need not be known.
    """
    total, surely = 2 * n, (xy - both) / 2
    limit = most_r2 * x * (total - x) * y * (total - y)
    least, most = (total * (surely + more) - x * y for more in (0, both))
    found: npt.NDArray[np.bool_] = np.maximum(least**2, most**2) > limit
    open_ = np.nonzero(found & (both > 0))
    more = likeliest(surely[open_], (x - surely - both)[open_], (y - surely - both)[open_], n[open_], both[open_])
    found[open_] = (least[open_] + total[open_] * more) ** 2 > limit[open_]
    return found


def likeliest(surely: Matrix, one: Matrix, other: Matrix, n: Matrix, both: Matrix) -> Matrix:
    """How many of those heterozygous in both have both ALTs on one haplotype: the likeliest for Hardy-Weinberg
    proportions, a root of a cubic or an end. `surely`, `one` and `other` are sure haplotypes with both ALTs and
    with either."""
    neither = 2 * (n - both) - surely - one - other
    # 2 t^3 + b t^2 + c t + d = 0 where the expected share is the share that is taken.
    b = surely + neither - one - other - 3 * both
    c = surely * neither + (one + both) * (other + both) - both * (surely + neither)
    d = -both * surely * neither
    roots = [np.clip(root, 0, both) for root in _cubic(b / 2, c / 2, d / 2)]
    tried = np.stack([np.zeros_like(both), both, *roots])
    rest = both - tried
    likelihood = xlogy(surely, surely + tried) + xlogy(neither, neither + tried)
    likelihood += xlogy(one, one + rest) + xlogy(other, other + rest)
    likelihood += xlogy(both, (surely + tried) * (neither + tried) + (one + rest) * (other + rest))
    best: Matrix = np.take_along_axis(tried, likelihood.argmax(0)[None], 0)[0]
    return best


def _cubic(a: Matrix, b: Matrix, c: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Real roots of t^3 + a t^2 + b t + c, one of them three times where it is the only one."""
    q, r = (a * a - 3 * b) / 9, (2 * a**3 - 9 * a * b + 27 * c) / 54
    three = r * r < q**3
    width = np.sqrt(np.where(three, q, 0))
    angle = np.arccos(np.clip(np.divide(r, width**3, out=np.zeros_like(r), where=three), -1, 1))
    side = -np.sign(r) * np.cbrt(np.abs(r) + np.sqrt(np.maximum(r * r - q**3, 0)))
    single = side + np.divide(q, side, out=np.zeros_like(q), where=side != 0)
    turns = (0, 2 * np.pi, -2 * np.pi)
    first, second, third = (
        np.where(three, -2 * width * np.cos((angle + turn) / 3), single) - a / 3 for turn in turns
    )
    return first, second, third
