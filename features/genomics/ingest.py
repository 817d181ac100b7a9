"""VCF files to `variants`, `genotypes` and `samples`: read, clean, summarise."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

import pandas as pd
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as sf

from features.contract.errors import ConfigError, DataGateError
from features.contract.paths import FileStat, Location
from features.contract.persons import PersonKeyer
from features.contract.schemas import GENOTYPES, SAMPLES, VARIANTS, quarantine
from features.contract.settings import GenomicsSettings, Settings
from features.genomics.candidates import PLACE, Work, candidates
from features.genomics.packing import packed_size
from features.genomics.read import read_header
from features.genomics.roster import IDENTIFIER, Roster, read_roster
from features.genomics.summarise import summarise_samples, summarise_variants
from features.lake import Written, write_table
from features.quality import Balance, check, refused
from features.raw_text import Split, plan_splits

JOB = "ingest_genomics"
SPLITS_PER_CORE = 2
SMALLEST_SPLIT, LARGEST_SPLIT = 1 << 18, 64 << 20
ARROW_BATCH_BYTES = 16 << 20
MOST_BROADCAST_ROWS = 1_000_000


def ingest_genomics(
    spark: SparkSession, lake: Location, settings: Settings, keyer: PersonKeyer, files: Sequence[FileStat]
) -> Written:
    """Parse the files once and write the four tables, each in one commit; nothing is published here.

    Raises DataGateError when there are no files, a header is not one of a VCF, a person sits in two
    sample lists, or no record could be used.
    """
    genomics = _section(settings)
    splits = _plan(spark, Location(settings.raw), keyer, files)
    by_file = [list(group) for _, group in groupby(splits, key=lambda split: split.digest)]
    roster = read_roster((read_header(group) for group in by_file), keyer)
    order = {group[0].digest: number for number, group in enumerate(by_file)}
    found = candidates(spark, Work(splits, roster.columns, order, genomics)).persist(StorageLevel.MEMORY_AND_DISK)
    doubles = _doubles(found).persist()
    try:
        balances = _balances(found, doubles, list(order))
        check(balances)
        accepted = _without(found.filter("rule is null"), doubles, sum(b.merged for b in balances.values()))
        with _bounded_arrow_batches(spark, roster):
            tables = _write(spark, lake, genomics, roster, accepted, found)
    finally:
        doubles.unpersist()
        found.unpersist()
    return Written(tables, _counts(balances, roster))


def _section(settings: Settings) -> GenomicsSettings:
    if settings.genomics is None:
        raise ConfigError("genomics: the configuration has no such section; add it, or leave this job out")
    return settings.genomics


def _plan(spark: SparkSession, raw: Location, keyer: PersonKeyer, files: Sequence[FileStat]) -> list[Split]:
    """Splits of all files by path: enough for every core, of bounded size."""
    if not files:
        raise DataGateError("genomics.paths: no file below the raw root matches; check raw and the globs")
    wanted = sum(file.size for file in files) // (spark.sparkContext.defaultParallelism * SPLITS_PER_CORE)
    size = min(max(wanted, SMALLEST_SPLIT), LARGEST_SPLIT)
    named = [(file, keyer.path_digest(file.path)) for file in sorted(files, key=lambda file: file.path)]
    return plan_splits(raw, named, size)


def _doubles(found: DataFrame) -> DataFrame:
    """The places of candidates whose variant came before in the same block."""
    order = Window.partitionBy("sample_block", "variant_key").orderBy(*PLACE)
    narrow = found.filter("rule is null").select(*PLACE, "source_digest", "sample_block", "variant_key")
    numbered = narrow.withColumn("number", sf.row_number().over(order))
    return numbered.filter("number > 1").select(*PLACE, "source_digest")


def _without(accepted: DataFrame, doubles: DataFrame, number: int) -> DataFrame:
    """Few doubles are broadcast, so that the calls are not shuffled."""
    if number == 0:
        return accepted
    losers = doubles.select(*PLACE)
    losers = sf.broadcast(losers) if number <= MOST_BROADCAST_ROWS else losers
    return accepted.join(losers, list(PLACE), "left_anti")


def _balances(found: DataFrame, doubles: DataFrame, digests: list[str]) -> dict[str, Balance]:
    """What became of each file's lines, by digest. A refused line is one record that expands to nothing."""
    lines = sf.sum((sf.col("allele") == 1).cast("int")).alias("lines")
    groups = found.groupBy("source_digest", "rule").agg(lines, sf.count("*").alias("rows")).collect()
    merged = {row["source_digest"]: row["count"] for row in doubles.groupBy("source_digest").count().collect()}
    balances = {}
    for digest in digests:
        own = [row for row in groups if row["source_digest"] == digest]
        records = sum(row["lines"] for row in own)
        balances[digest] = Balance(
            records=records,
            expanded=sum(row["rows"] for row in own) - records,
            used=sum(row["rows"] for row in own if row["rule"] is None) - merged.get(digest, 0),
            merged=merged.get(digest, 0),
            quarantined={row["rule"]: row["rows"] for row in own if row["rule"] is not None},
        )
    return balances


