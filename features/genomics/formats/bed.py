"""PLINK 1 filesets: calls in a .bed, a variant a row; the variants in a .bim; the samples in a .fam.

Format: https://www.cog-genomics.org/plink/1.9/formats. A fileset does not say which allele is the reference's: A2
is taken for REF, as plink2 does, unless there is a reference genome to ask.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.genomics.clean import (
    Calls,
    Layout,
    Record,
    RefusedLineError,
    Rule,
    Site,
    Variant,
    biallelic,
    check_site,
    is_turned,
)
from features.genomics.formats.header import Header
from features.genomics.formats.psam import read_fam
from features.genomics.formats.vcf_line import position_of
from features.genomics.packing import Codes, packed_size, unpack
from features.raw_text import Split, check_last_line, count_lines, fields_of, text_lines

log = logging.getLogger("riskloom")
MAGIC, SAMPLE_MAJOR = b"\x6c\x1b\x01", b"\x6c\x1b\x00"
_BYTES_AT_ONCE = 1 << 20
_MANY = 100
"""Variants."""
ALTS_IN_A1 = np.array([2, 3, 1, 0], np.uint8)
"""Codes by the two bits of a call: homozygous A1, missing, heterozygous, homozygous A2."""
_ALTS_IN_A2 = np.array([0, 3, 1, 2], np.uint8)


@dataclass(frozen=True, slots=True)
class BedPart:
    """The variants of a split of the .bim, the first of them the row `first` of the .bed."""

    split: Split
    bed: Location
    first: int
    samples: int

    @property
    def digest(self) -> str:
        return self.split.digest

    def records(self, layout: Layout) -> Iterator[Record]:
        rows = self._rows()
        for chunk, start, line in text_lines(self.split):
            calls = next(rows)
            try:
                items = _clean(fields_of(line), calls, layout)
            except RefusedLineError as refusal:
                items = [refusal.rule]
            yield chunk.location(start, len(line)), items

    def _rows(self) -> Iterator[npt.NDArray[np.uint8]]:
        """The packed calls of row after row."""
        width = packed_size(self.samples)
        with self.bed.open() as stream:
            stream.seek(len(MAGIC) + self.first * width)
            while stored := stream.read(max(1, _BYTES_AT_ONCE // width) * width):
                yield from np.frombuffer(stored, np.uint8).reshape(-1, width)


def _clean(fields: Sequence[str], calls: npt.NDArray[np.uint8], layout: Layout) -> list[Variant | Rule]:
    """The one item of a line of the .bim: chromosome, name, centimorgans, position, A1, A2."""
    if len(fields) != 6:
        raise RefusedLineError(Rule.COLUMNS)
    chrom, name, _, position, a1, a2 = fields
    alts, names = [] if a1 == "0" else [a1.upper()], None if name == "." else name
    site, meaning = Site(chrom, position_of(position), a2, alts, names), ALTS_IN_A1
    if is_turned(site, layout):
        site, meaning = site._replace(ref=a1, alts=[a2.upper()]), _ALTS_IN_A2
    check_site(site, layout)
    codes: Codes = meaning[unpack(calls, layout.samples)]
    return biallelic(site, [Calls(codes[layout.kept])], layout)


def open_bed(
    bed: Location, digest: str, bim: Sequence[Split], fam: Sequence[Split]
) -> tuple[Header, list[BedPart]]:
    """The samples of a fileset and its parts, one for each split of the .bim. DataGateError where the three files
    do not belong together, or one was cut short."""
    check_last_line(bim[-1])
    check_last_line(fam[-1])
    header = read_fam(bim[0].digest, fam)
    rows = [count_lines(split) for split in bim]
    width = packed_size(len(header.names))
    with bed.open() as stream:
        magic = stream.read(len(MAGIC))
        size = stream.seek(0, 2)
    if magic == SAMPLE_MAJOR:
        raise DataGateError(
            f"file {digest}: its rows are samples; expected variants: plink1.9 --make-bed turns it"
        )
    if magic != MAGIC or size != len(MAGIC) + sum(rows) * width:
        raise DataGateError(
            f"file {digest}: {size:,} bytes, expected {len(MAGIC) + sum(rows) * width:,} for the {sum(rows):,} "
            f"lines of its .bim and the {len(header.names):,} of its .fam; copy all three again"
        )
    check_samples(bed, digest, len(header.names), ".fam")
    firsts = accumulate(rows[:-1], initial=0)
    return header, [BedPart(s, bed, first, len(header.names)) for s, first in zip(bim, firsts, strict=True)]


def check_samples(bed: Location, digest: str, samples: int, where: str) -> None:
    """DataGateError where the first rows have anything behind the call of the last sample: a row ends with a whole
    byte. A warning where that call is, in each of many rows, what lies behind the last one."""
    width, used = packed_size(samples), 2 * (samples % 4 or 4)
    with bed.open() as stream:
        stream.seek(len(MAGIC))
        first = np.frombuffer(stream.read(max(1, _BYTES_AT_ONCE // width) * width), np.uint8)
    last = first[width - 1 :: width].astype(np.uint16)
    if (last >> used).any():
        raise DataGateError(f"file {digest}: it has calls of more samples than its {where}; copy all three again")
    if len(last) >= _MANY and not (last >> (used - 2)).any():
        log.warning(
            "file %s: the last sample has A1 twice in each of the first %s variants; has its %s samples that are "
            "not in it?",
            *(digest, f"{len(last):,}", where),
        )
