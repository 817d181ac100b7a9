"""A score of a task's own: the variants that go with its outcome in its training people, one for each clump.

In those of whom a score was made it looks better than in others, and a model that learns from it there trusts it
too much. So the training people are of PARTS parts, each of which is scored by what was found without it, and
everyone else by what was found in all of them: nobody's own outcome is in a score of theirs.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as sf

from features.contract.errors import DataGateError
from features.contract.settings import OwnScore
from features.genomics.association.associate import associate
from features.genomics.association.clumping import clump
from features.genomics.association.design import Outcome
from features.genomics.association.regression import NoResult
from features.genomics.blocks import KEYS, flags_by_block, sexes_by_block
from features.genomics.contigs import Region, region
from features.genomics.polygenic.sums import sum_scores
from features.genomics.polygenic.weigh import BEND, ENTRY, WEIGHED, with_means
from features.genomics.sexes import Sexes
from features.lake import broadcast_if_few, few_rows

log = logging.getLogger("riskloom")
OWN_SCORE = "own_score"
PARTS = 5
SECTION = "features.genomics.own_score"
WEIGHTS = pa.schema(
    [
        pa.field("fit", pa.int32(), nullable=False),
        *(pa.field(name, pa.string(), nullable=False) for name in ("variant_key", "effect_allele")),
        pa.field("n", pa.int64(), nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in ("weight", "standard_error", "p")),
    ]
)
"""The weight of a copy of the effect allele by each fit: that without the part of its number, and, numbered PARTS,
that of all training people. A man's one copy on X counts twice, as in the fit."""


@dataclass(frozen=True, slots=True)
class Genomes:
    """Whose genomes there are (`samples`, of which all are in `every_sample`), and what may be used of them."""

    variants: DataFrame
    genotypes: DataFrame
    samples: DataFrame
    every_sample: DataFrame
    build: str


