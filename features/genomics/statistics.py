"""What counts say of a variant: alleles, missingness, HWE, how well ALT was imputed, and what was measured.

A haploid call was stored as two copies (as in plink). Where ploidy hangs on sex, men have one copy of X
and Y, and whoever's sex is unknown counts as a woman; Y is counted in men only; everyone has one copy
of MT. A heterozygous call of one copy gives half an allele, and `n_het_haploid` counts such. Where there are
dosages alleles are counted by them, and calls, missingness and HWE by the calls that they make.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.schemas import VARIANTS
from features.genomics.columns import at_least
from features.genomics.contigs import Region
from features.genomics.counts import CALLS, SEXES
from features.genomics.dosages import COPY
from features.genomics.hwe import hwe_of
from features.genomics.measures import MEASURES, summaries

CALLED = CALLS[:3]
_COUNTED = (*CALLED, "n_dosage", "dosage_sum")
_SCHEMA = pa.schema([field.with_nullable(True) for field in VARIANTS.schema])
PARQUET_OF_VARIANTS: dict[str, Any] = {"use_dictionary": ["build", "contig", "ref", "alt", "gene", "consequence"]}
"""Keys hardly come twice."""
_AT_ONCE = 4096
"""Rows: each call of numpy takes its time, however few they are."""
Columns = Mapping[str, pa.Array | pa.ChunkedArray]
Counts = Mapping[str, npt.NDArray[np.int64]]


def with_statistics(counted: DataFrame, people: Mapping[str, int], group: str | None) -> DataFrame:
    """`variants_of` the rows of a frame."""

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for variants in in_batches(batches, known, group):
            yield from variants.to_batches()

    known = dict(people)
    return counted.mapInArrow(rows, from_arrow_schema(_SCHEMA))


def in_batches(
    batches: Iterable[pa.RecordBatch], people: Mapping[str, int], group: str | None
) -> Iterator[pa.Table]:
    """`variants_of` the rows of a task, many at once."""
    for several in at_least(_AT_ONCE, batches):
        rows = pa.Table.from_batches(several)
        flat = [own.name for own in rows.schema if not pa.types.is_nested(own.type)]
        said = {name: rows[name].combine_chunks() if name in flat else rows[name] for name in rows.schema.names}
        yield variants_of(said, people, group)


def describe_rows(build: str, people: Mapping[str, int], group: str | None, said: Columns) -> pa.Table:
    """`variants_of` CANDIDATES of which none is of the same variant as another."""
    return variants_of({**said, "build": pa.repeat(build, len(said["region"]))}, people, group)


def variants_of(said: Columns, people: Mapping[str, int], group: str | None) -> pa.Table:
    """Rows of VARIANTS from the calls and dosages of each sex (null where calls tell all), `region`, and what else
    is `said` of the variants. MEASURES are summed up where they are there, and `impute_info` is worked out where
    it is not.

    `people` is the number of samples by suffix of SEXES: who was not called is missing. HWE is that of the counts
    that end in `group`; None tests nothing.
    """
    found = _alleles(said, people)
    if "impute_info" in said:
        found["impute_info"] = said["impute_info"]
    none = pa.nulls(len(said["region"]), pa.float64())
    tests = [none, none] if group is None else hwe_of(said, group)
    found |= dict(zip(("hwe_exact_p", "hwe_mid_p"), tests, strict=True))
    if MEASURES[0] in said:
        found |= summaries(said)
    every = {**said, **found}
    return pa.table([every[name] for name in _SCHEMA.names], names=_SCHEMA.names)


def _alleles(said: Columns, people: Mapping[str, int]) -> dict[str, pa.Array]:
    """The columns that hang on who has how many copies. On Y calls and dosages are those of men."""
    region = said["region"].to_numpy()
    on_y, of_men = region == Region.Y, np.isin(region, (Region.X, Region.Y))
    of_sex = {f"{name}{sex}": said[f"{name}{sex}"].to_numpy() for name in CALLED for sex in SEXES}
    of_sex |= _dosages(said, of_sex)
    every = {name: np.where(on_y, of_sex[f"{name}_male"], of_sex[name]) for name in _COUNTED}
    haploid = {
        name: np.where(of_men, of_sex[f"{name}_male"], np.where(region == Region.MT, every[name], 0))
        for name in _COUNTED
    }
    samples = np.where(on_y, people["_male"], people[""])
    called = sum(every[name] for name in CALLED)
    count = (every["dosage_sum"] - haploid["dosage_sum"] / 2) / COPY
    number = 2 * every["n_dosage"] - haploid["n_dosage"]
    whole = {name: every[name] for name in CALLED}
    whole |= {"n_missing": samples - called, "n_het_haploid": haploid["n_het"], "allele_number": number}
    with np.errstate(divide="ignore", invalid="ignore"):
        frequency = count / number
        shares = {
            "allele_frequency": pa.array(frequency, mask=number <= 0),
            "call_rate": pa.array(called / samples, mask=samples <= 0),
            **_imputation(of_sex, said["dosage_variance"], region, every["n_dosage"], frequency),
        }
    return {name: pa.array(values) for name, values in (whole | {"allele_count": count}).items()} | shares


def _dosages(said: Columns, calls: Counts) -> dict[str, npt.NDArray[np.int64]]:
    """DOSED but for the variance; where calls tell all what these give (as `summarise.sums_of_calls`)."""
    het, hom_alt = calls["n_het"], calls["n_hom_alt"]
    given = {"dosage_square_sum": COPY**2 * (het + 4 * hom_alt), "dosage_excess_sum": COPY * hom_alt}
    for sex in SEXES:
        given[f"n_dosage{sex}"] = np.sum([calls[f"{call}{sex}"] for call in CALLED], axis=0)
        given[f"dosage_sum{sex}"] = COPY * (calls[f"n_het{sex}"] + 2 * calls[f"n_hom_alt{sex}"])
    return {name: pc.coalesce(said[name], pa.array(values)).to_numpy() for name, values in given.items()}


def _imputation(
    sums: Counts,
    variance: pa.Array,
    region: npt.NDArray[np.int32],
    n: npt.NDArray[np.int64],
    p: npt.NDArray[np.float64],
) -> dict[str, pa.Array]:
    """Where everyone has two copies what dosages have above one ALT in the mean (of calls, the share of ALT's
    homozygotes), and where it varies how well ALT was imputed: the variance of the dosages as a share of that of a
    binomial (MaCH's R2; Li et al., Genet Epidemiol 2010;34:816), and IMPUTE's INFO, what the probabilities leave
    unknown taken from 1 (Marchini & Howie, Nat Rev Genet 2010;11:499)."""
    squares, excess = sums["dosage_square_sum"], sums["dosage_excess_sum"]
    diploid = (region == Region.DIPLOID) & (n > 0)
    usual, varies = 2 * p * (1 - p), diploid & (p > 0) & (p < 1)
    unknown = variance.to_numpy(zero_copy_only=False)
    return {
        "mean_excess": pa.array(excess / COPY / n, mask=~diploid),
        "mach_r2": pa.array((squares / COPY**2 / n - 4 * p * p) / usual, mask=~varies),
        "impute_info": pa.array(1 - unknown / COPY**2 / n / usual, mask=~varies | np.isnan(unknown)),
    }
