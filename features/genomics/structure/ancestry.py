"""Where people's genomes come from: `axes` of population structure, and on them `ancestry` of everyone."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.errors import ConfigError, DataGateError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.runs import Runs
from features.contract.schemas import ANCESTRY, AXES, POPULATIONS
from features.contract.settings import AncestrySettings, GenomicsSettings, Settings
from features.genomics.blocks import KEYS, Masks, batches_by_block, flags_by_block, packed_rows, rows_by_block
from features.genomics.contigs import AUTOSOME
from features.genomics.counts import count_calls
from features.genomics.current import check_made
from features.genomics.draw import drawn
from features.genomics.quality_control import check_current as check_quality
from features.genomics.sample_table import read_values
from features.genomics.structure.linkage import in_long_range, pruned
from features.genomics.structure.populations import Classified, check_people, collected, populations
from features.genomics.structure.principal_components import SMALLEST_SHARE, Axes, Passes
from features.genomics.structure.relatives import check_current as check_relatives
from features.genomics.structure.tiles import tiles_of, write_tiles
from features.lake import Written, read_table, read_version, write_table

log = logging.getLogger("riskloom")
SECTION = "genomics.ancestry"
FEWEST_PEOPLE = 50
"""As plink2 wants them of whoever frequencies are estimated in."""
FEWEST_VARIANTS_A_COMPONENT = 10
FEWEST_CALLED = 0.95
"""Of the people of the axes, and of the others: a variant that a batch lacks places nobody of it."""
CANDIDATES_A_VARIANT = 4
PEOPLE_FOR_LINKAGE = 10_000
"""An r2 of 0.2 is known to within 0.01 from so many."""


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
    families = read_table(spark, lake, runs, "families") if genomics.relatives else None
    reference = _reference(genomes, labels, families)
    if labels is not None:
        _check_labels(labels, reference, wanted)
    described = _kept(runs, genomics, wanted, keyer)
    if described:
        old = read_table(spark, lake, runs, AXES.path).orderBy("variant_key").toPandas()
        keys, axes = old["variant_key"], _axes(old, described)
        passes = _passes(genomes, _present(genomes, keys), len(keys), {}, folder)
    else:
        basis = _basis(genomes, reference, labels, wanted)
        chosen = _variants(genomes, basis, genomics.build, wanted)
        keys = chosen["variant_key"]
        passes = _passes(genomes, _listed(spark, keys), len(keys), basis, folder)
        axes = passes.axes(wanted.components, chosen["frequency"].to_numpy())
        described = _described(genomics, basis, axes, keyer)
    found = passes.placed(axes).join(genomes.samples.select("person_key", *KEYS), KEYS)
    found = found.join(reference.select("person_key", "reference"), "person_key", "left")
    found = found.fillna(False, ["reference"]).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        counts = {"of": _in_words(genomics, wanted), "axes": described} | _check_placed(found)
        versions = {AXES.path: write_table(_table(spark, keys, axes), lake, AXES)}
        own = None
        if labels is not None:
            of_reference = found.filter(sf.col("reference") & sf.col("components").isNotNull())
            shown = populations(of_reference.join(labels, "person_key"))
            versions[POPULATIONS.path] = write_table(shown, lake, POPULATIONS)
            own = read_version(spark, lake, POPULATIONS.path, versions[POPULATIONS.path])
        versions[ANCESTRY.path] = write_table(_classified(found, own, wanted), lake, ANCESTRY, reshape=True)
    finally:
        found.unpersist()
    if labels is not None:
        counts |= _counts(read_version(spark, lake, ANCESTRY.path, versions[ANCESTRY.path]), labels)
    return Written(versions, counts)


def check_current(runs: Runs, genomics: GenomicsSettings) -> None:
    """DataGateError where people were placed before the genomes were last ingested or judged, or by other axes."""
    if genomics.ancestry:
        check_quality(runs, genomics)
        of = {*genomics.usable.values(), "samples", *(["families"] if genomics.relatives else [])}
        check_made(runs, ANCESTRY.path, of, ("of", _in_words(genomics, genomics.ancestry)), SECTION)


def _sections(settings: Settings) -> tuple[GenomicsSettings, AncestrySettings]:
    if settings.genomics is None or settings.genomics.ancestry is None:
        raise ConfigError(f"{SECTION}: the configuration has no such section; add it, or leave this job out")
    return settings.genomics, settings.genomics.ancestry


_OF_AXES = ("components", "minimum_allele_frequency", "window", "most_r2", "most_variants", "populations", "axes")


def _in_words(genomics: GenomicsSettings, wanted: AncestrySettings) -> str:
    """What the axes hang on: other words, other axes. Settings to come are not in it by themselves."""
    found = wanted.model_dump(mode="json")
    return json.dumps([genomics.build, *(found[name] for name in _OF_AXES)])


def _limits(genomics: GenomicsSettings) -> str:
    """What else had a say in who and what the axes are made of."""
    return json.dumps([part and part.model_dump(mode="json") for part in (genomics.quality, genomics.relatives)])


def _described(genomics: GenomicsSettings, basis: Masks, axes: Axes, keyer: PersonKeyer) -> dict[str, Any]:
    """What `runs` keeps of new axes."""
    people, variants = sum(int(mask.sum()) for mask in basis.values()), int((axes.scale > 0).sum())
    noise = int((axes.eigenvalues < (1 + np.sqrt(people / variants)) ** 2).sum())
    if noise:
        log.warning(
            "axes: %d of %d tell no more than chance would (Marchenko, Pastur); fewer components place new people "
            "as well",
            *(noise, len(axes.eigenvalues)),
        )
    found = {"limits": _limits(genomics), "names": _names(keyer), "people": people, "variants": variants}
    return found | {"eigenvalues": axes.eigenvalues.tolist()}


def _names(keyer: PersonKeyer) -> str:
    """What people's keys hang on, by whose hash the halves are parted: with others those whom the axes are made of
    would be among those who are compared with."""
    return keyer.digest("axes", keyer.identity.model_dump_json())


def _kept(
    runs: Runs, genomics: GenomicsSettings, wanted: AncestrySettings, keyer: PersonKeyer
) -> dict[str, Any] | None:
    """What is known of the published axes, where these settings made them."""
    made = runs.publisher(AXES.path)
    if made is None:
        return None
    described: dict[str, Any] = made.counts["axes"]
    same_names = described.get("names", _names(keyer)) == _names(keyer)
    if made.counts.get("of") != _in_words(genomics, wanted) or not same_names:
        what = "their settings" if same_names else "identity or its key"
        log.warning("axes: made anew, for %s changed: components of before mean something else", what)
        return None
    log.info(
        "axes: those of %s people and %s variants are kept", described["people"], f"{described['variants']:,}"
    )
    if described["limits"] != _limits(genomics):
        log.warning(
            "axes: genomics.quality or genomics.relatives were others when they were made; another number in "
            "%s.axes makes them anew",
            SECTION,
        )
    return described


def _present(genomes: Genomes, keys: "pd.Series[str]") -> DataFrame:
    """Those of the kept axes' variants that may be used now. DataGateError where most are gone."""
    found = _listed(genomes.samples.sparkSession, keys).join(genomes.variants, "variant_key", "left_semi")
    number = found.count()
    if number < SMALLEST_SHARE * len(keys):
        raise DataGateError(
            f"{SECTION}: of the {len(keys):,} variants of the kept axes {number:,} may be used now, expected at "
            "least half; another number in axes makes them anew, of the variants that there are"
        )
    return found