@dataclass(frozen=True, slots=True)
class OwnScores:
    """`totals` is `person_key, score, total` of everyone with a genome, less what is usual; `weights` is of
    WEIGHTS."""

    totals: DataFrame
    weights: pa.Table

    @property
    def digest(self) -> str:
        """Of the weights, to six digits: sums of floats may differ behind them."""
        columns = (self.weights[name].to_pylist() for name in ("fit", "variant_key", "effect_allele", "weight"))
        rows = sorted((*names, f"{weight:.6g}") for *names, weight in zip(*columns, strict=True))
        return hashlib.sha256(repr(rows).encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """The weights as a Parquet file."""
        sink = pa.BufferOutputStream()
        pq.write_table(self.weights, sink)
        return bytes(sink.getvalue())


def own_scores(people: DataFrame, genomes: Genomes, wanted: OwnScore) -> OwnScores:
    """Scores of everyone from `people`, those in training: `person_key, outcome` (0 or 1), `covariates` (array of
    double) and `part` (0 to PARTS - 1). Of whom not all covariates are known takes part in no fit, but is scored
    as one of the part. DataGateError where a fit finds no variant, or cannot be made.

    Each of PARTS + 1 fits scans the packed calls twice, to associate and to find what is linked, and the score
    once: evaluate `totals`, too, in
    `bounded_arrow_batches`.
    """
    sexes = sexes_by_block(genomes.every_sample)
    known = people.filter(sf.col("covariates").isNotNull() & ~sf.exists("covariates", sf.isnull))
    training = genomes.samples.select(*KEYS, "person_key").join(known, "person_key").persist()
    usable = broadcast_if_few(genomes.variants.select("variant_key"), genomes.variants.count())
    calls = genomes.genotypes.join(usable, "variant_key", "left_semi")
    try:
        fits = [_fit(training, calls, genomes, sexes, wanted, number) for number in range(PARTS + 1)]
    finally:
        training.unpersist()
    weights = pa.concat_tables(fits)
    sums = sum_scores(genomes.genotypes, _weighed(weights, genomes), len(weights), sexes, range(PARTS + 1))
    parts = people.select("person_key", "part")
    scored = genomes.samples.join(sums, KEYS, "left").join(parts, "person_key", "left")
    own = sf.col("sums")[sf.coalesce("part", sf.lit(PARTS))]
    totals = scored.select(
        "person_key", sf.lit(OWN_SCORE).alias("score"), sf.coalesce(own, sf.lit(0.0)).alias("total")
    )
    return OwnScores(totals, weights)


def _fit(
    training: DataFrame,
    calls: DataFrame,
    genomes: Genomes,
    sexes: Mapping[str, Sexes],
    wanted: OwnScore,
    number: int,
) -> pa.Table:
    """WEIGHTS of the training people without the part of this number; PARTS is nobody's."""
    chosen = training.filter(sf.col("part") != number)
    usable = genomes.variants.select("variant_key", "contig", "position", "alt")
    try:
        found = associate(calls, chosen, sexes, genomes.build, Outcome.BINARY)
    except DataGateError as error:
        raise DataGateError(f"{SECTION}: in {_in_words(number)}: {error}") from None
    unfinished = sf.coalesce(sf.col("error") == NoResult.NOT_CONVERGED.value, sf.lit(False))
    small = found.filter((sf.col("p") <= wanted.largest_p) | unfinished).join(usable, "variant_key").persist()
    try:
        marked = genomes.every_sample.join(chosen.select(*KEYS, sf.lit(True).alias("chosen")), KEYS, "left")
        people = flags_by_block(marked, sf.col("chosen"))
        limits = wanted.largest_p, wanted.largest_p, wanted.most_r2, wanted.kilobases
        clumps = clump(small.select(*_PLACED, "p", "statistic"), calls, people, sexes, genomes.build, *limits)
        index = clumps.select(sf.col("index_key").alias("variant_key")).distinct()
        rows = small.join(index, "variant_key").orderBy("variant_key").collect()
        if not rows:
            smallest = found.agg(sf.min("p")).collect()[0][0]
            raise DataGateError(
                f"{SECTION}: in {_in_words(number)} no variant has a p of {wanted.largest_p:g} or less, the "
                f"smallest is {smallest}; raise largest_p, or leave the score out"
            )
        if lost := small.filter("p is null").count():
            log.warning(
                "own score: of %d variants the regression found no end in %s; they are left out",
                *(lost, _in_words(number)),
            )
        log.info("own score: %d variants stand for what goes with the outcome in %s", len(rows), _in_words(number))
        return _weights(number, rows)
    finally:
        small.unpersist()


_PLACED = ("variant_key", "contig", "position")


def _in_words(number: int) -> str:
    everyone = "the training people"
    return everyone if number == PARTS else f"{everyone} without part {number} of 0 to {PARTS - 1}"


def _weights(number: int, rows: Sequence[Row]) -> pa.Table:
    named = zip(WEIGHTS.names[1:], ("variant_key", "alt", "n", "beta", "se", "p"), strict=True)
    columns = {name: [row[column] for row in rows] for name, column in named}
    return pa.Table.from_pydict({"fit": [number] * len(rows)} | columns, schema=WEIGHTS)


def _weighed(weights: pa.Table, genomes: Genomes) -> DataFrame:
    """WEIGHED rows: few, as one variant stands for each clump."""
    told = weights.sort_by("variant_key").select(["fit", "variant_key", "weight"]).to_pandas()
    entries, bends = np.zeros(len(told), ENTRY), np.zeros(len(told), BEND)
    entries["score"], entries["step"] = told["fit"], told["weight"]
    places = told["variant_key"].str.rsplit(":", n=3, expand=True)
    on_x = [
        region(genomes.build, contig.partition(":")[2], int(at)) == Region.X
        for contig, at in zip(places[0], places[1], strict=True)
    ]
    bends["score"], bends["haploid"] = told["fit"], np.where(on_x, told["weight"], 0)
    rows = [
        (key, *(packed[own.index].tobytes() for packed in (entries, bends)))
        for key, own in told.groupby("variant_key")
    ]
    spark = genomes.variants.sparkSession
    packed = few_rows(spark, rows, variant_key="string", entries="binary", bends="binary")
    known = with_means(genomes.variants, genomes.build)
    found = known.join(sf.broadcast(packed), "variant_key")
    return found.select(WEIGHED.names)
