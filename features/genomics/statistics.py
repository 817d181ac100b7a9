"""What counts say of a variant: alleles, missingness, HWE, how well ALT was imputed, and what was measured.

A haploid call was stored as two copies (as in plink). Where ploidy hangs on sex, men have one copy of X
and Y, and whoever's sex is unknown counts as a woman; Y is counted in men only; everyone has one copy
of MT. A heterozygous call of one copy gives half an allele, and `n_het_haploid` counts such. Where there are
dosages alleles are counted by them, and calls, missingness and HWE by the calls that they make.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.schemas import VARIANTS
from features.genomics.contigs import Region
from features.genomics.counts import CALLS, SEXES
from features.genomics.dosages import COPY
from features.genomics.hwe import hwe_of
from features.genomics.measures import MEASURES, summaries

CALLED = CALLS[:3]
_COUNTED = (*CALLED, "n_dosage", "dosage_sum")
_SCHEMA = pa.schema([field.with_nullable(True) for field in VARIANTS.schema])
Numbers = Mapping[str, npt.NDArray[np.float64]]


def with_statistics(counted: DataFrame, people: Mapping[str, int], group: str | None = "") -> DataFrame:
    """Rows of VARIANTS from the calls and dosages of each sex, `region`, and what else is said of the variants.
    MEASURES are summed up where they are there, and `impute_info` is worked out where it is not.

    `people` is the number of samples by suffix of SEXES: who was not called is missing. HWE is that of the counts
    that end in `group`; None tests nothing.
    """
    return counted.mapInArrow(partial(_rows, dict(people), group), from_arrow_schema(_SCHEMA))


def _rows(
    people: Mapping[str, int], group: str | None, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        said = {name: batch[name] for name in batch.schema.names}
        found = _alleles(batch, people)
        if "impute_info" in said:
            found["impute_info"] = said["impute_info"]
        tests = hwe_of(batch, group) if group is not None else [pa.nulls(len(batch), pa.float64())] * 2
        found |= dict(zip(("hwe_exact_p", "hwe_mid_p"), tests, strict=True))
        if MEASURES[0] in said:
            found |= summaries(batch)
        yield pa.RecordBatch.from_arrays([(said | found)[name] for name in _SCHEMA.names], names=_SCHEMA.names)


def _alleles(batch: pa.RecordBatch, people: Mapping[str, int]) -> dict[str, pa.Array]:
    """The columns that hang on who has how many copies. On Y calls and dosages are those of men."""
    region = batch["region"].to_numpy()
    on_y, of_men = region == Region.Y, np.isin(region, (Region.X, Region.Y))
    of_sex = {f"{name}{sex}": batch[f"{name}{sex}"].to_numpy() for name in _COUNTED for sex in SEXES}
    every = {name: np.where(on_y, of_sex[f"{name}_male"], of_sex[name]) for name in _COUNTED}
    haploid = {
        name: np.where(of_men, of_sex[f"{name}_male"], np.where(region == Region.MT, every[name], 0))
        for name in _COUNTED
    }
    samples = np.where(on_y, people["_male"], people[""])
    called = sum(every[name] for name in CALLED)
    count = (every["dosage_sum"] - haploid["dosage_sum"] / 2) / COPY
    number = 2 * every["n_dosage"] - haploid["n_dosage"]
    with np.errstate(divide="ignore", invalid="ignore"):
        frequency = count / number
        found = _imputation(
            batch, (region == Region.DIPLOID) & (every["n_dosage"] > 0), every["n_dosage"], frequency
        )
        shares = {
            "allele_frequency": pa.array(frequency, mask=number <= 0),
            "call_rate": pa.array(called / samples, mask=samples <= 0),
        }
    whole = {name: every[name] for name in CALLED}
    whole |= {"n_missing": samples - called, "n_het_haploid": haploid["n_het"], "allele_number": number}
    return (
        {name: pa.array(values) for name, values in whole.items()}
        | {"allele_count": pa.array(count)}
        | shares
        | found
    )


def _imputation(
    batch: pa.RecordBatch, diploid: npt.NDArray[np.bool_], n: npt.NDArray[np.int64], p: npt.NDArray[np.float64]
) -> dict[str, pa.Array]:
    """Where everyone has two copies what dosages have above one ALT in the mean (of calls, the share of ALT's
    homozygotes), and where it varies how well ALT was imputed: the variance of the dosages as a share of that of a
    binomial (MaCH's R2; Li et al., Genet Epidemiol 2010;34:816), and IMPUTE's INFO, what the probabilities leave
    unknown taken from 1 (Marchini & Howie, Nat Rev Genet 2010;11:499)."""
    squares, excess = (batch[f"dosage_{name}_sum"].to_numpy() for name in ("square", "excess"))
    unknown = batch["dosage_variance"].to_numpy(zero_copy_only=False)
    usual, varies = 2 * p * (1 - p), diploid & (p > 0) & (p < 1)
    known = varies & batch["dosage_variance"].is_valid().to_numpy(zero_copy_only=False)
    return {
        "mean_excess": pa.array(excess / COPY / n, mask=~diploid),
        "mach_r2": pa.array((squares / COPY**2 / n - 4 * p * p) / usual, mask=~varies),
        "impute_info": pa.array(1 - unknown / COPY**2 / n / usual, mask=~known),
    }
