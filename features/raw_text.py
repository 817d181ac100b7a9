"""Text files as splits that tasks read side by side: plain, gzip, bgzip, bzip2 and zstd, recognised by content.

A split is a byte range of the stored file. A line belongs to the split that holds the byte before
its first one (the file's first line to the first split), so every line is read exactly once whatever
the ranges are. BGZF (bgzip) is a row of small gzip members, each naming its size in a `BC` field
(SAM specification, section 4.1), so a task can find the first member of its range and start there.
A plain gzip file, bzip2 and zstd have no such places and are one split.
"""

import bisect
import bz2
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import IO, Any

import pyarrow as pa
from isal import isal_zlib
from isal.igzip_lib import IsalError

from features.contract.errors import DataGateError
from features.contract.paths import FileStat, Location

BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
CHUNK_BYTES = 1 << 20
"""Of text, about: what a core's cache holds. A VCF may be thirty times its stored size."""
STORED_BYTES = 1 << 18
WHOLE = 1 << 62
"""More bytes than a file has, for one that is one split."""


class Codec(StrEnum):
    PLAIN = "plain"
    GZIP = "gzip"
    BGZF = "bgzf"
    BZIP2 = "bzip2"
    ZSTD = "zstd"

    @property
    def is_splittable(self) -> bool:
        return self in (Codec.PLAIN, Codec.BGZF)


@dataclass(frozen=True, slots=True)
class Split:
    """Bytes [start, end) of the file at `root`/`path`; `digest` stands for the path in all messages."""

    root: str
    path: str
    digest: str
    codec: Codec
    start: int
    end: int


@dataclass(slots=True)
class Chunk:
    """Whole lines, each with its newline (the file's last one may lack it).

    `anchors` are pairs (position in `data`, stored offset): a byte offset, or for BGZF the virtual
    offset (member offset << 16 | offset inside it) of that position.
    """

    data: bytes
    anchors: list[tuple[int, int]] = field(default_factory=list)

    def location(self, position: int, length: int) -> str:
        """Where these bytes lie in the file, as quarantine writes it: `<offset>+<length>`."""
        return f"{self.offset(position)}+{length}"

    def offset(self, position: int) -> int:
        """Where this byte lies in the file, stored as `anchors` are."""
        index = bisect.bisect_right(self.anchors, (position, sys.maxsize)) - 1
        at, offset = self.anchors[index]
        return offset + position - at


def plan_splits(root: Location, files: Sequence[tuple[FileStat, str]], target_bytes: int) -> list[Split]:
    """Cut files (each with the digest of its path) into splits of about `target_bytes` stored bytes."""
    splits: list[Split] = []
    for file, digest in files:
        codec = detect_codec(root / file.path, file.size, digest)
        step = target_bytes if codec.is_splittable else file.size
        for start in range(0, file.size, max(step, 1 << 16)):
            end = min(start + max(step, 1 << 16), file.size)
            splits.append(Split(root.uri, file.path, digest, codec, start, end))
    return splits


def detect_codec(location: Location, size: int, digest: str) -> Codec:
    """By content, not by name; a bgzip file without its end-of-file member was cut short."""
    if size == 0:
        raise DataGateError(f"file {digest}: it is empty, expected text with a header")
    with location.open() as stream:
        head = stream.read(18)
        if head[:3] == b"BZh":
            return Codec.BZIP2
        if head[:4] == b"\x28\xb5\x2f\xfd":
            return Codec.ZSTD
        if head[:2] != b"\x1f\x8b":
            return Codec.PLAIN
        if not _is_member(head):
            return Codec.GZIP
        stream.seek(max(size - len(BGZF_END), 0))
        if stream.read(len(BGZF_END)) != BGZF_END:
            raise DataGateError(
                f"file {digest}: the bgzip end-of-file block is missing, so the file was cut short; copy it again"
            )
    return Codec.BGZF


def read_chunks(split: Split) -> Iterator[Chunk]:
    """The lines that belong to a split, in chunks of about a megabyte."""
    with (Location(split.root) / split.path).open() as stream:
        try:
            yield from _whole_lines(split, _pieces(split, stream))
        except (IsalError, EOFError) as error:  # type: ignore[misc]  # the stub of isal gives an instance
            raise _damaged(split, error) from error


def text_lines(split: Split) -> Iterator[tuple[Chunk, int, bytes]]:
    """Each line of a split without its line end, the chunk it lies in and its position there."""
    for chunk in read_chunks(split):
        start, size = 0, len(chunk.data)
        while start < size:
            end = chunk.data.find(b"\n", start)
            end = size if end < 0 else end
            yield chunk, start, chunk.data[start:end].removesuffix(b"\r")
            start = end + 1


