"""The `variants` table: counts over people, as plink2 counts them.

A haploid call was stored as two copies (as in plink). Where ploidy hangs on sex, men have one copy of X
and Y, and whoever's sex is unknown counts as a woman; Y is counted in men only; everyone has one copy
of MT. A heterozygous call of one copy gives half an allele, and `n_het_haploid` counts such. Where there are
dosages alleles are counted by them, and calls, missingness and HWE by the calls that they make.
"""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from features.contract.schemas import VARIANTS
from features.genomics.contigs import PSEUDO_AUTOSOMAL, Region
from features.genomics.counts import CALLS, SEXES
from features.genomics.dosages import COPY
from features.genomics.hwe import with_hwe
from features.genomics.joins import Joins
from features.genomics.measures import join_measures, summaries

CALLED = CALLS[:3]
DOSAGES = ("n_dosage", "dosage_sum")


def summarise_variants(
    rows: DataFrame, joins: Joins, build: str, people: Mapping[str, int], somatic: bool
) -> DataFrame:
    """The `variants` table from rows of blocks: their counts are summed, and what is said of a variant in several
    is put together so that no order of them matters. A row may tell of one of the two alone, and have null for the
    other.

    `people` is the number of samples in all blocks by suffix of SEXES: a variant without a row in a
    block is missing there. HWE is left out for somatic calls, which are not a population's genotypes.
    """
    sums = [*(joins.total(sf.col(name)).alias(name) for name in _names()), *sums_of_dosages(joins)]
    measures = join_measures(joins)
    joined = joins.group(rows, [*_description(joins), *sums, *measures])
    placed = joined.withColumns({"build": sf.lit(build), "region": region_of(build)}).select("*", "annotation.*")
    tested = _no_test(placed) if somatic else with_hwe(placed)
    return with_frequencies(tested, people).withColumns(summaries()).select(VARIANTS.schema.names)


def _description(joins: Joins) -> list[Column]:
    """The first ID, annotation and INFO in the order of their letters, and each reason in FILTER that a block
    gives."""
    annotation = sf.struct("gene", "consequence")
    annotated = sf.col("gene").isNotNull() | sf.col("consequence").isNotNull()
    reasons = joins.all_items(sf.when(sf.size("filters") > 0, sf.col("filters")))
    return [
        *(joins.least(sf.col(name)).alias(name) for name in ("contig", "position", "ref", "alt", "rsid")),
        sf.array_sort(sf.array_distinct(sf.coalesce(reasons, sf.array()))).alias("filters"),
        joins.least(sf.when(annotated, annotation)).alias("annotation"),
        *(sf.map_from_entries(joins.least(sf.col(name))).alias(name) for name in ("info", "info_text")),
    ]


def sums_of_dosages(joins: Joins) -> list[Column]:
    """DOSED summed over blocks: of those whose calls tell all, what these give. `variance` is null unless every
    block with dosages has one."""
    called = {sex: sum((sf.col(f"{call}{sex}") for call in CALLED), start=sf.lit(0)) for sex in SEXES}
    counted = {sex: sf.col(f"n_het{sex}") + 2 * sf.col(f"n_hom_alt{sex}") for sex in SEXES}
    squares = COPY**2 * (sf.col("n_het") + 4 * sf.col("n_hom_alt"))
    untold = sf.col("n_dosage").isNotNull() & sf.col("dosage_variance").isNull()
    values = {
        **{f"n_dosage{sex}": sf.coalesce(f"n_dosage{sex}", called[sex]) for sex in SEXES},
        **{f"dosage_sum{sex}": sf.coalesce(f"dosage_sum{sex}", COPY * counted[sex]) for sex in SEXES},
        "dosage_square_sum": sf.coalesce("dosage_square_sum", squares),
        "dosage_excess_sum": sf.coalesce("dosage_excess_sum", COPY * sf.col("n_hom_alt")),
    }
    variance = sf.when(~joins.greatest(untold), joins.total(sf.col("dosage_variance")))
    return [
        *(joins.total(value).alias(name) for name, value in values.items()),
        variance.alias("dosage_variance"),
    ]