def _check_placed(found: DataFrame) -> dict[str, object]:
    """How many there are and how many are not placed; DataGateError where these are most."""
    people, placed = found.agg(sf.count("*"), sf.count("components")).collect()[0]
    if 2 * placed < people:
        raise DataGateError(
            f"{SECTION}: {people - placed:,} of {people:,} people have too few calls of the axes' variants to be "
            "placed; ingest genotypes at the same variants, or another number in axes makes the axes anew"
        )
    if people > placed:
        log.warning("%s people have too few calls and were not placed on the axes", f"{people - placed:,}")
    return {"people": people, "not_placed": people - placed}


def _genomes(spark: SparkSession, lake: Location, runs: Runs, genomics: GenomicsSettings) -> Genomes:
    variants, genotypes, usable = (read_table(spark, lake, runs, table) for table in genomics.usable.values())
    samples = read_table(spark, lake, runs, "samples")
    return Genomes(variants, genotypes, usable, samples, rows_by_block(samples))


def _labels(genomes: Genomes, raw: Location, wanted: AncestrySettings, keyer: PersonKeyer) -> DataFrame | None:
    """`person_key, population` of those who have a label."""
    if wanted.populations is None:
        return None
    section, table = f"{SECTION}.populations", wanted.populations
    values = read_values(raw, table, table.column, section, keyer)
    rows = pd.DataFrame({"person_key": list(values), "population": [value.strip() for value in values.values()]})
    rows = rows[rows["population"] != ""]
    if rows.empty:
        raise DataGateError(f"{section}: column {table.column} has no value at all; is it the right one?")
    labels = genomes.samples.sparkSession.createDataFrame(rows, "person_key string, population string")
    found = labels.join(genomes.samples, "person_key", "left_semi")
    if found.isEmpty():
        raise DataGateError(
            f"{section}: of {len(rows):,} labelled people none has a genome; are the file's ids those of the "
            "samples?"
        )
    return found


