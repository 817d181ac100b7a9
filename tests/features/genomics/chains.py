"""Chain files in sight of the test that reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from features.genomics.contigs import LENGTHS, harmonise


@dataclass(frozen=True)
class Drawn:
    """A chain from GRCh37 to GRCh38. `blocks`: sizes, and the gaps behind each on both sides (not the last's)."""

    contig: str
    start: int
    there: str
    start_there: int
    strand: str
    blocks: Sequence[tuple[int, int, int]]
    score: int = 1000

    def text(self, separator: str = "\t") -> str:
        *gapped, (last, _, _) = self.blocks
        size, size_there = length("GRCh37", self.contig), length("GRCh38", self.there)
        end, end_there = ends(self)
        header = f"chain {self.score} {self.contig} {size} + {self.start} {end} "
        header += f"{self.there} {size_there} {self.strand} {self.start_there} {end_there} 7\n"
        return header + "".join(separator.join(map(str, block)) + "\n" for block in gapped) + f"{last}\n\n"

    def bases(self) -> list[tuple[int, int]]:
        """Each aligned base and the one of the forward strand that it goes to, counted from 0."""
        pairs = []
        at, there = self.start, self.start_there
        for size, gap, gap_there in self.blocks:
            pairs += [(at + base, there + base) for base in range(size)]
            at, there = at + size + gap, there + size + gap_there
        if self.strand == "-":
            pairs = [(base, length("GRCh38", self.there) - 1 - other) for base, other in pairs]
        return pairs


def ends(chain: Drawn) -> tuple[int, int]:
    (*gapped, (last, _, _)) = chain.blocks
    along = [list(accumulate(size + gaps[side] for size, *gaps in gapped))[-1:] or [0] for side in (0, 1)]
    return chain.start + along[0][0] + last, chain.start_there + along[1][0] + last


def length(build: str, contig: str) -> int:
    return LENGTHS[build].get(harmonise(contig), 5000)


def plain(
    contig: str, start: int, start_there: int, size: int, strand: str = "+", there: str | None = None
) -> Drawn:
    """A chain of one block; on the reverse strand too `start_there` is the first base there on the forward one."""
    there = there or contig
    if strand == "-":
        start_there = length("GRCh38", there) - start_there - size
    return Drawn(contig, start, there, start_there, strand, [(size, 0, 0)])
