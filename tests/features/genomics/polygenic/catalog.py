"""Files of the PGS Catalog and of its tools, as shared/data has them."""

import tarfile

from tests.command import SHARED

CATALOG = SHARED / "pgs/pgs.tar.gz"


def stored(name: str) -> bytes:
    """One file of the archive."""
    with tarfile.open(CATALOG) as archive:
        member = next(entry for entry in archive.getmembers() if entry.name.removeprefix("./") == name)
        stream = archive.extractfile(member)
        assert stream
        return stream.read()
