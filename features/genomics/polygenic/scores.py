"""Scoring files and the lake's genotypes to `polygenic_scores` and `score_matches`."""

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from features.contract.errors import ConfigError, DataGateError
from features.contract.paths import FileStat, Location
from features.contract.persons import PersonKeyer
from features.contract.runs import Runs
from features.contract.schemas import ANCESTRY, POLYGENIC_SCORES, SCORE_MATCHES
from features.contract.settings import GenomicsSettings, PolygenicSettings, Settings
from features.genomics.blocks import row_bytes, sexes_by_block
from features.genomics.current import check_made
from features.genomics.liftover import Liftover, open_liftover
from features.genomics.polygenic.adjust import with_adjusted
from features.genomics.polygenic.boxes import ROW_BYTES
from features.genomics.polygenic.development import developed_here
from features.genomics.polygenic.judge import COUNTS, FILES, MEANS, judge_lines, number_of_boxes
from features.genomics.polygenic.match import MATCHED, MatchType
from features.genomics.polygenic.scoring_file import ScoringFile, open_scoring_files
from features.genomics.polygenic.scoring_lines import WRONG
from features.genomics.polygenic.sums import sum_means, sum_scores
from features.genomics.polygenic.weigh import BEND, ENTRY, WEIGHED
from features.genomics.quality_control import check_current as check_quality
from features.genomics.sealed import unsealed
from features.genomics.sexes import Sex, Sexes
from features.genomics.structure.ancestry import check_current as check_ancestry
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
SECTION = "genomics.scores"
_MOST_TOLD = 5


@dataclass(frozen=True, slots=True)
class Overlap:
    """What became of a score's lines: how many by match type, and by strand of those that were lifted over."""

    match_types: Counter[str]
    lifted: Counter[str]

    @property
    def lines(self) -> int:
        return sum(self.match_types.values())

    @property
    def share(self) -> float:
        """The share of the lines that were matched; 0 where there is none."""
        return sum(self.match_types.get(kind, 0) for kind in MATCHED) / max(self.lines, 1)

    @property
    def in_words(self) -> str:
        return ", ".join(f"{kind} {count:,}" for kind, count in sorted(self.match_types.items()))

    def as_counts(self) -> dict[str, object]:
        return {
            "lines": self.lines,
            "overlap": round(self.share, 4),
            "match_types": dict(self.match_types),
            "lifted": dict(self.lifted),
        }


