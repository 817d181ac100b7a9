"""The recorded sex of each sample, which decides how many copies of X and Y it has."""

from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pandas as pd

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
    table = _table(root, wanted, where)
    meanings = {value.casefold(): Sex[sex.upper()] for value, sex in wanted.values.items()}
    found: dict[str, Sex] = {}
    for line, (source_id, value) in enumerate(zip(table[wanted.id], table[wanted.sex], strict=True), start=2):
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


def _table(root: Location, wanted: SampleSexes, where: str) -> pd.DataFrame:
    location = root / wanted.path
    if not location.exists():
        raise DataGateError(f"genomics.sexes.path: {wanted.path} is not below the raw root; correct it")
    columns = [wanted.id, wanted.sex]
    try:
        with location.open() as stream:
            table = pd.read_csv(stream, sep=wanted.delimiter, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise DataGateError(
            f"{where}: it is no delimited text ({type(error).__name__}); expected a header and "
            f"the columns {' and '.join(columns)}, separated by {wanted.delimiter!r}"
        ) from None
    missing = [column for column in columns if column not in table]
    if missing:
        raise DataGateError(
            f"{where}, line 1: there is no column {', '.join(missing)}; the columns are "
            f"{', '.join(map(str, table.columns))}; correct genomics.sexes.id, .sex or .delimiter"
        )
    return table[columns]
