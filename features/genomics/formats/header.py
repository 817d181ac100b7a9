"""What the header of a file of genomes says: the names of its samples, in the order of its calls, and INFO."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from features.genomics.sexes import Sex


@dataclass(frozen=True, slots=True)
class Header:
    """The sample names of a file (none in a list of sites), and for each by its number the digest of the file that
    it stands in and where, as quarantine writes it; `sexes` of the samples, empty where no file tells them; the
    header's lines of INFO, None where the format has none."""

    digest: str
    names: list[str]
    place: Callable[[int], tuple[str, str]]
    sexes: Sequence[Sex] = ()
    info: Sequence[str] | None = None


_DESCRIBED = re.compile(r'([^=,<>"]+)=("(?:[^"\\]|\\.)*"|[^,">]*)')


def described(declaration: str) -> dict[str, str]:
    """The keys and values, these in quotes or not, that a header's line has between < and >; of a key that comes
    twice, the first."""
    found = reversed(_DESCRIBED.findall(declaration))
    return {key.strip(): value.strip() for key, value in found}
