"""Positions of one genome build in another, by a UCSC chain file.

Format: https://genome.ucsc.edu/goldenPath/help/chain.html. A chain leads from what the format calls the target,
here the source, to what it calls the query, here the target: blocks that are aligned base by base, and gaps
between them. Where several chains have a base, that of the highest score does, of equal ones the file's first.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.contract.errors import DataGateError
from features.contract.paths import FileStat, Location
from features.genomics.contigs import LENGTHS, harmonise
from features.genomics.pieces import cut
from features.raw_text import WHOLE, plan_splits, read_chunks

_HEADER = re.compile(
    rb"chain (\d{1,18}) (\S+) (\d{1,10}) \+ (\d{1,10}) (\d{1,10}) "
    rb"(\S+) (\d{1,10}) ([+-]) (\d{1,10}) (\d{1,10})( \S+)?"
)
_BLOCK = re.compile(rb"(\d{1,10})(?: (\d{1,10}) (\d{1,10}))?")

_EXPECTED = "expected `chain`, a score, and name, size, strand (+ of the first), start and end of two contigs"

Integers = npt.NDArray[np.int64]
Lines = Iterator[tuple[int, bytes]]


class Unlifted(StrEnum):
    """Why a position has none in the other build.

    NO_CHAIN: it lies outside of all chains. DELETED: in a gap of one, so the other build lacks the base or has
    nothing that is alike. OTHER_CONTIG: it comes to lie on an alternate or unplaced sequence, or a mitochondrion
    that is not the build's. SPLIT: of more than one base, these do not stay side by side. REVERSED_INDEL: an
    indel on the reverse strand, where the base before it, which names its place, is another.
    """

    NO_CHAIN = "lift_no_chain"
    DELETED = "lift_deleted"
    OTHER_CONTIG = "lift_other_contig"
    SPLIT = "lift_split"
    REVERSED_INDEL = "lift_reversed_indel"


CODES = {kind: -1 - place for place, kind in enumerate(Unlifted)}
"""What stands for each where the number of a target would."""


@dataclass(frozen=True, slots=True)
class Target:
    """A contig, by its harmonised name, on the strand that positions land on, and its bases."""

    contig: str
    length: int
    reverse: bool


@dataclass(frozen=True, slots=True)
class Chain:
    """From `start` to `end` (0-based, half-open) of a contig of the source to a target; None is any that is no
    chromosome. `blocks` are starts, ends, and what is added to a position to have it on the target's strand."""

    score: int
    contig: str
    start: int
    end: int
    target: Target | None
    blocks: list[tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Stretches:
    """A contig of the source from -1 on: from `starts[i]` (0-based) to the next one all goes to the target of
    the number `targets[i]`, or nowhere for a reason of CODES, shifted by `shifts[i]` on its strand."""

    starts: Integers
    shifts: Integers
    targets: Integers

    def find(self, first: Integers, bases: Integers) -> tuple[Integers, Integers]:
        """Targets or reasons, and places on their strands, of so many bases from the `first` (0-based) on."""
        at, last = (np.searchsorted(self.starts, base, "right") - 1 for base in (first, first + bases - 1))
        split = (self.targets[at] >= 0) & (last > at)
        return np.where(split, CODES[Unlifted.SPLIT], self.targets[at]), first + self.shifts[at]


@dataclass(frozen=True, slots=True)
class Lifted:
    """For each position the number of its target or a reason of CODES, its first base there (1-based), and
    whether the other strand reads as this one did."""

    targets: Integers
    positions: Integers
    reverse: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Liftover:
    """The targets by number, and the source's contigs by their harmonised names."""

    targets: list[Target]
    contigs: dict[str, Stretches]

    def lift(self, contigs: pa.StringArray, positions: Integers, bases: Integers) -> Lifted:
        """Where `bases` bases from each position (1-based) on lie; on the reverse strand the last is the first."""
        coded = contigs.dictionary_encode()
        codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        targets, there = np.full(len(codes), CODES[Unlifted.NO_CHAIN]), np.zeros(len(codes), np.int64)
        for code, contig in enumerate(coded.dictionary.to_pylist()):
            if contig in self.contigs:
                own = codes == code
                targets[own], there[own] = self.contigs[contig].find(positions[own] - 1, bases[own])
        number = np.maximum(targets, 0)
        reverse = np.array([target.reverse for target in self.targets])[number] & (targets >= 0)
        lengths = np.array([target.length for target in self.targets])[number]
        return Lifted(targets, np.where(reverse, lengths - there - bases, there) + 1, reverse)


def open_liftover(root: Location, path: str, name: str, source: str, target: str) -> Liftover:
    """A chain file below the raw root, plain or compressed, from one build to another (both of LENGTHS); `name`
    stands for its path in messages. DataGateError where it is missing, cut short, none, or of other builds."""
    chains = list(_chains(_lines(root, path, name), f"file {name}", source, target))
    targets = list(dict.fromkeys(chain.target for chain in chains if chain.target))
    if not targets:
        raise DataGateError(
            f"file {name}: no chain leads from a chromosome of {source} to one of {target}; expected a UCSC chain "
            "file that does"
        )
    by_contig: dict[str, list[Chain]] = {}
    for chain in chains:
        by_contig.setdefault(chain.contig, []).append(chain)
    return Liftover(targets, {contig: _stretches(own, targets) for contig, own in by_contig.items()})


def _lines(root: Location, path: str, name: str) -> Lines:
    location = root / path
    if not location.exists():
        raise DataGateError(f"file {name} is not below the raw root; correct the setting")
    file = FileStat(path, location.filesystem.size(location.path), 0)
    (split,) = plan_splits(root, [(file, name)], WHOLE)
    number = 0
    for chunk in read_chunks(split):
        for line in chunk.data.splitlines():
            number += 1
            yield number, b" ".join(line.split())


def _chains(lines: Lines, where: str, source: str, target: str) -> Iterator[Chain]:
    """Those from chromosomes of the source."""
    for number, line in lines:
        if not line or line.startswith(b"#"):
            continue
        at = f"{where}, line {number}"
        header = _HEADER.fullmatch(line)
        if header is None:
            raise DataGateError(f"{at}: {_EXPECTED}; is it a UCSC chain file?")
        contig, there = (harmonise(name.decode(errors="replace")) for name in header.group(2, 6))
        score, size, *span = map(int, header.group(1, 3, 4, 5))
        size_there, *span_there = map(int, header.group(7, 9, 10))
        if not (span[0] < span[1] <= size and span_there[0] < span_there[1] <= size_there):
            raise DataGateError(f"{at}: {_EXPECTED}, starts before ends and these within the sizes")
        blocks = _blocks(lines, span, span_there, f"{where}, the chain of line {number}")
        wanted, lands = _is_chromosome(source, contig, size, at), _is_chromosome(target, there, size_there, at)
        if wanted:
            on = Target(there, size_there, header[8] == b"-") if lands else None
            yield Chain(score, contig, span[0], span[1], on, blocks)


def _is_chromosome(build: str, contig: str, length: int, where: str) -> bool:
    """DataGateError for one of another build. A mitochondrion of another length is another sequence, and left."""
    known = LENGTHS[build].get(contig)
    if known is not None and known != length and contig != "MT":
        raise DataGateError(
            f"{where}: its chromosome {contig} has {length:,} bases, that of {build} {known:,}; expected a chain "
            "file between just these builds, in this direction"
        )
    return known == length


def _blocks(lines: Lines, span: list[int], span_there: list[int], where: str) -> list[tuple[int, int, int]]:
    """The blocks of a chain between these starts and ends."""
    blocks = []
    start, there = span[0], span_there[0]
    for _, line in lines:
        block = _BLOCK.fullmatch(line)
        if block is None:
            break
        size, gap, gap_there = (int(number or 0) for number in block.groups())
        blocks.append((start, start + size, there - start))
        start, there = start + size + gap, there + size + gap_there
        if block[2] is None:
            if (start, there) != (span[1], span_there[1]):
                raise DataGateError(f"{where}: its blocks and gaps do not add up to its ends; copy the file again")
            return blocks
    raise DataGateError(
        f"{where}: it breaks off before its last block; expected lines of a size and two gaps, at last a size "
        "alone; copy the file again"
    )


def _stretches(chains: Sequence[Chain], targets: Sequence[Target]) -> Stretches:
    """Of the chains of a contig; those of the highest score come first, and before all gaps."""
    ranked = sorted(chains, key=lambda chain: -chain.score)
    numbers = dict(zip([None, *targets], [CODES[Unlifted.OTHER_CONTIG], *range(len(targets))], strict=True))
    ways = [(*block, numbers[chain.target]) for chain in ranked for block in chain.blocks]
    ways += [(chain.start, chain.end, 0, CODES[Unlifted.DELETED]) for chain in ranked]
    pieces = cut([(start, end, rank) for rank, (start, end, *_) in enumerate(ways)], len(ways))
    nowhere = (0, CODES[Unlifted.NO_CHAIN])
    found = np.array([nowhere, *((ways[rank][2:] if rank < len(ways) else nowhere) for rank in pieces.regions)])
    # Blocks side by side that go the same way are one, whatever lies between their beginnings.
    first = np.append(True, (found[1:] != found[:-1]).any(axis=1))
    starts = np.array([-1, *pieces.cuts])
    return Stretches(starts[first], found[first, 0], found[first, 1])
