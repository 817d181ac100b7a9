"""The records of a .pgen: calls, told one by one or by the difference to what is common, and dosages.

Format: https://github.com/chrchang/plink-ng/tree/master/pgen_spec, section 2.3, and where that is silent (kind 5,
and what is turned round in kind 3) the comments of pgenlib_misc.h, which plink2 follows. Phase is read past.
"""

import numpy as np
import numpy.typing as npt

from features.genomics.dosages import COPY, Dosages, or_called
from features.genomics.dosages import MISSING as NO_DOSAGE
from features.genomics.formats.pgen_header import Bytes, Integers, little_endian
from features.genomics.genotype import MISSING, Alleles
from features.genomics.packing import Codes, packed_size, unpack

RARER_ALTS, PHASED, HAS_DOSAGES, PHASED_DOSAGES = 0x08, 0x10, 0x60, 0x80
"""Bits of a record's kind: what is in it besides calls of the first ALT."""
ALL_REF = 5
"""The kind where everyone is without ALT, as its lowest bits have it."""
_LISTED, _EVERYONE = 0x20, 0x40
"""How HAS_DOSAGES says whose dosages there are; both: by a bit each."""
_GROUP = 64
_LONGEST_NUMBER = 5
_NONE = 15
_COMMON = {1: (0, 1), 2: (0, 2), 3: (0, 3), 5: (1, 2), 6: (1, 3), 9: (2, 3)}
"""The two commonest codes, by the first byte of a kind 1."""
_ALLELES = np.array([[0, 0], [0, 1], [1, 1], [MISSING, MISSING]], np.int16)
_TURNED = np.array([2, 1, 0, 3], np.uint8)


class WrongRecordError(ValueError):
    """What a record cannot be, and what was expected."""


