"""Genes as regions of a BED file: which of them a variant lies in.

Format: https://samtools.github.io/hts-specs/BEDv1.pdf; the name is the fourth column.
"""

import gzip
import re
import zlib
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.genomics.contigs import harmonise
from features.genomics.pieces import Pieces, cut

_NUMBER = re.compile("[0-9]{1,10}")
_NO_DATA = ("#", "track", "browser")


@dataclass(frozen=True, slots=True)
class Genes:
    """The regions' names in the file's order, and the pieces of each contig by its harmonised name."""

    names: list[str]
    pieces: dict[str, Pieces]

    def at(self, contig: str, position: int, length: int) -> str | None:
        """The first region of the file that has any of these bases (the first of them 1-based)."""
        pieces = self.pieces.get(contig)
        if pieces is None:
            return None
        first = bisect_right(pieces.cuts, position - 1) - 1
        last = bisect_left(pieces.cuts, position - 1 + length)
        found = min(pieces.regions[max(first, 0) : last], default=len(self.names))
        return self.names[found] if found < len(self.names) else None


def open_genes(bed: Location, where: str) -> Genes:
    """The file's regions, plain or gzip; `where` names it in messages. DataGateError where it is missing or
    damaged, has no region, or a line is none."""
    names: list[str] = []
    regions: dict[str, list[tuple[int, int, int]]] = {}
    for number, line in enumerate(_lines(bed, where), start=1):
        if not line.strip() or line.startswith(_NO_DATA):
            continue
        contig, start, end, name = _region(line, f"{where}, line {number}")
        regions.setdefault(contig, []).append((start, end, len(names)))
        names.append(name)
    if not names:
        raise DataGateError(f"{where}: no line names a region; expected a BED file")
    return Genes(names, {contig: cut(found, len(names)) for contig, found in regions.items()})


def _lines(bed: Location, where: str) -> list[str]:
    if not bed.exists():
        raise DataGateError(f"{where} is not below the raw root; correct genomics.genes")
    data = bed.read_bytes()
    try:
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode().splitlines()
    except (OSError, EOFError, zlib.error):
        raise DataGateError(f"{where}: the compressed data is damaged; copy it again") from None
    except UnicodeDecodeError:
        raise DataGateError(f"{where}: it is no text; expected a BED file") from None


def _region(line: str, where: str) -> tuple[str, int, int, str]:
    """Contig, start and end (0-based, half-open), name."""
    fields = line.split("\t") if "\t" in line else line.split()
    if len(fields) < 4 or not all(field.strip() for field in fields[:4]):
        raise DataGateError(f"{where}: expected contig, start, end and a name")
    contig, start, end, name = fields[:4]
    if not (_NUMBER.fullmatch(start) and _NUMBER.fullmatch(end) and int(start) < int(end)):
        raise DataGateError(f"{where}: expected a start before the end, counted from 0; found {start} and {end}")
    return harmonise(contig), int(start), int(end), name.strip()
