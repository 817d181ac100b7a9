"""BGEN files, version 1.2 and 1.3 (layout 2): probabilities of genotypes, as biobanks ship them.

Format: https://www.chg.ox.ac.uk/~gav/bgen_format/spec/v1.2.html; of the index that tells where a file may be cut
(bgenix), https://enkre.net/cgi-bin/code/bgen/wiki/The_bgenix_index_file_format. A file does not say which allele
is the reference's: the first is taken for REF, as UK Biobank has it, unless there is a reference genome to ask.
"""

import logging
import shutil
import sqlite3
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.contract.errors import DataGateError
from features.contract.paths import Location
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
    calls_of_dosages,
    check_site,
    is_turned,
    refused_as,
)
from features.genomics.dosages import (
    Flags,
    Floats,
    WrongDosageError,
    as_shares,
    from_probabilities,
    genotype_alleles,
)
from features.genomics.formats.header import Header
from features.genomics.formats.sample_file import read_sample_file
from features.raw_text import Chunk, Split, read_whole

log = logging.getLogger("riskloom")
MAGIC = b"bgen"
MAGIC_AT = 16
_MOST_BYTES = 1 << 28
"""Of a variant or a header; what says it has more is no such thing."""
_LAYOUT, _WITH_NAMES = 0b1111 << 2, 1 << 31


@dataclass(frozen=True, slots=True)
class BgenPart:
    """The variants of a file from the byte `start` to the byte `end`; their probabilities are compressed
    by nothing (0), zlib (1) or zstd (2). `variants`: how many the header says there are, for a part that
    is the whole file."""

    split: Split
    start: int
    end: int
    compression: int
    variants: int | None

    @property
    def digest(self) -> str:
        return self.split.digest

    def records(self, layout: Layout) -> Iterator[Record]:
        found = 0
        for chunk in read_whole(replace(self.split, start=self.start), 0, _whole_variants):
            at = 0
            while at < len(chunk.data):
                size = _size(chunk.data, at)
                offset = chunk.offset(at)
                if offset >= self.end:
                    if offset != self.end:
                        raise _stale(self.digest)
                    return
                yield chunk.location(at, size), self._items(chunk.data[at : at + size], layout)
                at, found = at + size, found + 1
        if self.variants not in (None, found):
            raise _cut(self.digest, self.variants, found)

    def _items(self, record: bytes, layout: Layout) -> list[Variant | Rule]:
        try:
            return _clean(record, self.compression, layout)
        except RefusedLineError as refusal:
            return [refusal.rule]
        except (IndexError, ValueError, struct.error, zlib.error, OSError):
            # Values that reach beyond the record, or that do not inflate to what they say they do.
            return [Rule.COLUMNS]


class _Fields:
    """What stands before the probabilities of a variant, field after field; IndexError where there is no more."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self.at = data, at

    def number(self, size: int) -> int:
        found = self._data[self.at : self.at + size]
        if len(found) < size:
            raise IndexError
        self.at += size
        return int.from_bytes(found, "little")

    def text(self, size: int) -> str:
        """What has its own size before it, in so many bytes."""
        length = self.number(size)
        if length > _MOST_BYTES:
            raise EOFError(f"an allele would have {length:,} bytes")
        found = self._data[self.at : self.at + length]
        if len(found) < length:
            raise IndexError
        self.at += length
        return found.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class _Described:
    """A variant's names, place and alleles, and where its probabilities begin and end."""

    name: str
    chrom: str
    position: int
    alleles: list[str]
    start: int
    end: int


def _described(data: bytes, at: int) -> _Described:
    """IndexError where the data end before."""
    fields = _Fields(data, at)
    identifier, name, chrom = (fields.text(2) for _ in range(3))
    position, number = fields.number(4), fields.number(2)
    alleles = [fields.text(4) for _ in range(number)]
    size = fields.number(4)
    if fields.at + size - at > _MOST_BYTES:
        raise EOFError(f"a variant would have {fields.at + size - at:,} bytes")
    return _Described(name or identifier, chrom, position, alleles, fields.at, fields.at + size)


def _size(data: bytes, at: int) -> int:
    return _described(data, at).end - at


def _whole_variants(data: bytes) -> int:
    """How many of the first bytes are whole variants."""
    at = 0
    while at < len(data):
        try:
            end = _described(data, at).end
        except IndexError:
            break
        if end > len(data):
            break
        at = end
    return at


def _clean(record: bytes, compression: int, layout: Layout) -> list[Variant | Rule]:
    described = _described(record, 0)
    alleles = [allele.upper() for allele in described.alleles]
    name = None if described.name in ("", ".") else described.name
    site = Site(described.chrom, described.position, alleles[0] if alleles else "", alleles[1:], name)
    numbers: Sequence[int] = range(1, len(alleles))
    if is_turned(site, layout):
        site, numbers = site._replace(ref=alleles[1], alts=alleles[:1]), [0]
    check_site(site, layout)
    if not layout.samples:
        return biallelic(site, [NOTHING] * len(site.alts), layout)
    stored = _inflated(record[described.start : described.end], compression)
    with refused_as(Rule.DOSAGE):
        shares, haploid = _shares(stored, layout.samples, len(alleles))
        shares, haploid = shares[layout.kept], haploid[layout.kept]
        calls = [_calls(shares, haploid, number, len(alleles)) for number in numbers]
    return biallelic(site, calls, layout)


