"""Files of the PGS Catalog and of its tools, as shared/data has them."""

import tarfile
from pathlib import Path

CATALOG = Path(__file__).parents[5] / "shared" / "data" / "pgs" / "pgs.tar.gz"


def stored(name: str) -> bytes:
    """One file of the archive."""
    with tarfile.open(CATALOG) as archive:
        member = next(entry for entry in archive.getmembers() if entry.name.removeprefix("./") == name)
        stream = archive.extractfile(member)
        assert stream
        return stream.read()
