"""Files of genomes to `variants`, `genotypes` and `samples`: read, clean, summarise."""

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession

from features.contract.errors import ConfigError, DataGateError
from features.contract.paths import FileStat, Location
from features.contract.persons import PersonKeyer
from features.contract.runs import Runs
from features.contract.schemas import GENOTYPES, SAMPLES, VARIANTS, quarantine
from features.contract.settings import GenomicsSettings, Settings
from features.genomics.blocks import KEYS, widest_row
from features.genomics.conformance.gate import check_strictly
from features.genomics.contigs import Region, RegionCounts, builds_of
from features.genomics.counts import COUNTS
from features.genomics.dosages import DOSED
from features.genomics.formats.files import GenomeFile, open_files
from features.genomics.genes import Genes, open_genes
from features.genomics.info import Fields, choose, kinds
from features.genomics.ingestion.absent import (
    check_nothing_refused,
    contigs_by_block,
    jointly_called,
    reference_calls,
)
from features.genomics.ingestion.accepted import (
    Tally,
    accept,
    columns_of,
    find_doubles,
    of_kind,
    tally,
)
from features.genomics.ingestion.accounts import check_reference, count_all, count_lines, tell_of_no_dosages
from features.genomics.ingestion.batch import Batch, open_batch
from features.genomics.ingestion.candidates import SEALED_BYTES, Work, candidates, layout_of
from features.genomics.ingestion.earlier import (
    DESCRIBED,
    Earlier,
    OutdatedError,
    beside,
    check_order,
    file_stats,
    open_earlier,
)
from features.genomics.ingestion.roster import IDENTIFIER, Roster
from features.genomics.ingestion.write import write_calls
from features.genomics.measures import MEASURES, measures_by_sample, no_summaries
from features.genomics.reference import open_reference
from features.genomics.samples import (
    count_regions,
    count_singletons,
    find_inbreeding,
    summarise_samples,
    sums_by_sample,
)
from features.genomics.spans import Spans, spans_of, suspects_of, widened
from features.genomics.statistics import describe_rows
from features.genomics.variants import summarise_variants
from features.lake import Written, bounded_arrow_batches, few_rows, files_of_tasks, read_version, write_table
from features.quality import Balance, check, refused

log = logging.getLogger("riskloom")
JOB = "ingest_genomics"
SPLITS_PER_CORE = 2
SMALLEST_SPLIT, LARGEST_SPLIT = 1 << 18, 64 << 20
NO_RUNS = Runs(())
KEY = ("variant_key",)
_ADVICE = (
    "correct the file or the settings that refuse it (genomics.half_calls, genomics.reference, genomics.dosages), "
    "or leave it out of genomics.paths"
)


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
        globs = ", ".join(genomics.paths)
        raise DataGateError(
            f"genomics.paths: no file below {settings.raw} matches {globs}; check raw and the globs"
        )
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
    _check_builds(opened, genomics.build)
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
    with ExitStack() as stack:
        parsed = candidates(spark, work).persist(StorageLevel.DISK_ONLY)
        stack.callback(parsed.unpersist)
        tallies, of_parts = tally(parsed)
        suspects, spans = suspects_of(of_parts), spans_of(of_parts)
        widest = widest_row(max(batch.sizes.values()), any(found.with_dosages for found in tallies))
        stack.enter_context(bounded_arrow_batches(spark, max(SEALED_BYTES, widest)))
        doubles, every = None, accept(parsed, None)
        comes_again = _comes_again(batch, spans, every)
        if comes_again or suspects:
            doubles = find_doubles(parsed, suspects, earlier if comes_again else None).persist()
            stack.callback(doubles.unpersist)
        balances = _balances(batch, tallies, doubles, work, genomics)
        check_nothing_refused(joint, batch.files_by_block(), balances)
        accepted = accept(parsed, doubles) if doubles else every
        contigs = contigs_by_block(accepted, joint, earlier)
        filled = reference_calls(accepted, contigs, batch.sexes, genomics.build, earlier)
        all_new = _are_all_new(batch, accepted, filled, comes_again)
        tables, regions, rows = _write(spark, lake, genomics, batch, parsed, tallies, accepted, filled, all_new)
    samples = read_version(spark, lake, SAMPLES.path, tables[SAMPLES.path])
    counts = count_all(batch, balances, contigs, regions, rows, samples)
    kept = {"info": kinds_before | kinds(info), "spans": widened(earlier.spans if earlier else {}, spans)}
    return Written(tables, counts | kept)


def _comes_again(batch: Batch, spans: Spans, read: DataFrame) -> bool:
    """Whether variants that were called earlier are among those `read`, which lie within these spans, if some
    people are earlier ones too."""
    earlier = batch.earlier
    if earlier is None or not any(columns.block in earlier.blocks for columns in batch.roster.columns.values()):
        return False
    return not (earlier.is_apart(spans) or earlier.has_none_of(columns_of(read, KEY)))


def _are_all_new(batch: Batch, accepted: DataFrame, filled: DataFrame | None, comes_again: bool) -> bool:
    """Whether the rows of earlier variants stay as they are: nobody is new, and no such variant is in the new
    rows. `comes_again` tells that one is in what was read."""
    if batch.earlier is None or batch.new_blocks:
        return batch.earlier is None
    if filled is None and not comes_again:
        return True
    keys = columns_of(accepted, KEY)
    return batch.earlier.has_none_of(keys if filled is None else beside(keys, filled))


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
    genes, columns = _genes(raw, genomics, keyer), batch.roster.columns
    layouts = {
        header.digest: layout_of(
            header, columns[header.digest], genomics, info.get(header.digest, {}), reference, genes
        )
        for header in (file.header for file in opened)
    }
    parts = [part for file in opened for part in file.parts]
    return Work(parts, columns, order, layouts, batch.sexes)


