"""Relatives among the people with a genome: `kinship` has their pairs, `families` whom such pairs join."""

import logging

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as sf

from features.contract.errors import ConfigError, DataGateError
from features.contract.paths import Location
from features.contract.runs import Runs
from features.contract.schemas import FAMILIES, KINSHIP
from features.contract.settings import GenomicsSettings, RelativesSettings, Settings
from features.genomics.blocks import rows_by_block
from features.genomics.contigs import AUTOSOME
from features.genomics.current import check_made
from features.genomics.draw import drawn
from features.genomics.quality_control import check_current as check_quality
from features.genomics.structure.families import families
from features.genomics.structure.kinship import Relation, related_pairs, relation
from features.genomics.structure.tiles import numbered, tiles_of, write_tiles
from features.lake import Written, read_table, read_version, write_table

log = logging.getLogger("riskloom")
SECTION = "genomics.relatives"
MOST_PAIRS_A_PERSON = 20
LARGE_FAMILY = 0.1
"""Of all people: no real family of a cohort is that large."""
_PLACE = ("sample_block", "sample_index", "person_key")


def relate_genomes(
    spark: SparkSession, lake: Location, runs: Runs, settings: Settings, folder: Location
) -> Written:
    """Write `kinship` and `families` of everyone with a genome, by the variants that may be used; nothing is
    published here.

    Whose sample may not be used is compared too, for the person may be in a study by other data. What the tasks
    share lies in `folder` meanwhile. Raises DataGateError where there are too few variants, or so many pairs that
    chance must have made them.
    """
    genomics, wanted = _sections(settings)
    check_quality(runs, genomics)
    variants, genotypes, usable = (read_table(spark, lake, runs, table) for table in genomics.usable.values())
    samples = read_table(spark, lake, runs, "samples")
    people = rows_by_block(samples)
    keys, number = _chosen(variants, wanted)
    tiles = len(tiles_of(people))
    log.info("kinship: %s people, %s variants, %d tiles", f"{sum(people.values()):,}", f"{number:,}", tiles)
    write_tiles(genotypes, numbered(keys), number, people, folder)
    tasks = spark.range(0, tiles, 1, tiles)
    found = related_pairs(tasks, people, folder, wanted.minimum_kinship, wanted.minimum_variants).persist()
    try:
        told = found.filter("n_not_compared is null")
        not_compared = _check(told, sum(people.values()))
        pairs_not_compared = _count_apart(found, sum(people.values()), not_compared)
        pairs = _named(told.filter(~_alone()), samples)
        versions = {KINSHIP.path: write_table(pairs, lake, KINSHIP)}
    finally:
        found.unpersist()
    kinship = read_version(spark, lake, KINSHIP.path, versions[KINSHIP.path])
    versions[FAMILIES.path] = write_table(families(_with_usable(kinship, usable)), lake, FAMILIES)
    named = read_version(spark, lake, FAMILIES.path, versions[FAMILIES.path])
    counts: dict[str, object] = {"people": sum(people.values()), "variants": number}
    counts |= {"not_compared": not_compared, "pairs_not_compared": pairs_not_compared}
    counts |= {"settings": wanted.model_dump_json()}
    return Written(versions, counts | _counts(kinship, named, usable))


def check_current(runs: Runs, genomics: GenomicsSettings) -> None:
    """DataGateError where the families were found in older tables, or by other settings than these."""
    if genomics.relatives:
        check_quality(runs, genomics)
        of, settings = {*genomics.usable.values(), "samples"}, genomics.relatives.model_dump_json()
        check_made(runs, FAMILIES.path, of, ("settings", settings), SECTION)


def _sections(settings: Settings) -> tuple[GenomicsSettings, RelativesSettings]:
    if settings.genomics is None or settings.genomics.relatives is None:
        raise ConfigError(f"{SECTION}: the configuration has no such section; add it, or leave this job out")
    return settings.genomics, settings.genomics.relatives


def _chosen(variants: DataFrame, wanted: RelativesSettings) -> tuple[DataFrame, int]:
    """`variant_key` of the autosomal variants, of about `most_variants` where there are more, and how many."""
    found = variants.filter(sf.col("contig").rlike(AUTOSOME)).select("variant_key")
    number = found.count()
    if number < wanted.minimum_variants:
        raise DataGateError(
            f"{SECTION}: {number:,} variants of autosomes may be used, expected at least minimum_variants, "
            f"{wanted.minimum_variants:,}: from fewer, chance makes strangers relatives"
        )
    if number > wanted.most_variants:
        found = drawn(found, number, wanted.most_variants, SECTION)
        number = found.count()
    return found, number