def _check_labels(labels: DataFrame, reference: DataFrame, wanted: AncestrySettings) -> None:
    """Before anything is computed: who describes each population."""
    of_reference = reference.filter("reference").select("person_key", sf.lit(1).alias("one"))
    joined = labels.join(of_reference, "person_key", "left").groupBy("population")
    rows = joined.agg(sf.count("one").alias("people")).collect()
    check_people({row["population"]: row["people"] for row in rows}, wanted.components)


def _reference(genomes: Genomes, labels: DataFrame | None, families: DataFrame | None) -> DataFrame:
    """`person_key, of_axes, reference` of people who may be used and of whom no two are relatives; of those with a
    label, where there are labels.

    Whoever the axes are made of lies further out on them than others like them do. So of labelled people one half,
    by a hash, makes the axes, and the other is what everyone else is compared with; without labels all do both.
    """
    people = genomes.usable.select("person_key")
    if families is None:
        log.warning(
            "genomics.relatives is not set: relatives among the people of the axes would be axes themselves"
        )
    else:
        people = people.join(families.filter(~sf.col("unrelated")), "person_key", "left_anti")
    if labels is None:
        return people.withColumns({"of_axes": sf.lit(True), "reference": sf.lit(True)})
    half = sf.pmod(sf.xxhash64(sf.lit(SECTION), "person_key"), sf.lit(2)) == 0
    return people.join(labels, "person_key", "left_semi").withColumns({"of_axes": half, "reference": ~half})


def _basis(genomes: Genomes, reference: DataFrame, labels: DataFrame | None, wanted: AncestrySettings) -> Masks:
    """Of each block, who the axes are made of."""
    masks = flags_by_block(genomes.samples.join(reference, "person_key", "left"), sf.col("of_axes"))
    number, needed = sum(int(mask.sum()) for mask in masks.values()), max(FEWEST_PEOPLE, 2 * wanted.components)
    if number < needed:
        who = "may be used" if labels is None else "may be used and are of the labelled half that makes the axes"
        raise DataGateError(f"{SECTION}: {number:,} unrelated people {who}, expected at least {needed}")
    return masks


