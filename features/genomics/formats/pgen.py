"""PLINK 2 filesets: calls and dosages in a .pgen, the variants in a .pvar, the samples in a .psam.

Format: https://www.cog-genomics.org/plink/2.0/formats, and of the .pgen https://github.com/chrchang/plink-ng (see
pgen_header and pgen_records). A .bim is a .pvar without a header, and a .fam a .psam; a .bed is a .pgen. Where a
file says that its REF is provisional, as what was made of a .bed does, the reference genome is asked, if there is
one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice

import numpy as np

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.genomics.clean import (
    Calls,
    Layout,
    Record,
    RefusedLineError,
    Rule,
    Variant,
    biallelic,
    check_site,
    codes_by_alt,
    is_turned,
    with_dosages,
)
from features.genomics.formats.bed import ALTS_IN_A1, check_samples
from features.genomics.formats.header import Header, declared_lengths
from features.genomics.formats.pgen_header import PgenFile, Storage, StoredRecord, is_difference, open_pgen_file
from features.genomics.formats.pgen_records import (
    ALL_REF,
    HAS_DOSAGES,
    PHASED,
    RARER_ALTS,
    Track,
    WrongRecordError,
    read_alleles,
    read_codes,
    read_dosages,
    skip_phase,
    turned,
)
from features.genomics.formats.psam import read_psam
from features.genomics.formats.vcf import INFO, TOLD
from features.genomics.formats.vcf_line import site_of
from features.genomics.info import turned as turned_info
from features.genomics.packing import Codes
from features.raw_text import Split, check_last_line, count_lines, fields_of, text_lines

_MOST_ALTS = int(np.iinfo(np.int16).max)
_NEEDED = ["CHROM", "POS", "ID", "REF", "ALT"]
_OF_BIM = ["CHROM", "ID", "CM", "POS", "ALT", "REF"]
"""Columns where no header names them; without a CM where there are five."""


@dataclass(frozen=True, slots=True)
class PgenPart:
    """So many variants from the one on that is number `first` in the .pgen: lines of a split of the .pvar, which
    has these columns, and `skip` lines before."""

    split: Split
    skip: int
    number: int
    first: int
    pgen: PgenFile
    columns: Sequence[str]

    @property
    def digest(self) -> str:
        return self.split.digest

    def records(self, layout: Layout) -> Iterator[Record]:
        lines = islice(text_lines(self.split), self.skip, self.skip + self.number)
        for (chunk, start, line), (record, track, codes) in zip(lines, self._tracks(), strict=True):
            fields = fields_of(line, len(self.columns))
            try:
                if len(fields) < len(self.columns):
                    raise RefusedLineError(Rule.COLUMNS)
                items = _clean(dict(zip(self.columns, fields, strict=False)), record, track, codes, layout)
            except RefusedLineError as refusal:
                items = [refusal.rule]
            except WrongRecordError as wrong:
                raise self._error(record, wrong) from None
            yield chunk.location(start, len(line)), items

    def _tracks(self) -> Iterator[tuple[StoredRecord, Track, Codes]]:
        """Record after record, with the codes of its main track, read as far as these."""
        base = nothing = np.empty(0, np.uint8)
        for record in self.pgen.records(self.first, self.number):
            track = Track(record.data, self.pgen.samples)
            try:
                codes = read_codes(track, record.kind, base)
            except WrongRecordError as wrong:
                raise self._error(record, wrong) from None
            if not is_difference(record.kind):
                base = codes if record.kind & 7 != ALL_REF else nothing
            if record.number >= self.first:
                yield record, track, ALTS_IN_A1[codes] if self.pgen.storage is Storage.BED else codes

    def _error(self, record: StoredRecord, wrong: WrongRecordError) -> DataGateError:
        return self.pgen.error(
            f"byte {record.start:,}, variant {record.number + 1:,}: {wrong}; copy all three files of the fileset "
            "again, or make it again: plink2 --make-pgen"
        )


def _clean(
    fields: dict[str, str], record: StoredRecord, track: Track, codes: Codes, layout: Layout
) -> list[Variant | Rule]:
    alt, info = fields["ALT"], fields.get("INFO", ".")
    site = site_of(
        fields["CHROM"],
        fields["POS"],
        fields["ID"],
        fields["REF"],
        "." if alt == "0" else alt,
        fields.get("FILTER", "."),
        info,
        layout,
    )
    alts = max(len(site.alts), 1)
    if record.alleles not in (None, alts + 1):
        raise WrongRecordError(f"{record.alleles} alleles, and {alts + 1} in the .pvar")
    provisional = "PR" in info.split(";") if record.provisional is None else record.provisional
    turns = provisional and is_turned(site, layout)
    if turns:
        site = site._replace(
            ref=site.alts[0],
            alts=[site.ref.upper()],
            annotations=turned_info(site.annotations, layout.annotations),
            info=turned_info(site.info, layout.info),
        )
    check_site(site, layout)
    if alts > _MOST_ALTS:
        raise RefusedLineError(Rule.ALLELE)
    if alts > 1 or record.kind & RARER_ALTS:
        return biallelic(site, _several(record, track, codes, alts, layout), layout)
    return biallelic(site, [_one(record, track, codes, turns, layout)], layout)


def _one(record: StoredRecord, track: Track, codes: Codes, turns: bool, layout: Layout) -> Calls:
    """The calls of the one ALT."""
    if record.kind & PHASED:
        skip_phase(track, int(np.count_nonzero(codes == 1)))
    dosages = read_dosages(track, record.kind, codes) if record.kind & HAS_DOSAGES else None
    track.end()
    if turns:
        codes, dosages = turned(codes, dosages)
    kept = layout.kept
    return Calls(codes[kept]) if dosages is None else with_dosages(codes[kept], dosages[kept])


def _several(record: StoredRecord, track: Track, codes: Codes, alts: int, layout: Layout) -> list[Calls]:
    """The calls of each ALT. The format does not define dosages of several ALTs."""
    first, second = read_alleles(track, record.kind, codes, alts)
    if record.kind & PHASED:
        skip_phase(track, int(np.count_nonzero(first != second)))
    if record.kind & HAS_DOSAGES:
        raise RefusedLineError(Rule.DOSAGE)
    track.end()
    return [Calls(own) for own in codes_by_alt(first, second, alts, layout)]


def open_pgen(
    pgen: Location, digest: str, pvar: Sequence[Split], psam: Sequence[Split], pieces: int
) -> tuple[Header, list[PgenPart]]:
    """The samples of a fileset and its parts: one for each split of the .pvar, or so many where that is compressed
    so that it cannot be split, and is read again by each. DataGateError where the files do not belong together, or
    one was cut short."""
    check_last_line(pvar[-1])
    check_last_line(psam[-1])
    heads, columns, told = _head(pvar)
    info = [line for line in told if line.startswith(INFO)] if "INFO" in columns else None
    header = replace(read_psam(pvar[0].digest, psam), info=info, lengths=declared_lengths(told))
    counts = [count_lines(split) - head for split, head in zip(pvar, heads, strict=True)]
    file = open_pgen_file(pgen, digest, sum(counts), len(header.names))
    if file.storage is Storage.BED:
        check_samples(pgen, digest, file.samples, ".psam")
    parts = []
    for split, head, count, first in zip(pvar, heads, counts, accumulate(counts, initial=0), strict=False):
        step = max(count if split.codec.is_splittable else -(-count // pieces), 1)
        parts += [
            PgenPart(split, head + at, min(step, count - at), first + at, file, columns)
            for at in range(0, count, step)
        ]
    return header, parts


def _head(pvar: Sequence[Split]) -> tuple[list[int], list[str], list[str]]:
    """How many lines of each split are the header's, the names of the columns, and what is TOLD above."""
    heads, last, told = [0] * len(pvar), b"", list[str]()
    for place, line in ((place, line) for place, split in enumerate(pvar) for _, _, line in text_lines(split)):
        if not line.startswith(b"#"):
            return heads, _columns(pvar[0].digest, sum(heads), last, len(line.split())), told
        heads[place], last = heads[place] + 1, line
        if line.startswith(TOLD):
            told.append(line.decode(errors="replace"))
    return heads, _columns(pvar[0].digest, sum(heads), last, 0), told


def _columns(digest: str, number: int, header: bytes, width: int) -> list[str]:
    """By the last line of the header, which is its line `number`, or by how many the first variant has."""
    names = header.decode(errors="replace")[1:].split()
    columns = names[: names.index("FORMAT")] if "FORMAT" in names else names
    if not header and width >= len(_OF_BIM) - 1:
        columns = [name for name in _OF_BIM if name != "CM" or width > len(_OF_BIM) - 1]
    if columns[:1] != ["CHROM"] or not set(_NEEDED) <= set(columns) or len(set(columns)) != len(columns):
        raise DataGateError(
            f"file {digest}, line {max(number, 1)}: expected a header of #{' '.join(_NEEDED)} and other names, "
            "each once, or without one the five or six columns of a .bim; is it the .pvar of this .pgen?"
        )
    return columns
