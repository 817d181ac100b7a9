"""Every line of a split file is read exactly once, wherever the cuts fall."""

import bz2
import gzip
import random
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import isal_zlib

from features import raw_text
from features.contract.errors import DataGateError
from features.contract.paths import FileStat, Location
from features.raw_text import (
    BGZF_END,
    Codec,
    Split,
    check_last_line,
    count_lines,
    detect_codec,
    plan_splits,
    read_chunks,
    text_lines,
)


def bgzip(data: bytes, block: int = 700) -> bytes:
    """BGZF by its specification, with small blocks so that lines straddle them."""
    members = []
    for at in range(0, len(data), block):
        deflater = isal_zlib.compressobj(1, wbits=-15)
        body = deflater.compress(data[at : at + block]) + deflater.flush()
        size = len(body) + 25
        tail = isal_zlib.crc32(data[at : at + block]).to_bytes(4, "little") + len(data[at : at + block]).to_bytes(
            4, "little"
        )
        members.append(
            bytes.fromhex("1f8b08040000000000ff0600424302 00".replace(" ", ""))
            + size.to_bytes(2, "little")
            + body
            + tail
        )
    return b"".join(members) + BGZF_END


def read_all(root: Path, name: str, codec: Codec, cuts: list[int]) -> bytes:
    splits = [Split(f"file://{root}", name, "digest", codec, a, b) for a, b in pairwise(cuts)]
    return b"".join(chunk.data for split in splits for chunk in read_chunks(split))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(max_size=2000).map(lambda b: b.replace(b"\n", b"")), min_size=1, max_size=40), st.integers()
)
def test_lines_are_read_once_wherever_the_cuts_fall(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], seed: int
) -> None:
    root, text = tmp_path_factory.mktemp("raw"), b"\n".join(lines) + b"\n"
    for name, stored, codec in (("a.txt", text, Codec.PLAIN), ("a.gz", bgzip(text), Codec.BGZF)):
        (root / name).write_bytes(stored)
        inner = random.Random(seed).sample(range(len(stored)), k=min(3, len(stored)))
        assert read_all(root, name, codec, sorted({0, len(stored), *inner})) == text


def test_a_location_leads_back_to_the_bytes(tmp_path: Path) -> None:
    text = b"".join(b"line %d\n" % i for i in range(500))
    (tmp_path / "a").write_bytes(text)
    chunk = next(read_chunks(Split(f"file://{tmp_path}", "a", "d", Codec.PLAIN, 100, len(text))))
    position = chunk.data.index(b"line 77\n")
    offset, length = map(int, chunk.location(position, 8).split("+"))
    assert text[offset : offset + length] == b"line 77\n"


def test_the_codec_is_known_by_content_not_by_name(tmp_path: Path) -> None:
    for content, codec in ((b"plain", Codec.PLAIN), (gzip.compress(b"x"), Codec.GZIP), (bgzip(b"x"), Codec.BGZF)):
        (tmp_path / "same.name").write_bytes(content)
        assert detect_codec(Location.parse(str(tmp_path / "same.name")), len(content), "d") is codec


@pytest.mark.parametrize("cut", [1, 28, 29, 300])
def test_a_bgzip_cut_anywhere_is_refused(tmp_path: Path, cut: int) -> None:
    stored = bgzip(random.Random(1).randbytes(5000) + b"\n")[:-cut]
    (tmp_path / "cut.gz").write_bytes(stored)
    with pytest.raises(DataGateError, match="cut short"):
        plan_splits(Location.parse(str(tmp_path)), [(FileStat("cut.gz", len(stored), 0), "digest")], 1 << 20)


def test_bzip2_is_read_and_its_damage_told(tmp_path: Path) -> None:
    text = b"".join(b"line %d\n" % i for i in range(50_000))
    stored = bz2.compress(text[:100_000]) + bz2.compress(text[100_000:])
    (tmp_path / "a").write_bytes(stored)
    root, file = Location.parse(str(tmp_path)), (FileStat("a", len(stored), 0), "digest")
    (split,) = plan_splits(root, [file], 1 << 10)
    assert split.codec is Codec.BZIP2
    assert read_all(tmp_path, "a", Codec.BZIP2, [0, len(stored)]) == text
    for broken in (stored[:-20], stored[:500] + bytes(100) + stored[600:]):
        (tmp_path / "a").write_bytes(broken)
        with pytest.raises(DataGateError, match="file digest: the compressed data is damaged"):
            read_all(tmp_path, "a", Codec.BZIP2, [0, len(stored)])


def test_zstd_is_read_and_its_damage_told(tmp_path: Path) -> None:
    text = b"".join(b"line %d\n" % i for i in range(300_000))
    codec = pa.Codec("zstd")
    stored = codec.compress(text[:100_000], asbytes=True) + codec.compress(text[100_000:], asbytes=True)
    (tmp_path / "a").write_bytes(stored)
    root, file = Location.parse(str(tmp_path)), (FileStat("a", len(stored), 0), "digest")
    (split,) = plan_splits(root, [file], 1 << 10)
    assert split.codec is Codec.ZSTD
    assert read_all(tmp_path, "a", Codec.ZSTD, [0, len(stored)]) == text
    assert count_lines(split) == 300_000
    chunk, start, line = list(text_lines(split))[-7]
    offset, length = map(int, chunk.location(start, len(line)).split("+"))
    assert text[offset : offset + length] == line
    for broken in (stored[:-20], stored[:7], stored + b"more"):
        (tmp_path / "a").write_bytes(broken)
        with pytest.raises(DataGateError, match="file digest: the compressed data is damaged"):
            read_all(tmp_path, "a", Codec.ZSTD, [0, len(broken)])


def test_text_that_ends_inside_a_line_may_have_been_cut(tmp_path: Path) -> None:
    root = Location.parse(str(tmp_path))
    for text, whole in (
        (b"one\ntwo\n", True),
        (b"one\r\n", True),
        (b"one\ntw", False),
        (gzip.compress(b"tw"), True),
    ):
        (tmp_path / "a").write_bytes(text)
        (split,) = plan_splits(root, [(FileStat("a", len(text), 0), "digest")], 1 << 20)
        with (
            nullcontext() if whole else pytest.raises(DataGateError, match="file digest: its last line has no end")
        ):
            check_last_line(split)


def test_a_gzip_cut_short_is_refused(tmp_path: Path) -> None:
    stored = gzip.compress(random.Random(1).randbytes(100_000))[:-1000]
    (tmp_path / "cut.gz").write_bytes(stored)
    with pytest.raises(DataGateError, match="damaged"):
        read_all(tmp_path, "cut.gz", raw_text.Codec.GZIP, [0, len(stored)])


def test_damaged_bytes_inside_a_bgzip_are_refused(tmp_path: Path) -> None:
    stored = bytearray(bgzip(random.Random(1).randbytes(5000) + b"\n"))
    stored[1500] ^= 0xFF
    (tmp_path / "bad.gz").write_bytes(stored)
    with pytest.raises(DataGateError, match="damaged"):
        read_all(tmp_path, "bad.gz", Codec.BGZF, [0, len(stored)])