def _check(found: DataFrame, people: int) -> int:
    """How many people have too few calls to be compared; DataGateError for more pairs than relatives can be."""
    alone, pairs = found.agg(sf.count_if(_alone()), sf.count_if(~_alone())).collect()[0]
    if alone:
        log.warning("%d people have too few calls (minimum_variants) and were not compared", alone)
    if pairs > MOST_PAIRS_A_PERSON * people:
        raise DataGateError(
            f"{SECTION}: {pairs:,} pairs among {people:,} people cannot all be relatives; raise minimum_kinship "
            "or minimum_variants, and look whether quality control leaves common variants"
        )
    return int(alone)


def _count_apart(found: DataFrame, people: int, alone: int) -> int:
    """How many pairs have too few calls in both; told of where that is not for the few calls of one."""
    most = sf.max_by(sf.struct("sample_block_1", "sample_block_2"), "n_not_compared")
    pairs, blocks = found.agg(sf.coalesce(sf.sum("n_not_compared"), sf.lit(0)), most).collect()[0]
    others = pairs - (alone * people - alone * (alone + 1) // 2)
    if others > 0:
        log.warning(
            "%s pairs of people have enough calls each and too few in both (minimum_variants), as of blocks %s "
            "and %s: whether they are relatives, or one person, is not known",
            *(f"{others:,}", *blocks),
        )
    return int(pairs)


def _alone() -> Column:
    """No pair, but a person with too few calls."""
    same = [sf.col(f"{name}_1") == sf.col(f"{name}_2") for name in ("sample_block", "sample_index")]
    return same[0] & same[1]


def _named(pairs: DataFrame, samples: DataFrame) -> DataFrame:
    """The pairs by person key, the smaller one first."""
    for end in (1, 2):
        names = samples.select(*(sf.col(name).alias(f"{name}_{end}") for name in _PLACE))
        pairs = pairs.join(names, [f"sample_block_{end}", f"sample_index_{end}"])
    swapped = sf.col("person_key_1") > sf.col("person_key_2")
    ends = (("person_key_1", "person_key_2"), ("n_het_hom", "n_hom_het"))
    ordered = {
        name: sf.when(swapped, sf.col(other)).otherwise(sf.col(name))
        for one, two in ends
        for name, other in ((one, two), (two, one))
    }
    return pairs.withColumns(ordered | {"relation": relation(sf.col("kinship"))}).select(KINSHIP.schema.names)


def _with_usable(pairs: DataFrame, usable: DataFrame) -> DataFrame:
    """The pairs with `usable_1` and `usable_2`: whether quality control left that person's sample."""
    for end in (1, 2):
        left = usable.select(sf.col("person_key").alias(f"person_key_{end}"), sf.lit(True).alias(f"usable_{end}"))
        pairs = pairs.join(left, f"person_key_{end}", "left").fillna(False, [f"usable_{end}"])
    return pairs


def _counts(pairs: DataFrame, found: DataFrame, usable: DataFrame) -> dict[str, object]:
    by_relation = {row["relation"]: row["count"] for row in pairs.groupBy("relation").count().collect()}
    sizes = found.groupBy("family").agg(sf.count("*").alias("n"), sf.count_if(sf.col("unrelated")).alias("alone"))
    columns = sf.count("*"), sf.sum("n"), sf.max("n"), sf.sum("alone")
    number, relatives, largest, alone = (value or 0 for value in sizes.agg(*columns).collect()[0])
    without = usable.join(found, "person_key", "left_anti").count()
    twice = by_relation.get(Relation.DUPLICATE, 0)
    if twice:
        log.warning(
            "%d pairs of people have one genome: one person under two ids, or twins (riskloom show kinship)", twice
        )
    if largest > LARGE_FAMILY * usable.count():
        log.warning(
            "the largest family has %s people: chance, or a population of few founders, joins them; raise "
            "minimum_kinship or minimum_variants",
            f"{largest:,}",
        )
    return {
        "pairs": {name.value: by_relation.get(name.value, 0) for name in Relation},
        "people_with_relatives": relatives,
        "families": number,
        "largest_family": largest,
        "unrelated": without + alone,
    }
