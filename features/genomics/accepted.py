"""Candidates that are kept, still sealed: those whose variant came first in their block."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema

from features.genomics.candidates import CANDIDATES, KINDS, PLACE, TALLY
from features.genomics.earlier import Earlier
from features.genomics.sealed import unseal, unsealed
from features.lake import broadcast_if_few

_BATCH = ("part", "batch")
_NAMED = pa.schema(
    [
        ("part", pa.int32()),
        ("batch", pa.int32()),
        ("row", pa.int32()),
        *(CANDIDATES.field(name) for name in (*PLACE, "sample_block", "variant_key")),
    ]
)


@dataclass(frozen=True, slots=True)
class Tally:
    """TALLY of a file and rule, over all its parts."""

    source_digest: str
    rule: str | None
    lines: int
    items: int
    with_dosages: int


def tally(parsed: DataFrame) -> tuple[list[Tally], bool]:
    """And whether candidates may be of the same variant and block."""
    groups = ["name", "source_digest", "rule"]
    numbers = [own.name for own in TALLY if own.type == pa.int64()]
    counted = (
        parsed.filter("rows is null")
        .groupBy(groups)
        .agg(*(sf.sum(name).alias(name) for name in numbers), (sf.count("name") > 1).alias("is_double"))
    )
    found = counted.groupBy(groups[1:]).agg(*(sf.sum(name).alias(name) for name in numbers), sf.max("is_double"))
    rows = found.collect()
    return [Tally(*row[:-1]) for row in rows if row["source_digest"]], any(row[-1] for row in rows)


def of_kind(parsed: DataFrame, kind: str) -> DataFrame:
    """The rows of one of KINDS."""
    return unsealed(parsed, kind, KINDS[kind])


def find_doubles(parsed: DataFrame, earlier: Earlier | None) -> DataFrame:
    """Which row of which batch is of a variant that came before in the same block, in a new file or, as `known`,
    in an earlier one; and of which source it is."""
    order = Window.partitionBy("sample_block", "variant_key").orderBy(*PLACE)
    named = _sealed(parsed, "variants").mapInArrow(_named, from_arrow_schema(_NAMED))
    numbered = named.withColumn("number", sf.row_number().over(order))
    if earlier is None:
        numbered = numbered.withColumn("known", sf.lit(None).cast("boolean"))
    else:
        known = earlier.genotypes.select("sample_block", "variant_key", sf.lit(True).alias("known"))
        numbered = numbered.join(known, ["sample_block", "variant_key"], "left")
    return numbered.filter("number > 1 or known").select(*_BATCH, "row", "source", "known")


def accept(parsed: DataFrame, doubles: DataFrame | None) -> DataFrame:
    """Sealed batches of candidates, with `left_out`, the rows of each that are doubles. Few of these are
    broadcast, so that the calls are not shuffled."""
    batches = _sealed(parsed, "variants")
    if doubles is None:
        return batches.select("rows", sf.lit(None).cast("array<int>").alias("left_out"))
    by_batch = doubles.groupBy(*_BATCH).agg(sf.collect_list("row").alias("left_out"))
    kept = broadcast_if_few(by_batch, doubles.count())
    return batches.join(kept, list(_BATCH), "left").select("rows", "left_out")


def columns_of(accepted: DataFrame, names: Sequence[str]) -> DataFrame:
    """Of what was accepted these columns."""
    schema = pa.schema([CANDIDATES.field(name) for name in names])

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for found in rows_of(batches):
            yield found.select(schema.names)

    return accepted.mapInArrow(rows, from_arrow_schema(schema))


def rows_of(accepted: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """CANDIDATES, for the function of a task."""
    for batch in accepted:
        for value, left_out in zip(batch["rows"], batch["left_out"].to_pylist(), strict=True):
            rows = unseal(value, CANDIDATES)
            if left_out:
                kept = np.ones(len(rows), bool)
                kept[left_out] = False
                rows = rows.filter(pa.array(kept))
            yield rows


def _sealed(parsed: DataFrame, kind: str) -> DataFrame:
    return parsed.filter(parsed["kind"] == kind)


def _named(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """_NAMED rows of sealed batches."""
    for batch in batches:
        for part, number, value in zip(*(batch[name] for name in (*_BATCH, "rows")), strict=True):
            rows = unseal(value, CANDIDATES)
            where = [pa.repeat(part, len(rows)), pa.repeat(number, len(rows))]
            row = pa.array(np.arange(len(rows), dtype=np.int32))
            own = [rows[name] for name in _NAMED.names[3:]]
            yield pa.RecordBatch.from_arrays([*where, row, *own], schema=_NAMED)