def with_frequencies(variants: DataFrame, people: Mapping[str, int]) -> DataFrame:
    """`variants` with alleles counted, their shares and how well they were imputed, from `region`, the calls and
    the dosages of each sex. On Y the calls and dosages become those of men."""
    men = variants.withColumns(_of_men_on_y()).withColumns(_haploid())
    return men.withColumns(_frequencies(people)).withColumns(_imputation())


def region_of(build: str) -> Column:
    """The Region of `contig` and `position`."""
    last, first = PSEUDO_AUTOSOMAL[build]
    position, contig = sf.col("position"), sf.col("contig")
    unpaired = (contig == "X") & (position > last) & (position < first)
    found = (
        sf.when(unpaired, Region.X.value).when(contig == "Y", Region.Y.value).when(contig == "MT", Region.MT.value)
    )
    return found.otherwise(Region.DIPLOID.value)


def place_of_key() -> dict[str, Column]:
    """Contig and position as the key has them; it is read from its end, for a contig's name may have colons."""
    pattern = "^[^:]+:(.+):([0-9]+):[^:]*:[^:]*$"
    return {
        "contig": sf.regexp_extract("variant_key", pattern, 1),
        "position": sf.regexp_extract("variant_key", pattern, 2).cast("bigint"),
    }


def _names() -> list[str]:
    return [f"{call}{sex}" for sex in SEXES for call in CALLED]


def _no_test(variants: DataFrame) -> DataFrame:
    none = sf.lit(None).cast("double")
    return variants.withColumns({"hwe_exact_p": none, "hwe_mid_p": none})


def _of_men_on_y() -> dict[str, Column]:
    on_y = sf.col("region") == Region.Y
    return {name: sf.when(on_y, sf.col(f"{name}_male")).otherwise(sf.col(name)) for name in (*CALLED, *DOSAGES)}


def _haploid() -> dict[str, Column]:
    """The calls of those who have one copy, by what was called, and their dosages."""
    men, everyone = sf.col("region").isin(Region.X, Region.Y), sf.col("region") == Region.MT
    return {
        f"{name}_haploid": sf.when(men, sf.col(f"{name}_male")).when(everyone, sf.col(name)).otherwise(0)
        for name in (*CALLED, *DOSAGES)
    }


def _frequencies(people: Mapping[str, int]) -> dict[str, Column]:
    samples = sf.when(sf.col("region") == Region.Y, people["_male"]).otherwise(people[""])
    called = sum((sf.col(call) for call in CALLED), start=sf.lit(0))
    count = (sf.col("dosage_sum") - sf.col("dosage_sum_haploid") / 2) / COPY
    number = 2 * sf.col("n_dosage") - sf.col("n_dosage_haploid")
    return {
        "n_missing": samples - called,
        "allele_count": count,
        "allele_number": number,
        "allele_frequency": sf.when(number > 0, count / number),
        "call_rate": sf.when(samples > 0, called / samples),
    }


def _imputation() -> dict[str, Column]:
    """Where everyone has two copies what dosages have above one ALT in the mean (of calls, the share of ALT's
    homozygotes), and where it varies how well ALT was imputed: the variance of the dosages as a share of that of a
    binomial (MaCH's R2; Li et al., Genet Epidemiol 2010;34:816), and IMPUTE's INFO, what the probabilities leave
    unknown taken from 1 (Marchini & Howie, Nat Rev Genet 2010;11:499)."""
    n, p = sf.col("n_dosage"), sf.col("allele_frequency")
    usual = 2 * p * (1 - p)
    diploid = (sf.col("region") == Region.DIPLOID) & (n > 0)
    varies = diploid & (p > 0) & (p < 1)
    variance = sf.col("dosage_square_sum") / COPY**2 / n - 4 * p * p
    unknown = sf.col("dosage_variance") / COPY**2 / n
    return {
        "mean_excess": sf.when(diploid, sf.col("dosage_excess_sum") / COPY / n),
        "mach_r2": sf.when(varies, variance / usual),
        "impute_info": sf.when(varies, 1 - unknown / usual),
    }