def _write(
    spark: SparkSession,
    lake: Location,
    genomics: GenomicsSettings,
    roster: Roster,
    accepted: DataFrame,
    found: DataFrame,
) -> dict[str, int]:
    """The four tables and their new versions."""
    sizes = {block: len(people) for block, people in roster.people.items()}
    tasks = max(spark.sparkContext.defaultParallelism, int(spark.conf.get("spark.sql.shuffle.partitions") or 1))
    genotypes = accepted.select(GENOTYPES.schema.names)
    variants = summarise_variants(accepted, genomics.build, sum(sizes.values()), genomics.somatic)
    samples = summarise_samples(genotypes, _people(spark, roster), sizes, tasks)
    quarantined = _refused(spark, found, roster)
    return {
        GENOTYPES.path: write_table(genotypes, lake, GENOTYPES),
        VARIANTS.path: write_table(variants, lake, VARIANTS),
        SAMPLES.path: write_table(samples, lake, SAMPLES),
        quarantine(JOB).path: write_table(quarantined, lake, quarantine(JOB)),
    }


def _people(spark: SparkSession, roster: Roster) -> DataFrame:
    """`sample_block, sample_index, person_key` of every kept sample."""
    rows = [(block, index, key) for block, keys in roster.people.items() for index, key in enumerate(keys)]
    schema = "sample_block string, sample_index int, person_key string"
    return spark.createDataFrame(
        pd.DataFrame(rows, columns=["sample_block", "sample_index", "person_key"]), schema
    )


def _refused(spark: SparkSession, found: DataFrame, roster: Roster) -> DataFrame:
    """Refused lines, and the places in the headers of refused sample names."""
    lines = found.filter("rule is not null").select("source_digest", "location", "rule")
    names = [(digest, location, IDENTIFIER) for digest, location in roster.refused]
    headers = spark.createDataFrame(names, "source_digest string, location string, rule string")
    return refused(lines.unionByName(headers) if names else lines, JOB)


def _counts(balances: dict[str, Balance], roster: Roster) -> dict[str, object]:
    """`samples_refused` and `samples_merged` are columns, counted in every file."""
    return {
        "balances": {digest: balance.as_counts() for digest, balance in balances.items()},
        "samples": sum(len(people) for people in roster.people.values()),
        "sample_blocks": len(roster.people),
        "samples_refused": len(roster.refused),
        "samples_merged": roster.merged,
    }


@contextmanager
def _bounded_arrow_batches(spark: SparkSession, roster: Roster) -> Iterator[None]:
    """Spark bounds the batches it hands to Python by rows alone: let rows of many people be fewer."""
    key = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = str(spark.conf.get(key))
    largest = max(packed_size(len(people)) for people in roster.people.values())
    spark.conf.set(key, str(min(int(before), max(1, ARROW_BATCH_BYTES // largest))))
    try:
        yield
    finally:
        spark.conf.set(key, before)
