"""Association of an outcome with each variant in chosen people, beside their covariates, as `plink2 --glm` has it.

One copy more of ALT adds `beta` to a quantitative outcome (least squares, t test), or to the log odds of a 0/1
outcome (greatest likelihood, Wald's test; Firth's penalty where that has no end). Who is missing for a variant is
left out of its regression; dosages are used where there are any. On X outside of its PAR men count as having two
copies, 0 or 2 (`--xchr-model 2`), on Y and MT everyone as having one; see `design` for who takes part there.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema
from scipy.special import ndtr, stdtr

from features.genomics.association.design import Cohort, Design, Outcome, Places, cohort_of, design_of
from features.genomics.association.logistic import Logistic
from features.genomics.association.regression import (
    Alts,
    Flags,
    Matrix,
    Moments,
    NoResult,
    least_squares,
    moments,
    projection,
)
from features.genomics.blocks import dosage_rows, packed_rows
from features.genomics.contigs import Region, place_of_key, region_of
from features.genomics.dosages import MISSING as NO_DOSAGE
from features.genomics.dosages import or_called
from features.genomics.packing import MISSING, unpack
from features.genomics.sexes import Sexes

ASSOCIATIONS = pa.schema(
    [
        ("variant_key", pa.string()),
        ("n", pa.int64()),
        ("allele_frequency", pa.float64()),
        ("beta", pa.float64()),
        ("se", pa.float64()),
        ("statistic", pa.float64()),
        ("p", pa.float64()),
        ("penalised", pa.bool_()),
        ("error", pa.string()),
    ]
)
_ROWS_AT_ONCE, _CALLS_AT_ONCE = 128, 1 << 25


def associate(
    genotypes: DataFrame, people: DataFrame, sexes: Mapping[str, Sexes], build: str, kind: Outcome
) -> DataFrame:
    """ASSOCIATIONS of each variant that has a row in a block of the people; `beta` and what follows is null where
    `error` (a NoResult) says why, and `penalised` tells of Firth's penalty.

    `genotypes` are rows of GENOTYPES, `people` the chosen samples: `sample_block, sample_index, outcome,
    covariates` (array<double>, without the intercept). They are sent to each executor once; rows of a variant come
    together in one shuffle where the people lie in several blocks, else there is none. A task holds a batch of
    rows: run it in `bounded_arrow_batches`. DataGateError for nobody, for an outcome that does not vary, or is not
    0 or 1 where it should be, for what is no number, and for covariates that tell each other.
    """
    cohort = cohort_of(people, sexes, kind)
    rows = _together(genotypes, sorted(cohort.places)).withColumns(place_of_key())
    task = _Association(genotypes.sparkSession.sparkContext.broadcast(cohort), kind)
    placed = rows.select("variant_key", region_of(build).alias("region"), "blocks")
    return placed.mapInArrow(task, from_arrow_schema(ASSOCIATIONS))


def _together(genotypes: DataFrame, blocks: list[str]) -> DataFrame:
    """`variant_key` and its rows in these blocks."""
    own = genotypes.filter(sf.col("sample_block").isin(blocks))
    row = sf.struct("sample_block", "calls", "dosages")
    if len(blocks) == 1:
        return own.select("variant_key", sf.array(row).alias("blocks"))
    return own.groupBy("variant_key").agg(sf.collect_list(row).alias("blocks"))


@dataclass(frozen=True)
class _Association:
    """The function that each task runs: variants with their rows in, ASSOCIATIONS out."""

    cohort: Broadcast[Cohort]
    kind: Outcome

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        designs: dict[Region, Design] = {}
        for batch in batches:
            for region, dosed, rows in _parts(batch):
                if region not in designs:
                    designs[region] = design_of(self.cohort.value, region, self.kind)
                design = designs[region]
                at_once = max(1, min(_ROWS_AT_ONCE, _CALLS_AT_ONCE // max(design.people, 1)))
                for first in range(0, len(rows), at_once):
                    part = rows.slice(first, at_once)
                    found = associated(_alts(part["blocks"], design, dosed), design)
                    yield pa.RecordBatch.from_arrays([part["variant_key"], *found], schema=ASSOCIATIONS)


def _parts(batch: pa.RecordBatch) -> Iterator[tuple[Region, bool, pa.RecordBatch]]:
    """Rows of one region, with dosages somewhere or nowhere."""
    regions, blocks = batch["region"].to_numpy(), batch["blocks"]
    there = blocks.flatten().field("dosages").is_valid().to_numpy(zero_copy_only=False)
    dosed = np.zeros(len(batch), bool)
    dosed[blocks.value_parent_indices().to_numpy()[there]] = True
    for region in np.unique(regions):
        for some in (False, True):
            own = (regions == region) & (dosed == some)
            if own.any():
                yield Region(region), some, batch.filter(pa.array(own))


def _alts(blocks: pa.ListArray, design: Design, dosed: bool) -> Alts:
    """Of all people of the design, missing where a block has no row."""
    rows, parents = blocks.flatten(), blocks.value_parent_indices().to_numpy()
    names = np.array(rows.field("sample_block").to_pylist())
    stored = np.full(
        (len(blocks), design.people), NO_DOSAGE if dosed else MISSING, np.uint16 if dosed else np.uint8
    )
    first = 0
    for block, places in design.places.items():
        own = np.flatnonzero(names == block)
        people = slice(first, first + len(places))
        first = people.stop
        if len(own):
            stored[parents[own], people] = _stored(rows.take(pa.array(own)), places, dosed)
    return Alts(stored)


def _stored(rows: pa.StructArray, places: Places, dosed: bool) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """(rows, people) of one block."""
    packed = packed_rows(rows.field("calls"))
    codes = unpack(packed, 4 * packed.shape[1])[:, places]
    if not dosed:
        return codes
    dosages = rows.field("dosages")
    found = or_called(np.full(codes.shape, NO_DOSAGE, np.uint16), codes)
    there = dosages.is_valid()
    if there.true_count:
        found[there.to_numpy(zero_copy_only=False)] = dosage_rows(dosages.filter(there))[:, places]
    return found


def associated(alts: Alts, design: Design) -> list[pa.Array]:
    """The columns of ASSOCIATIONS after the key."""
    found = moments(alts, design.columns)
    projected = projection(found)
    free = found.n - design.columns.shape[1] - 1
    if design.regression is None:
        beta, se, flat = least_squares(found, projected)
        penalised = np.zeros(len(alts), bool)
    else:
        unfit = (free <= 0) | found.constant | projected.collinear
        beta, se, penalised, flat = _fitted(alts, found, ~unfit, design.regression)
    statistic = np.divide(beta, se, out=np.full(len(alts), np.nan), where=se > 0)
    p = 2 * (stdtr(free, -np.abs(statistic)) if design.regression is None else ndtr(-np.abs(statistic)))
    reasons = {
        NoResult.TOO_FEW: free <= 0,
        NoResult.CONSTANT: found.constant | flat,
        NoResult.COLLINEAR: projected.collinear,
        NoResult.NOT_CONVERGED: np.isnan(p),
    }
    error = np.select(list(reasons.values()), [reason.value for reason in reasons], "")
    columns = beta / design.copies, se / design.copies, statistic, p, penalised
    return [
        pa.array(found.n),
        pa.array(found.mean / 2, mask=found.n == 0),
        *(pa.array(column, mask=error != "") for column in columns),
        pa.array(error, pa.string(), mask=error == ""),
    ]


def _fitted(alts: Alts, found: Moments, fit: Flags, regression: Logistic) -> tuple[Matrix, Matrix, Flags, Flags]:
    """Of n variants of which some are `fit`: slopes and standard errors, whether they are by the penalised
    likelihood, and where all or none of those called are cases."""
    beta, se = np.full((2, len(alts)), np.nan)
    apart, flat = regression.separated(alts, found.mean, found.n)
    for penalised in (False, True):
        rows = np.flatnonzero(fit & ~flat & (penalised | ~apart) & np.isnan(se))
        if len(rows):
            regress = regression.penalised if penalised else regression.greatest_likelihood
            beta[rows], se[rows] = regress(alts[rows], found.mean[rows])
        if not penalised:
            by_penalty = np.isnan(se)
    return beta, se, by_penalty, flat
