"""Which labelled population a person's genome is like: a normal distribution on the axes for each of them.

Mean and covariance are estimates, so that a new person of a population follows a t distribution (Gelman et al.,
Bayesian Data Analysis, 3.6); all populations are as likely beforehand: a cohort is not mixed as a reference panel
is. Probabilities sum to 1 however far a person is from everyone, so how far that is, is told beside them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from scipy.stats import f, multivariate_t

from features.contract.errors import DataGateError

SMALLEST_TYPICALITY = 1e-8
"""Further out than that a person is of none: real populations have longer tails than normal ones."""
MOST_CONDITION = 1e12

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Populations:
    """`names` in order, how many `people` describe each, their `mean` (populations, components) and `covariance`
    (populations, components, components)."""

    names: list[str]
    people: list[int]
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
            f"genomics.ancestry.populations: of people to describe it by {told}, expected more than twice the "
            f"components, {2 * components}; leave such a population out or join it to another"
        )


def collected(table: DataFrame) -> Populations:
    """The rows of `populations`, by name. DataGateError for one with too few people, or without a spread."""
    rows = sorted(table.collect(), key=lambda row: str(row["population"]))
    people = {row["population"]: row["people"] for row in rows}
    mean = np.array([row["mean"] for row in rows])
    check_people(people, mean.shape[-1])
    covariance = np.array([row["covariance"] for row in rows]).reshape(*mean.shape, -1)
    flat = [name for name, own in zip(people, covariance, strict=True) if np.linalg.cond(own) > MOST_CONDITION]
    if flat:
        raise DataGateError(
            f"genomics.ancestry.populations: {', '.join(flat)} does not vary along some axis; are its people "
            "there twice, or without the calls of that axis? Leave it out"
        )
    return Populations(list(people), list(people.values()), mean, covariance)


def classify(components: Matrix, among: Populations) -> tuple[Matrix, Matrix]:
    """The probability of each population (people, populations), and each person's typicality (people): the chance
    that one of the likeliest population lies so far out."""
    number = components.shape[1]
    log_density, typicality = np.empty((2, len(components), len(among.names)))
    for at, (n, mean, covariance) in enumerate(zip(among.people, among.mean, among.covariance, strict=True)):
        free = n - number
        spread = covariance * (n + 1) * (n - 1) / (n * free)
        log_density[:, at] = multivariate_t.logpdf(components, mean, spread, free)
        apart = components - mean
        squared = (apart * np.linalg.solve(spread, apart.T).T).sum(1)
        typicality[:, at] = f.sf(squared / number, number, free)
    density = np.exp(log_density - log_density.max(1, keepdims=True))
    probability = density / density.sum(1, keepdims=True)
    return probability, typicality[np.arange(len(components)), probability.argmax(1)]


@dataclass(frozen=True)
class Classified:
    """The function that each task runs: rows with `components` in; `population`, null where none is as likely as
    `minimum`, `probabilities` and `typicality` behind their columns out."""

    among: Populations
    minimum: float

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
        names = [*rows.schema.names, "population", "probabilities", "typicality"]
        return pa.RecordBatch.from_arrays([*rows.columns, *more], names=names)


_PROBABILITIES = pa.map_(pa.string(), pa.float64())
