"""What the header of a file of genomes says: the names of its samples, in the order of its calls, and INFO."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from features.genomics.sexes import Sex


@dataclass(frozen=True, slots=True)
class Header:
    """The sample names of a file (none in a list of sites), and for each by its number the digest of the file that
    it stands in and where, as quarantine writes it; `sexes` of the samples, empty where no file tells them; the
    header's lines of INFO, None where the format has none; the `lengths` of the contigs of which the header tells
    one; the offset of its last line in text, as Chunk has it."""

    digest: str
    names: list[str]
    place: Callable[[int], tuple[str, str]]
    sexes: Sequence[Sex] = ()
    info: Sequence[str] | None = None
    lengths: Mapping[str, int] = field(default_factory=dict)
    ends: int = -1


_DESCRIBED = re.compile(r'([^=,<>"]+)=("(?:[^"\\]|\\.)*"|[^,">]*)')


def described(declaration: str) -> dict[str, str]:
    """The keys and values, these in quotes or not, that a header's line has between < and >; of a key that comes
    twice, the first."""
    found = reversed(_DESCRIBED.findall(declaration))
    return {key.strip(): value.strip() for key, value in found}


CONTIG = "##contig=<"


def declared_lengths(lines: Iterable[str]) -> dict[str, int]:
    """By name, of the contigs of which these lines of a header tell it."""
    contigs = [described(line.removeprefix(CONTIG)) for line in lines if line.startswith(CONTIG)]
    told = [about for about in contigs if "ID" in about and re.fullmatch("[0-9]{1,12}", about.get("length", ""))]
    return {about["ID"]: int(about["length"]) for about in told}
