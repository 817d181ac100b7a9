"""The `variants` table: counts over people, as plink2 counts them.

A haploid call was stored as two copies (as in plink). Where ploidy hangs on sex, men have one copy of X
and Y, and whoever's sex is unknown counts as a woman; Y is counted in men only; everyone has one copy
of MT. A heterozygous call of one copy gives half an allele, and `n_het_haploid` counts such.
"""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from features.contract.schemas import VARIANTS
from features.genomics.contigs import PSEUDO_AUTOSOMAL, Region
from features.genomics.counts import CALLS, SEXES
from features.genomics.hwe import with_hwe

DESCRIPTION = ("region", "contig", "position", "ref", "alt", "rsid", "filters", "gene", "consequence")
CALLED = CALLS[:3]


def summarise_variants(accepted: DataFrame, build: str, people: Mapping[str, int], somatic: bool) -> DataFrame:
    """The `variants` table: counts summed over blocks; described as where the variant came first.

    `people` is the number of samples in all blocks by suffix of SEXES: a variant without a row in a
    block is missing there. HWE is left out for somatic calls, which are not a population's genotypes.
    """
    first = sf.min_by(sf.struct(*DESCRIPTION), sf.struct("source", "offset", "allele")).alias("first")
    sums = [sf.sum(name).alias(name) for name in _names()]
    summed = accepted.groupBy("variant_key").agg(first, *sums).select("variant_key", "first.*", *_names())
    tested = _no_test(summed) if somatic else with_hwe(summed)
    return with_frequencies(tested, people).withColumn("build", sf.lit(build)).select(VARIANTS.schema.names)


def with_frequencies(variants: DataFrame, people: Mapping[str, int]) -> DataFrame:
    """`variants` with alleles counted and their shares, from `region` and the calls of each sex. On Y the calls
    become those of men."""
    return variants.withColumns(_of_men_on_y()).withColumns(_haploid()).withColumns(_frequencies(people))


def region_of(build: str) -> Column:
    """The Region of `contig` and `position`."""
    last, first = PSEUDO_AUTOSOMAL[build]
    position, contig = sf.col("position"), sf.col("contig")
    unpaired = (contig == "X") & (position > last) & (position < first)
    found = (
        sf.when(unpaired, Region.X.value).when(contig == "Y", Region.Y.value).when(contig == "MT", Region.MT.value)
    )
    return found.otherwise(Region.DIPLOID.value)


def _names() -> list[str]:
    return [f"{call}{sex}" for sex in SEXES for call in CALLED]


def _no_test(variants: DataFrame) -> DataFrame:
    none = sf.lit(None).cast("double")
    return variants.withColumns({"hwe_exact_p": none, "hwe_mid_p": none})


def _of_men_on_y() -> dict[str, Column]:
    on_y = sf.col("region") == Region.Y
    return {call: sf.when(on_y, sf.col(f"{call}_male")).otherwise(sf.col(call)) for call in CALLED}


def _haploid() -> dict[str, Column]:
    """The calls of those who have one copy, by what was called."""
    men, everyone = sf.col("region").isin(Region.X, Region.Y), sf.col("region") == Region.MT
    return {
        f"{call}_haploid": sf.when(men, sf.col(f"{call}_male")).when(everyone, sf.col(call)).otherwise(0)
        for call in CALLED
    }


def _frequencies(people: Mapping[str, int]) -> dict[str, Column]:
    samples = sf.when(sf.col("region") == Region.Y, people["_male"]).otherwise(people[""])
    called = sum((sf.col(call) for call in CALLED), start=sf.lit(0))
    haploid = sum((sf.col(f"{call}_haploid") for call in CALLED), start=sf.lit(0))
    two = sf.col("n_het") + 2 * sf.col("n_hom_alt")
    count = two - sf.col("n_het_haploid") / 2 - sf.col("n_hom_alt_haploid")
    number = 2 * called - haploid
    return {
        "n_missing": samples - called,
        "allele_count": count,
        "allele_number": number,
        "allele_frequency": sf.when(number > 0, count / number),
        "call_rate": sf.when(samples > 0, called / samples),
    }
