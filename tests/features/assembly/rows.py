"""Little tables in sight: a row gives the columns that matter, the declared schema the rest."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.paths import Location
from features.contract.schemas import Table
from features.lake import newest_version

INDEX = datetime(2020, 1, 1, tzinfo=UTC)


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def day(number: float) -> datetime:
    """Days after the index date (negative: before)."""
    return datetime.fromtimestamp(INDEX.timestamp() + number * 86_400, tz=UTC)


def frame(spark: SparkSession, table: Table, rows: Sequence[dict[str, Any]]) -> DataFrame:
    complete = [list(row.values()) for row in _complete(table, rows)]
    return spark.createDataFrame(complete, from_arrow_schema(table.schema))


def write(lake: Location, table: Table, rows: Sequence[dict[str, Any]]) -> int:
    """Write the table without Spark; its version."""
    found = pa.Table.from_pylist(_complete(table, rows), schema=table.schema)
    write_deltalake(f"{lake.uri}/{table.path}", found)
    return newest_version(lake, table.path)


def person(name: str, born: date | None = date(1970, 1, 1), sex: str = "female") -> dict[str, Any]:
    return {"person_key": key(name), "birth_date": born, "sex": sex}


def period(name: str, start: float, end: float) -> dict[str, Any]:
    return {"person_key": key(name), "start": day(start), "end": day(end)}


def event(name: str, at: float, code: str, value: float | None = None, **more: Any) -> dict[str, Any]:
    row = {"person_key": key(name), "time": day(at), "code": code, "numeric_value": value, "available_at": day(at)}
    return row | {"record_id": f"{name}{at}{code}{value}"} | more


def pack(codes: Sequence[int]) -> bytes:
    """2-bit codes, sample i in bits 2(i mod 4) of byte i // 4; the padding is missing."""
    padded = np.array([*codes, *[3] * (-len(codes) % 4)], dtype=np.uint8).reshape(-1, 4)
    return (padded << np.array([0, 2, 4, 6], dtype=np.uint8)).sum(axis=1).astype(np.uint8).tobytes()


def by_person(found: DataFrame, *columns: str) -> dict[str, Any]:
    """The value (or the tuple of values) of each person."""
    rows = {row["person_key"]: tuple(row[column] for column in columns) for row in found.collect()}
    return {name: values[0] if len(columns) == 1 else values for name, values in rows.items()}


def _complete(table: Table, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{field.name: row.get(field.name, _default(field)) for field in table.schema} for row in rows]


def _default(field: pa.Field) -> Any:
    if field.nullable:
        return None
    if pa.types.is_list(field.type):
        return []
    if pa.types.is_map(field.type):
        return {}
    if pa.types.is_timestamp(field.type):
        return INDEX
    return "" if pa.types.is_string(field.type) else 0.0 if pa.types.is_floating(field.type) else 0
