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
import pyarrow.compute as pc
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from features.genomics.blocks import batches_by_block, dosage_rows, packed_rows
from features.genomics.contigs import Region
from features.genomics.dosages import COPY, Dosages
from features.genomics.dosages import MISSING as NO_DOSAGE
from features.genomics.ordered import BUCKETS
from features.genomics.packing import MISSING, Codes, packed_size, unpack
from features.genomics.polygenic.weigh import BEND, ENTRY
from features.genomics.sexes import Sex, Sexes, copies
from features.lake import MOST_BROADCAST_ROWS

SAMPLES_AT_ONCE = 1024
_CODES_AT_ONCE = 1 << 21
PARTIAL = "sample_block string, first int, bucket int, sums binary"

Floats = npt.NDArray[np.float64]


def sum_scores(
    genotypes: DataFrame, weighed: DataFrame, number: int, sexes: Mapping[str, Sexes], scores: Sequence[int]
) -> DataFrame:
    """`sample_block, sample_index, sums` (array of double) of these scores, whose numbers are those of `weighed`
    (WEIGHED, so many rows), in this order, before the means.

    A task holds 8 bytes a sample and score; what it hands on is added up in the order of the buckets.
    """
    calls = genotypes.select("variant_key", "sample_block", "calls", "dosages")
    if number <= MOST_BROADCAST_ROWS:  # so that other variants' calls are not shuffled
        calls = calls.join(sf.broadcast(weighed.select("variant_key")), "variant_key", "left_semi")
    selected = calls.repartition(BUCKETS, "variant_key").join(
        weighed.repartition(BUCKETS, "variant_key").hint("merge"), "variant_key"
    )
    ordered = selected.sortWithinPartitions("variant_key")
    partial = ordered.mapInArrow(_Sums(dict(sexes), tuple(scores)), PARTIAL)
    return partial.groupBy("sample_block", "first").applyInPandas(
        _added(len(scores)), "sample_block string, sample_index int, sums array<double>"
    )


def sum_means(means: DataFrame, scores: int) -> dict[Sex, Floats]:
    """What a sample of each sex has in each score if every call is the mean, (scores), from those of each box
    and region, added up in the order of the boxes."""

    def add(pieces: pd.DataFrame) -> pd.DataFrame:
        total = np.zeros(2 * scores)
        for values in pieces.sort_values("box")["sums"]:
            total += np.frombuffer(values, np.float64)
        return pd.DataFrame({"region": pieces["region"].iloc[:1], "sums": [total.tobytes()]})

    found = {sex: np.zeros(scores) for sex in Sex}
    rows = means.groupBy("region").applyInPandas(add, "region int, sums binary").collect()
    for row in sorted(rows, key=lambda row: row["region"]):
        two, one = np.frombuffer(row["sums"], np.float64).reshape(2, scores)
        for sex in Sex:
            diploid, haploid = copies(np.array([sex], np.uint8), Region(row["region"]))
            found[sex] += diploid[0] * two + haploid[0] * one
    return found


@dataclass(frozen=True)
class _Sums:
    """The function that each task runs: weighed packed rows in; PARTIAL out."""

    sexes: dict[str, Sexes]
    scores: tuple[int, ...]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums: dict[str, Floats] = {}
        at_once = max(1, _CODES_AT_ONCE // max(SAMPLES_AT_ONCE, len(self.scores)))
        for block, batch in batches_by_block(batches):
            sexes = self.sexes[block]
            total = sums.setdefault(block, np.zeros((len(sexes), len(self.scores))))
            regions = batch["region"].to_numpy()
            imputed = batch["dosages"].is_valid().to_numpy(zero_copy_only=False)
            for place in np.unique(regions):
                for dosed in (False, True):
                    chosen = batch.filter(pa.array((regions == place) & (imputed == dosed)))
                    for start in range(0, len(chosen), at_once):
                        rows = chosen.slice(start, at_once)
                        add_rows(total, rows, sexes, Region(place), self.scores, dosed)
        task = TaskContext.get()
        yield from _partial(sums, task.partitionId() if task else 0)


def add_rows(
    total: Floats, rows: pa.RecordBatch, sexes: Sexes, place: Region, scores: Sequence[int], dosed: bool
) -> None:
    """Add to `total` (samples, scores) what rows of one region give, less the means; all or none have dosages."""
    (step,) = _matrices(rows["entries"], ENTRY, scores)
    bend, haploid = _matrices(rows["bends"], BEND, scores)
    weights = [step, bend, step + haploid]
    means = [rows[name].to_numpy()[:, None] for name in ("mean", "mean_two")]
    packed: Dosages | npt.NDArray[np.uint8]
    packed = dosage_rows(rows["dosages"]) if dosed else packed_rows(rows["calls"])
    for first in range(0, len(sexes), SAMPLES_AT_ONCE):
        people = slice(first, min(first + SAMPLES_AT_ONCE, len(sexes)))
        own = packed[:, people] if dosed else packed[:, first // 4 : packed_size(people.stop)]
        alts, missing = _alts(own, people.stop - first)
        total[people] += _products(alts, missing, means, weights, copies(sexes[people], place))


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


def _matrices(packed: pa.BinaryArray, kind: np.dtype[np.void], scores: Sequence[int]) -> list[Floats]:
    """What each row has of these scores, (rows, scores), in each field of ENTRY or BEND but the score."""
    flat = np.frombuffer(b"".join(packed.to_pylist()), kind)
    row = np.repeat(np.arange(len(packed)), pc.binary_length(packed).to_numpy() // kind.itemsize)
    numbers = np.asarray(scores)
    column = np.searchsorted(numbers, flat["score"])
    wanted = np.isin(flat["score"], numbers)
    place, size = (row * len(numbers) + column)[wanted], len(packed) * len(numbers)
    # One variant may be weighed twice in a score: as its own ALT, and as what REF leaves.
    sums = [np.bincount(place, flat[name][wanted], size) for name in (kind.names or ())[1:]]
    return [own.astype(np.float64, copy=False).reshape(-1, len(numbers)) for own in sums]


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
