"""VCF files: the header, checked on the driver, and the data lines of a split.

Format: https://samtools.github.io/hts-specs/
"""

from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from features.contract.errors import DataGateError
from features.genomics.clean import Layout, Record, RefusedLineError, Rule, Variant
from features.genomics.formats.header import CONTIG, Header, declared_lengths
from features.genomics.formats.vcf_line import clean_line
from features.raw_text import Chunk, Split, lines_of, text_lines

FIXED_HEADER = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"]
INFO = "##INFO="
TOLD = (INFO.encode(), CONTIG.encode())
"""How the lines of a header begin that are looked at."""


@dataclass(frozen=True, slots=True)
class VcfPart:
    """A split of a VCF file, and the offset of the header's last line."""

    split: Split
    header_ends: int

    @property
    def digest(self) -> str:
        return self.split.digest

    def records(self, layout: Layout) -> Iterator[Record]:
        for chunk, start, line in data_lines(self.split, self.header_ends):
            location = chunk.location(start, len(line))
            if line.startswith(b"#"):
                self._check_no_header(line, location)
                items: list[Variant | Rule] = [Rule.COLUMNS]
            else:
                items = _items(line, layout)
            yield location, items

    def _check_no_header(self, line: bytes, location: str) -> None:
        if line.startswith((b"##fileformat", b"#CHROM")):
            raise DataGateError(
                f"file {self.digest}, at {location}: a second header, whose samples may be others; was it "
                "made of several files? Put them together by bcftools concat or merge"
            )


def _items(line: bytes, layout: Layout) -> list[Variant | Rule]:
    try:
        return clean_line(line, layout)
    except RefusedLineError as refusal:
        return [refusal.rule]


def read_header(splits: Sequence[Split]) -> Header:
    """The header of the file whose splits these are (in order), read as far as its #CHROM line."""
    digest = splits[0].digest
    number, told = 0, list[str]()
    for number, (chunk, start, line) in enumerate(lines_of(splits), start=1):
        if line.startswith(BOM_UTF8):
            raise _error(digest, number, "a byte order mark before the text; write the file without it")
        if number == 1 and not line.startswith(b"##fileformat=VCF"):
            raise _error(
                digest,
                1,
                "expected ##fileformat=VCFv4.x, BCF, BGEN, a .bed or a .pgen; leave other files (indexes, logs) "
                "out of genomics.paths",
            )
        if line.startswith(b"#CHROM"):
            return _header(digest, number, chunk, start, line, told)
        if line.startswith(TOLD):
            told.append(line.decode(errors="replace"))
        if not line.startswith(b"#"):
            raise _error(
                digest, number, "expected the #CHROM line before the first record; restore the file's header"
            )
    raise _error(digest, number, "the file ends before its #CHROM line; copy it again")


def header_of(digest: str, text: Chunk) -> Header:
    """The header of a file whose header's text this is."""
    start = text.data.rfind(b"#CHROM")
    line = text.data[start:].rstrip(b"\r\n") if start >= 0 else b""
    above = text.data[: max(start, 0)]
    told = [about.decode(errors="replace") for about in above.splitlines() if about.startswith(TOLD)]
    return _header(digest, above.count(b"\n") + 1, text, start, line, told)


def data_lines(split: Split, header_ends: int) -> Iterator[tuple[Chunk, int, bytes]]:
    """`text_lines` of a split that are not the header's, whose last line has this offset."""
    for chunk, start, line in text_lines(split):
        if not line.startswith(b"#") or chunk.offset(start) > header_ends:
            yield chunk, start, line


def _header(digest: str, number: int, chunk: Chunk, start: int, line: bytes, told: Sequence[str]) -> Header:
    spans = _name_spans(start, line)
    names = _sample_names(digest, number, line)
    info = [about for about in told if about.startswith(INFO)]
    lengths = declared_lengths(told)
    return Header(
        digest,
        names,
        lambda sample: (digest, chunk.location(*spans[sample])),
        info=info,
        lengths=lengths,
        ends=chunk.offset(start),
    )


def _sample_names(digest: str, number: int, line: bytes) -> list[str]:
    columns = line.decode(errors="replace").split("\t")
    names = columns[len(FIXED_HEADER) :]
    if columns == FIXED_HEADER[:-1]:
        return []
    if columns[: len(FIXED_HEADER)] != FIXED_HEADER or not all(names) or not names:
        raise _error(
            digest,
            number,
            f"expected the columns {' '.join(FIXED_HEADER)} and one for each sample, separated by tabs; "
            f"found {len(columns)} columns that are not these; correct the header",
        )
    twice = len(names) - len(set(names))
    if twice:
        raise _error(digest, number, f"{twice} sample names come twice; give every column a name of its own")
    return names


def _name_spans(start: int, line: bytes) -> list[tuple[int, int]]:
    """Position in the chunk and length of each sample's name."""
    sizes = [len(column) for column in line.split(b"\t")]
    starts = accumulate((size + 1 for size in sizes), initial=start)
    return list(zip(starts, sizes, strict=False))[len(FIXED_HEADER) :]


def _error(digest: str, number: int, message: str) -> DataGateError:
    return DataGateError(f"file {digest}, line {number}: {message}")
