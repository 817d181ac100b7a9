"""Candidates that are kept, still sealed: those whose variant came first in their block."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema

from features.genomics.ingestion.candidates import CANDIDATES, KINDS, PLACE, TALLY
from features.genomics.ingestion.earlier import Earlier
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


def tally(parsed: DataFrame) -> tuple[list[Tally], pa.Table]:
    """How many candidates and refusals there are, and SPANS of each `part`."""
    found = parsed.filter(parsed["kind"].isin("tally", "spans")).select("kind", "part", "rows").collect()
    numbers = [(own.name, "sum") for own in TALLY if own.type == pa.int64()]
    tallies = _collected(found, "tally").group_by(["source_digest", "rule"]).aggregate(numbers)
    return [Tally(*row.values()) for row in tallies.to_pylist()], _collected(found, "spans")


def _collected(found: Sequence[Row], kind: str) -> pa.Table:
    """The rows of this kind, and of which part they are."""
    schema = KINDS[kind].append(pa.field("part", pa.int32()))
    own = (
        (row["part"], unseal(pa.scalar(bytes(row["rows"])), KINDS[kind])) for row in found if row["kind"] == kind
    )
    batches = [
        pa.RecordBatch.from_arrays(
            [*rows.columns, pa.repeat(pa.scalar(part, pa.int32()), len(rows))], schema=schema
        )
        for part, rows in own
    ]
    return pa.Table.from_batches(batches, schema)


def of_kind(parsed: DataFrame, kind: str) -> DataFrame:
    """The rows of one of KINDS."""
    return unsealed(parsed, kind, KINDS[kind])


def find_doubles(parsed: DataFrame, suspects: Sequence[int], earlier: Earlier | None) -> DataFrame:
    """Which row of which batch is of a variant that came before in the same block, in a new file or, as `known`,
    in an earlier one; and of which source it is. Only `suspects` are looked at if there is no earlier one."""
    order = Window.partitionBy("sample_block", "variant_key").orderBy(*PLACE)
    asked = parsed if earlier else parsed.filter(parsed["part"].isin(*suspects))
    named = _sealed(asked, "variants").mapInArrow(_named, from_arrow_schema(_NAMED))
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
