"""The recorded sex of each sample, which decides how many copies of X and Y it has."""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.settings import SampleSexes
from features.genomics.contigs import Region
from features.genomics.sample_table import read_rows

Sexes = npt.NDArray[np.uint8]


class Sex(IntEnum):
    UNKNOWN = 0
    MALE = 1
    FEMALE = 2


def read_sexes(root: Location, wanted: SampleSexes, keyer: PersonKeyer) -> dict[str, Sex]:
    """The Sex of each person key. DataGateError for a missing file or column, a value that has no meaning,
    and a person with two sexes; the file's first line is 1."""
    meanings = {value.casefold(): Sex[sex.upper()] for value, sex in wanted.values.items()}
    found: dict[str, Sex] = {}
    for where, key, value in read_rows(root, wanted, wanted.sex, "genomics.sexes", keyer):
        sex = meanings.get(value.casefold())
        if sex is None:
            raise DataGateError(
                f"{where}: column {wanted.sex} holds a value that is not one of "
                f"{', '.join(sorted(wanted.values))}; add it to genomics.sexes.values"
            )
        if key is not None and found.setdefault(key, sex) is not sex:
            raise DataGateError(f"{where}: this person had another sex above; correct the file")
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