def _calls(shares: Floats, haploid: Flags, allele: int, alleles: int) -> Calls:
    return calls_of_dosages(*from_probabilities(shares, haploid, allele, alleles, None))


def _inflated(stored: bytes, compression: int) -> bytes:
    if compression == 0:
        return stored
    size = int.from_bytes(stored[:4], "little")
    if size > _MOST_BYTES:
        raise RefusedLineError(Rule.COLUMNS)
    if compression == 1:
        inflater = zlib.decompressobj()
        found = inflater.decompress(stored[4:], size + 1)  # no limit is 0
        if len(found) != size or not inflater.eof:
            raise RefusedLineError(Rule.COLUMNS)
        return found
    return bytes(pa.Codec("zstd").decompress(stored[4:], size, asbytes=True))


def _shares(stored: bytes, samples: int, alleles: int) -> tuple[Floats, Flags]:
    """Probabilities (samples, genotypes of two copies), in the order of VCF's GP and NaN where missing, and who
    has one copy. WrongDosageError where they do not sum to 1; a sample of more copies refuses the variant."""
    number, same, _, most = struct.unpack_from("<IHBB", stored)
    if number != samples or same != alleles:
        raise RefusedLineError(Rule.COLUMNS)
    if most > 2:
        raise RefusedLineError(Rule.GENOTYPE)
    about = np.frombuffer(stored, np.uint8, samples, 8)
    copies = (about & 0x3F).astype(np.int64)
    if (copies > 2).any():
        raise RefusedLineError(Rule.GENOTYPE)
    phased, bits = stored[8 + samples], stored[9 + samples]
    if phased > 1:
        raise RefusedLineError(Rule.COLUMNS)
    diploid = len(genotype_alleles(alleles, 2))
    sizes = np.array([0, alleles - 1, 2 * (alleles - 1) if phased else diploid - 1])[copies]
    values = _fractions(stored[10 + samples :], int(sizes.sum()), bits)
    starts = np.cumsum(sizes) - sizes
    found = np.full((samples, diploid), np.nan)
    missing = (about & 0x80 != 0) | (copies == 0)
    for ploidy in (1, 2):
        chosen = np.flatnonzero((copies == ploidy) & ~missing)
        if not len(chosen):
            continue
        width = int(sizes[chosen[0]])
        own = values[starts[chosen][:, None] + np.arange(width)]
        if phased and ploidy == 2:
            first, second = _completed(own[:, : alleles - 1]), _completed(own[:, alleles - 1 :])
            found[chosen] = _of_haplotypes(first, second, alleles)
        else:
            found[chosen, : width + 1] = _completed(own)
    return as_shares(found, copies == 1, alleles), copies == 1


def _completed(stored: Floats) -> Floats:
    """With the last probability, which is what the others leave of 1 (a rounding's worth less than nothing)."""
    last = 1 - stored.sum(1)
    if (last < -_ROUNDING).any():
        raise WrongDosageError
    return np.column_stack([stored, np.maximum(last, 0)])


_ROUNDING = 1e-6


def _of_haplotypes(first: Floats, second: Floats, alleles: int) -> Floats:
    """Probabilities of unphased genotypes from those of each copy's alleles."""
    both = first[:, :, None] * second[:, None, :]
    columns = [both[:, a, b] + (both[:, b, a] if a != b else 0) for a, b in genotype_alleles(alleles, 2)]
    return np.stack(columns, axis=1)


