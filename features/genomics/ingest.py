"""Files of genomes to `variants`, `genotypes` and `samples`: read, clean, summarise."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as sf

from features.contract.errors import ConfigError, DataGateError
from features.contract.paths import FileStat, Location
from features.contract.persons import PersonKeyer
from features.contract.runs import Runs
from features.contract.schemas import GENOTYPES, SAMPLES, VARIANTS, quarantine
from features.contract.settings import GenomicsSettings, Settings
from features.genomics.absent import (
    check_nothing_refused,
    contigs_by_block,
    jointly_called,
    with_reference_calls,
)
from features.genomics.accounts import check_reference, count_all, count_lines, tell_of_no_dosages
from features.genomics.batch import Batch, open_batch
from features.genomics.blocks import KEYS
from features.genomics.candidates import PLACE, Work, candidates
from features.genomics.conformance.gate import check_strictly
from features.genomics.counts import COUNTS
from features.genomics.dosages import DOSED
from features.genomics.earlier import DESCRIBED, Earlier, OutdatedError, check_order, file_stats, open_earlier
from features.genomics.formats.files import GenomeFile, open_files
from features.genomics.genes import Genes, open_genes
from features.genomics.info import Fields, choose, kinds
from features.genomics.joins import ONE, SEVERAL
from features.genomics.measures import MEASURES, measures_by_sample
from features.genomics.packing import packed_size
from features.genomics.reference import open_reference
from features.genomics.roster import IDENTIFIER, NOBODY, Roster
from features.genomics.samples import substitution, summarise_samples, sums_by_sample
from features.genomics.summarise import summarise_variants
from features.lake import Written, bounded_arrow_batches, broadcast_if_few, read_version, write_table
from features.quality import Balance, check, refused

log = logging.getLogger("riskloom")
JOB = "ingest_genomics"
SPLITS_PER_CORE = 2
SMALLEST_SPLIT, LARGEST_SPLIT = 1 << 18, 64 << 20
NO_RUNS = Runs(())


def ingest_genomics(
    spark: SparkSession,
    lake: Location,
    settings: Settings,
    keyer: PersonKeyer,
    files: Sequence[FileStat],
    runs: Runs = NO_RUNS,
    basis: str = "",
) -> Written:
    """Parse each file once and write the four tables, each in one commit; nothing is published here. Files that a
    run on the same `basis` read are not read again where that would give the same rows.

    The variants of a file without samples are checked and counted, and left out: nobody was genotyped there.
    Raises DataGateError when there are no files, one is of no known format, a person sits in two
    sample lists, no record could be used, or, under `strict`, a line is not as the specification has it.
    """
    genomics = _section(settings)
    if not files:
        raise DataGateError("genomics.paths: no file below the raw root matches; check raw and the globs")
    ingest = partial(_ingest, spark, lake, genomics, Location(settings.raw), keyer, files)
    try:
        written = ingest(open_earlier(spark, lake, runs, basis, files, keyer))
    except OutdatedError as reason:
        log.info("all genomes are read anew: %s", reason)
        written = ingest(None)
    return replace(written, counts=written.counts | {"basis": basis, "files": file_stats(files, keyer)})


def _ingest(
    spark: SparkSession,
    lake: Location,
    genomics: GenomicsSettings,
    raw: Location,
    keyer: PersonKeyer,
    files: Sequence[FileStat],
    earlier: Earlier | None,
) -> Written:
    """OutdatedError where what is new changes rows that stand."""
    new = [file for file in files if earlier is None or keyer.path_digest(file.path) not in earlier.files]
    opened = open_files(raw, keyer, new, _step(spark, new))
    if genomics.strict:
        _check_strictly(spark, opened)
    batch = open_batch(spark, raw, genomics, keyer, [file.header for file in opened], earlier)
    joint = jointly_called(files, genomics, keyer, batch.files_by_block())
    if earlier:
        earlier.check_joint(joint)
        log.info("new files: %d; read earlier, and not again: %d", len(new), len(earlier.files))
        if not new:
            return Written(earlier.versions, dict(earlier.counts))
    order = {keyer.path_digest(path): number for number, path in enumerate(sorted(file.path for file in files))}
    kinds_before = earlier.info if earlier else {}
    info = choose((file.header for file in opened), genomics.info, kinds_before)
    work = _work(raw, genomics, keyer, opened, batch, order, info)
    parsed = candidates(spark, work).persist(StorageLevel.DISK_ONLY)
    found = parsed.filter("measured is null")
    doubles = _doubles(found, earlier).persist()
    try:
        balances = _balances(batch, found, doubles, work)
        check_nothing_refused(joint, batch.files_by_block(), balances)
        accepted = _without(doubles, found.filter(_OF_SOMEONE))
        contigs = contigs_by_block(accepted, joint, earlier)
        rows = with_reference_calls(accepted, contigs, batch.sexes, genomics.build, earlier)
        with bounded_arrow_batches(spark, packed_size(max(batch.sizes.values()))):
            # Without such rows Spark need not look for them.
            measured = parsed.filter("measured is not null" if genomics.measures else "false")
            refused_lines = _refused(spark, found, batch.roster)
            tables = _write(spark, lake, genomics, batch, rows, measured, refused_lines)
    finally:
        doubles.unpersist()
        parsed.unpersist()
    written = (read_version(spark, lake, t.path, tables[t.path]) for t in (VARIANTS, GENOTYPES, SAMPLES))
    return Written(tables, count_all(batch, balances, contigs, *written) | {"info": kinds_before | kinds(info)})


def _work(
    raw: Location,
    genomics: GenomicsSettings,
    keyer: PersonKeyer,
    opened: Sequence[GenomeFile],
    batch: Batch,
    order: dict[str, int],
    info: dict[str, Fields],
) -> Work:
    reference = open_reference(raw / genomics.reference) if genomics.reference else None
    genes = _genes(raw, genomics, keyer)
    parts = [part for file in opened for part in file.parts]
    return Work(parts, batch.roster.columns, order, info, batch.sexes, reference, genes, genomics)


def _balances(batch: Batch, found: DataFrame, doubles: DataFrame, work: Work) -> dict[str, Balance]:
    """What became of the lines of all files, new and earlier, which had to be found sound."""
    if batch.earlier:
        known = doubles.filter("known").select("source_digest").distinct().collect()
        check_order(batch.earlier, [row["source_digest"] for row in known], work.columns, work.order)
    new = count_lines(found, doubles, list(work.columns))
    check_reference(new, work.settings)
    balances = (batch.earlier.balances if batch.earlier else {}) | new
    check(balances)
    tell_of_no_dosages(found, work.settings)
    return balances


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
    wanted = sum(file.size for file in files) // (spark.sparkContext.defaultParallelism * SPLITS_PER_CORE)
    return min(max(wanted, SMALLEST_SPLIT), LARGEST_SPLIT)


def _doubles(found: DataFrame, earlier: Earlier | None) -> DataFrame:
    """The places of candidates whose variant came before in the same block, in a new file or an earlier one."""
    order = Window.partitionBy("sample_block", "variant_key").orderBy(*PLACE)
    narrow = found.filter(_OF_SOMEONE).select(*PLACE, "source_digest", "sample_block", "variant_key")
    numbered = narrow.withColumn("number", sf.row_number().over(order))
    if earlier:
        known = earlier.genotypes.select("sample_block", "variant_key", sf.lit(True).alias("known"))
        numbered = numbered.join(known, ["sample_block", "variant_key"], "left")
        return numbered.filter("number > 1 or known").select(*PLACE, "source_digest", "known")
    return numbered.filter("number > 1").select(*PLACE, "source_digest")


_OF_SOMEONE = f"rule is null and sample_block != '{NOBODY}'"


def _without(doubles: DataFrame, accepted: DataFrame) -> DataFrame:
    """Few doubles are broadcast, so that the calls are not shuffled."""
    number = doubles.count()
    if number == 0:
        return accepted
    losers = broadcast_if_few(doubles.select(*PLACE), number)
    return accepted.join(losers, list(PLACE), "left_anti")


def _write(
    spark: SparkSession,
    lake: Location,
    genomics: GenomicsSettings,
    batch: Batch,
    accepted: DataFrame,
    measured: DataFrame,
    refused_lines: DataFrame,
) -> dict[str, int]:
    """The four tables and their new versions; samples are summarised beside the variants as written. What was
    called and refused earlier stays, and where nobody and nothing that was called earlier is in the new rows, as
    with another chromosome, so does what was summed up of earlier variants."""
    build, somatic, earlier = genomics.build, genomics.somatic, batch.earlier
    counted = accepted.select(*DESCRIBED, *COUNTS, *DOSED, *MEASURES).coalesce(_few(spark))
    called = accepted.select("variant_key", "sample_block", "calls", "sole_carrier")
    sums = _sums(spark, batch, accepted, measured)
    all_new = earlier is None or (not batch.new_blocks and earlier.has_none_of(accepted))
    joins = ONE if len(batch.sizes) == 1 and all_new else SEVERAL
    if earlier:
        called = earlier.with_calls(called)
        counted = counted if all_new else earlier.with_descriptions(earlier.with_calls(counted))
    variants = summarise_variants(counted, joins, build, batch.by_sex(), somatic)
    append = bool(earlier) and all_new
    version = write_table(variants, lake, VARIANTS, reshape=not append, append=append)
    written = read_version(spark, lake, VARIANTS.path, version)
    people = batch.people(spark)
    samples = summarise_samples(called, sums, written, people, batch.sizes, build, somatic)
    rows = accepted.select(GENOTYPES.schema.names)
    return {
        VARIANTS.path: version,
        SAMPLES.path: write_table(samples, lake, SAMPLES, reshape=True),
        GENOTYPES.path: write_table(rows, lake, GENOTYPES, reshape=not earlier, append=bool(earlier)),
        quarantine(JOB).path: write_table(refused_lines, lake, quarantine(JOB), append=bool(earlier)),
    }


def _sums(spark: SparkSession, batch: Batch, accepted: DataFrame, measured: DataFrame) -> DataFrame:
    """Sums of each sample, new rows beside what was summed earlier; in few tasks, for each gives all samples."""
    before = batch.earlier.samples if batch.earlier else None
    calls = accepted.select("sample_block", "calls", "region", substitution().alias("substitution"))
    sums = sums_by_sample(calls.coalesce(_few(spark)), batch.sexes, before)
    return sums.join(measures_by_sample(measured, before), KEYS, "left")


def _few(spark: SparkSession) -> int:
    """So many tasks as a shuffle would have: files of genomes may have far more parts."""
    return max(spark.sparkContext.defaultParallelism, int(spark.conf.get("spark.sql.shuffle.partitions") or 1))


def _refused(spark: SparkSession, found: DataFrame, roster: Roster) -> DataFrame:
    """Refused lines, and the places in the headers of refused sample names."""
    lines = found.filter("rule is not null").select("source_digest", "location", "rule")
    names = [(digest, location, IDENTIFIER) for digest, location in roster.refused]
    headers = spark.createDataFrame(names, "source_digest string, location string, rule string")
    return refused(lines.unionByName(headers) if names else lines, JOB)
