"""Regions that overlap, as pieces that do not: which of them has each place of a contig."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pieces:
    """A contig cut wherever a region begins or ends: from `cuts[i]` (0-based) to the next one lies
    `regions[i]`, of those that do the one of the lowest number, or none where that is `none`."""

    cuts: list[int]
    regions: list[int]


def cut(regions: Sequence[tuple[int, int, int]], none: int) -> Pieces:
    """Of (start, end, number) of regions that may overlap; `none` is above all numbers."""
    pending = sorted(regions, reverse=True)
    cuts = sorted({place for start, end, _ in regions for place in (start, end)})
    here: list[tuple[int, int]] = []  # a heap of (number, end)
    firsts = []
    for place in cuts:
        while pending and pending[-1][0] == place:
            _, end, number = pending.pop()
            heapq.heappush(here, (number, end))
        while here and here[0][1] <= place:
            heapq.heappop(here)
        firsts.append(here[0][0] if here else none)
    return Pieces(cuts, firsts)
