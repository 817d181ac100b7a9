"""Who the sample columns of the files are: blocks of samples, each person in one of them.

Files that list the same people in the same order (one per chromosome, say) hold one block. The
headers are read on the driver; files with the same list are worked out once.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from features.contract.errors import DataGateError
from features.contract.persons import PersonKeyer
from features.genomics.formats.header import Header

log = logging.getLogger("riskloom")
IDENTIFIER = "identifier"
NOBODY = ""


@dataclass(frozen=True, slots=True)
class Columns:
    """The sample columns of one list: its block, and which are kept (None: all of `total`). A file without any
    is of the block NOBODY."""

    block: str
    total: int
    keep: npt.NDArray[np.int64] | None


@dataclass(slots=True)
class Roster:
    """`people`: the person keys of each block in order. `columns`: by digest of the file.

    `refused`: file digest and location of each column whose name is no id (rule IDENTIFIER).
    `merged`: columns left out because an earlier column of their file is of the same person.
    """

    people: dict[str, list[str]] = field(default_factory=dict)
    columns: dict[str, Columns] = field(default_factory=dict)
    refused: list[tuple[str, str]] = field(default_factory=list)
    merged: int = 0


def read_roster(headers: Iterable[Header], keyer: PersonKeyer) -> Roster:
    """The roster of all files. DataGateError when one has no known sample, or a person of another block."""
    roster = Roster()
    known: dict[tuple[str, ...], list[str | None]] = {}
    for header in headers:
        names = tuple(header.names)
        keys = known.get(names)
        if keys is None:
            keys = known[names] = [keyer.person_key(name) for name in names]
        _add_file(roster, header, keys, keyer)
    if roster.refused:
        log.warning(
            "%d sample columns are left out: identity.pattern accepts no such name (riskloom show quarantine/"
            "ingest_genomics)",
            len(roster.refused),
        )
    return roster


def _add_file(roster: Roster, header: Header, keys: list[str | None], keyer: PersonKeyer) -> None:
    if not keys:
        roster.columns[header.digest] = Columns(NOBODY, 0, None)
        return
    first: dict[str, int] = {}
    for column, key in enumerate(keys):
        if key is None:
            roster.refused.append(header.place(column))
        elif first.setdefault(key, column) != column:
            roster.merged += 1
    if not first:
        raise DataGateError(
            f"file {header.digest}: identity.pattern accepts none of its {len(keys)} sample names; "
            "correct the pattern"
        )
    block = block_name(list(first), keyer)
    if block not in roster.people:
        _check_new(roster, header.digest, first.keys())
        roster.people[block] = list(first)
    keep = None if len(first) == len(keys) else np.array(list(first.values()), np.int64)
    roster.columns[header.digest] = Columns(block, len(keys), keep)


def block_name(person_keys: list[str], keyer: PersonKeyer) -> str:
    """Sixteen hex digits that stand for these people in this order."""
    return keyer.digest("samples", "\n".join(person_keys))[:16]


def _check_new(roster: Roster, digest: str, people: Iterable[str]) -> None:
    """No person in two blocks: their calls of one variant would count twice."""
    newcomers = set(people)
    again = sum(len(newcomers.intersection(block)) for block in roster.people.values())
    if again:
        raise DataGateError(
            f"file {digest}: {again} of its {len(newcomers)} people are also in files with another sample list; "
            "expected the same samples in the same order, or other people: "
            "reorder or subset the files (bcftools view -S), or leave one batch out of genomics.paths"
        )
