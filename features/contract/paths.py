"""One way to name and touch files, on `file://` and `hdfs://` alike."""

import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import fsspec

from features.contract.errors import ConfigError, DataGateError


@dataclass(frozen=True, slots=True)
class FileStat:
    """A file below a root: `path` is relative to it; `mtime` in milliseconds since the epoch."""

    path: str
    size: int
    mtime: int


@dataclass(frozen=True)
class Location:
    """A folder or file by URI; a plain path becomes a `file://` URI."""

    uri: str

    @classmethod
    def parse(cls, text: str) -> "Location":
        scheme = urlsplit(text).scheme
        if scheme in ("", "file"):
            path = text.removeprefix("file://") if scheme else text
            return cls("file://" + str(Path(path).expanduser().absolute()))
        if scheme == "hdfs":
            return cls(text.rstrip("/"))
        raise ConfigError(f"{text}: expected a path, a file:// or an hdfs:// URI, not {scheme}://")

    def __reduce__(self) -> tuple[type["Location"], tuple[str]]:
        """By its URI alone: a file system does not travel, the receiver finds its own configuration."""
        return Location, (self.uri,)

    def __truediv__(self, relative: str) -> "Location":
        return Location(f"{self.uri}/{relative}")

    @property
    def on_hdfs(self) -> bool:
        return self.uri.startswith("hdfs://")

    @cached_property
    def filesystem(self) -> Any:
        """The fsspec filesystem; for HDFS the one of hdfs-native, which needs no libhdfs."""
        if not self.on_hdfs:
            return fsspec.filesystem("file")
        parts = urlsplit(self.uri)
        return _hdfs(parts.hostname, parts.port, os.getpid())

    @property
    def path(self) -> str:
        """The path inside its filesystem."""
        return urlsplit(self.uri).path if self.on_hdfs else self.uri.removeprefix("file://")

    def exists(self) -> bool:
        """Whether it is there; a file system that does not answer is an error, not a no."""
        try:
            self.filesystem.info(self.path)
        except FileNotFoundError:
            return False
        return True

    def read_bytes(self) -> bytes:
        with self.open("rb") as stream:
            data: bytes = stream.read()
            return data

    def open(self, mode: str = "rb") -> IO[Any]:
        stream: IO[Any] = self.filesystem.open(self.path, mode)
        return stream

    def write_bytes(self, data: bytes) -> None:
        """Write whole or not at all: a temporary name beside it, then a rename."""
        temporary = self._temporary(data)
        if self.on_hdfs:
            self.filesystem.mv(temporary, self.path, overwrite=True)
        else:
            Path(temporary).replace(self.path)

    def create_exclusive(self, data: bytes) -> bool:
        """Create the file whole; False when it is there already (atomic on both file systems)."""
        temporary = self._temporary(data)
        try:
            if self.on_hdfs:
                self.filesystem.mv(temporary, self.path, overwrite=False)
            else:
                os.link(temporary, self.path)
        except FileExistsError:
            return False
        finally:
            Location(self.uri.removesuffix(self.path) + temporary).delete()
        return True

    def _temporary(self, data: bytes) -> str:
        """A new file beside this one."""
        folder, _, name = self.path.rpartition("/")
        temporary = f"{folder}/.{name}.{uuid.uuid4().hex}"
        self.filesystem.makedirs(folder, exist_ok=True)
        try:
            with self.filesystem.open(temporary, "wb") as stream:
                stream.write(data)
        except OSError:
            # On a full disk the half of a file would take the last of the room.
            Location(self.uri.removesuffix(self.path) + temporary).delete()
            raise
        return temporary

    def restrict(self) -> None:
        """Leave the file readable by its owner alone."""
        if self.on_hdfs:
            self.filesystem.client.set_permission(self.path, 0o400)
        else:
            Path(self.path).chmod(0o400)

    def delete(self) -> None:
        if self.exists():
            self.filesystem.rm(self.path, recursive=True)

    def files(self) -> Iterator[FileStat]:
        """Every file below this folder, by path; hidden ones (`.name`, `_name`) left out.

        A folder that cannot be listed is an error: its files must not vanish from a study in silence.
        """
        if not self.exists():
            return
        try:
            entries = sorted(self._walk(self.path), key=lambda entry: entry["name"])
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise DataGateError(f"{self.uri}: a folder below it cannot be listed ({reason})") from None
        for entry in entries:
            path = entry["name"]
            relative = path[path.index(self.path) + len(self.path) :].lstrip("/")
            if not any(part.startswith((".", "_")) for part in relative.split("/")):
                yield FileStat(relative, int(entry["size"]), _mtime(entry))

    def _walk(self, folder: str) -> Iterator[dict[str, Any]]:
        """By hand: fsspec's own walk leaves out what it cannot list, below the top even when told not to."""
        for entry in self.filesystem.ls(folder, detail=True):
            if entry["type"] == "directory":
                yield from self._walk(entry["name"])
            else:
                yield entry


@cache
def _hdfs(host: str | None, port: int | None, process: int) -> Any:  # noqa: ARG001
    """One client a process, kept for good.

    fsspec's own cache is cleared in every forked child, as in the one that becomes Spark's Java; the
    last reference dropped there waits for ever for threads that only the parent has.
    """
    use_container_hadoop_conf()
    from hdfs_native.fsspec import HdfsFileSystem

    return HdfsFileSystem(host=host, port=port, skip_instance_cache=True)


def matches(path: str, glob: str) -> bool:
    """Whether the whole relative path fits: `*` and `?` inside a folder, `**` for any folders."""
    parts = ["(?:[^/]+/)*" if part == "**" else _segment(part) + "/" for part in glob.split("/")]
    return re.fullmatch("".join(parts).removesuffix("/"), path) is not None


def _segment(part: str) -> str:
    return re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")


def use_container_hadoop_conf() -> None:
    """In a YARN container the Hadoop configuration lies in Spark's archive and nothing says so."""
    shipped = Path.cwd() / "__spark_conf__" / "__hadoop_conf__"
    if shipped.is_dir():
        os.environ["HADOOP_CONF_DIR"] = str(shipped)


def _mtime(entry: dict[str, Any]) -> int:
    value = entry.get("mtime", entry.get("modification_time", 0))
    return int(value * 1000) if isinstance(value, float) else int(value)