def score_genomes(
    spark: SparkSession,
    lake: Location,
    runs: Runs,
    settings: Settings,
    keyer: PersonKeyer,
    files: Sequence[FileStat],
) -> Written:
    """Match every line, and sum the scores of which enough was matched; nothing is published here.

    Raises DataGateError for a file that is no scoring file or of another build, a line that is wrong, and
    when no score had enough variants.
    """
    genomics, wanted = _sections(settings)
    check_quality(runs, genomics)
    check_ancestry(runs, genomics)
    variants, genotypes, samples = (
        read_table(spark, lake, runs, name) for name in ("variants", "genotypes", "samples")
    )
    usable, people = (read_table(spark, lake, runs, genomics.usable[name]) for name in ("variants", "samples"))
    # Those who passed may not have been called.
    variants, usable = (table.filter("allele_number > 0") for table in (variants, usable))
    raw = Location(settings.raw)
    liftovers = _liftovers(raw, wanted, genomics.build, keyer)
    opened = open_scoring_files(raw, files, keyer, genomics.build, liftovers)
    names = [file.score for file in opened]
    known = {"developed_here": developed_here(raw, wanted.development, keyer, names)} if wanted.development else {}
    with ExitStack() as stack:
        log_files = stack.enter_context(files_of_tasks(lake, SCORE_MATCHES))
        boxes = number_of_boxes(files, variants.count())
        folder = log_files.folder
        judged = judge_lines(opened, variants, usable, genomics.build, wanted.keep_ambiguous, boxes, folder)
        judged = judged.persist(StorageLevel.DISK_ONLY)
        stack.callback(judged.unpersist)
        with bounded_arrow_batches(spark, ROW_BYTES):
            written = {row["name"] for row in unsealed(judged, "files", FILES).collect()}
        overlaps = _overlaps(unsealed(judged, "counts", COUNTS), opened)
        chosen = _enough(overlaps, wanted.minimum_overlap)
        sexes = sexes_by_block(samples)
        weighed = judged.filter("variant_key is not null").select(WEIGHED.names)
        number = weighed.count()
        _tell_of_absent(genotypes, weighed, number, sexes, wanted.minimum_overlap)
        sums = sum_scores(genotypes, weighed, number, sexes, [names.index(name) for name in chosen])
        found = _totals(people, sums, judged, chosen, names)
        ancestry = read_table(spark, lake, runs, ANCESTRY.path) if genomics.ancestry else None
        with bounded_arrow_batches(
            spark, row_bytes(genotypes, sexes) + (ENTRY.itemsize + BEND.itemsize) * len(names)
        ):
            totals = _write(found, ancestry, lake)
        matches = log_files.commit(written)
    tables = {POLYGENIC_SCORES.path: totals, SCORE_MATCHES.path: matches}
    counts = {name: overlap.as_counts() for name, overlap in overlaps.items()}
    said = {"scores": counts, "left_out": sorted(set(names) - set(chosen)), "settings": _in_words(wanted)}
    return Written(tables, said | known)


def check_current(runs: Runs, genomics: GenomicsSettings) -> None:
    """DataGateError where scores were made before the genomes were last ingested, judged or placed, or by other
    settings than these."""
    if genomics.scores:
        check_quality(runs, genomics)
        check_ancestry(runs, genomics)
        of = {*genomics.usable.values(), "variants", "samples", *([ANCESTRY.path] if genomics.ancestry else [])}
        check_made(runs, POLYGENIC_SCORES.path, of, ("settings", _in_words(genomics.scores)), SECTION)


def _in_words(wanted: PolygenicSettings) -> str:
    return wanted.model_dump_json()


def _sections(settings: Settings) -> tuple[GenomicsSettings, PolygenicSettings]:
    if settings.genomics is None or settings.genomics.scores is None:
        raise ConfigError(f"{SECTION}: the configuration has no such section; add it, or leave this job out")
    return settings.genomics, settings.genomics.scores


def _liftovers(raw: Location, wanted: PolygenicSettings, build: str, keyer: PersonKeyer) -> dict[str, Liftover]:
    """To this build, by the one they lead from."""
    return {
        source: open_liftover(
            raw, path, f"{keyer.path_digest(path)} of genomics.scores.chains.{source}", source, build
        )
        for source, path in wanted.chains.items()
    }


def _write(totals: DataFrame, ancestry: DataFrame | None, lake: Location) -> int:
    """`polygenic_scores`, beside what is usual for each person's ancestry where that is known."""
    if ancestry is None:
        alone = totals.withColumn("adjusted_z", sf.lit(None).cast("double"))
        return write_table(alone, lake, POLYGENIC_SCORES, reshape=True)
    totals = totals.persist(StorageLevel.MEMORY_AND_DISK)  # one scan for the fit and for the table
    try:
        found = with_adjusted(totals, ancestry).select(POLYGENIC_SCORES.schema.names)
        return write_table(found, lake, POLYGENIC_SCORES, reshape=True)
    finally:
        totals.unpersist()


