"""What was accepted to `genotypes`, and where no variant has a second row to `variants`, by the tasks that hold
it; on the way the calls of each sample are summed."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, Row
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.paths import Location
from features.contract.schemas import GENOTYPES, VARIANTS
from features.genomics.columns import at_least, by_name, sparse
from features.genomics.contigs import Region, RegionCounts
from features.genomics.ingestion.accepted import rows_of
from features.genomics.samples import PARTIAL, SampleSums
from features.genomics.sexes import Sexes
from features.genomics.statistics import PARQUET_OF_VARIANTS, Columns
from features.lake import files_of_tasks
from features.task_files import TaskFiles, task_files

_RESULT = pa.schema([("table", pa.string()), ("name", pa.string()), *PARTIAL])
"""Either a file of a table that was written whole, or what the calls of a block's samples sum up to."""
_PARQUET: dict[str, dict[str, Any]] = {
    GENOTYPES.path: {
        "use_dictionary": ["sample_block"],
        "write_statistics": [own.name for own in GENOTYPES.schema if not pa.types.is_binary(own.type)],
    },
    VARIANTS.path: PARQUET_OF_VARIANTS,
}
"""Calls hardly come twice, and nobody looks for calls by what they are."""
_AT_ONCE = 4096
"""Rows."""
Describe = Callable[[Columns], pa.Table]


@dataclass(frozen=True, slots=True)
class WrittenCalls:
    """The new versions of the tables that were written, PARTIAL sums of the calls, and how many rows of each block
    lie in each Region."""

    tables: dict[str, int]
    sums: DataFrame
    regions: dict[str, RegionCounts]


@contextmanager
def write_calls(
    accepted: DataFrame,
    filled: DataFrame | None,
    sexes: Mapping[str, Sexes],
    lake: Location,
    append: Mapping[str, bool],
    describe: Describe,
) -> Iterator[WrittenCalls]:
    """What was accepted, and what is `filled` in besides.

    The tables written are those of which is said whether to `append`; `describe` gives the rows of `variants`.
    """
    result = from_arrow_schema(_RESULT)
    with ExitStack() as stack:
        files = {
            table.path: stack.enter_context(files_of_tasks(lake, table, append[table.path]))
            for table in (GENOTYPES, VARIANTS)
            if table.path in append
        }
        write = _Write(dict(sexes), {table: own.folder for table, own in files.items()}, describe)
        written = accepted.mapInArrow(lambda batches: write(rows_of(batches)), result)
        if filled is not None:
            written = written.unionByName(filled.mapInArrow(write, result))
        # Kept: what is lost with an executor is written again, to files that nobody names.
        stack.callback(written.persist(StorageLevel.DISK_ONLY).unpersist)
        told = written.drop("sums").collect()
        tables = {
            table: own.commit({row["name"] for row in told if row["table"] == table})
            for table, own in files.items()
        }
        yield WrittenCalls(tables, written.filter("sums is not null"), _regions(told))


def _regions(told: Iterable[Row]) -> dict[str, RegionCounts]:
    found: dict[str, RegionCounts] = {}
    for row in told:
        if row["sample_block"]:
            found.setdefault(row["sample_block"], Counter()).update(dict(zip(Region, row["regions"], strict=True)))
    return found


@dataclass(frozen=True)
class _Write:
    """The function that each task runs: CANDIDATES in, or what `genotypes`, `region` and `substitution` say of REF
    calls; _RESULT out."""

    sexes: dict[str, Sexes]
    folders: dict[str, Location]
    describe: Describe

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums, files = SampleSums(self.sexes), dict[str, TaskFiles]()
        with ExitStack() as stack:
            for table in (GENOTYPES, VARIANTS):
                if folder := self.folders.get(table.path):
                    files[table.path] = stack.enter_context(task_files(folder, table, _PARQUET[table.path]))
            for several in at_least(_AT_ONCE, batches):
                rows = pa.concat_batches(several)
                sums.add(rows)
                files[GENOTYPES.path].write(
                    pa.table([rows[name] for name in GENOTYPES.schema.names], GENOTYPES.schema.names)
                )
                if VARIANTS.path in files:
                    files[VARIANTS.path].write(self.describe(by_name(rows)))
        for path, own in files.items():
            yield sparse(_RESULT, table=pa.repeat(path, len(own.names)), name=pa.array(own.names, pa.string()))
        yield sparse(_RESULT, **by_name(sums.partial()))
