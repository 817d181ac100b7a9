"""Relatives among the people with a genome: `kinship` has their pairs, `families` whom such pairs join."""

import logging
from collections.abc import Mapping

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from features.contract.errors import ConfigError, DataGateError
from features.contract.paths import Location
from features.contract.runs import Runs
from features.contract.schemas import FAMILIES, KINSHIP
from features.contract.settings import GenomicsSettings, RelativesSettings, Settings
from features.genomics.blocks import by_block
from features.genomics.families import families
from features.genomics.kinship import Flags, Relation, related_pairs, relation, tiles_of, write_tiles
from features.genomics.quality_control import check_current as check_quality
from features.lake import Written, read_table, read_version, write_table

log = logging.getLogger("riskloom")
SECTION = "genomics.relatives"
AUTOSOME = "^([1-9]|1[0-9]|2[0-2])$"
_PLACE = ("sample_block", "sample_index", "person_key")


def relate_genomes(spark: SparkSession, lake: Location, runs: Runs, settings: Settings, work: Location) -> Written:
    """Write `kinship` and `families` of the people and variants that may be used; nothing is published here.

    What the tasks share lies in `work` meanwhile. Raises DataGateError where no autosomal variant may be used.
    """
    genomics, wanted = _sections(settings)
    check_quality(runs, genomics)
    tables = {name: read_table(spark, lake, runs, table) for name, table in genomics.usable.items()}
    kept = _kept(read_table(spark, lake, runs, "samples"), tables["samples"])
    variants, number = _chosen(tables["variants"], wanted)
    tiles = tiles_of(kept)
    people = sum(int(flags.sum()) for flags in kept.values())
    log.info("kinship: %s people, %s variants, %d tiles of people", f"{people:,}", f"{number:,}", len(tiles))
    folder = work / "tiles"
    write_tiles(tables["genotypes"], variants, {block: len(flags) for block, flags in kept.items()}, folder)
    numbers = spark.range(0, len(tiles), 1, len(tiles))
    pairs = _named(related_pairs(numbers, kept, folder, wanted.minimum_kinship), tables["samples"])
    versions = {KINSHIP.path: write_table(pairs, lake, KINSHIP)}
    pairs = read_version(spark, lake, KINSHIP.path, versions[KINSHIP.path])
    versions[FAMILIES.path] = write_table(families(pairs), lake, FAMILIES)
    found = read_version(spark, lake, FAMILIES.path, versions[FAMILIES.path])
    return Written(versions, {"people": people, "variants": number} | _counts(pairs, found, people) | _key(wanted))


def check_current(runs: Runs, genomics: GenomicsSettings) -> None:
    """DataGateError where the families were found in older tables, or by other settings than these."""
    made = runs.publisher(FAMILIES.path)
    if genomics.relatives is None or made is None:  # a table that is not there is missed by who reads it
        return
    same_tables = all(made.read.get(table) == runs.version(table) for table in genomics.usable.values())
    if not same_tables or made.counts.get("settings") != _key(genomics.relatives)["settings"]:
        why = "by other settings" if same_tables else "before the genomes were last ingested or judged"
        raise DataGateError(f"{SECTION}: families was made {why}; run relate_genomes first")


def _sections(settings: Settings) -> tuple[GenomicsSettings, RelativesSettings]:
    if settings.genomics is None or settings.genomics.relatives is None:
        raise ConfigError(f"{SECTION}: the configuration has no such section; add it, or leave this job out")
    return settings.genomics, settings.genomics.relatives


def _key(wanted: RelativesSettings) -> dict[str, object]:
    return {"settings": wanted.model_dump_json()}


def _kept(samples: DataFrame, usable: DataFrame) -> Mapping[str, Flags]:
    """Which samples of each block may be used."""
    marked = samples.join(usable.select("person_key", sf.lit(1).alias("kept")), "person_key", "left")
    return {block: flags == 1 for block, flags in by_block(marked, sf.coalesce("kept", sf.lit(0))).items()}


def _chosen(variants: DataFrame, wanted: RelativesSettings) -> tuple[DataFrame, int]:
    """`variant_key` of the autosomal variants, of about `most_variants` where there are more, and how many."""
    found = variants.filter(sf.col("contig").rlike(AUTOSOME)).select("variant_key")
    number = found.count()
    if number > wanted.most_variants:
        parts = 1 << 32
        place = sf.pmod(sf.xxhash64(sf.lit(SECTION), "variant_key"), sf.lit(parts))
        found = found.filter(place < int(parts * wanted.most_variants / number))
        number = found.count()
    if not number:
        raise DataGateError(f"{SECTION}: no variant of an autosome may be used, and kinship is told by those")
    return found, number


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


def _counts(pairs: DataFrame, found: DataFrame, people: int) -> dict[str, object]:
    by_relation = {row["relation"]: row["count"] for row in pairs.groupBy("relation").count().collect()}
    sizes = found.agg(
        sf.count("*"),
        sf.countDistinct("family"),
        sf.coalesce(sf.sum((~sf.col("unrelated")).cast("int")), sf.lit(0)),
    )
    relatives, number, removed = sizes.collect()[0]
    twice = by_relation.get(Relation.DUPLICATE, 0)
    if twice:
        log.warning(
            "%d pairs of people have one genome: one person under two ids, or twins (riskloom show kinship)", twice
        )
    return {
        "pairs": {name.value: by_relation.get(name.value, 0) for name in Relation},
        "people_with_relatives": relatives,
        "families": number,
        "unrelated": people - removed,
    }
