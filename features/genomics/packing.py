"""Genotype calls in two bits each: sample i lies in bits 2(i mod 4) of byte i // 4 of the `calls` of `genotypes`.

The code is the count of ALT alleles, 0, 1 or 2, or 3 where the call is missing. It is not PLINK's
.bed code (https://www.cog-genomics.org/plink/1.9/formats#bed), only its layout: bits left over in
the last byte are 0.
"""

import numpy as np
import numpy.typing as npt

MISSING = 3
Codes = npt.NDArray[np.uint8]

_GATHER, _HIGHEST = np.uint32(1 << 24 | 1 << 18 | 1 << 12 | 1 << 6), np.uint32(24)
_LOW_BITS = np.uint32(0x0303_0303)


def pack(codes: Codes) -> npt.NDArray[np.uint8]:
    """n codes (uint8, each 0 to 3) as ceil(n / 4) bytes; (rows, n) in gives (rows, bytes) out."""
    size = packed_size(codes.shape[-1]) * 4
    if codes.shape[-1] != size:
        padded = np.zeros((*codes.shape[:-1], size), np.uint8)
        padded[..., : codes.shape[-1]] = codes
        codes = padded
    # Four codes, each in a byte of a word, meet in its highest byte.
    fours = np.ascontiguousarray(codes).view("<u4")
    return (fours * _GATHER >> _HIGHEST).astype(np.uint8)


def unpack(calls: bytes | npt.NDArray[np.uint8], samples: int) -> Codes:
    """The codes of the first `samples` samples; (rows, bytes) in gives (rows, samples) out."""
    packed = np.frombuffer(calls, np.uint8) if isinstance(calls, bytes) else calls
    # Each byte becomes a word: its codes move apart, one into each byte.
    fours = packed.astype("<u4")
    fours |= fours << np.uint32(6)
    fours |= fours << np.uint32(12)
    fours &= _LOW_BITS
    return fours.view(np.uint8)[..., :samples]


def packed_size(samples: int) -> int:
    return -(-samples // 4)
