import gzip
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from features.simulation.bgzip import END_OF_FILE, bgzip

TEXT = b"chr21\t14000000\trs1\tA\tG\n" * 20_000


def test_a_file_ends_with_the_empty_block_of_the_specification() -> None:
    assert bgzip(TEXT).endswith(END_OF_FILE)
    assert bgzip(b"") == END_OF_FILE


def test_every_block_says_how_long_it_is() -> None:
    data = bgzip(TEXT)
    start = blocks = 0
    while start < len(data):
        assert data[start + 12 : start + 16] == b"BC\x02\x00"
        size = struct.unpack_from("<H", data, start + 16)[0] + 1
        assert gzip.decompress(data[start : start + size]) == TEXT[blocks * 0xFF00 : (blocks + 1) * 0xFF00]
        start, blocks = start + size, blocks + 1
    assert blocks == len(TEXT) // 0xFF00 + 2


def test_what_cannot_be_compressed_still_fits_its_blocks() -> None:
    noise = np.random.default_rng(0).bytes(200_000)
    assert gzip.decompress(bgzip(noise)) == noise


@pytest.mark.skipif(shutil.which("bgzip") is None, reason="htslib is not installed")
def test_htslib_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "a.gz"
    file.write_bytes(bgzip(TEXT))
    subprocess.run(["bgzip", "-t", file], check=True)
    assert subprocess.run(["bgzip", "-dc", file], check=True, capture_output=True).stdout == TEXT
