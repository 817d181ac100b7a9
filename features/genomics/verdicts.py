"""Variants held against the limits of quality control by the tasks that work out what is said of them. These write
the variants that pass to `qc_variants`, and hand on little."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.paths import Location
from features.contract.schemas import QC_VARIANTS
from features.contract.settings import QualitySettings
from features.genomics.columns import filled, sparse
from features.genomics.statistics import PARQUET_OF_VARIANTS, in_batches
from features.task_files import task_files

_BY_FILTER = "pass_only"
VERDICTS = pa.schema(
    [
        ("name", pa.string()),
        ("variant_key", pa.string()),
        ("rule", pa.string()),
        ("value", pa.float64()),
        ("number", pa.int64()),
    ]
)
"""A file of `qc_variants` that was written whole; a variant, and by which rule and for what value it is left out;
or how many variants (`number`) a rule leaves out, or, null, none does."""


def judge_variants(
    counted: DataFrame, people: Mapping[str, int], group: str, limits: QualitySettings, folder: Location
) -> DataFrame:
    """VERDICTS on what `variants_of` takes; those that pass are written below `folder`, so evaluate it once."""
    judge = _Judge(dict(people), group, limits, folder)
    return counted.mapInArrow(judge, from_arrow_schema(VERDICTS))


def rules_of(limits: QualitySettings) -> list[tuple[str, float | None]]:
    """Name and limit of each rule of variants that was asked for, in their order."""
    minima = [(name, getattr(limits, name)) for name in _VALUES]
    asked: list[tuple[str, float | None]] = [(_BY_FILTER, None)] if limits.pass_only else []
    return asked + [(name, minimum) for name, minimum in minima if minimum is not None]


@dataclass(frozen=True)
class _Judge:
    """The function that each task runs."""

    people: dict[str, int]
    group: str
    limits: QualitySettings
    folder: Location

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        names = [None, *(name for name, _ in rules_of(self.limits))]
        numbers = np.zeros(len(names), np.int64)
        with task_files(self.folder, QC_VARIANTS, PARQUET_OF_VARIANTS) as passing:
            for variants in in_batches(batches, self.people, self.group):
                broken, values = first_broken(variants, self.limits)
                numbers += np.bincount(broken, minlength=len(names))
                passing.write(variants.filter(pa.array(broken == 0)))
                lost = np.flatnonzero(broken)
                yield sparse(
                    VERDICTS,
                    variant_key=variants["variant_key"].take(pa.array(lost)).combine_chunks(),
                    rule=pa.array([names[place] for place in broken[lost]], pa.string()),
                    value=pa.array(values[lost], from_pandas=True),
                )
        yield sparse(VERDICTS, name=pa.array(passing.names, pa.string()))
        yield sparse(VERDICTS, rule=pa.array(names, pa.string()), number=pa.array(numbers))


def first_broken(
    variants: pa.Table, limits: QualitySettings
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Of each variant the place of the first rule that it breaks, from 1 in the order of `rules_of`, or 0; and the
    value that broke it, not a number where there is none. Nothing is judged where nothing is known: no test of
    HWE, and on Y no call rate without men."""
    broken, values = np.zeros(len(variants), np.int64), np.full(len(variants), np.nan)
    for place, (name, minimum) in enumerate(rules_of(limits), start=1):
        if minimum is None:
            broken[filled(pc.list_value_length(variants["filters"]), 0) > 0] = place
            continue
        found = _VALUES[name](variants)
        chosen = (found < minimum) & (broken == 0)
        broken[chosen], values[chosen] = place, found[chosen]
    return broken, values


def _told(name: str) -> Callable[[pa.Table], npt.NDArray[np.float64]]:
    return lambda variants: variants[name].to_numpy(zero_copy_only=False)


def _rarer(variants: pa.Table) -> npt.NDArray[np.float64]:
    """The frequency of the rarer allele; where nobody was called no allele is known, and it is 0."""
    count, number = variants["allele_count"].to_numpy(), variants["allele_number"].to_numpy()
    found: npt.NDArray[np.float64] = np.minimum(count, number - count) / np.maximum(number, 1)
    return found


_VALUES = {
    "minimum_variant_call_rate": _told("call_rate"),
    "minimum_hwe_exact_p": _told("hwe_exact_p"),
    "minimum_hwe_mid_p": _told("hwe_mid_p"),
    "minimum_allele_frequency": _rarer,
    "minimum_mach_r2": _told("mach_r2"),
    "minimum_impute_info": _told("impute_info"),
}
