"""Blocked gzip (BGZF), the compression of VCF files: gzip members that say how long they are.

Format: SAM/BAM specification v1, section 4.1. Every block is a gzip member of at most 64 KiB whose
extra subfield `BC` holds its total size minus one, so that a reader can split a file at blocks.
"""

import struct
import zlib

from isal import isal_zlib

BLOCK = 0xFF00
LEVEL = 2
END_OF_FILE = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def bgzip(data: bytes) -> bytes:
    """`data` as BGZF, with the empty block at the end that tells a whole file from a cut one."""
    blocks = [_block(data[start : start + BLOCK]) for start in range(0, len(data), BLOCK)]
    return b"".join(blocks) + END_OF_FILE


def _block(data: bytes) -> bytes:
    compressor = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, -15)
    body = compressor.compress(data) + compressor.flush()
    size = len(body) + 26
    header = struct.pack("<4BI2BH2BHH", 31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, size - 1)
    return header + body + struct.pack("<II", zlib.crc32(data), len(data))