def lines_of(splits: Iterable[Split]) -> Iterator[tuple[Chunk, int, bytes]]:
    """`text_lines` of one split after another."""
    return chain.from_iterable(map(text_lines, splits))


def fields_of(line: bytes, most: int = -1) -> list[str]:
    """The fields of a line, the first so many of them and the rest. White space of ASCII separates them: that of
    Unicode is part of names."""
    return [field.decode(errors="replace") for field in line.split(None, most)]


def count_lines(split: Split) -> int:
    """How many lines belong to a split; the file's last one may lack its newline."""
    number, last = 0, b""
    for chunk in read_chunks(split):
        number += chunk.data.count(b"\n")
        last = chunk.data[-1:]
    return number + (last not in (b"", b"\n"))


def check_last_line(last: Split) -> None:
    """DataGateError for a file, whose last split this is, that ends inside a line."""
    if ends_inside_a_line(last):
        raise DataGateError(
            f"file {last.digest}: its last line has no end, so the file may have been cut short; copy it again, "
            "or end the line"
        )


def ends_inside_a_line(last: Split) -> bool:
    """Of a file whose last split this is. What is left of one that was cut short may look like another. (What is
    compressed tells by itself.)"""
    if last.codec is not Codec.PLAIN:
        return False
    with (Location(last.root) / last.path).open() as stream:
        stream.seek(last.end - 1)
        return bool(stream.read(1) != b"\n")


def read_whole(split: Split, skip: int, whole: Callable[[bytes], int]) -> Iterator[Chunk]:
    """A file's bytes to its end, from `skip` bytes behind the split's start, in chunks of about a megabyte that
    hold whole records; `whole` tells how many of the first bytes do."""
    with (Location(split.root) / split.path).open() as stream:
        try:
            rest = Chunk(b"")
            for data, anchors, _ in _pieces(split, stream):
                position, skip = min(skip, len(data)), skip - min(skip, len(data))
                moved = _shifted(anchors, len(rest.data) - position)
                rest = Chunk(rest.data + data[position:], rest.anchors + moved)
                cut = whole(rest.data)
                if cut:
                    yield Chunk(rest.data[:cut], rest.anchors)
                    rest = Chunk(rest.data[cut:], _shifted(rest.anchors, -cut))
            if rest.data:
                raise EOFError("it ends inside a record")
        except (IsalError, EOFError) as error:  # type: ignore[misc]  # the stub of isal gives an instance
            raise _damaged(split, error) from error


def _damaged(split: Split, error: BaseException) -> DataGateError:
    return DataGateError(f"file {split.digest}: the compressed data is damaged ({error}); copy it again")


def _whole_lines(split: Split, pieces: Iterator[tuple[bytes, list[tuple[int, int]], bool]]) -> Iterator[Chunk]:
    """Join pieces to whole lines: skip the first line unless it is ours, take one line past the end."""
    rest = Chunk(b"")
    skipping = split.start > 0
    for data, anchors, past_end in pieces:
        position = 0
        if skipping:
            position = data.find(b"\n") + 1
            if position == 0:
                if past_end:
                    return
                continue
            skipping = False
            if past_end:
                return
        joined = Chunk(rest.data + data[position:], rest.anchors + _shifted(anchors, len(rest.data) - position))
        cut = (joined.data.find(b"\n", len(rest.data)) if past_end else joined.data.rfind(b"\n")) + 1
        if past_end and cut:
            yield Chunk(joined.data[:cut], joined.anchors)
            return
        if cut:
            yield Chunk(joined.data[:cut], joined.anchors)
        rest = Chunk(joined.data[cut:], _shifted(joined.anchors, -cut))
    if rest.data and not skipping:
        yield rest


def _shifted(anchors: list[tuple[int, int]], by: int) -> list[tuple[int, int]]:
    """Move anchors with their bytes; of those before the first byte the last is kept, moved to it."""
    moved = [(at + by, offset) for at, offset in anchors]
    before = [(0, offset - at) for at, offset in moved if at <= 0]
    return before[-1:] + [anchor for anchor in moved if anchor[0] > 0]


def _pieces(split: Split, stream: IO[bytes]) -> Iterator[tuple[bytes, list[tuple[int, int]], bool]]:
    """Uncompressed bytes, their anchors, and whether they lie past the split's end."""
    if split.codec is Codec.BGZF:
        return _bgzf_pieces(split, stream)
    if split.codec is Codec.GZIP:
        return _streamed_pieces(stream, lambda: isal_zlib.decompressobj(31))
    if split.codec is Codec.BZIP2:
        return _streamed_pieces(stream, _Bzip2)
    if split.codec is Codec.ZSTD:
        return _zstd_pieces(stream)
    return _plain_pieces(split, stream)


