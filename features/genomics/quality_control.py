"""Quality control of genomes: which samples and variants may be used, and what became of the others.

The order is plink2's: `--var-filter`, then `--mind`, then over the samples that are left `--geno`, `--hwe` and
`--maf`. The lake keeps all. The variants that pass are counted anew over the samples that do, in a table of
their own, so that other limits cost a scan of the packed calls (two with a limit on samples where FILTER has
reasons) and none of the raw files.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as sf

from features.contract.errors import ConfigError, DataGateError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.runs import Runs
from features.contract.schemas import QC_ATTRITION, QC_EXCLUDED, QC_SAMPLES, QC_VARIANTS
from features.contract.settings import GenomicsSettings, QualitySettings, Settings
from features.genomics.blocks import (
    KEYS,
    Masks,
    batches_by_block,
    dosage_rows,
    flags_by_block,
    packed_rows,
    row_bytes,
    sexes_by_block,
)
from features.genomics.contigs import place_of_key, region_of
from features.genomics.counts import COUNTS, SEXES, count_calls, members
from features.genomics.current import check_made
from features.genomics.dosages import DOSED, sum_dosages
from features.genomics.sample_table import read_values
from features.genomics.samples import call_rate, count_regions, sum_calls, sums_by_sample
from features.genomics.sexes import Sexes
from features.genomics.variants import sums_of_calls
from features.genomics.verdicts import judge_variants, rules_of
from features.lake import (
    Written,
    bounded_arrow_batches,
    broadcast_if_few,
    few_rows,
    files_of_tasks,
    read_table,
    write_table,
)

log = logging.getLogger("riskloom")
SECTION = "genomics.quality"
SAMPLE_CALL_RATE = "minimum_sample_call_rate"
GROUP = "_group"
DESCRIBED = (
    *("variant_key", "build", "contig", "position", "ref", "alt", "rsid", "filters", "gene", "consequence"),
    *("impute_info", "info", "info_text", "dp", "gq", "het_reads"),
)
"""What is said of a variant, and what was measured, in all samples."""
ByRule = Mapping[str | None, int]
JUDGED = ("variants", "genotypes", "samples")


@dataclass(frozen=True, slots=True)
class Step:
    """What one rule did: to how many of which unit, under which limit."""

    unit: str
    rule: str
    minimum: float | None
    entered: int
    excluded: int

    @property
    def remained(self) -> int:
        return self.entered - self.excluded

    def __str__(self) -> str:
        limit = "" if self.minimum is None else f" {self.minimum:g}"
        return f"{self.rule}{limit}: {self.excluded:,} of {self.entered:,} {self.unit} left out"


def control_quality(
    spark: SparkSession, lake: Location, runs: Runs, settings: Settings, keyer: PersonKeyer
) -> Written:
    """Judge samples, then variants, and write who and what passed; nothing is published here.

    Raises DataGateError when no sample or no variant passes, and for a group of which no sample is left.
    """
    genomics, limits = _sections(settings)
    variants, genotypes, samples = (read_table(spark, lake, runs, name) for name in JUDGED)
    sexes = sexes_by_block(samples)
    with ExitStack() as stack, bounded_arrow_batches(spark, row_bytes(genotypes, sexes)):
        judged_samples = _judge_samples(samples, variants, genotypes, sexes, genomics.build, limits).persist()
        stack.callback(judged_samples.unpersist)
        kept = flags_by_block(judged_samples, sf.col("rule").isNull())
        if not any(flags.any() for flags in kept.values()):
            raise DataGateError(f"{SECTION}.{SAMPLE_CALL_RATE}: no sample reaches it; lower it")
        group = _group(samples, kept, Location(settings.raw), limits, keyer)
        passing = stack.enter_context(files_of_tasks(lake, QC_VARIANTS))
        placed, people = _count_variants(variants, genotypes, kept, group, sexes, genomics.build)
        of_group = "" if group is None else GROUP
        judged = judge_variants(placed, people, of_group, limits, passing.folder).persist(StorageLevel.DISK_ONLY)
        stack.callback(judged.unpersist)
        told = judged.filter("name is not null or number is not null").collect()
        steps = _attrition(_by_rule(told), _count_by_rule(judged_samples), limits)
        tables = _write(spark, lake, judged.filter("variant_key is not null"), judged_samples, steps)
        tables[QC_VARIANTS.path] = passing.commit({row["name"] for row in told if row["name"]})
    return Written(tables, _counts(steps) | {"limits": _in_words(limits)})


def check_current(runs: Runs, genomics: GenomicsSettings) -> None:
    """DataGateError where what may be used was decided on older tables, or by other limits than these."""
    if genomics.quality:
        check_made(runs, QC_VARIANTS.path, JUDGED, ("limits", _in_words(genomics.quality)), SECTION)


def _in_words(limits: QualitySettings) -> str:
    return limits.model_dump_json(exclude_none=True)


def _sections(settings: Settings) -> tuple[GenomicsSettings, QualitySettings]:
    if settings.genomics is None or settings.genomics.quality is None:
        raise ConfigError(f"{SECTION}: the configuration has no such section; add it, or leave this job out")
    return settings.genomics, settings.genomics.quality


def _judge_samples(
    samples: DataFrame,
    variants: DataFrame,
    genotypes: DataFrame,
    sexes: Mapping[str, Sexes],
    build: str,
    limits: QualitySettings,
) -> DataFrame:
    """`samples` with `rule`, null for who passes, and the calls and call rate that were judged: of all variants,
    or with `pass_only` of those that have no reason in FILTER."""
    minimum = limits.minimum_sample_call_rate
    if minimum is None:
        return samples.withColumn("rule", sf.lit(None).cast("string"))
    failed = sf.size("filters") > 0
    left_out = variants.filter(failed).count() if limits.pass_only else 0
    if left_out:
        # They are mostly few, and their calls are taken away from all.
        keys = broadcast_if_few(variants.filter(failed).select("variant_key"), left_out)
        placed = genotypes.join(keys, "variant_key", "left_semi").withColumns(place_of_key())
        calls = placed.select(
            "sample_block",
            "calls",
            region_of(build).alias("region"),
            sf.lit(0).alias("substitution"),
            "sole_carrier",
        )
        few = calls.coalesce(samples.sparkSession.sparkContext.defaultParallelism)
        lost = sums_by_sample(sum_calls(few, sexes)).select(*KEYS, sf.col("n_called").alias("lost"))
        n_called = sf.col("n_called") - sf.coalesce("lost", sf.lit(0))
        judged = samples.join(lost, KEYS, "left").withColumn("n_called", n_called).drop("lost")
        rate = call_rate(count_regions(variants.filter(~failed), build))
        samples = judged.withColumn("call_rate", rate)
    return samples.withColumn("rule", sf.when(sf.col("call_rate") < minimum, SAMPLE_CALL_RATE))


def _group(
    samples: DataFrame, kept: Masks, raw: Location, limits: QualitySettings, keyer: PersonKeyer
) -> Masks | None:
    """Which of the samples that are kept are of the group in which HWE is tested; None where that is everyone."""
    if limits.hwe_group is None:
        return None
    section, wanted = f"{SECTION}.hwe_group", limits.hwe_group
    found = read_values(raw, wanted, wanted.column, section, keyer)
    people = [(key,) for key, value in found.items() if value in wanted.values]
    listed = few_rows(samples.sparkSession, people, person_key="string").withColumn("listed", sf.lit(True))
    marked = samples.join(listed, "person_key", "left")
    of_group = flags_by_block(marked, sf.col("listed"))
    group = {block: of_group[block] & kept[block] for block in kept}
    if not any(flags.any() for flags in group.values()):
        raise DataGateError(
            f"{section}: of {len(people):,} listed people none is among the samples that are left; are the "
            f"file's ids those of the samples, and is {', '.join(wanted.values)} in column {wanted.column}?"
        )
    return group


def _count_variants(
    variants: DataFrame,
    genotypes: DataFrame,
    kept: Masks,
    group: Masks | None,
    sexes: Mapping[str, Sexes],
    build: str,
) -> tuple[DataFrame, dict[str, int]]:
    """`variants` counted in the samples that are kept, for `judge_variants`, and how many these are by suffix of
    SEXES. What was measured and IMPUTE's INFO stay as they were in all samples: the lake does not keep depths,
    qualities and probabilities."""
    masks = {block: members(sexes[block], kept[block]) for block in sexes}
    people = {suffix: sum(int(masks[block][place].sum()) for block in masks) for place, suffix in enumerate(SEXES)}
    names = list(COUNTS)
    if group is not None:
        masks = {block: [*masks[block], *members(sexes[block], group[block])] for block in masks}
        names += [f"{name}{GROUP}" for name in COUNTS]
    everyone = group is None and all(mask.all() for mask in kept.values())
    counts = genotypes if everyone else genotypes.mapInArrow(_Recount(masks, names), _ddl(names))
    if len(masks) == 1:
        summed = counts.select("variant_key", *names, *DOSED)
    else:
        summed = counts.groupBy("variant_key").agg(*sums_of_calls(names))
    placed = variants.select(*DESCRIBED).join(summed, "variant_key").withColumn("region", region_of(build))
    return placed, people


@dataclass(frozen=True)
class _Recount:
    """The function that each task runs: packed rows in; `names`, the calls of each mask of a block, and DOSED of
    the first masks out."""

    masks: dict[str, list[npt.NDArray[np.bool_]]]
    names: list[str]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for block, rows in batches_by_block(batches):
            counts = count_calls(packed_rows(rows["calls"]), self.masks[block])
            columns = [rows["variant_key"], *(pa.array(column) for column in counts.T)]
            dosed = _dosed(rows["dosages"], self.masks[block][: len(SEXES)])
            yield pa.RecordBatch.from_arrays([*columns, *dosed], names=["variant_key", *self.names, *DOSED])


def _dosed(dosages: pa.Array, masks: Sequence[npt.NDArray[np.bool_]]) -> list[pa.Array]:
    """DOSED of the people that are counted; null where calls tell all, and the variance always."""
    there = dosages.is_valid().to_numpy(zero_copy_only=False)
    found = np.zeros((len(dosages), len(DOSED)), np.int64)
    if there.any():
        known = dosages.filter(pa.array(there))
        found[there, :-1] = sum_dosages(dosage_rows(known), masks)
    absent = [*[~there] * (len(DOSED) - 1), np.ones(len(dosages), bool)]
    return [pa.array(column, mask=null) for column, null in zip(found.T, absent, strict=True)]


def _ddl(names: Iterable[str]) -> str:
    return ", ".join(["variant_key string", *(f"{name} bigint" for name in (*names, *DOSED))])


def _attrition(variants: ByRule, samples: ByRule, limits: QualitySettings) -> list[Step]:
    """One step for every rule that was asked for, in their order: `--mind` comes after `--var-filter`."""
    by_unit = {"variants": variants, "samples": samples}
    asked = [("variants", name, minimum) for name, minimum in rules_of(limits)]
    if limits.minimum_sample_call_rate is not None:
        asked.insert(int(limits.pass_only), ("samples", SAMPLE_CALL_RATE, limits.minimum_sample_call_rate))
    left = {unit: sum(found.values()) for unit, found in by_unit.items()}
    steps = []
    for unit, rule, minimum in asked:
        step = Step(unit, rule, minimum, left[unit], by_unit[unit].get(rule, 0))
        log.info("%s", step)
        left[unit] = step.remained
        steps.append(step)
    if not left["variants"]:
        raise DataGateError(f"{SECTION}: no variants are left; {'; '.join(map(str, steps))}")
    return steps


def _counts(steps: Sequence[Step]) -> dict[str, object]:
    """For each unit how many there were, how many are left, and how many each rule left out."""
    found: dict[str, object] = {}
    for unit in ("samples", "variants"):
        own = [step for step in steps if step.unit == unit]
        if own:
            excluded = {step.rule: step.excluded for step in own}
            found[unit] = {"judged": own[0].entered, "usable": own[-1].remained, "excluded": excluded}
    return found


def _by_rule(told: Sequence[Row]) -> ByRule:
    """From the numbers that each task gave."""
    found: Counter[str | None] = Counter()
    for row in told:
        if row["number"] is not None:
            found[row["rule"]] += row["number"]
    return found


def _count_by_rule(judged: DataFrame) -> ByRule:
    return {row["rule"]: row["count"] for row in judged.groupBy("rule").count().collect()}


def _write(
    spark: SparkSession, lake: Location, variants: DataFrame, samples: DataFrame, steps: list[Step]
) -> dict[str, int]:
    """The other tables, and their new versions; `variants` are VERDICTS of those left out."""
    rows = [
        (number, step.unit, step.rule, step.minimum, step.entered, step.excluded, step.remained)
        for number, step in enumerate(steps, start=1)
    ]
    whole = dict.fromkeys(("entered", "excluded", "remained"), "bigint")
    attrition = few_rows(spark, rows, step="int", unit="string", rule="string", minimum="double", **whole)
    lost_samples = samples.withColumn("value", sf.col("call_rate"))
    excluded = lost_samples.unionByName(variants, allowMissingColumns=True).filter("rule is not null")
    frames = [
        (QC_SAMPLES, samples.filter("rule is null")),
        (QC_EXCLUDED, excluded),
        (QC_ATTRITION, attrition.coalesce(1).sortWithinPartitions("step")),
    ]
    return {
        table.path: write_table(frame.select(table.schema.names), lake, table, reshape=True)
        for table, frame in frames
    }
