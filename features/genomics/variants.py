"""The `variants` table: what blocks of people say of each variant, put together."""

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from features.genomics.contigs import region_of
from features.genomics.counts import SEXES
from features.genomics.dosages import COPY
from features.genomics.measures import sum_of_rows
from features.genomics.statistics import CALLED, with_statistics

_CALLED = [f"{call}{sex}" for sex in SEXES for call in CALLED]


def summarise_variants(rows: DataFrame, build: str, people: Mapping[str, int], group: str | None) -> DataFrame:
    """The `variants` table from rows of blocks: their counts are summed, and what is said of a variant in several
    is put together so that no order of them matters. A row may tell of one of the two alone, and have null for the
    other.

    `people` is the number of samples in all blocks by suffix of SEXES: a variant without a row in a
    block is missing there. `group` is that of `variants_of`.
    """
    joined = rows.groupBy("variant_key").agg(*_description(), *sums_of_calls(_CALLED), *sum_of_rows())
    placed = joined.withColumns({"build": sf.lit(build), "region": region_of(build)}).select("*", "annotation.*")
    return with_statistics(placed.drop("annotation"), people, group)


def _description() -> list[Column]:
    """The first ID, annotation and INFO in the order of their letters, and each reason in FILTER that a block
    gives."""
    annotation = sf.struct("gene", "consequence")
    annotated = sf.col("gene").isNotNull() | sf.col("consequence").isNotNull()
    reasons = sf.flatten(sf.collect_set(sf.when(sf.size("filters") > 0, sf.col("filters"))))
    info = {name: sf.array_sort(sf.map_entries(name)) for name in ("info", "info_text")}
    return [
        *(sf.min(name).alias(name) for name in ("contig", "position", "ref", "alt", "rsid")),
        sf.array_sort(sf.array_distinct(reasons)).alias("filters"),
        sf.min(sf.when(annotated, annotation)).alias("annotation"),
        *(sf.map_from_entries(sf.min(entries)).alias(name) for name, entries in info.items()),
    ]


def sums_of_calls(names: Sequence[str]) -> list[Column]:
    """Counts of these names, and DOSED, summed over the rows of a variant: of those whose calls tell all, what
    these give. `variance` is null unless every block with dosages has one."""
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
    variance = sf.when(~sf.max(untold), sf.sum("dosage_variance"))
    return [
        *(sf.sum(name).alias(name) for name in names),
        *(sf.sum(value).alias(name) for name, value in values.items()),
        variance.alias("dosage_variance"),
    ]