def _plain_pieces(split: Split, stream: IO[bytes]) -> Iterator[tuple[bytes, list[tuple[int, int]], bool]]:
    stream.seek(split.start)
    at = split.start
    while True:
        past_end = at >= split.end
        wanted = CHUNK_BYTES if past_end else min(CHUNK_BYTES, split.end - at)
        data = stream.read(wanted)
        if not data:
            return
        yield data, [(0, at)], past_end
        at += len(data)


class _Bzip2:
    """A bz2.BZ2Decompressor that says of damaged data what those of gzip say."""

    def __init__(self) -> None:
        self._inner = bz2.BZ2Decompressor()

    def decompress(self, stored: bytes) -> bytes:
        try:
            return self._inner.decompress(stored)
        except OSError as error:
            raise EOFError(str(error)) from None

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


def _streamed_pieces(
    stream: IO[bytes], decompressor: Callable[[], Any]
) -> Iterator[tuple[bytes, list[tuple[int, int]], bool]]:
    """Of one compressed stream after another, whatever lies between their ends and the next beginning."""
    at = 0
    inflater = decompressor()
    while stored := stream.read(STORED_BYTES):
        while stored:
            data = inflater.decompress(stored)
            if data:
                yield data, [(0, at)], False
            at += len(data)
            stored = inflater.unused_data
            if inflater.eof:
                inflater = decompressor() if stored else inflater
    if not inflater.eof:
        raise EOFError("it ends in mid-stream")


def _zstd_pieces(stream: IO[bytes]) -> Iterator[tuple[bytes, list[tuple[int, int]], bool]]:
    at = 0
    try:
        text = pa.CompressedInputStream(stream, "zstd")
        while data := text.read(CHUNK_BYTES):
            yield data, [(0, at)], False
            at += len(data)
    except OSError as error:
        raise EOFError(str(error)) from None


def _bgzf_pieces(split: Split, stream: IO[bytes]) -> Iterator[tuple[bytes, list[tuple[int, int]], bool]]:
    at = split.start  # where the buffer starts in the file
    stream.seek(at)
    buffer = stream.read(STORED_BYTES)
    used = _first_member(buffer)
    while used < len(buffer):
        parts, anchors, size = [], [], 0
        past_end = at + used >= split.end
        while (
            size < CHUNK_BYTES and (past_end or at + used < split.end) and (stored := _member_size(buffer, used))
        ):
            anchors.append((size, (at + used) << 16))
            parts.append(isal_zlib.decompress(buffer[used : used + stored], wbits=31))
            size, used = size + len(parts[-1]), used + stored
        if size:
            yield b"".join(parts), anchors, past_end
        if not _member_size(buffer, used):
            more = stream.read(STORED_BYTES)
            if not more and used < len(buffer):
                raise EOFError("it ends inside a block")
            at, buffer, used = at + used, buffer[used:] + more, 0


def _first_member(buffer: bytes) -> int:
    """Where the first BGZF member starts; a match must be followed by another member or the end."""
    at = buffer.find(b"\x1f\x8b\x08\x04")
    while at >= 0:
        if _is_member(buffer[at : at + 18]):
            following = at + struct.unpack_from("<H", buffer, at + 16)[0] + 1
            if following >= len(buffer) or _is_member(buffer[following : following + 18], partial=True):
                return at
        at = buffer.find(b"\x1f\x8b\x08\x04", at + 1)
    return len(buffer)


def _member_size(buffer: bytes, at: int) -> int:
    """The stored size of the member at this place; 0 when the buffer does not hold all of it."""
    if len(buffer) < at + 18:
        return 0
    if not _is_member(buffer[at : at + 18]):
        raise EOFError("a block does not start with a BGZF header")
    size: int = struct.unpack_from("<H", buffer, at + 16)[0] + 1
    return size if len(buffer) >= at + size else 0


def _is_member(head: bytes, partial: bool = False) -> bool:
    """Whether these 18 bytes are a BGZF member's header (`partial`: as many of them as there are)."""
    if len(head) < 18:
        return partial and (b"\x1f\x8b\x08\x04".startswith(head[:4]) or head[:4] == b"\x1f\x8b\x08\x04")
    return head[:4] == b"\x1f\x8b\x08\x04" and head[10:16] == b"\x06\x00BC\x02\x00"
