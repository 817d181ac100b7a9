"""The reference genome: bases of a FASTA file by its .fai index.

Index format: https://www.htslib.org/doc/faidx.html
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.genomics.contigs import harmonise

WINDOW = 1 << 16
_WINDOWS_KEPT = 16


@dataclass(frozen=True, slots=True)
class Entry:
    """A contig's line of the index: bases, offset of the first, bases and bytes of a line."""

    length: int
    offset: int
    line_bases: int
    line_bytes: int


@dataclass(slots=True)
class Reference:
    """A FASTA file and its contigs by harmonised name; a few windows of it are kept in memory."""

    fasta: Location
    entries: dict[str, Entry]
    windows: OrderedDict[tuple[str, int], str] = field(default_factory=OrderedDict)

    def bases(self, contig: str, first: int, last: int) -> str:
        """Positions `first` to `last` (1-based, both included) in upper case; what lies outside is left out."""
        start, end = max(first, 1) - 1, last
        pieces = []
        for window in range(start // WINDOW, (end - 1) // WINDOW + 1):
            text, begin = self._window(contig, window), window * WINDOW
            pieces.append(text[max(start - begin, 0) : end - begin])
        return "".join(pieces)

    def agrees(self, contig: str, position: int, ref: str) -> bool:
        """Whether REF is what the reference has there; where that is no base (N and the like), anything fits."""
        found = self.bases(contig, position, position + len(ref) - 1) if contig in self.entries else ""
        return found == ref or (
            len(found) == len(ref)
            and all(base == own or base not in "ACGT" for base, own in zip(found, ref, strict=True))
        )

    def _window(self, contig: str, number: int) -> str:
        key = (contig, number)
        if key not in self.windows:
            self.windows[key] = self._read(self.entries[contig], number * WINDOW)
            if len(self.windows) > _WINDOWS_KEPT:
                self.windows.popitem(last=False)
        self.windows.move_to_end(key)
        return self.windows[key]

    def _read(self, entry: Entry, start: int) -> str:
        end = min(start + WINDOW, entry.length)
        if start >= end:
            return ""
        first, last = (entry.offset + _in_lines(at, entry) for at in (start, end - 1))
        with self.fasta.open() as stream:
            stream.seek(first)
            text: bytes = stream.read(last - first + 1)
        bases = text.replace(b"\n", b"").replace(b"\r", b"").decode("ascii", "replace").upper()
        if len(bases) != end - start:
            raise DataGateError(f"{self.fasta.uri}: its index does not fit it; make it anew with samtools faidx")
        return bases


def open_reference(fasta: Location) -> Reference:
    """DataGateError where the file or its index is missing, or the index is none."""
    index = Location(f"{fasta.uri}.fai")
    for location in (fasta, index):
        if not location.exists():
            raise DataGateError(
                f"genomics.reference: {location.uri} is missing; expected an uncompressed FASTA file with its "
                "index beside it (samtools faidx)"
            )
    entries = {}
    for number, line in enumerate(index.read_bytes().decode("utf-8", "replace").splitlines(), start=1):
        name, *numbers = line.split("\t")
        if len(numbers) != 4 or not all(n.isascii() and n.isdigit() for n in numbers) or numbers[2] == "0":
            raise DataGateError(
                f"{index.uri}, line {number}: expected a name and four numbers; run samtools faidx"
            )
        if harmonise(name) in entries:
            raise DataGateError(
                f"{index.uri}, line {number}: {name} is a contig that stands above under another name; take one "
                "of them out (samtools faidx names those to keep)"
            )
        entries[harmonise(name)] = Entry(*map(int, numbers))
    return Reference(fasta, entries)


def _in_lines(at: int, entry: Entry) -> int:
    """How many bytes after its first base a contig's base lies."""
    return at // entry.line_bases * entry.line_bytes + at % entry.line_bases