def _variants(genomes: Genomes, basis: Masks, build: str, wanted: AncestrySettings) -> pd.DataFrame:
    """`variant_key, frequency` of the variants of the axes, by their keys: a bounded number."""
    places = genomes.variants.filter(sf.col("contig").rlike(AUTOSOME) & ~in_long_range(build))
    known = places.select("variant_key", "contig", "position").join(_frequencies(genomes, basis), "variant_key")
    rarer = sf.least("frequency", 1 - sf.col("frequency"))
    candidates = known.filter((rarer >= wanted.minimum_allele_frequency) & (sf.col("called") >= FEWEST_CALLED))
    candidates = candidates.persist()
    number = candidates.count()
    most = CANDIDATES_A_VARIANT * wanted.most_variants
    some = drawn(candidates, number, most, SECTION)
    people = _some(basis)
    left = pruned(genomes.genotypes, some, min(number, 2 * most), people, wanted.window, wanted.most_r2).persist()
    try:
        independent = left.count()
        log.info("axes: %s common variants, %s of them independent", f"{number:,}", f"{independent:,}")
        found = drawn(left, independent, wanted.most_variants, f"{SECTION} pruned").toPandas()
    finally:
        left.unpersist()
        candidates.unpersist()
    if len(found) < FEWEST_VARIANTS_A_COMPONENT * wanted.components:
        raise DataGateError(
            f"{SECTION}: {len(found):,} common, independent variants of autosomes, called in {FEWEST_CALLED:.0%} "
            "of the people of the axes and of the others, expected at least "
            f"{FEWEST_VARIANTS_A_COMPONENT} a component, {FEWEST_VARIANTS_A_COMPONENT * wanted.components}"
        )
    return found.sort_values("variant_key", ignore_index=True)


def _frequencies(genomes: Genomes, basis: Masks) -> DataFrame:
    """`variant_key`, its `frequency` in the people of the axes, and the share `called` of these or of the others,
    whichever is less."""
    masks = {block: [mask, ~mask] for block, mask in basis.items()}
    own, others = (sum(int(masks[block][at].sum()) for block in masks) for at in (0, 1))
    ddl = ", ".join(["variant_key string", *(f"{name} bigint" for name in _COUNTED)])
    rows = genomes.genotypes.select("variant_key", "sample_block", "calls").mapInArrow(_Counted(masks), ddl)
    found = rows.groupBy("variant_key").agg(*(sf.sum(name).alias(name) for name in _COUNTED))
    rates = [sf.col("called_own") / own, *([sf.col("called_others") / others] if others else [sf.lit(1.0)])]
    frequency = sf.when(sf.col("called_own") > 0, sf.col("alleles") / (2 * sf.col("called_own")))
    return found.select("variant_key", frequency.alias("frequency"), sf.least(*rates).alias("called"))


_COUNTED = ("alleles", "called_own", "called_others")


@dataclass(frozen=True)
class _Counted:
    """The function that each task runs: packed rows in; ALT alleles and calls of the people of the axes, and calls
    of the others, out."""

    masks: dict[str, list[npt.NDArray[np.bool_]]]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for block, rows in batches_by_block(batches):
            counts = count_calls(packed_rows(rows["calls"]), self.masks[block])
            hom_ref, het, hom_alt, _, *others = counts.T
            columns = [het + 2 * hom_alt, hom_ref + het + hom_alt, others[0] + others[1] + others[2]]
            arrays = [rows["variant_key"], *(pa.array(column) for column in columns)]
            yield pa.RecordBatch.from_arrays(arrays, names=["variant_key", *_COUNTED])


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
    placed = found.select("person_key", "reference", "n_called", "components")
    schema = from_arrow_schema(ANCESTRY.schema)
    if own is None:
        nothing = {
            field.name: sf.lit(None).cast(field.dataType) for field in schema if field.name not in placed.columns
        }
        return placed.withColumns(nothing)
    return placed.mapInArrow(Classified(collected(own), wanted.minimum_probability), schema)


def _counts(ancestry: DataFrame, labels: DataFrame) -> dict[str, object]:
    """How many are of each population, and what labelled people were found to be."""
    rows = ancestry.filter("components is not null").groupBy("population").count().collect()
    by_name = {row["population"]: row["count"] for row in rows}
    told = sf.col("population") == sf.col("label")
    known = ancestry.join(labels.withColumnRenamed("population", "label"), "person_key")
    number, same, other = known.agg(sf.count("*"), sf.count_if(told), sf.count_if(~told)).collect()[0]
    return {
        "populations": {name: count for name, count in sorted(by_name.items(), key=str) if name is not None},
        "of_none": by_name.get(None, 0),
        "labelled": {"as_labelled": same, "otherwise": other, "of_none": number - same - other},
    }