class Track:
    """The bytes of a record, track after track; WrongRecordError where there are no more."""

    def __init__(self, data: bytes, samples: int) -> None:
        self._data: Bytes = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
        self._at, self.samples = 0, samples

    def bytes_(self, size: int) -> Bytes:
        if size > len(self._data) - self._at:
            raise WrongRecordError(f"its record ends after {len(self._data):,} bytes, expected more")
        self._at += size
        return self._data[self._at - size : self._at]

    def byte(self) -> int:
        return int(self.bytes_(1)[0])

    def bits(self, number: int) -> npt.NDArray[np.bool_]:
        return np.unpackbits(self.bytes_(-(-number // 8)), count=number, bitorder="little").view(bool)

    def packed(self, number: int, width: int) -> Integers:
        """Whole numbers of `width` bits each."""
        bits = np.unpackbits(self.bytes_(-(-number * width // 8)), count=number * width, bitorder="little")
        return bits.reshape(number, width) @ (1 << np.arange(width))

    def values(self, number: int) -> npt.NDArray[np.uint16]:
        return self.bytes_(2 * number).view("<u2")

    def codes(self, number: int) -> Codes:
        return unpack(self.bytes_(packed_size(number)), number)

    def varint(self) -> int:
        """A number of seven bits a byte, the lowest first."""
        found = 0
        for place in range(_LONGEST_NUMBER):
            byte = self.byte()
            found |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return found
        raise _too_long()

    def varints(self, number: int) -> tuple[Integers, Integers]:
        """So many of them, and where each ends."""
        rest = self._data[self._at : self._at + number * _LONGEST_NUMBER]
        ends = np.flatnonzero(rest < 0x80)[:number] + 1
        if len(ends) < number:
            raise _too_long()
        used = self.bytes_(int(ends[-1]) if number else 0)
        if len(used) == number:
            return used.astype(np.int64), ends
        sizes = ends.copy()
        sizes[1:] -= ends[:-1]
        if (longest := int(sizes.max())) > _LONGEST_NUMBER:
            raise _too_long()
        found = used[ends - 1].astype(np.int64)
        for place in range(1, longest):
            more = np.flatnonzero(sizes > place)
            found[more] = found[more] << 7 | used[ends[more] - 1 - place] & 0x7F
        return found, ends

    def end(self) -> None:
        if self._at != len(self._data):
            raise WrongRecordError(f"its record has {len(self._data):,} bytes, expected {self._at:,}")


def _too_long() -> WrongRecordError:
    return WrongRecordError(f"a number that is cut, or of more than {_LONGEST_NUMBER} bytes")


def read_list(track: Track, coded: bool) -> tuple[Integers, Codes]:
    """A difflist: the numbers of samples, growing, and if it is `coded` what each is."""
    length = track.varint()
    if length > track.samples:
        raise WrongRecordError(f"a list of {length:,} of {track.samples:,} samples")
    if not length:
        return np.empty(0, np.int64), np.empty(0, np.uint8)
    groups = -(-length // _GROUP)
    width = _id_width(track.samples)
    firsts = little_endian(track.bytes_(groups * width), width)
    sizes = track.bytes_(groups - 1)
    codes = track.codes(length) if coded else np.empty(0, np.uint8)
    steps, ends = track.varints(length - groups)
    inner = (groups - 1) * (_GROUP - 1)
    if groups > 1 and (np.cumsum(sizes + np.int64(_GROUP - 1)) != ends[_GROUP - 2 : inner : _GROUP - 1]).any():
        raise WrongRecordError("a list whose groups are of other sizes than it says")
    found = np.zeros((groups, _GROUP), np.int64)
    found[:, 0] = firsts
    found[:-1, 1:] = steps[:inner].reshape(-1, _GROUP - 1)
    found[-1, 1 : length - inner - groups + 1] = steps[inner:]
    found.cumsum(1, out=found)
    if not steps.all() or (found[1:, 0] <= found[:-1, -1]).any() or found[-1, -1] >= track.samples:
        raise WrongRecordError(f"a list of samples that does not grow, or beyond the {track.samples:,} there are")
    return found.reshape(-1)[:length], codes


def _id_width(samples: int) -> int:
    """The bytes of a sample's number: as many as the number of samples itself takes, as plink2 has it (by the
    specification 256 samples have one byte, by plink2 two)."""
    return -(-samples.bit_length() // 8)


def read_codes(track: Track, kind: int, base: Codes) -> Codes:
    """The main track: 0, 1 or 2 ALTs (whichever), or missing; `base` are the codes of the last record that was
    not told by the difference to another, none where that was of the kind ALL_REF."""
    if kind & PHASED_DOSAGES and not kind & HAS_DOSAGES:
        raise WrongRecordError(f"a record of kind {kind:#04x}, which is reserved")
    form = kind & 7
    if form == 0:
        return track.codes(track.samples)
    if form == ALL_REF:
        return np.zeros(track.samples, np.uint8)
    if form == 1:
        codes = _two_codes(track)
    elif form in (2, 3):
        if not len(base):
            raise WrongRecordError(f"a difference to a record of kind {ALL_REF}, which none may have")
        codes = base.copy()
    else:
        codes = np.full(track.samples, form & 3, np.uint8)
    who, others = read_list(track, coded=True)
    codes[who] = others
    return _TURNED[codes] if form == 3 else codes


def _two_codes(track: Track) -> Codes:
    pair = track.byte()
    if pair not in _COMMON:
        raise WrongRecordError(f"a pair of codes {pair:#04x}, which is reserved")
    low, high = _COMMON[pair]
    return track.bits(track.samples) * np.uint8(high - low) + np.uint8(low)


def read_alleles(track: Track, kind: int, codes: Codes, alts: int) -> tuple[Alleles, Alleles]:
    """First and second allele of each sample, as of `genotype.read_alleles`: those of the codes, but for calls of
    an ALT after the first."""
    alleles = _ALLELES[codes]
    if kind & RARER_ALTS:
        if alts < 2:
            raise WrongRecordError(f"calls of a second ALT, and {alts} in the .pvar")
        forms = track.byte()
        who = _whose(track, forms & 15, codes, 1)
        alleles[who, 1] = _checked(track.packed(len(who), _width(alts - 1)) + 2, alts)
        who = _whose(track, forms >> 4, codes, 2)
        alleles[who] = _checked(_pairs(track, len(who), alts), alts)
    return alleles[:, 0], alleles[:, 1]


def _whose(track: Track, form: int, codes: Codes, code: int) -> Integers:
    """The samples of this code that have other ALTs than the first."""
    if form == 0:
        have = np.flatnonzero(codes == code)
        return have[track.bits(len(have))]
    if form == 1:
        who, _ = read_list(track, coded=False)
        if (codes[who] != code).any():
            raise WrongRecordError("a call of a second ALT where none is")
        return who
    if form != _NONE:
        raise WrongRecordError(f"calls of a second ALT in a form {form}, which is reserved")
    return np.empty(0, np.int64)


def _pairs(track: Track, number: int, alts: int) -> Integers:
    """(number, 2) ALTs of calls without REF."""
    if alts == 2:
        return np.column_stack([1 + track.packed(number, 1), np.full(number, 2)])
    return track.packed(2 * number, _width(alts)).reshape(number, 2) + 1


def _checked(found: Integers, alts: int) -> Integers:
    if found.max(initial=0) > alts:
        raise WrongRecordError(f"a call of another ALT than the {alts} in the .pvar")
    return found


def _width(values: int) -> int:
    """The bits that so many values take, as a packed array has them."""
    return next(width for width in (0, 1, 2, 4, 8, 16) if values <= 1 << width)


def skip_phase(track: Track, heterozygous: int) -> None:
    """First a bit that says whether it is told whose phase is known, and then of how many."""
    bits = track.bits(1 + heterozygous)
    if bits[0]:
        track.bits(int(bits[1:].sum()))


def read_dosages(track: Track, kind: int, codes: Codes) -> Dosages:
    """Of the one ALT: where a dosage is not stored, the call's."""
    form = kind & HAS_DOSAGES
    who = np.arange(track.samples)
    if form == _LISTED:
        who, _ = read_list(track, coded=False)
    elif form != _EVERYONE:
        who = np.flatnonzero(track.bits(track.samples))
    stored = track.values(len(who))
    absent = stored == NO_DOSAGE
    if (stored[~absent] > 2 * COPY).any() or (absent.any() and form != _EVERYONE):
        raise WrongRecordError("a dosage of more than two copies")
    if kind & PHASED_DOSAGES:
        track.values(len(who) if form == _EVERYONE else int(track.bits(len(who)).sum()))
    found = np.full(track.samples, NO_DOSAGE, np.uint16)
    found[who] = stored
    return or_called(found, codes)


def turned(codes: Codes, dosages: Dosages | None) -> tuple[Codes, Dosages | None]:
    """What they are of the other allele."""
    other = None if dosages is None else np.where(dosages == NO_DOSAGE, dosages, 2 * COPY - dosages)
    return _TURNED[codes], other
