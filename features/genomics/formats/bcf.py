"""BCF files: the binary form of VCF, read as what `bcftools view` would print of it.

Format: https://samtools.github.io/hts-specs/VCFv4.3.pdf, section 6; of the index that tells where a file may be
cut, https://samtools.github.io/hts-specs/CSIv1.pdf.
"""

import gzip
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.contract.settings import HalfCalls
from features.genomics import genotype
from features.genomics.clean import (
    NOTHING,
    Calls,
    Layout,
    Record,
    RefusedLineError,
    Rule,
    Site,
    Variant,
    biallelic,
    check_site,
    codes_by_alt,
    dosage_values,
    impute,
    measured_values,
    refused_as,
    with_measures,
)
from features.genomics.dosages import Floats
from features.genomics.formats.header import Header, described
from features.genomics.formats.vcf import header_of
from features.genomics.genotype import Alleles
from features.genomics.info import InfoField, Values
from features.raw_text import Chunk, Codec, Split, read_whole

MAGIC = b"BCF\x02"
_BEFORE_TEXT = 9
"""Bytes before the header's text: the magic, the minor version, the text's size."""
_SHARED = struct.Struct("<iiifII")
_MOST_BYTES = 1 << 28
"""Of a record or a header; what says it has more is no such thing."""
_TYPES: dict[int, str] = {1: "<i1", 2: "<i2", 3: "<i4", 5: "<f4", 7: "S1"}
"""numpy's names of the types that a value may have; 0 is none."""


@dataclass(frozen=True, slots=True)
class Names:
    """What the numbers in the records stand for: contigs, and ids of FILTER, INFO and FORMAT."""

    contigs: dict[int, str] = field(default_factory=dict)
    ids: dict[int, str] = field(default_factory=lambda: {0: "PASS"})


@dataclass(frozen=True, slots=True)
class BcfPart:
    """The records of a file from the one `inside` bytes behind the beginning of a `block` to the one before the
    virtual offset `end` (-1: all there are)."""

    split: Split
    names: Names
    block: int
    inside: int
    end: int

    @property
    def digest(self) -> str:
        return self.split.digest

    def records(self, layout: Layout) -> Iterator[Record]:
        for chunk in read_whole(replace(self.split, start=self.block), self.inside, _whole_records):
            at = 0
            while at < len(chunk.data):
                size = _size(chunk.data, at)
                offset = chunk.offset(at)
                if self.end >= 0 and offset >= self.end:
                    if offset != self.end:
                        raise _stale(self.digest)
                    return
                yield chunk.location(at, size), _items(chunk.data[at : at + size], self.names, layout)
                at += size


def _size(data: bytes, at: int) -> int:
    shared, own = struct.unpack_from("<II", data, at)
    size = 8 + int(shared) + int(own)
    if size > _MOST_BYTES:
        raise EOFError(f"a record would have {size:,} bytes")
    return size


def _whole_records(data: bytes) -> int:
    """How many of the first bytes are whole records."""
    at = 0
    while at + 8 <= len(data) and at + _size(data, at) <= len(data):
        at += _size(data, at)
    return at


def _items(record: bytes, names: Names, layout: Layout) -> list[Variant | Rule]:
    try:
        return _clean(record, names, layout)
    except RefusedLineError as refusal:
        return [refusal.rule]
    except (KeyError, IndexError, ValueError, OverflowError, RecursionError, struct.error):
        # Values that reach beyond the record, or ids that the header has not.
        return [Rule.COLUMNS]


def _clean(record: bytes, names: Names, layout: Layout) -> list[Variant | Rule]:
    (shared,) = struct.unpack_from("<I", record)
    contig, position, _, _, alleles_and_info, formats_and_samples = _SHARED.unpack_from(record, 8)
    n_alleles, n_info = alleles_and_info >> 16, alleles_and_info & 0xFFFF
    n_formats, n_samples = formats_and_samples >> 24, formats_and_samples & 0xFFFFFF
    values = _Values(record, 8 + _SHARED.size)
    identifier = values.text()
    alleles = [values.text() for _ in range(n_alleles)]
    filters = [names.ids[number] for number in values.whole_numbers()]
    annotations, info, of_genes = dict[str, Values](), dict[str, Values](), layout.annotations
    for _ in range(n_info):
        key, found = names.ids[values.whole_numbers()[0]], values.array()[0]
        for fields, told in ((of_genes, annotations), (layout.info, info)):
            if key in fields and key not in told:
                with refused_as(Rule.INFO):
                    told[key] = _all(found, fields[key])
    site = Site(
        names.contigs.get(contig, ""),
        position + 1,
        alleles[0] if alleles else "",
        [allele.upper() for allele in alleles[1:]],
        None if identifier in (".", "") else identifier.split(";")[0],
        [name for name in filters if name != "PASS"],
        annotations,
        info,
    )
    check_site(site, layout)
    alts = len(site.alts)
    if not layout.samples:
        return biallelic(site, [NOTHING] * alts, layout)
    if n_samples != layout.samples:
        raise RefusedLineError(Rule.COLUMNS)
    return biallelic(site, _calls(_Values(record, 8 + shared), n_formats, names, site, layout), layout)


