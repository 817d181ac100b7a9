"""Files of genomes to `variants`, `genotypes` and `samples`: read, clean, summarise."""

import logging
from collections.abc import Sequence

import numpy as np
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
from features.genomics.clean import Rule
from features.genomics.conformance.gate import check_strictly
from features.genomics.counts import SEXES
from features.genomics.formats.files import GenomeFile, open_files
from features.genomics.formats.header import Header
from features.genomics.genes import Genes, open_genes
from features.genomics.packing import packed_size
from features.genomics.reference import open_reference
from features.genomics.roster import IDENTIFIER, NOBODY, Roster, read_roster
from features.genomics.samples import summarise_samples
from features.genomics.sexes import Sex, Sexes, of_people, read_sexes
from features.genomics.summarise import summarise_variants
from features.lake import Written, bounded_arrow_batches, broadcast_if_few, read_version, write_table
from features.quality import Balance, check, refused

log = logging.getLogger("riskloom")
JOB = "ingest_genomics"
SPLITS_PER_CORE = 2
SMALLEST_SPLIT, LARGEST_SPLIT = 1 << 18, 64 << 20
MOST_REFERENCE_MISMATCHES = 0.1


def ingest_genomics(
    spark: SparkSession, lake: Location, settings: Settings, keyer: PersonKeyer, files: Sequence[FileStat]
) -> Written:
    """Parse the files once and write the four tables, each in one commit; nothing is published here.

    The variants of a file without samples are checked and counted, and left out: nobody was genotyped there.
    Raises DataGateError when there are no files, one is of no known format, a person sits in two
    sample lists, no record could be used, or, under `strict`, a line is not as the specification has it.
    """
    genomics, raw = _section(settings), Location(settings.raw)
    opened = open_files(raw, keyer, files, _step(spark, files))
    headers = [file.header for file in opened]
    if genomics.strict:
        _check_strictly(spark, opened)
    roster = read_roster(headers, keyer)
    order = {header.digest: number for number, header in enumerate(headers)}
    recorded = read_sexes(raw, genomics.sexes, keyer) if genomics.sexes else sexes_of_files(headers, keyer)
    sexes = {block: of_people(people, recorded) for block, people in roster.people.items()}
    _check_sexes(sexes, genomics)
    reference = open_reference(raw / genomics.reference) if genomics.reference else None
    genes = _genes(raw, genomics, keyer)
    parts = [part for file in opened for part in file.parts]
    work = Work(parts, roster.columns, order, sexes, reference, genes, genomics)
    found = candidates(spark, work).persist(StorageLevel.MEMORY_AND_DISK)
    doubles = _doubles(found).persist()
    try:
        balances = _balances(found, doubles, list(order))
        _check_reference(balances, genomics)
        check(balances)
        _tell_of_no_dosages(found, genomics)
        called = found.filter(sf.col("rule").isNull() & (sf.col("sample_block") != NOBODY))
        accepted = _without(called, doubles, sum(b.merged for b in balances.values()))
        with bounded_arrow_batches(spark, packed_size(max(map(len, sexes.values())))):
            tables = _write(spark, lake, genomics, roster, sexes, accepted, found)
    finally:
        doubles.unpersist()
        found.unpersist()
    return Written(tables, _counts(balances, roster, sexes) | _sex_check(spark, lake, tables))


def _check_strictly(spark: SparkSession, opened: Sequence[GenomeFile]) -> None:
    texts = [(file.text, file.header) for file in opened if file.text]
    if len(texts) < len(opened):
        log.warning(
            "genomics.strict: %d of %d files are not VCF text and are not held against its specification",
            len(opened) - len(texts),
            len(opened),
        )
    if texts:
        check_strictly(spark, texts)


def _without_samples(roster: Roster) -> int:
    """How many files list sites alone."""
    files = [digest for digest, columns in roster.columns.items() if columns.block == NOBODY]
    if files:
        log.warning(
            "%d files have no sample columns; their variants are left out: %s", len(files), ", ".join(files)
        )
    return len(files)


def _section(settings: Settings) -> GenomicsSettings:
    if settings.genomics is None:
        raise ConfigError("genomics: the configuration has no such section; add it, or leave this job out")
    return settings.genomics


def _genes(raw: Location, genomics: GenomicsSettings, keyer: PersonKeyer) -> Genes | None:
    if genomics.genes is None:
        return None
    return open_genes(raw / genomics.genes, f"genomics.genes: file {keyer.path_digest(genomics.genes)}")


def _step(spark: SparkSession, files: Sequence[FileStat]) -> int:
    """The size of a part of a file: enough parts for every core, of bounded size."""
    if not files:
        raise DataGateError("genomics.paths: no file below the raw root matches; check raw and the globs")
    wanted = sum(file.size for file in files) // (spark.sparkContext.defaultParallelism * SPLITS_PER_CORE)
    return min(max(wanted, SMALLEST_SPLIT), LARGEST_SPLIT)


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
    losers = broadcast_if_few(doubles.select(*PLACE), number)
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
    sexes: dict[str, Sexes],
    accepted: DataFrame,
    found: DataFrame,
) -> dict[str, int]:
    """The four tables and their new versions; samples are summarised beside the variants as written."""
    tasks = max(spark.sparkContext.defaultParallelism, int(spark.conf.get("spark.sql.shuffle.partitions") or 1))
    variants = summarise_variants(accepted, genomics.build, _by_sex(sexes), genomics.somatic)
    version = write_table(variants, lake, VARIANTS, reshape=True)
    written = read_version(spark, lake, VARIANTS.path, version)
    people = _people(spark, roster, sexes)
    samples = summarise_samples(accepted, written, people, sexes, tasks, genomics.build, genomics.somatic)
    return {
        VARIANTS.path: version,
        GENOTYPES.path: write_table(accepted.select(GENOTYPES.schema.names), lake, GENOTYPES, reshape=True),
        SAMPLES.path: write_table(samples, lake, SAMPLES, reshape=True),
        quarantine(JOB).path: write_table(_refused(spark, found, roster), lake, quarantine(JOB)),
    }