def _overlaps(counts: DataFrame, opened: Sequence[ScoringFile]) -> dict[str, Overlap]:
    """By the scores' names. DataGateError for a line that is wrong, which makes every sum of its score wrong."""
    total = [sf.sum("lines").alias("lines"), sf.min("first_line").alias("first_line")]
    rows = counts.groupBy(COUNTS.names[:3]).agg(*total).orderBy("score", "first_line").collect()
    found = {file.score: Overlap(Counter(), Counter()) for file in opened}
    for row in rows:
        file, kind = opened[row["score"]], row["match_type"]
        if kind in WRONG:
            raise DataGateError(
                f"{file.split.path}, line {row['first_line']}: {kind.replace('_', ' ')}; expected the "
                "columns of its header, a whole number as position and finite numbers as weights; correct the file"
            )
        found[file.score].match_types[kind] += row["lines"]
        if row["lifted_strand"]:
            found[file.score].lifted[row["lifted_strand"]] += row["lines"]
    return found


def _enough(overlaps: dict[str, Overlap], minimum: float) -> list[str]:
    """The scores of which enough lines were matched; the others are told of."""
    chosen = [name for name, overlap in overlaps.items() if overlap.share >= minimum]
    for name in sorted(set(overlaps) - set(chosen)):
        found = overlaps[name]
        log.warning(
            "score %s: %s of its %d lines were matched (%s), genomics.scores.minimum_overlap is %s; left out",
            *(name, f"{found.share:.1%}", found.lines, found.in_words, minimum),
        )
    twice = [name for name in chosen if overlaps[name].match_types[MatchType.DUPLICATE]]
    if twice:
        log.warning(
            "%d scores have several lines of a variant, of which the first counts (score_matches: duplicate): "
            "%s%s",
            *(len(twice), ", ".join(twice[:_MOST_TOLD]), ", ..." if len(twice) > _MOST_TOLD else ""),
        )
    if not chosen:
        raise DataGateError(
            f"{SECTION}: of no score {minimum:.0%} of the lines were matched; the warnings above say "
            "what became of the others. Is build right, were the genotypes imputed, or are most lines ambiguous "
            "(genomics.scores.keep_ambiguous)? genomics.scores.minimum_overlap sets the share"
        )
    return chosen


def _tell_of_absent(
    genotypes: DataFrame, weighed: DataFrame, number: int, sexes: dict[str, Sexes], minimum: float
) -> None:
    """Of people whose batch has rows of few of the variants that are weighed."""
    if len(sexes) == 1:
        return
    keys = broadcast_if_few(weighed.select("variant_key"), number)
    rows = genotypes.join(keys, "variant_key", "left_semi").groupBy("sample_block").count().collect()
    have = {row["sample_block"]: row["count"] for row in rows}
    few = [block for block in sexes if have.get(block, 0) < minimum * number]
    if few:
        log.warning(
            "the %s people of %d batches have no calls at more than %.0f%% of the %s variants that scores weigh; "
            "these count as average, and so tell nothing of them (samples: sample_block %s)",
            *(f"{sum(len(sexes[block]) for block in few):,}", len(few), 100 * (1 - minimum), f"{number:,}"),
            ", ".join(few[:_MOST_TOLD]) + (", ..." if len(few) > _MOST_TOLD else ""),
        )


def _totals(
    samples: DataFrame, sums: DataFrame, judged: DataFrame, scores: list[str], names: list[str]
) -> DataFrame:
    """`polygenic_scores`: a row for each person and score, of the `sums` of these, and of those `judged` by all
    `names`."""
    spark = samples.sparkSession
    numbers = [names.index(name) for name in scores]
    start = sum_means(unsealed(judged, "means", MEANS), len(names))
    rows = [
        (sex.name.lower(), place, names[number], float(start[sex][number]))
        for sex in Sex
        for place, number in enumerate(numbers)
    ]
    base = sf.broadcast(few_rows(spark, rows, sex="string", place="int", score="string", base="double"))
    people = samples.join(sums, ["sample_block", "sample_index"], "left").join(base, "sex")
    own = sf.coalesce(sf.col("sums")[sf.col("place")], sf.lit(0.0))
    return people.select("person_key", "score", (sf.col("base") + own).alias("total"))
