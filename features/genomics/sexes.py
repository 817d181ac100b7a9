"""The recorded sex of each sample, which decides how many copies of X and Y it has."""

import io
import re
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.settings import SampleSexes
from features.genomics.contigs import Region

Sexes = npt.NDArray[np.uint8]


class Sex(IntEnum):
    UNKNOWN = 0
    MALE = 1
    FEMALE = 2


def read_sexes(root: Location, wanted: SampleSexes, keyer: PersonKeyer) -> dict[str, Sex]:
    """The Sex of each person key. DataGateError for a missing file or column, a value that has no meaning,
    and a person with two sexes; the file's first line is 1."""
    where = f"genomics.sexes: file {keyer.path_digest(wanted.path)}"
    table, first = _table(root, wanted, where)
    meanings = {value.casefold(): Sex[sex.upper()] for value, sex in wanted.values.items()}
    found: dict[str, Sex] = {}
    ids, values = table[wanted.id].to_pylist(), table[wanted.sex].to_pylist()
    for line, (source_id, value) in enumerate(zip(ids, values, strict=True), start=first):
        sex, key = meanings.get(value.casefold()), keyer.person_key(source_id)
        if sex is None:
            raise DataGateError(
                f"{where}, line {line}: column {wanted.sex} holds a value that is not one of "
                f"{', '.join(sorted(wanted.values))}; add it to genomics.sexes.values"
            )
        if key is not None and found.setdefault(key, sex) is not sex:
            raise DataGateError(f"{where}, line {line}: this person had another sex above; correct the file")
    return found


def of_people(people: list[str], recorded: dict[str, Sex]) -> Sexes:
    """The sexes of these people (n), UNKNOWN where none is recorded."""
    return np.array([recorded.get(key, Sex.UNKNOWN) for key in people], np.uint8)


def copies(sexes: Sexes, place: Region) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Who has two copies there and who has one, as plink2 sees it: of unknown sex is as a woman."""
    men, none = sexes == Sex.MALE, np.zeros(len(sexes), bool)
    return {
        Region.DIPLOID: (~none, none),
        Region.X: (~men, men),
        Region.Y: (none, men),
        Region.MT: (none, ~none),
    }[place]


def _table(root: Location, wanted: SampleSexes, where: str) -> tuple[pa.Table, int]:
    """The file's rows as text, and the number of the first one's line."""
    location = root / wanted.path
    if not location.exists():
        raise DataGateError(f"genomics.sexes.path: {wanted.path} is not below the raw root; correct it")
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
            f"{wanted.delimiter!r}; correct the file or genomics.sexes.delimiter"
        ) from None
    missing = [column for column in (wanted.id, wanted.sex) if column not in table.column_names]
    if missing:
        raise DataGateError(
            f"{where}, line {about + 1}: none of its {table.num_columns} columns is {', '.join(missing)}; correct "
            "genomics.sexes.id, .sex or .delimiter"
        )
    return table, about + 2
