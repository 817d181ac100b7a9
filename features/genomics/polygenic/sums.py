"""Scores of all samples, any number of scores in one scan of the packed calls, and of dosages where there are any.

A score is the sum over its variants of the weight of the copies a sample has; a missing call counts as
the mean over those called (`--xchr-model 1`: men have 0 or 1 copy on X). For additive weights that is what
`plink2 --score` gives; where they are not additive, plink2 takes the weight of the mean count instead of
the mean weight. With weights w0, w1, w2 of c = 0, 1 and 2 ALTs a score is the sum of

    w0 + c (w1 - w0) + [c = 2] (w2 - 2 w1 + w0)

(where c is a dosage a straight line lies between whole numbers: the last factor is max(c - 1, 0)), so
that a batch of calls costs one matrix product, and a second one only if a weight is not additive.
Both factors are taken less their means: then a missing call, or a variant that a block of samples lacks,
adds nothing, and the means are added once for all.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from features.genomics.blocks import batches_by_block, dosage_rows, packed_rows
from features.genomics.contigs import Region
from features.genomics.dosages import COPY, Dosages
from features.genomics.dosages import MISSING as NO_DOSAGE
from features.genomics.ordered import in_buckets
from features.genomics.packing import MISSING, Codes, packed_size, unpack
from features.genomics.sexes import Sex, Sexes, copies
from features.genomics.summarise import region_of

SAMPLES_AT_ONCE = 1024
_CODES_AT_ONCE = 1 << 21
PARTIAL = "sample_block string, first int, bucket int, sums binary"

Floats = npt.NDArray[np.float64]


def weighed_variants(weights: DataFrame, variants: DataFrame, scores: list[str], build: str) -> DataFrame:
    """A row per variant that counts: `variant_key, region`, the means of its ALT count and of max(count - 1, 0) in
    people with two copies, and `entries` of the scores that weigh it: `score` (its number), `base` (w0),
    `step` (w1 - w0) and `bend` (w2 - 2 w1 + w0), and base and step of those who have one copy."""
    numbers = weights.sparkSession.createDataFrame(list(enumerate(scores)), "number int, score string")
    w0, w1, w2 = (sf.col("weights")[count] for count in range(3))
    one0, one1 = (sf.col("haploid")[count] for count in range(2))
    entry = sf.struct(
        sf.col("number").alias("score"),
        *(w0.alias("base"), (w1 - w0).alias("step"), (w2 - 2 * w1 + w0).alias("bend")),
        *(one0.alias("haploid_base"), (one1 - one0).alias("haploid_step")),
    )
    numbered = weights.join(sf.broadcast(numbers), "score")
    grouped = numbered.groupBy("variant_key").agg(sf.collect_list(entry).alias("entries"))
    p = sf.col("allele_frequency")
    two = sf.when(sf.col("region") == Region.DIPLOID, sf.col("mean_excess"))
    known = variants.join(grouped, "variant_key").withColumn("region", region_of(build))
    return known.select(
        "variant_key", "region", (2 * p).alias("mean"), two.otherwise(p * p).alias("mean_two"), "entries"
    )


def sum_scores(genotypes: DataFrame, weighed: DataFrame, sexes: Mapping[str, Sexes], scores: int) -> DataFrame:
    """`sample_block, sample_index, sums` (array of double, by the number of the score), before the means.

    A task holds 8 bytes a sample and score; what it hands on is added up in the order of the buckets.
    """
    selected = genotypes.select("variant_key", "sample_block", "calls", "dosages").join(weighed, "variant_key")
    partial = in_buckets(selected).mapInArrow(_Sums(dict(sexes), scores), PARTIAL)
    return partial.groupBy("sample_block", "first").applyInPandas(
        _added(scores), "sample_block string, sample_index int, sums array<double>"
    )


def means(weighed: DataFrame, scores: int) -> dict[Sex, Floats]:
    """What a sample of each sex has in each score if every call is the mean: (scores)."""
    rows = in_buckets(weighed).mapInArrow(_Means(scores), "region int, bucket int, sums binary").collect()
    found = {sex: np.zeros(scores) for sex in Sex}
    for sex in Sex:
        for row in sorted(rows, key=lambda row: (row["region"], row["bucket"])):
            two, one = np.frombuffer(row["sums"], np.float64).reshape(2, scores)
            diploid, haploid = copies(np.array([sex], np.uint8), Region(row["region"]))
            found[sex] += diploid[0] * two + haploid[0] * one
    return found


@dataclass(frozen=True)
class _Means:
    """The function that each task runs: weighed variants in; out for each region what two copies and what one have
    in each score, (2, scores), if every call is the mean."""

    scores: int

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums: dict[int, Floats] = {}
        at_once = max(1, _CODES_AT_ONCE // self.scores)
        for batch in batches:
            for start in range(0, len(batch), at_once):
                rows = batch.slice(start, at_once)
                regions = rows["region"].to_numpy()
                for place in np.unique(regions):
                    own = _of_means(rows.filter(pa.array(regions == place)), self.scores)
                    sums[int(place)] = sums.get(int(place), 0) + own
        task = TaskContext.get()
        columns = {
            "region": pa.array(sums.keys(), pa.int32()),
            "bucket": pa.array([task.partitionId() if task else 0] * len(sums), pa.int32()),
            "sums": pa.array([total.tobytes() for total in sums.values()], pa.binary()),
        }
        yield pa.RecordBatch.from_pydict(columns)


def _of_means(rows: pa.RecordBatch, scores: int) -> Floats:
    """(2, scores)."""
    names = ("base", "step", "bend", "haploid_base", "haploid_step")
    base, step, bend, haploid_base, haploid_step = _matrices(rows["entries"], scores, names)
    mean, mean_two = rows["mean"].to_numpy()[:, None], rows["mean_two"].to_numpy()[:, None]
    two, one = base + mean * step + mean_two * bend, haploid_base + mean / 2 * haploid_step
    return np.stack([two.sum(0), one.sum(0)])


@dataclass(frozen=True)
class _Sums:
    """The function that each task runs: weighed packed rows in; PARTIAL out."""

    sexes: dict[str, Sexes]
    scores: int

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums: dict[str, Floats] = {}
        for block, batch in batches_by_block(batches):
            total = sums.setdefault(block, np.zeros((len(self.sexes[block]), self.scores)))
            regions = batch["region"].to_numpy()
            imputed = batch["dosages"].is_valid().to_numpy(zero_copy_only=False)
            for place in np.unique(regions):
                for dosed in (False, True):
                    chosen = (regions == place) & (imputed == dosed)
                    if chosen.any():
                        add_rows(total, batch.filter(pa.array(chosen)), self.sexes[block], Region(place), dosed)
        task = TaskContext.get()
        yield from _partial(sums, task.partitionId() if task else 0)


def add_rows(total: Floats, rows: pa.RecordBatch, sexes: Sexes, place: Region, dosed: bool) -> None:
    """Add to `total` (samples, scores) what rows of one region give, less the means; all or none have dosages."""
    weights = _matrices(rows["entries"], total.shape[1], ("step", "bend", "haploid_step"))
    means = rows["mean"].to_numpy()[:, None], rows["mean_two"].to_numpy()[:, None]
    packed: Dosages | npt.NDArray[np.uint8]
    packed = dosage_rows(rows["dosages"]) if dosed else packed_rows(rows["calls"])
    at_once = max(1, _CODES_AT_ONCE // SAMPLES_AT_ONCE)
    for first in range(0, len(sexes), SAMPLES_AT_ONCE):
        people = slice(first, min(first + SAMPLES_AT_ONCE, len(sexes)))
        own = packed[:, people] if dosed else packed[:, first // 4 : packed_size(people.stop)]
        has = copies(sexes[people], place)
        for start in range(0, len(rows), at_once):
            part = slice(start, start + at_once)
            alts, missing = _alts(own[part], people.stop - first)
            total[people] += _products(alts, missing, [m[part] for m in means], [w[part] for w in weights], has)


def _alts(stored: Dosages | npt.NDArray[np.uint8], samples: int) -> tuple[Codes | Floats, npt.NDArray[np.bool_]]:
    """Numbers of ALTs (rows, samples), and which are missing, from dosages or packed calls."""
    if stored.dtype == np.uint8:
        codes = unpack(stored.view(np.uint8), samples)
        return codes, codes == MISSING
    return stored / COPY, stored == NO_DOSAGE


def _products(
    alts: Codes | Floats,
    missing: npt.NDArray[np.bool_],
    means: list[Floats],
    weights: list[Floats],
    has: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]],
) -> Floats:
    """(people, scores) from numbers of ALTs (rows, people), means (rows, 1) and weights (rows, scores)."""
    (mean, mean_two), (steps, bends, haploid_steps), (diploid, haploid) = means, weights, has
    counts = np.where(missing, 0, alts - mean)
    found: Floats = np.zeros((alts.shape[1], steps.shape[1]))
    if diploid.any():
        found = (counts * diploid).T @ steps
        if bends.any():
            above_one = np.maximum(alts, 1) - 1
            found += (np.where(missing, 0, above_one - mean_two) * diploid).T @ bends
    if haploid.any():
        found += (counts * haploid).T @ (haploid_steps / 2)
    return found


def _matrices(entries: pa.ListArray, scores: int, names: Sequence[str]) -> list[Floats]:
    """These of each row's scores: each of (rows, scores)."""
    flat, row = entries.flatten(), entries.value_parent_indices().to_numpy()
    found = [np.zeros((len(entries), scores)) for _ in names]
    for matrix, name in zip(found, names, strict=True):
        # One variant may be weighed twice in a score: as its own ALT, and as what REF leaves.
        np.add.at(matrix, (row, flat.field("score").to_numpy()), flat.field(name).to_numpy())
    return found


def _partial(sums: Mapping[str, Floats], bucket: int) -> Iterator[pa.RecordBatch]:
    for block, total in sums.items():
        for first in range(0, len(total), SAMPLES_AT_ONCE):
            values = total[first : first + SAMPLES_AT_ONCE].tobytes()
            yield pa.RecordBatch.from_pydict(
                {
                    "sample_block": pa.array([block]),
                    "first": pa.array([first], pa.int32()),
                    "bucket": pa.array([bucket], pa.int32()),
                    "sums": pa.array([values], pa.binary()),
                }
            )


def _added(scores: int) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def add(pieces: pd.DataFrame) -> pd.DataFrame:
        ordered = pieces.sort_values("bucket")["sums"]
        total = np.zeros((len(ordered.iloc[0]) // 8 // scores, scores))
        for values in ordered:
            total += np.frombuffer(values, np.float64).reshape(-1, scores)
        places = int(pieces["first"].iloc[0]) + np.arange(len(total), dtype=np.int32)
        return pd.DataFrame(
            {"sample_block": pieces["sample_block"].iloc[0], "sample_index": places, "sums": list(total)}
        )

    return add
