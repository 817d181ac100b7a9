"""PLINK's sample files: .fam, and .psam, whose header names the columns; the samples of a fileset, in its order.

Format: https://www.cog-genomics.org/plink/2.0/formats#psam
"""

from collections.abc import Iterator, Sequence
from itertools import takewhile

from features.contract.errors import DataGateError
from features.genomics.formats.header import Header
from features.genomics.sexes import Sex
from features.raw_text import Split, fields_of, lines_of

_FAM = ["FID", "IID", "PAT", "MAT", "SEX", "PHENO1"]
_SEXES = {"1": Sex.MALE, "M": Sex.MALE, "2": Sex.FEMALE, "F": Sex.FEMALE}
"""In either case; any other value tells nothing."""

_Row = tuple[str, int, list[str]]
"""Where a line lies as quarantine writes it, its number, and its fields."""


def read_fam(digest: str, splits: Sequence[Split]) -> Header:
    """The samples of the fileset whose file of variants has this digest. DataGateError for lines of other than six
    columns, and for a header."""
    rows = list(_rows(splits))
    for _, number, fields in rows:
        if len(fields) != len(_FAM) or _is_header(fields):
            raise DataGateError(
                f"file {splits[0].digest}, line {number}: expected 6 columns of a sample, found {len(fields)} or "
                "a header; is it the .fam of this fileset?"
            )
    return _header(digest, splits[0].digest, rows, _FAM)


def read_psam(digest: str, splits: Sequence[Split]) -> Header:
    """As `read_fam`, of lines with as many columns as the header, or more; without a header they are those of a
    .fam, of which the last may be missing."""
    rows, where = list(_rows(splits)), splits[0].digest
    header = list(takewhile(lambda row: row[2] and row[2][0].startswith("#"), rows))
    body = [row for row in rows[len(header) :] if row[2]]
    columns = _columns(header[-1][2] if header else None, len(body[0][2]) if body else 0)
    if columns is None:
        raise DataGateError(
            f"file {where}, line {max(len(header), 1)}: expected a header of #FID IID, or #IID, and other names, "
            "each once, or without one the five or six columns of a .fam; is it the .psam of this fileset?"
        )
    for _, number, fields in body:
        if len(fields) < len(columns) or _is_header(fields):
            raise DataGateError(
                f"file {where}, line {number}: {len(fields)} columns or a header; expected the {len(columns)} "
                "columns of its header, which begins with #"
            )
    return _header(digest, where, body, columns)


def _is_header(fields: Sequence[str]) -> bool:
    """Also where it lacks its #, and would be taken for a sample."""
    return fields[0].startswith("#") or [name.upper() for name in fields[:2]] == ["FID", "IID"]


def _columns(header: Sequence[str] | None, width: int) -> list[str] | None:
    """Their names by the last line of the header, or by how many there are; None where they cannot be."""
    if header is None:
        return _FAM[:width] if width >= len(_FAM) - 1 else None
    columns = [header[0][1:], *header[1:]]
    sound = columns[0] == "IID" or columns[:2] == ["FID", "IID"]
    return columns if sound and len(set(columns)) == len(columns) else None


def _rows(splits: Sequence[Split]) -> Iterator[_Row]:
    for number, (chunk, start, line) in enumerate(lines_of(splits), start=1):
        yield chunk.location(start, len(line)), number, fields_of(line)


def _header(digest: str, where: str, rows: Sequence[_Row], columns: Sequence[str]) -> Header:
    """The individuals' own ids, and their sexes where there is such a column."""
    own, sex = columns.index("IID"), columns.index("SEX") if "SEX" in columns else None
    names = [fields[own] for _, _, fields in rows]
    if not names:
        raise DataGateError(f"file {where}: it has no samples; copy it again")
    twice = len(names) - len(set(names))
    if twice:
        raise DataGateError(f"file {where}: {twice} ids of its column IID come twice; give every sample its own")
    sexes = [] if sex is None else [_SEXES.get(fields[sex].upper(), Sex.UNKNOWN) for _, _, fields in rows]
    return Header(digest, names, lambda sample: (where, rows[sample][0]), sexes)
