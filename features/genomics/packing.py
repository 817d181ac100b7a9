"""Genotype calls in two bits each: sample i lies in bits 2(i mod 4) of byte i // 4 (DESIGN, `genotypes`).

The code is the count of ALT alleles, 0, 1 or 2, or 3 where the call is missing. It is not PLINK's
.bed code (https://www.cog-genomics.org/plink/1.9/formats#bed), only its layout: bits left over in
the last byte are 0.
"""

import numpy as np
import numpy.typing as npt

MISSING = 3
Codes = npt.NDArray[np.uint8]

_SHIFTS = np.array([0, 2, 4, 6], np.uint8)
_CODES_OF_BYTE: Codes = (np.arange(256, dtype=np.uint8)[:, None] >> _SHIFTS) & np.uint8(3)


def pack(codes: Codes) -> npt.NDArray[np.uint8]:
    """n codes (uint8, each 0 to 3) as ceil(n / 4) bytes; (rows, n) in gives (rows, bytes) out."""
    padded = np.zeros((*codes.shape[:-1], packed_size(codes.shape[-1]) * 4), np.uint8)
    padded[..., : codes.shape[-1]] = codes
    packed: npt.NDArray[np.uint8] = padded[..., 0::4] | padded[..., 1::4] << 2
    packed |= padded[..., 2::4] << 4
    packed |= padded[..., 3::4] << 6
    return packed


def unpack(calls: bytes | npt.NDArray[np.uint8], samples: int) -> Codes:
    """The codes of the first `samples` samples; (rows, bytes) in gives (rows, samples) out."""
    packed = np.frombuffer(calls, np.uint8) if isinstance(calls, bytes) else calls
    codes = _CODES_OF_BYTE[packed]
    return codes.reshape(*packed.shape[:-1], packed.shape[-1] * 4)[..., :samples]


def packed_size(samples: int) -> int:
    return -(-samples // 4)
