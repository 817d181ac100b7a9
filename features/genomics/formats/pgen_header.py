"""The header of a .pgen: how many variants and samples it has, and where in it each variant's record lies.

Format: https://github.com/chrchang/plink-ng/tree/master/pgen_spec, sections 2.1 and 2.2. The tables of the records
come in blocks of 65,536 variants, and a block is read when one of its variants is: nobody reads them all.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.genomics.packing import packed_size

MAGIC = b"\x6c\x1b"
BLOCK = 1 << 16
_FIXED = 12
"""Bytes that every header has, but that of a .bed."""
_BYTES_AT_ONCE = 1 << 20

Integers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


class Storage(IntEnum):
    """The third byte: records of one kind and size (PLINK 1's, calls, calls and dosages, and their phase), or of
    any, without or with what later versions put before and behind them."""

    BED = 0x01
    CALLS = 0x02
    DOSAGES = 0x03
    PHASED_DOSAGES = 0x04
    RECORDS = 0x10
    EXTENDED = 0x11


EXTERNAL = (0x20, 0x21)
"""What has its tables in a file of their own, .pgen.pgi."""
KINDS = {Storage.CALLS: 0, Storage.DOSAGES: 0x40, Storage.PHASED_DOSAGES: 0xC0}
"""The kind of all records where it is one; a .bed's are of none of these, but as 0 with other codes."""


@dataclass(frozen=True, slots=True)
class Block:
    """Of up to 65,536 variants: their records' kinds, where each begins and the last one ends, how many alleles
    they have (None: the .pvar alone tells) and whose REF is provisional (None: the same)."""

    kinds: Bytes
    starts: Integers
    alleles: Integers | None
    provisional: npt.NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """The bytes of the record of a variant, by its number in the file, and what the header tells of it."""

    number: int
    kind: int
    data: bytes
    start: int
    alleles: int | None
    provisional: bool | None


@dataclass(frozen=True, slots=True)
class PgenFile:
    """A .pgen of so many bytes; `control` tells how its tables are stored."""

    location: Location
    digest: str
    size: int
    storage: Storage
    variants: int
    samples: int
    control: int

    @property
    def has_tables(self) -> bool:
        return self.storage in (Storage.RECORDS, Storage.EXTENDED)

    @property
    def blocks(self) -> int:
        return -(-self.variants // BLOCK)

    def variants_of(self, block: int) -> int:
        return min(BLOCK, self.variants - block * BLOCK)

    def records(self, first: int, number: int) -> Iterator[StoredRecord]:
        """So many records from the first on, and before them the one that it is told by the difference to, if it
        is. DataGateError where the tables cannot be, or the file ends before."""
        for block in range(first // BLOCK, -(-(first + number) // BLOCK)):
            table = read_block(self, block)
            low = max(first - block * BLOCK, 0)
            high = min(first + number - block * BLOCK, BLOCK)
            base = base_of(table.kinds, low)
            if base != low:
                yield from self._read(block, table, base, base + 1)
            yield from self._read(block, table, low, high)

    def _read(self, block: int, table: Block, low: int, high: int) -> Iterator[StoredRecord]:
        with self.location.open() as stream:
            stream.seek(int(table.starts[low]))
            while low < high:
                end = int(np.searchsorted(table.starts, table.starts[low] + _BYTES_AT_ONCE, side="right")) - 1
                end = min(max(end, low + 1), high)
                starts = table.starts[low : end + 1].tolist()
                data = stream.read(starts[-1] - starts[0])
                if len(data) < starts[-1] - starts[0]:
                    raise self.error("it ends inside a record; copy it again")
                for at, (start, stop) in enumerate(pairwise(starts), start=low):
                    yield StoredRecord(
                        block * BLOCK + at,
                        int(table.kinds[at]),
                        data[start - starts[0] : stop - starts[0]],
                        start,
                        None if table.alleles is None else int(table.alleles[at]),
                        None if table.provisional is None else bool(table.provisional[at]),
                    )
                low = end

    def error(self, told: str) -> DataGateError:
        return DataGateError(f"file {self.digest}: {told}")


def base_of(kinds: Bytes, place: int) -> int:
    """The place of the record that this one is told by the difference to, or its own."""
    return int(np.flatnonzero(kinds[: place + 1] & 6 != 2)[-1])


def is_difference(kind: int) -> bool:
    """Whether a record of this kind is told by the difference to the last one of another."""
    return kind & 6 == 2


def open_pgen_file(location: Location, digest: str, variants: int, samples: int) -> PgenFile:
    """A .pgen that is to have so many variants and samples, as the other files of its fileset say. DataGateError
    where it has others, is of a later version, or not as long as its header says."""
    with location.open() as stream:
        first = stream.read(_FIXED)
        size = stream.seek(0, 2)
    file = PgenFile(location, digest, size, _storage(digest, first), variants, samples, 0)
    if file.storage is Storage.BED:
        _check_size(file, len(MAGIC) + 1 + variants * packed_size(samples))
        return file
    if len(first) < _FIXED:
        raise file.error("it ends inside its header; copy it again")
    for at, own, name, other in ((3, variants, "variants", ".pvar"), (7, samples, "samples", ".psam")):
        stored = int.from_bytes(first[at : at + 4], "little")
        if stored != own or not stored:
            raise file.error(
                f"its header says {stored:,} {name}, and its {other} has {own:,}; expected as many, and one at "
                "least: give the files that were made together"
            )
    file = replace(file, control=first[11])
    if file.has_tables:
        _check_tables(file)
    else:
        _check_size(file, _start_of_records(file) + variants * _width(file))
    return file


def _storage(digest: str, first: bytes) -> Storage:
    if len(first) <= len(MAGIC):
        raise DataGateError(f"file {digest}: it ends inside its header; copy it again")
    code = first[len(MAGIC)]
    if code in EXTERNAL:
        raise DataGateError(
            f"file {digest}: its tables are in a .pgen.pgi, expected them in the .pgen: plink2 --make-pgen does"
        )
    if code not in list(Storage):
        raise DataGateError(
            f"file {digest}: storage mode {code:#04x} of PGEN; expected "
            f"{', '.join(f'{mode:#04x}' for mode in Storage)}: plink2 --make-pgen makes one"
        )
    return Storage(code)


def _check_size(file: PgenFile, expected: int) -> None:
    if file.size != expected:
        raise file.error(
            f"{file.size:,} bytes, expected {expected:,} for the {file.variants:,} variants of its .pvar and the "
            f"{file.samples:,} samples of its .psam; copy all three again"
        )
    if file.control & 0x3F:
        raise file.error(f"byte 12 is {file.control:#04x}, which records of one size do not have; copy it again")


def _check_tables(file: PgenFile) -> None:
    if file.control & 8:
        raise file.error(f"byte 12 is {file.control:#04x}, which is reserved; make it again: plink2 --make-pgen")
    ends = _start_of_tables(file) + _table_size(file, BLOCK) * (file.blocks - 1)
    ends += _table_size(file, file.variants_of(file.blocks - 1))
    if file.size < ends:
        raise file.error("it ends inside its header; copy it again")
    start, _ = _offsets(file, 0)
    if start < ends:
        raise file.error("its records begin inside its header; copy it again")
    read_block(file, file.blocks - 1)


def read_block(file: PgenFile, block: int) -> Block:
    """DataGateError where its records do not end where the next block's begin, or the first of them is told by the
    difference to another block's."""
    number = file.variants_of(block)
    if not file.has_tables:
        width, start = _width(file), _start_of_records(file) + block * BLOCK * _width(file)
        kinds = np.full(number, KINDS.get(file.storage, 0), np.uint8)
        return Block(kinds, start + np.arange(number + 1) * width, None, _fixed_provisional(file, block, number))
    start, end = _offsets(file, block)
    at = _start_of_tables(file) + block * _table_size(file, BLOCK)
    stored = np.frombuffer(_read(file, at, _table_size(file, number)), np.uint8)
    sizes = [_kinds_size(file, number), number * _length_width(file), number * _alleles_width(file)]
    kinds, lengths, alleles, flags = np.split(stored, np.cumsum(sizes))
    if not file.control & 4:
        kinds = np.stack([kinds & 15, kinds >> 4], axis=1).reshape(-1)[:number]
    starts = start + np.concatenate([[0], np.cumsum(little_endian(lengths, _length_width(file)))])
    _check_block(file, block, kinds, int(starts[-1]), end)
    counts = little_endian(alleles, _alleles_width(file)) if _alleles_width(file) else None
    return Block(kinds, starts, counts, _provisional(file, flags, number))


def _check_block(file: PgenFile, block: int, kinds: Bytes, end: int, expected: int) -> None:
    last = block == file.blocks - 1
    if end > expected or (end < expected and not (last and file.storage is Storage.EXTENDED)):
        raise file.error(
            f"the records of its block {block + 1} of {file.blocks} end at byte {end:,}, expected {expected:,}, "
            f"where {'the file ends' if last else 'the next begins'}; copy it again"
        )
    if is_difference(int(kinds[0])):
        raise file.error(f"block {block + 1} begins with a record that another is missing for; copy it again")


def little_endian(stored: Bytes, width: int) -> Integers:
    """Whole numbers of `width` bytes (1 to 4) each."""
    if width != 3:
        return stored.view(f"<u{width}").astype(np.int64)
    found: Integers = stored.reshape(-1, 3) @ np.array([1, 1 << 8, 1 << 16])
    return found


def _offsets(file: PgenFile, block: int) -> tuple[int, int]:
    """Where the records of a block begin and end, by those of the blocks, or by the file's size."""
    inner = block + 1 < file.blocks
    here, *there = np.frombuffer(_read(file, _FIXED + 8 * block, 16 if inner else 8), "<u8").tolist()
    if here > file.size:
        raise file.error(f"its block {block + 1} of {file.blocks} begins beyond its end; copy it again")
    return here, there[0] if inner else file.size


def _read(file: PgenFile, at: int, size: int) -> bytes:
    with file.location.open() as stream:
        stream.seek(at)
        data: bytes = stream.read(size)
    if len(data) < size:
        raise file.error("it ends inside its header; copy it again")
    return data


def _provisional(file: PgenFile, flags: Bytes, number: int) -> npt.NDArray[np.bool_] | None:
    """By the top bits of `control`: not told, nobody's, everyone's, or as these bits have it."""
    told = file.control >> 6
    if told == 3:
        return np.unpackbits(flags, count=number, bitorder="little").astype(bool)
    return np.full(number, told == 2) if told else None


def _fixed_provisional(file: PgenFile, block: int, number: int) -> npt.NDArray[np.bool_] | None:
    """A .bed does not tell which allele is the reference's."""
    if file.storage is Storage.BED:
        return np.ones(number, bool)
    size = -(-number // 8) if file.control >> 6 == 3 else 0
    return _provisional(file, np.frombuffer(_read(file, _FIXED + block * BLOCK // 8, size), np.uint8), number)


def _start_of_records(file: PgenFile) -> int:
    """Where they are of one size."""
    if file.storage is Storage.BED:
        return len(MAGIC) + 1
    return _FIXED + (-(-file.variants // 8) if file.control >> 6 == 3 else 0)


def _width(file: PgenFile) -> int:
    """Of a record: calls, and two bytes a sample each for dosages and their phase."""
    values = {Storage.DOSAGES: 2, Storage.PHASED_DOSAGES: 4}
    return packed_size(file.samples) + file.samples * values.get(file.storage, 0)


def _start_of_tables(file: PgenFile) -> int:
    return _FIXED + 8 * file.blocks


def _table_size(file: PgenFile, number: int) -> int:
    flags = -(-number // 8) if file.control >> 6 == 3 else 0
    return _kinds_size(file, number) + number * (_length_width(file) + _alleles_width(file)) + flags


def _kinds_size(file: PgenFile, number: int) -> int:
    return number if file.control & 4 else -(-number // 2)


def _length_width(file: PgenFile) -> int:
    return 1 + (file.control & 3)


def _alleles_width(file: PgenFile) -> int:
    return file.control >> 4 & 3
