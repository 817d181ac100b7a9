"""Which labelled population a person's genome is like: a normal distribution on the axes for each of them.

Quadratic discriminant analysis (Hastie et al., Elements of Statistical Learning, 4.3), all populations as likely
beforehand: a cohort is not mixed as a reference panel is. Probabilities sum to 1 however far a person is from
everyone, so how far that is, is told beside them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from scipy.stats import chi2

from features.contract.errors import DataGateError

SMALLEST_TYPICALITY = 1e-8
"""Further out than that in each population a person is of none: real ones have longer tails than normal ones."""

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Populations:
    """`names` in order, their `mean` (populations, components) and `covariance` (populations, components,
    components)."""

    names: list[str]
    mean: Matrix
    covariance: Matrix


def populations(labelled: DataFrame) -> DataFrame:
    """`population, people, mean, covariance` (its rows one after the other) of `population, components`."""
    schema = "population string, people bigint, mean array<double>, covariance array<double>"
    return labelled.groupBy("population").applyInPandas(_described, schema)


def _described(rows: pd.DataFrame) -> pd.DataFrame:
    components = np.stack(rows["components"].to_list())
    name, people = rows["population"].iloc[:1], len(rows)
    covariance = np.atleast_2d(np.cov(components.T)) if people > 1 else np.full((components.shape[1],) * 2, np.nan)
    return pd.DataFrame(
        {
            "population": name,
            "people": people,
            "mean": [components.mean(0)],
            "covariance": [covariance.ravel()],
        }
    )


def check_people(people: Mapping[str, int], components: int) -> None:
    """DataGateError for a population with too few people to have a spread in each direction."""
    few = {name: number for name, number in people.items() if number <= 2 * components}
    if few:
        told = ", ".join(f"{name} has {number}" for name, number in sorted(few.items()))
        raise DataGateError(
            f"genomics.ancestry.populations: of people with a genome {told}, expected more than twice the "
            f"components, {2 * components}; leave such a population out or join it to another"
        )


def collected(table: DataFrame) -> Populations:
    """The rows of `populations`, by name."""
    rows = sorted(table.collect(), key=lambda row: str(row["population"]))
    mean = np.array([row["mean"] for row in rows])
    covariance = np.array([row["covariance"] for row in rows])
    check_people({row["population"]: row["people"] for row in rows}, mean.shape[1])
    return Populations([row["population"] for row in rows], mean, covariance.reshape(*mean.shape, -1))


def classify(components: Matrix, among: Populations) -> tuple[Matrix, Matrix]:
    """The probability of each population (people, populations), and each person's typicality (people): the chance
    to lie so far out in the nearest of them."""
    apart = components[:, None, :] - among.mean[None]
    inverse = np.linalg.inv(among.covariance)
    squared = np.einsum("npi,pij,npj->np", apart, inverse, apart)
    log_density = -0.5 * (squared + np.linalg.slogdet(among.covariance)[1])
    density = np.exp(log_density - log_density.max(1, keepdims=True))
    typicality: Matrix = chi2.sf(squared.min(1), components.shape[1])
    return density / density.sum(1, keepdims=True), typicality


@dataclass(frozen=True)
class Classified:
    """The function that each task runs: rows with `components` in; `population`, null where none is as likely as
    `minimum`, `probabilities` and `typicality` behind them out."""

    among: Populations
    minimum: float
    columns: Sequence[str]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            placed = batch.filter(batch["components"].is_valid())
            if len(placed):
                yield self._of(placed)
            unknown = batch.filter(batch["components"].is_null())
            nothing = [pa.nulls(len(unknown), kind) for kind in (pa.string(), _PROBABILITIES, pa.float64())]
            yield self._with(unknown, nothing)

    def _of(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        components = np.stack(rows["components"].to_numpy(zero_copy_only=False))
        probability, typicality = classify(components, self.among)
        sure = (probability.max(1) >= self.minimum) & (typicality >= SMALLEST_TYPICALITY)
        names = pa.array(self.among.names).take(pa.array(probability.argmax(1)))
        offsets = np.arange(len(rows) + 1, dtype=np.int32) * len(self.among.names)
        keys = pa.array(self.among.names * len(rows))
        maps = pa.MapArray.from_arrays(pa.array(offsets), keys, pa.array(probability.ravel()))
        found = pa.array(np.where(sure, names.to_numpy(zero_copy_only=False), None), pa.string())
        return self._with(rows, [found, maps, pa.array(typicality)])

    def _with(self, rows: pa.RecordBatch, more: list[pa.Array]) -> pa.RecordBatch:
        names = [*self.columns, "population", "probabilities", "typicality"]
        return pa.RecordBatch.from_arrays([*(rows[name] for name in self.columns), *more], names=names)


_PROBABILITIES = pa.map_(pa.string(), pa.float64())
