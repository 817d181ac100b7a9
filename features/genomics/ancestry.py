"""Where people's genomes come from: `axes` of population structure, and on them `ancestry` of everyone."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as sf

from features.contract.errors import ConfigError, DataGateError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.runs import Runs
from features.contract.schemas import ANCESTRY, AXES, POPULATIONS
from features.contract.settings import AncestrySettings, GenomicsSettings, Settings
from features.genomics.blocks import by_block
from features.genomics.contigs import AUTOSOME
from features.genomics.linkage import in_long_range, pruned
from features.genomics.populations import Classified, check_people, collected, populations
from features.genomics.principal_components import Axes, Passes
from features.genomics.quality_control import check_current as check_quality
from features.genomics.relatives import check_current as check_relatives
from features.genomics.sample_table import read_values
from features.genomics.tiles import drawn, numbered, tiles_of, write_tiles
from features.lake import Written, read_table, read_version, write_table

log = logging.getLogger("riskloom")
SECTION = "genomics.ancestry"
FEWEST_PEOPLE = 50
"""As plink2 wants them of whoever frequencies are estimated in."""
FEWEST_VARIANTS_A_COMPONENT = 10
CANDIDATES_A_VARIANT = 4
PEOPLE_FOR_LINKAGE = 10_000
"""An r2 of 0.2 is known to within 0.01 from so many."""

Masks = dict[str, npt.NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Genomes:
    """What the job reads: tables of what may be used, `samples` of everyone, and the size of each block."""

    variants: DataFrame
    genotypes: DataFrame
    usable: DataFrame
    samples: DataFrame
    people: dict[str, int]


def infer_ancestry(
    spark: SparkSession, lake: Location, runs: Runs, settings: Settings, keyer: PersonKeyer, folder: Location
) -> Written:
    """Write `axes`, `ancestry` and, with labels, `populations`; nothing is published here.

    The published axes stay as long as the settings that made them do, so that new people come to lie among the
    old; else they are made anew of unrelated people who may be used (of those who have a label, where labels are
    given). What the tasks share lies in `folder` meanwhile. Raises DataGateError for too few people or variants.
    """
    genomics, wanted = _sections(settings)
    check_quality(runs, genomics)
    check_relatives(runs, genomics)
    genomes = _genomes(spark, lake, runs, genomics)
    labels = _labels(genomes, Location(settings.raw), wanted, keyer)
    kept = runs.publisher(AXES.path)
    described = kept.counts["axes"] if kept and kept.counts["axes"]["of"] == _in_words(genomics, wanted) else None
    if described:
        old = read_table(spark, lake, runs, AXES.path).orderBy("variant_key").toPandas()
        keys, axes = old["variant_key"], _axes(old, described)
        log.info("axes: those of %s people and %s variants are kept", described["people"], f"{len(old):,}")
        passes = _passes(genomes, _listed(spark, keys), len(keys), {}, folder)
    else:
        families = read_table(spark, lake, runs, "families") if genomics.relatives else None
        basis = _basis(genomes, labels, families, wanted)
        chosen, number = _variants(genomes, basis, genomics.build, wanted)
        places = numbered(chosen).persist()
        passes = _passes(genomes, places, number, basis, folder)
        axes = passes.axes(wanted.components)
        keys = places.orderBy("place").toPandas()["variant_key"]
        places.unpersist()
        described = {
            "of": _in_words(genomics, wanted),
            "people": sum(int(mask.sum()) for mask in basis.values()),
            "variants": number,
            "eigenvalues": axes.eigenvalues.tolist(),
        }
    versions = {AXES.path: write_table(_table(spark, keys, axes), lake, AXES)}
    found = passes.placed(axes).join(genomes.samples.select(*_PLACE), ["sample_block", "sample_index"])
    found = found.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        if labels is not None:
            of_labelled = found.join(labels, "person_key").filter(sf.col("components").isNotNull())
            versions[POPULATIONS.path] = write_table(populations(of_labelled), lake, POPULATIONS)
        own = None if labels is None else read_version(spark, lake, POPULATIONS.path, versions[POPULATIONS.path])
        versions[ANCESTRY.path] = write_table(_classified(found, own, wanted), lake, ANCESTRY)
    finally:
        found.unpersist()
    ancestry = read_version(spark, lake, ANCESTRY.path, versions[ANCESTRY.path])
    return Written(versions, {"axes": described} | _counts(ancestry, labels))


_PLACE = ("sample_block", "sample_index", "person_key")


def check_current(runs: Runs, genomics: GenomicsSettings) -> None:
    """DataGateError where people were placed before the genomes were last ingested or judged, or by other axes."""
    made = runs.publisher(ANCESTRY.path)
    if genomics.ancestry is None or made is None:  # a table that is not there is missed by who reads it
        return
    check_quality(runs, genomics)
    same = all(made.read.get(table) == runs.version(table) for table in {*genomics.usable.values(), "samples"})
    if not same or made.counts["axes"]["of"] != _in_words(genomics, genomics.ancestry):
        why = "by other settings" if same else "before the genomes were last ingested or judged"
        raise DataGateError(f"{SECTION}: ancestry was made {why}; run infer_ancestry first")


def _sections(settings: Settings) -> tuple[GenomicsSettings, AncestrySettings]:
    if settings.genomics is None or settings.genomics.ancestry is None:
        raise ConfigError(f"{SECTION}: the configuration has no such section; add it, or leave this job out")
    return settings.genomics, settings.genomics.ancestry


def _in_words(genomics: GenomicsSettings, wanted: AncestrySettings) -> str:
    """What the axes hang on: other words, other axes."""
    return f"{genomics.build} {wanted.model_dump_json(exclude={'minimum_probability'})}"


def _genomes(spark: SparkSession, lake: Location, runs: Runs, genomics: GenomicsSettings) -> Genomes:
    variants, genotypes, usable = (read_table(spark, lake, runs, table) for table in genomics.usable.values())
    samples = read_table(spark, lake, runs, "samples")
    people = {row["sample_block"]: row["count"] for row in samples.groupBy("sample_block").count().collect()}
    return Genomes(variants, genotypes, usable, samples, people)


def _labels(genomes: Genomes, raw: Location, wanted: AncestrySettings, keyer: PersonKeyer) -> DataFrame | None:
    """`person_key, population` of those who have a label."""
    if wanted.populations is None:
        return None
    section, table = f"{SECTION}.populations", wanted.populations
    values = read_values(raw, table, table.column, section, keyer)
    rows = pd.DataFrame({"person_key": list(values), "population": list(values.values())})
    labels = genomes.samples.sparkSession.createDataFrame(
        rows[rows["population"] != ""], "person_key string, population string"
    )
    found = labels.join(genomes.samples, "person_key", "left_semi")
    sizes = {row["population"]: row["count"] for row in found.groupBy("population").count().collect()}
    if not sizes:
        raise DataGateError(
            f"{section}: of {len(rows):,} listed people none has a genome; are the file's ids those of the "
            "samples?"
        )
    check_people(sizes, wanted.components)
    return found


def _basis(
    genomes: Genomes, labels: DataFrame | None, families: DataFrame | None, wanted: AncestrySettings
) -> Masks:
    """Of each block, who the axes are made of."""
    people = genomes.usable.select("person_key")
    if labels is not None:
        people = people.join(labels, "person_key", "left_semi")
    if families is None:
        log.warning(
            "genomics.relatives is not set: relatives among the people of the axes would be axes themselves"
        )
    else:
        people = people.join(families.filter(~sf.col("unrelated")), "person_key", "left_anti")
    flagged = genomes.samples.join(people.withColumn("in_basis", sf.lit(1)), "person_key", "left")
    masks = {block: flags == 1 for block, flags in by_block(flagged, sf.coalesce("in_basis", sf.lit(0))).items()}
    number, needed = sum(int(mask.sum()) for mask in masks.values()), max(FEWEST_PEOPLE, 2 * wanted.components)
    if number < needed:
        who = "may be used" if labels is None else "may be used and have a label"
        raise DataGateError(f"{SECTION}: {number:,} unrelated people {who}, expected at least {needed}")
    return masks


def _variants(genomes: Genomes, basis: Masks, build: str, wanted: AncestrySettings) -> tuple[DataFrame, int]:
    """`variant_key` of the variants of the axes, and how many."""
    rarer = sf.least("allele_frequency", 1 - sf.col("allele_frequency"))
    common = sf.col("contig").rlike(AUTOSOME) & (rarer >= wanted.minimum_allele_frequency)
    candidates = genomes.variants.filter(common & ~in_long_range(build))
    number = candidates.count()
    candidates = drawn(candidates, number, CANDIDATES_A_VARIANT * wanted.most_variants, SECTION)
    left = pruned(genomes.genotypes, candidates, number, _some(basis), wanted.window, wanted.most_r2).persist()
    independent = left.count()
    log.info("axes: %s common variants, %s of them independent", f"{number:,}", f"{independent:,}")
    chosen = drawn(left, independent, wanted.most_variants, f"{SECTION} pruned")
    found = chosen.count()
    if found < FEWEST_VARIANTS_A_COMPONENT * wanted.components:
        raise DataGateError(
            f"{SECTION}: {found:,} common, independent variants of autosomes, expected at least "
            f"{FEWEST_VARIANTS_A_COMPONENT} a component, {FEWEST_VARIANTS_A_COMPONENT * wanted.components}"
        )
    return chosen, found


def _some(basis: Masks) -> Masks:
    """These people, or PEOPLE_FOR_LINKAGE of them."""
    number = sum(int(mask.sum()) for mask in basis.values())
    rng = np.random.default_rng(0)
    share = PEOPLE_FOR_LINKAGE / number
    return {block: mask & (rng.random(len(mask)) < share) for block, mask in sorted(basis.items())}


def _passes(
    genomes: Genomes, places: DataFrame, number: int, basis: Mapping[str, npt.NDArray[np.bool_]], folder: Location
) -> Passes:
    """The tiles of these variants, written; and what the tasks make of them."""
    write_tiles(genomes.genotypes, places, number, genomes.people, folder)
    spark, tiles = genomes.samples.sparkSession, len(tiles_of(genomes.people))
    frame = spark.range(0, tiles, 1, min(tiles, 2 * spark.sparkContext.defaultParallelism))
    return Passes(frame, genomes.people, basis, folder, number)


def _listed(spark: SparkSession, keys: "pd.Series[str]") -> DataFrame:
    rows = pd.DataFrame({"variant_key": keys, "place": np.arange(len(keys))})
    return spark.createDataFrame(rows, "variant_key string, place int")


def _table(spark: SparkSession, keys: "pd.Series[str]", axes: Axes) -> DataFrame:
    rows = pd.DataFrame({"variant_key": keys, "mean": axes.mean, "scale": axes.scale})
    rows["loadings"] = list(axes.loadings)
    return spark.createDataFrame(
        rows, "variant_key string, mean double, scale double, loadings array<double>"
    ).coalesce(1)


def _axes(rows: pd.DataFrame, described: Mapping[str, object]) -> Axes:
    loadings = np.stack(rows["loadings"].to_list())
    values = np.array(described["eigenvalues"])
    return Axes(rows["mean"].to_numpy(), rows["scale"].to_numpy(), loadings, values)


def _classified(found: DataFrame, own: DataFrame | None, wanted: AncestrySettings) -> DataFrame:
    """ANCESTRY of everyone who is placed, and of who is not."""
    columns = ["person_key", "n_called", "components"]
    placed = found.select(columns)
    if own is None:
        nothing = {"population": "string", "probabilities": "map<string,double>", "typicality": "double"}
        return placed.withColumns({name: sf.lit(None).cast(kind) for name, kind in nothing.items()})
    schema = (
        "person_key string, n_called int, components array<double>, population string, "
        "probabilities map<string,double>, typicality double"
    )
    return placed.mapInArrow(Classified(collected(own), wanted.minimum_probability, columns), schema)


def _counts(ancestry: DataFrame, labels: DataFrame | None) -> dict[str, object]:
    people, placed = ancestry.agg(sf.count("*"), _number(sf.col("components").isNotNull())).collect()[0]
    if people > placed:
        log.warning("%s people have too few calls and were not placed on the axes", f"{people - placed:,}")
    found: dict[str, object] = {"people": people, "not_placed": people - placed}
    if labels is None:
        return found
    rows = ancestry.filter("components is not null").groupBy("population").count().collect()
    by_name = {row["population"]: row["count"] for row in rows}
    told = sf.col("population") == sf.col("label")
    known = ancestry.join(labels.withColumnRenamed("population", "label"), "person_key")
    same, other = known.agg(_number(told), _number(~told)).collect()[0]
    return found | {
        "populations": {name: number for name, number in sorted(by_name.items(), key=str) if name is not None},
        "of_none": by_name.get(None, 0),
        "labelled": {"as_labelled": same, "otherwise": other, "of_none": known.count() - same - other},
    }


def _number(flag: Column) -> Column:
    return sf.coalesce(sf.sum(flag.cast("int")), sf.lit(0))