class _Values:
    """Typed values of a record, one after another."""

    def __init__(self, record: bytes, at: int) -> None:
        self._record, self._at = record, at

    def _head(self) -> tuple[str, int]:
        """The type of the next value, and how many there are of it."""
        descriptor = self._record[self._at]
        self._at += 1
        number = descriptor >> 4
        if number == 15:
            (number,) = self.whole_numbers()
        return _TYPES.get(descriptor & 15, ""), number

    def array(self, rows: int = 1) -> npt.NDArray[Any]:
        """(rows, values of each)."""
        kind, number = self._head()
        if not kind:
            return np.empty((rows, 0), np.int8)
        found = np.frombuffer(self._record, kind, rows * number, self._at)
        self._at += found.nbytes
        return found.reshape(rows, number)

    def whole_numbers(self) -> list[int]:
        return [int(number) for number in self.array()[0].tolist()]

    def text(self) -> str:
        return _text(self.array())


def _all(values: npt.NDArray[Any], field: InfoField) -> Values:
    """As InfoField.read gives them of a VCF."""
    if values.dtype.kind == "S" or not len(values):
        return field.read(_text(values))
    # A float is written with as few decimals as tell it, and so read as the number that was meant.
    words = ["." if none else str(value) for value, none in zip(values, _is_absent(values), strict=True)]
    return field.read(",".join(words))


def _text(values: npt.NDArray[Any]) -> str:
    return values.tobytes().decode(errors="replace")