def _by_sex(sexes: dict[str, Sexes]) -> dict[str, int]:
    """The number of samples by suffix of SEXES."""
    found = np.concatenate(list(sexes.values()))
    return {suffix: len(found) if sex is None else int((found == sex).sum()) for suffix, sex in SEXES.items()}


def _people(spark: SparkSession, roster: Roster, sexes: dict[str, Sexes]) -> DataFrame:
    """`sample_block, sample_index, person_key, sex` of every kept sample."""
    rows = [
        (block, index, key, Sex(sex).name.lower())
        for block, keys in roster.people.items()
        for index, (key, sex) in enumerate(zip(keys, sexes[block], strict=True))
    ]
    schema = "sample_block string, sample_index int, person_key string, sex string"
    return spark.createDataFrame(
        pd.DataFrame(rows, columns=["sample_block", "sample_index", "person_key", "sex"]), schema
    )


def _refused(spark: SparkSession, found: DataFrame, roster: Roster) -> DataFrame:
    """Refused lines, and the places in the headers of refused sample names."""
    lines = found.filter("rule is not null").select("source_digest", "location", "rule")
    names = [(digest, location, IDENTIFIER) for digest, location in roster.refused]
    headers = spark.createDataFrame(names, "source_digest string, location string, rule string")
    return refused(lines.unionByName(headers) if names else lines, JOB)


def _counts(balances: dict[str, Balance], roster: Roster, sexes: dict[str, Sexes]) -> dict[str, object]:
    """`samples_refused` and `samples_merged` are columns, counted in every file."""
    by_sex = _by_sex(sexes)
    return {
        "balances": {digest: balance.as_counts() for digest, balance in balances.items()},
        "files_without_samples": _without_samples(roster),
        "samples": by_sex[""],
        "sample_blocks": len(roster.people),
        "samples_refused": len(roster.refused),
        "samples_merged": roster.merged,
        "samples_without_sex": by_sex[""] - by_sex["_female"] - by_sex["_male"],
    }


def sexes_of_files(headers: Sequence[Header], keyer: PersonKeyer) -> dict[str, Sex]:
    """The sex of each person whose file tells it. DataGateError for a person with two."""
    found: dict[str, Sex] = {}
    for header in headers:
        for place, (name, sex) in enumerate(zip(header.names, header.sexes, strict=False)):
            key = keyer.person_key(name)
            if key is not None and sex is not Sex.UNKNOWN and found.setdefault(key, sex) is not sex:
                raise DataGateError(
                    f"file {header.place(place)[0]}, sample {place + 1}: this person has another sex elsewhere "
                    "in it or in another file; correct them, or give genomics.sexes"
                )
    return found


def _check_sexes(sexes: dict[str, Sexes], genomics: GenomicsSettings) -> None:
    by_sex = _by_sex(sexes)
    if genomics.sexes and by_sex["_female"] + by_sex["_male"] == 0:
        raise DataGateError(
            f"genomics.sexes: it gives none of the {by_sex['']} samples a sex; are its ids those of the samples, "
            f"and is {genomics.sexes.sex} the right column?"
        )


def _check_reference(balances: dict[str, Balance], genomics: GenomicsSettings) -> None:
    """A file of another build disagrees nearly everywhere; a stray record or two is quarantined."""
    for digest, balance in balances.items():
        refused = balance.quarantined.get(Rule.REFERENCE, 0)
        if refused > MOST_REFERENCE_MISMATCHES * balance.records:
            raise DataGateError(
                f"file {digest}: REF of {refused:,} of {balance.records:,} records is not what genomics.reference "
                f"has there; is this file, or {genomics.reference}, of another build than {genomics.build}?"
            )


def _tell_of_no_dosages(found: DataFrame, genomics: GenomicsSettings) -> None:
    if genomics.dosages and not found.filter("dosages is not null").limit(1).count():
        log.warning(
            "genomics.dosages: %s tells nothing of any variant that its calls do not; do the files have that key?",
            genomics.dosages,
        )


def _sex_check(spark: SparkSession, lake: Location, tables: dict[str, int]) -> dict[str, object]:
    """How many samples' X tells another sex than is recorded: a swapped tube, or a wrong record."""
    samples = read_version(spark, lake, SAMPLES.path, tables[SAMPLES.path])
    known = samples.filter("sex != 'unknown' and sex_imputed != 'unknown'")
    other = known.filter("sex != sex_imputed").count()
    if other:
        log.warning("%d samples: X tells another sex than is recorded (samples: sex, sex_imputed)", other)
    return {"samples_of_other_sex": other}
