"""A table of the raw zone that says something of each sample: its recorded sex, the group it is of."""

import io
import re
from collections.abc import Iterator

import pyarrow as pa
from pyarrow import csv

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.settings import SampleTable


def read_rows(
    root: Location, wanted: SampleTable, column: str, section: str, keyer: PersonKeyer
) -> Iterator[tuple[str, str | None, str]]:
    """Where each row stands (for messages; the file's first line is 1), the person's key, None where the id is
    none, and the value of `column`. DataGateError for a missing file or column, and for a row cut short."""
    where = f"{section}: file {keyer.path_digest(wanted.path)}"
    table, first = _table(root, wanted, column, section, where)
    ids, values = table[wanted.id].to_pylist(), table[column].to_pylist()
    for line, (source_id, value) in enumerate(zip(ids, values, strict=True), start=first):
        yield f"{where}, line {line}", keyer.person_key(source_id), value


def read_values(
    root: Location, wanted: SampleTable, column: str, section: str, keyer: PersonKeyer
) -> dict[str, str]:
    """The value of `column` of each person. DataGateError for a person with two, beside those of `read_rows`."""
    found: dict[str, str] = {}
    for where, key, value in read_rows(root, wanted, column, section, keyer):
        if key is not None and found.setdefault(key, value) != value:
            raise DataGateError(f"{where}: this person had another value in {column} above; correct the file")
    return found


def _table(root: Location, wanted: SampleTable, column: str, section: str, where: str) -> tuple[pa.Table, int]:
    """The file's rows as text, and the number of the first one's line."""
    location = root / wanted.path
    if not location.exists():
        raise DataGateError(f"{section}.path: {wanted.path} is not below the raw root; correct it")
    data = location.read_bytes()
    about = 0  # a .psam may begin with lines of its own
    for line in data.splitlines():
        if not line.startswith(b"##"):
            break
        about += 1
    try:
        table = csv.read_csv(
            io.BytesIO(data),
            read_options=csv.ReadOptions(skip_rows=about, use_threads=False),
            parse_options=csv.ParseOptions(delimiter=wanted.delimiter, quote_char=False, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(strings_can_be_null=False, default_column_type=pa.string()),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        row = re.search(r"Row #(\d+)", str(error))  # the rest of Arrow's message has the row's text
        place = f", line {int(row[1]) + about}" if row else ""
        raise DataGateError(
            f"{where}{place}: expected delimited text, each line with the columns of the header, separated by "
            f"{wanted.delimiter!r}; correct the file or {section}.delimiter"
        ) from None
    missing = [name for name in (wanted.id, column) if name not in table.column_names]
    if missing:
        raise DataGateError(
            f"{where}, line {about + 1}: none of its {table.num_columns} columns is {', '.join(missing)}; correct "
            f"{section}: id, the column's name or delimiter"
        )
    return table, about + 2