def _is_absent(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Missing, or behind the end of a shorter list."""
    missing: npt.NDArray[np.bool_]
    if values.dtype.kind == "f":
        missing = np.isin(values.view("<i4"), (0x7F800001, 0x7F800002))
    else:
        missing = values <= np.iinfo(values.dtype).min + 1
    return missing


def _calls(values: _Values, n_formats: int, names: Names, site: Site, layout: Layout) -> list[Calls]:
    """The calls of the kept samples for each ALT. GT comes first or, as in a VCF, is as if not there."""
    alts, called, haploid, numbers = len(site.alts), None, None, None
    measures: dict[str, npt.NDArray[Any]] = {}
    for place in range(n_formats):
        name = names.ids[values.whole_numbers()[0]]
        found = values.array(layout.samples)
        if name == "GT" and place == 0 and found.dtype.kind == "i" and found.shape[1]:
            called = codes_by_alt(*_alleles(found, layout.half_calls), alts, layout)
            haploid = np.asarray(_are_ends(found[:, 1:]).all(1))
        elif name == layout.dosages and numbers is None:
            numbers = _numbers(found, dosage_values(alts, layout), Rule.DOSAGE)
        elif name in layout.measures:
            measures.setdefault(name, found)
        if called and layout.dosages is None and not layout.measures:
            break
    if numbers is not None:
        calls = impute(numbers, haploid, called, site, layout)
    elif called:
        calls = [Calls(codes) for codes in called]
    else:
        raise RefusedLineError(Rule.GENOTYPE)
    told = {key: _numbers(found, measured_values(key, alts), Rule.MEASURE) for key, found in measures.items()}
    return with_measures(calls, told, layout)


def _numbers(values: npt.NDArray[Any], most: int, rule: Rule) -> Floats:
    """(samples, `most`), NaN where there is none."""
    if values.dtype.kind == "S":
        raise RefusedLineError(rule)
    absent = _is_absent(values)
    if not absent[:, most:].all():
        raise RefusedLineError(rule)
    found = np.full((len(values), most), np.nan)
    found[:, : values.shape[1]] = np.where(absent, np.nan, values)[:, :most]
    return found


def _are_ends(calls: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where a call ended before: the type's smallest number but one."""
    ends: npt.NDArray[np.bool_] = calls == np.iinfo(calls.dtype).min + 1
    return ends


def _alleles(calls: npt.NDArray[Any], half_calls: HalfCalls) -> tuple[Alleles, Alleles]:
    """Both alleles of every sample, as `genotype.read_alleles` gives them. A call has (allele + 1) * 2, and 1 more
    where it is phased; after a shorter one stands the type's smallest number but one."""
    ends = _are_ends(calls)
    numbers = (calls.astype(np.int32) >> 1) - 1
    numbers[numbers == -1] = genotype.MISSING
    malformed = ((numbers < -1) & (calls < 0) & ~ends) | (numbers > np.iinfo(np.int16).max)
    first = numbers[:, 0].astype(np.int16)
    second = np.where(ends[:, 1], first, numbers[:, 1]).astype(np.int16) if calls.shape[1] > 1 else first.copy()
    for sample in np.flatnonzero((first == genotype.MISSING) != (second == genotype.MISSING)):
        called = int(max(first[sample], second[sample]))
        first[sample], second[sample] = genotype.half_call(called, half_calls)
    refused = ~ends[:, 2:].all(1) | ends[:, 0] | malformed.any(1)
    first[refused] = second[refused] = genotype.MALFORMED
    return first, second


def open_bcf(split: Split, step: int) -> tuple[Header, list[BcfPart]]:
    """The samples of a file (the one split that holds it all) and its parts: of about `step` stored bytes where an
    index lies beside it (<name>.csi, of `bcftools index`), else one."""
    chunk = next(read_whole(split, 0, _whole_header), None)
    if chunk is None:
        raise DataGateError(f"file {split.digest}: it ends inside its header; copy it again")
    size = len(chunk.data)
    text = b" " * _BEFORE_TEXT + chunk.data[_BEFORE_TEXT:].rstrip(b"\0")
    header = header_of(split.digest, Chunk(text, chunk.anchors))
    names = _names(text.decode(errors="replace"))
    cuts = [(0, size), *_cuts(split, step)]
    ends = [*((block << 16) + inside for block, inside in cuts[1:]), -1]
    parts = [BcfPart(split, names, block, inside, end) for (block, inside), end in zip(cuts, ends, strict=True)]
    return header, parts


def _whole_header(data: bytes) -> int:
    if len(data) < _BEFORE_TEXT:
        return 0
    size = _BEFORE_TEXT + int.from_bytes(data[_BEFORE_TEXT - 4 : _BEFORE_TEXT], "little")
    if size > _MOST_BYTES:
        raise EOFError(f"its header would have {size:,} bytes")
    return size if len(data) >= size else 0


def _names(text: str) -> Names:
    names = Names()
    known: dict[str, int] = {"PASS": 0}
    contigs: dict[str, int] = {}
    for kind, line in re.findall(r"^##(contig|FILTER|INFO|FORMAT)=<(.*)>", text, re.MULTILINE):
        about = described(line)
        name, own = about.get("ID"), about.get("IDX", "")
        if name is None:
            continue
        numbers, stored = (contigs, names.contigs) if kind == "contig" else (known, names.ids)
        number = int(own) if re.fullmatch("[0-9]{1,9}", own) else numbers.setdefault(name, len(numbers))
        stored[number] = name
    return names


def _cuts(split: Split, step: int) -> list[tuple[int, int]]:
    """Where records begin, `step` stored bytes apart: the offset of a block and the place in it."""
    index = Location(split.root) / f"{split.path}.csi"
    if split.codec is not Codec.BGZF or split.end <= step or not index.exists():
        return []
    chosen, wanted = [], step
    starts = _starts(index.read_bytes(), split.digest)
    if max(starts, default=0) >> 16 >= split.end:
        raise _stale(split.digest)
    for offset in sorted(starts):
        if offset >> 16 >= wanted:
            chosen.append((offset >> 16, offset & 0xFFFF))
            wanted = (offset >> 16) + step
    return chosen


def _starts(stored: bytes, digest: str) -> set[int]:
    """The virtual offsets of records that an index names."""
    try:
        data = gzip.decompress(stored)
        magic, _, depth, about = struct.unpack_from("<4siii", data)
        if magic != b"CSI\1":
            raise _stale(digest)
        at, starts = 16 + about, set[int]()
        counts = (1 << 3 * (depth + 1)) // 7 + 1  # a bin that holds numbers of records, not places
        (contigs,) = struct.unpack_from("<i", data, at)
        at += 4
        for _ in range(contigs):
            (bins,) = struct.unpack_from("<i", data, at)
            at += 4
            for _ in range(bins):
                number, first, chunks = struct.unpack_from("<IQi", data, at)
                at += 16
                if chunks < 0:
                    raise _stale(digest)
                if number < counts:
                    starts.add(first)
                    starts.update(begin for begin, _ in struct.iter_unpack("<QQ", data[at : at + 16 * chunks]))
                at += 16 * chunks
    except (struct.error, ValueError, OSError, EOFError, zlib.error):
        raise _stale(digest) from None
    return starts - {0}


def _stale(digest: str) -> DataGateError:
    return DataGateError(f"file {digest}: its index (.csi) is not of this file; make it again: bcftools index -f")