def _balances(
    batch: Batch, tallies: Sequence[Tally], doubles: DataFrame | None, work: Work, genomics: GenomicsSettings
) -> dict[str, Balance]:
    """What became of the lines of all files, new and earlier, which had to be found sound."""
    order = {digest: work.order[digest] for digest in work.columns}
    if batch.earlier and doubles:
        known = {row["source"] for row in doubles.filter("known").select("source").distinct().collect()}
        repeating = [digest for digest, number in order.items() if number in known]
        check_order(batch.earlier, repeating, work.columns, work.order)
    new = count_lines(tallies, doubles, order)
    check_reference(new, genomics)
    balances = (batch.earlier.balances if batch.earlier else {}) | new
    check({f"file {digest}": balance for digest, balance in balances.items()}, _ADVICE)
    tell_of_no_dosages(tallies, genomics)
    return balances


def _check_builds(opened: Sequence[GenomeFile], build: str) -> None:
    """DataGateError for a file whose header has the contigs of another build."""
    for header in (file.header for file in opened):
        found = builds_of(header.lengths)
        if found and build not in found:
            raise DataGateError(
                f"file {header.digest}: its header gives contigs the lengths of {', '.join(sorted(found))}, and "
                f"genomics.build is {build}; correct genomics.build, or lift the file over (bcftools +liftover)"
            )


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


def _write(
    spark: SparkSession,
    lake: Location,
    genomics: GenomicsSettings,
    batch: Batch,
    parsed: DataFrame,
    tallies: Sequence[Tally],
    accepted: DataFrame,
    filled: DataFrame | None,
    all_new: bool,
) -> tuple[dict[str, int], RegionCounts, dict[str, int]]:
    """The new versions of the four tables; how many variants there are now by Region; how many rows are new of
    each block. What was called and refused earlier stays, and where nobody and nothing that was called earlier is
    in the new rows, as with another chromosome, so does what was summed up of earlier variants."""
    build, somatic, earlier = genomics.build, genomics.somatic, batch.earlier
    people, before, group = batch.by_sex(), earlier.samples if earlier else None, None if somatic else ""
    refused_any = any(tally.rule for tally in tallies)
    refused_lines = _write_refused(spark, lake, parsed if refused_any else None, batch.roster, bool(earlier))
    append = {GENOTYPES.path: bool(earlier), VARIANTS.path: bool(earlier) and all_new}
    one_row_each = all_new and len(batch.sizes) == 1
    by_tasks = append if one_row_each else {GENOTYPES.path: bool(earlier)}
    few, describe = accepted.coalesce(_few(spark)), partial(describe_rows, build, people, group)
    with write_calls(few, filled, batch.sexes, lake, by_tasks, describe) as calls:
        tables = calls.tables
        if not one_row_each:
            variants = summarise_variants(_counted(few, filled, earlier, all_new), build, people, group)
            beside_earlier = append[VARIANTS.path]
            tables[VARIANTS.path] = write_table(
                variants, lake, VARIANTS, reshape=not beside_earlier, append=beside_earlier
            )
        called, described = (read_version(spark, lake, t.path, tables[t.path]) for t in (GENOTYPES, VARIANTS))
        every = sums_by_sample(calls.sums, before)
        if one_row_each:
            regions = sum(calls.regions.values(), earlier.regions if earlier else Counter())
        else:
            regions = count_regions(described, build)
            every = every.drop("n_singletons").join(count_singletons(called, described), KEYS, "left")
        if genomics.measures:
            every = every.join(measures_by_sample(of_kind(parsed, "measured"), before), KEYS, "left")
        else:
            every = every.withColumns(no_summaries())
        x = find_inbreeding(called, described, batch.sizes, build) if regions[Region.X] else None
        samples = summarise_samples(every, batch.people(spark), regions, x, somatic)
        tables[SAMPLES.path] = write_table(samples, lake, SAMPLES, reshape=True)
    tables[quarantine(JOB).path] = refused_lines
    return tables, regions, {block: found.total() for block, found in calls.regions.items()}


def _counted(accepted: DataFrame, filled: DataFrame | None, earlier: Earlier | None, all_new: bool) -> DataFrame:
    """What new rows say of their variants, and earlier ones where they tell of the same or of other people."""
    found = columns_of(accepted, (*DESCRIBED, *COUNTS, *DOSED, *MEASURES))
    found = found if filled is None else beside(found, filled)
    return found if earlier is None or all_new else earlier.with_descriptions(earlier.with_calls(found))


def _few(spark: SparkSession) -> int:
    """So many tasks as a shuffle would have: files of genomes may have far more parts."""
    return max(spark.sparkContext.defaultParallelism, int(spark.conf.get("spark.sql.shuffle.partitions") or 1))


def _write_refused(
    spark: SparkSession, lake: Location, parsed: DataFrame | None, roster: Roster, append: bool
) -> int:
    """Refused lines, if any were `parsed`, and the places in the headers of refused sample names."""
    table = quarantine(JOB)
    if parsed is None and not roster.refused:
        with files_of_tasks(lake, table, append) as none:
            return none.commit(())
    names = [(digest, location, IDENTIFIER) for digest, location in roster.refused]
    found = few_rows(spark, names, source_digest="string", location="string", rule="string")
    found = found if parsed is None else of_kind(parsed, "refused").unionByName(found)
    return write_table(refused(found, JOB), lake, table, reshape=not append, append=append)
