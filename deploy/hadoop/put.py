#!/usr/bin/env python3
"""Put a file, or all of a folder, on HDFS: `put.py SOURCE hdfs://HOST:PORT/TARGET`.

For machines without `hdfs dfs -put`. Permissions go with the files, so that a key stays its owner's alone;
a file that is there already is replaced. HDFS takes some 0.4 s to close a file: they go side by side.
"""

# ruff: noqa: T201 - what it prints is what it is for
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from hdfs_native.fsspec import HdfsFileSystem

SIDE_BY_SIDE = 32


def main() -> int:
    """Exit codes: 0 done, 2 usage."""
    if len(sys.argv) != 3 or not Path(sys.argv[1]).exists() or not sys.argv[2].startswith("hdfs://"):
        print(__doc__, file=sys.stderr)
        return 2
    source, target = Path(sys.argv[1]), urlsplit(sys.argv[2])
    files = [source] if source.is_file() else [file for file in sorted(source.rglob("*")) if file.is_file()]
    names = {
        file: f"{target.path}/{file.relative_to(source)}" if source.is_dir() else target.path for file in files
    }
    hdfs = HdfsFileSystem(host=target.hostname, port=target.port, skip_instance_cache=True)
    for folder in sorted({name.rpartition("/")[0] for name in names.values()}):
        hdfs.makedirs(folder, exist_ok=True)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        list(pool.map(lambda file: put(hdfs, file, names[file]), files))
    print(f"{len(files):,} files to {sys.argv[2]}", file=sys.stderr)
    return 0


def put(hdfs: HdfsFileSystem, file: Path, name: str) -> None:
    """One file and its permissions."""
    with file.open("rb") as stream, hdfs.open(name, "wb") as sink:
        shutil.copyfileobj(stream, sink, 8 << 20)
    hdfs.client.set_permission(name, file.stat().st_mode & 0o777)


if __name__ == "__main__":
    sys.exit(main())
