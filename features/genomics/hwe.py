"""The exact test of Hardy-Weinberg equilibrium: Wigginton, Cutler, Abecasis, Am J Hum Genet 2005;76:887.

Given the allele counts, the number of heterozygotes has a known distribution; the exact p is the
probability of all genotype counts at most as likely as the ones seen. The mid-p counts those just as
likely by half, which makes the test less conservative: Graffelman, Moreno, Stat Appl Genet Mol Biol
2013;12:433.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame

AUTOSOMES = frozenset(str(number) for number in range(1, 23))

_TIE = 1e-10
"""Two probabilities this close (relatively) are equal, but for rounding."""

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def hwe_kernel(n_hom_ref: int, n_het: int, n_hom_alt: int) -> tuple[float, float]:
    """Exact p and mid-p of one variant's genotype counts; not a number where nobody was called."""
    if n_hom_ref + n_het + n_hom_alt == 0:
        return np.nan, np.nan
    weights = _weights(n_hom_ref, n_het, n_hom_alt)
    seen = weights[n_het // 2]
    less = float(weights[weights < seen * (1 - _TIE)].sum())
    equal = float(weights[np.abs(weights - seen) <= seen * _TIE].sum())
    total = float(weights.sum())
    return (less + equal) / total, (less + equal / 2) / total


def _weights(n_hom_ref: int, n_het: int, n_hom_alt: int) -> Floats:
    """P(heterozygotes = h) over P of the likeliest h, for every h these allele counts allow, ascending.

    From P(h + 2) / P(h) = 4 x rarer homozygotes x commoner ones / ((h + 1)(h + 2)), outwards from the
    mode, so that what underflows is nothing but the far tails.
    """
    rare = 2 * min(n_hom_ref, n_hom_alt) + n_het
    hets = np.arange(rare % 2, rare - 1, 2, dtype=np.float64)
    rare_homs = (rare - hets) / 2
    common_homs = n_hom_ref + n_het + n_hom_alt - hets - rare_homs
    ratios = 4 * rare_homs * common_homs / ((hets + 1) * (hets + 2))
    mode = int(np.count_nonzero(ratios >= 1))
    below = np.cumprod(1 / ratios[:mode][::-1])[::-1]
    return np.concatenate([below, [1.0], np.cumprod(ratios[mode:])])


def hwe_p(n_hom_ref: Counts, n_het: Counts, n_hom_alt: Counts) -> tuple[Floats, Floats]:
    """Exact p and mid-p of n variants (three arrays of n counts in, two of n out); like counts are
    computed once."""
    triples, places = np.unique(np.stack([n_hom_ref, n_het, n_hom_alt], axis=1), axis=0, return_inverse=True)
    pairs = np.array([hwe_kernel(*map(int, triple)) for triple in triples]).reshape(-1, 2)
    found = pairs[places.reshape(-1)]
    return found[:, 0], found[:, 1]


def with_hwe(variants: DataFrame) -> DataFrame:
    """`variants` with `hwe_exact_p` and `hwe_mid_p`: null off the autosomes, where the sexes differ in
    ploidy and haploid calls would look like a want of heterozygotes, and where nobody was called."""
    schema = f"{_ddl(variants)}, hwe_exact_p double, hwe_mid_p double"
    return variants.mapInArrow(_add_columns, schema)


def _add_columns(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        counts = (batch[name].to_numpy() for name in ("n_hom_ref", "n_het", "n_hom_alt"))
        sexed = np.array([contig not in AUTOSOMES for contig in batch["contig"].to_pylist()], bool)
        columns = [pa.array(p, mask=sexed | np.isnan(p)) for p in hwe_p(*counts)]
        names = [*batch.schema.names, "hwe_exact_p", "hwe_mid_p"]
        yield pa.RecordBatch.from_arrays([*batch.columns, *columns], names=names)


def _ddl(frame: DataFrame) -> str:
    return ", ".join(f"`{field.name}` {field.dataType.simpleString()}" for field in frame.schema)
