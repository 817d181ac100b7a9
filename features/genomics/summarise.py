"""The `variants` table: what blocks of people say of each variant, put together."""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from features.genomics.contigs import PSEUDO_AUTOSOMAL, Region
from features.genomics.counts import SEXES
from features.genomics.dosages import COPY
from features.genomics.joins import Joins
from features.genomics.measures import join_measures
from features.genomics.statistics import CALLED, with_statistics


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
    return with_statistics(placed.drop("annotation"), people, None if somatic else "")


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