def _fractions(stored: bytes, number: int, bits: int) -> Floats:
    """So many numbers of so many bits each as shares of the largest; ValueError where there are not as many."""
    if not 1 <= bits <= 32 or len(stored) != -(-number * bits // 8):
        raise ValueError
    if bits in (8, 16, 32):
        whole: npt.NDArray[np.unsignedinteger] = np.frombuffer(stored, f"<u{bits // 8}", number)
    else:
        each = np.unpackbits(np.frombuffer(stored, np.uint8), bitorder="little")[: number * bits]
        whole = each.reshape(number, bits) @ (1 << np.arange(bits, dtype=np.uint64))
    return whole / ((1 << bits) - 1)


def open_bgen(split: Split, sample: Sequence[Split], index: Location, step: int) -> tuple[Header, list[BgenPart]]:
    """The samples of a file (the one split that holds it all) and its parts: of about `step` bytes where an index
    lies beside it (<name>.bgi, of `bgenix -index`), else one. The names of a .sample go before its own."""
    chunk = next(read_whole(split, 0, _whole_header), None)
    first = 4 + int.from_bytes(chunk.data[:4], "little") if chunk else 0
    if chunk is None or first < 24 or not 20 <= int.from_bytes(chunk.data[4:8], "little") <= first - 4:
        raise DataGateError(f"file {split.digest}: its header is cut or damaged; copy it again")
    length, variants, samples = struct.unpack_from("<III", chunk.data, 4)
    (flags,) = struct.unpack_from("<I", chunk.data, length)
    compression = flags & 0b11
    if (flags & _LAYOUT) >> 2 != 2 or compression == 3:
        raise DataGateError(
            f"file {split.digest}: layout {(flags & _LAYOUT) >> 2} of BGEN, compression {compression}; expected "
            "BGEN 1.2 or 1.3: plink2 --export bgen-1.2 makes one"
        )
    own = _own_names(split.digest, chunk, 4 + length, samples) if flags & _WITH_NAMES else None
    header = _samples(split.digest, sample, samples, own)
    cuts = [first, *_cuts(split, index, first, step, variants), split.end]
    whole = variants if len(cuts) == 2 else None
    parts = [BgenPart(split, start, stop, compression, whole) for start, stop in pairwise(cuts)]
    return header, parts


def _whole_header(data: bytes) -> int:
    if len(data) < 4:
        return 0
    size = 4 + int.from_bytes(data[:4], "little")
    if size > _MOST_BYTES:
        raise EOFError(f"its header would have {size:,} bytes")
    return size if len(data) >= max(size, 24) else 0


def _own_names(digest: str, chunk: Chunk, at: int, samples: int) -> tuple[list[str], Callable[[int], str]]:
    """The sample names that the file itself has, and where each lies."""
    fields, names, spans = _Fields(chunk.data, at + 4), list[str](), list[tuple[int, int]]()
    try:
        number = fields.number(4)
        for _ in range(number):
            start = fields.at + 2
            names.append(fields.text(2))
            spans.append((start, fields.at - start))
    except IndexError:
        raise DataGateError(f"file {digest}: its header ends inside the sample names; copy it again") from None
    if number != samples:
        raise DataGateError(f"file {digest}: {samples:,} samples and {number:,} names; copy it again")
    return names, lambda place: chunk.location(*spans[place])


def _samples(
    digest: str, sample: Sequence[Split], samples: int, own: tuple[list[str], Callable[[int], str]] | None
) -> Header:
    if not sample:
        if own is None and not samples:
            own = [], lambda _: ""
        if own is None:
            raise DataGateError(
                f"file {digest}: it has no sample names of its own; give its .sample in genomics.paths too, "
                "by the same name"
            )
        names, place = own
        _check_names(digest, names)
        return Header(digest, names, lambda number: (digest, place(number)))
    names, places, sexes = read_sample_file(sample)
    where = sample[0].digest
    if len(names) != samples:
        raise DataGateError(f"file {where}: {len(names):,} samples, expected the {samples:,} of its .bgen")
    _check_names(where, names)
    if own and own[0] != names:
        _check_replacement(where, names, own[0])
    return Header(digest, names, lambda number: (where, places[number]), sexes)


def _check_replacement(where: str, names: Sequence[str], own: Sequence[str]) -> None:
    """Other names than the file's own may be another study's for the same people; the same in another order, or
    some of them, are a mistake."""
    common = len(set(names).intersection(own))
    if common:
        raise DataGateError(
            f"file {where}: {common:,} of its {len(names):,} samples are also named in the .bgen, and the order "
            "or the others differ; give the .sample that was made with this .bgen, or leave it out"
        )
    log.warning("file %s: its sample names replace those that the .bgen has, and no name is in both", where)


def _check_names(digest: str, names: Sequence[str]) -> None:
    twice = len(names) - len(set(names))
    if twice:
        raise DataGateError(f"file {digest}: {twice} sample names come twice; give every sample its own")


def _cuts(split: Split, index: Location, first: int, step: int, variants: int) -> list[int]:
    """Where variants begin, about `step` bytes apart."""
    if split.end <= step or not index.exists():
        return []
    with tempfile.NamedTemporaryFile(suffix=".bgi") as own, index.open() as stored:
        shutil.copyfileobj(stored, own)
        own.flush()
        try:
            with closing(sqlite3.connect(f"file:{own.name}?mode=ro", uri=True)) as database:
                (size,) = next(database.execute("SELECT file_size FROM Metadata"), (split.end,))
                (number,) = next(database.execute("SELECT count(*) FROM Variant"))
                found = database.execute(
                    "SELECT min(file_start_position) FROM Variant GROUP BY file_start_position / ?", (step,)
                ).fetchall()
        except sqlite3.DatabaseError:
            raise _stale(split.digest) from None
    starts = [row[0] for row in found]
    if size != split.end or not all(isinstance(start, int) and first <= start < split.end for start in starts):
        raise _stale(split.digest)
    if number != variants:
        raise _cut(split.digest, variants, number)
    return sorted(start for start in starts if start > first)


def _cut(digest: str, variants: int | None, found: int) -> DataGateError:
    return DataGateError(f"file {digest}: its header says {variants:,} variants, found {found:,}; copy it again")


def _stale(digest: str) -> DataGateError:
    return DataGateError(
        f"file {digest}: its index (.bgi) is not of this file; make it again: bgenix -index -clobber"
    )
