"""The lines above a VCF file's records: what each must look like, and what they declare of INFO and FORMAT.

Versions 4.1 to 4.5 (https://samtools.github.io/hts-specs/, section 1.4); where the text leaves it open, as the
EBI's validator reads it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeVar

T = TypeVar("T")
Version = tuple[int, int]


class NonconformingError(Exception):
    """Which rule a line breaks; never the line's text."""


@dataclass(frozen=True, slots=True)
class Field:
    """An INFO or FORMAT field: how many values (a count, or a letter such as A, R, G or `.`), and of which types
    they may be."""

    number: str
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a file by their ids: those that it declares and those that its version reserves."""

    version: Version
    info: dict[str, Field]
    format: dict[str, Field]


def read_fields(lines: Sequence[str]) -> Fields:
    """What the `##` lines declare, the first of them ##fileformat. NonconformingError says which line is wrong."""
    fields = _numbered(1, lambda: reserved(_version(lines[0])))
    for number, line in enumerate(lines[1:], start=2):
        _numbered(number, partial(_read_line, line, fields))
    return fields


def reserved(version: Version) -> Fields:
    """The fields that a version of the specification has a meaning for."""
    info, form = _reserved(version)
    return Fields(version, dict(info), dict(form))


def _numbered(line: int, read: Callable[[], T]) -> T:
    try:
        return read()
    except NonconformingError as error:
        raise NonconformingError(f"line {line}: {error}") from None


def _version(line: str) -> Version:
    found = re.fullmatch(r"##fileformat=VCFv4\.([1-5])", line)
    if found is None:
        raise NonconformingError("expected ##fileformat=VCFv4.1, or 4.2 to 4.5")
    return 4, int(found[1])


_NO_FLAG = ("Integer", "Float", "Character", "String")
_INFO = """AA 1 String,AC A Integer,AD R Integer,ADF R Integer,ADR R Integer,AF A Float,AN 1 Integer,BQ 1 Float,
CIGAR A String,DB 0 Flag,DP 1 Integer,END 1 Integer,H2 0 Flag,H3 0 Flag,MQ 1 Integer|Float,MQ0 1 Integer,
NS 1 Integer,SOMATIC 0 Flag,VALIDATED 0 Flag,1000G 0 Flag"""
_FORMAT = """AD R Integer,ADF R Integer,ADR R Integer,DP 1 Integer,EC A Integer,FT 1 String,GL G Float,
GLE G String,GP G Float,GQ 1 Integer,GT 1 String,HQ 2 Integer,MQ 1 Integer,PL G Integer,PQ 1 Integer,
PS 1 Integer"""


@cache
def _reserved(version: Version) -> tuple[dict[str, Field], dict[str, Field]]:
    absent = {"AD", "ADF", "ADR"} if version < (4, 3) else {"GLE"}
    tables = []
    for text in (_INFO, _FORMAT):
        rows = [row.split() for row in text.split(",")]
        tables.append({name: Field(n, tuple(t.split("|"))) for name, n, t in rows if name not in absent})
    return tables[0], tables[1]


def _read_line(line: str, fields: Fields) -> None:
    found = re.fullmatch(r"##([^=\s<>]+)=(.+)", line)
    if found is None:
        raise NonconformingError("expected ##key=value")
    key, value = found.groups()
    if key in _LINES:
        _LINES[key](value, fields)


_ITEM = re.compile(r'([^=,<>"\s]+)=("(?:[^"\\]|\\.)*"|\[[^\[\]"]*\]|[^",<>\s\[][^,<>\s]*)(?:,|$)')


def _items(value: str) -> dict[str, str]:
    """The pairs between the angle brackets, in their order; texts keep their quotes."""
    if not (value.startswith("<") and value.endswith(">")):
        raise NonconformingError("expected <key=value,...>")
    items, at, inside = {}, 0, value[1:-1]
    while at < len(inside):
        found = _ITEM.match(inside, at)
        if found is None:
            raise NonconformingError("expected key=value pairs, separated by commas, and texts in double quotes")
        items[found[1]], at = found[2], found.end()
    return items


def _need(items: dict[str, str], *names: str) -> None:
    if tuple(items)[: len(names)] != names:
        raise NonconformingError(f"expected {', '.join(names)}, in this order")


def _counted(items: dict[str, str], version: Version, types: Sequence[str]) -> Field:
    letters = ["A", "G", "."] if version < (4, 2) else ["A", "R", "G", "."]
    letters += ["P"] if version >= (4, 4) else []
    letters += ["LA", "LR", "LG", "M"] if version >= (4, 5) else []
    number, kind = items["Number"], items["Type"]
    if not (re.fullmatch("[0-9]{1,9}", number) or number in letters):
        raise NonconformingError(f"expected Number to be a count or one of {' '.join(letters)}")
    if kind not in types:
        raise NonconformingError(f"expected Type to be one of {', '.join(types)}")
    return Field(number, (kind,))


def _described(items: dict[str, str]) -> None:
    if not items["Description"].startswith('"'):
        raise NonconformingError("expected Description in double quotes")


def _info(value: str, fields: Fields) -> None:
    _declare(value, fields.version, (*_NO_FLAG, "Flag"), fields.info, _reserved(fields.version)[0])


def _format(value: str, fields: Fields) -> None:
    _declare(value, fields.version, _NO_FLAG, fields.format, _reserved(fields.version)[1])


def _declare(
    value: str, version: Version, types: Sequence[str], declared: dict[str, Field], known: dict[str, Field]
) -> None:
    items = _items(value)
    _need(items, "ID", "Number", "Type", "Description")
    _described(items)
    name, found = items["ID"], _counted(items, version, types)
    wanted = known.get(name)
    if wanted and (found.number != wanted.number or found.types[0] not in wanted.types):
        raise NonconformingError(f"expected {name} with Number={wanted.number},Type={' or '.join(wanted.types)}")
    declared[name] = found


def _filter(value: str, _: Fields) -> None:
    items = _items(value)
    _need(items, "ID", "Description")
    _described(items)


def _alt(value: str, fields: Fields) -> None:
    items = _items(value)
    if "Number" in items or "Type" in items:
        _need(items, "ID", "Number", "Type", "Description")
        _counted(items, fields.version, _NO_FLAG)
    _need({name: items[name] for name in items if name not in ("Number", "Type")}, "ID", "Description")
    _described(items)
    kind, colon, _ = items["ID"].partition(":")
    if (colon or fields.version < (4, 3)) and kind not in ("DEL", "INS", "DUP", "INV", "CNV"):
        raise NonconformingError("expected ID to be DEL, INS, DUP, INV or CNV, or one of them and a subtype")


def _meta(value: str, fields: Fields) -> None:
    items = _items(value)
    _need(items, "ID", "Number", "Type", "Values")
    _counted(items, fields.version, _NO_FLAG)
    if not items["Values"].startswith("["):
        raise NonconformingError("expected Values in square brackets")


def _contig(value: str, fields: Fields) -> None:
    _named(_items(value), fields)


def _sample(value: str, fields: Fields) -> None:
    items = _items(value)
    _named(items, fields)
    if fields.version < (4, 3):
        _need(items, "ID", "Genomes", "Mixture", "Description")
        if any(text.startswith('"') for name, text in items.items() if name != "Description"):
            raise NonconformingError("expected only Description in double quotes")


def _pedigree(value: str, fields: Fields) -> None:
    items = _items(value)
    if fields.version >= (4, 3):
        _need(items, "ID")
    if not all(re.fullmatch(r"[\w.-]+", item) for item in items.values()):
        raise NonconformingError("expected names of letters, digits, points, underscores and hyphens")


def _named(items: dict[str, str], fields: Fields) -> None:
    _need(items, "ID")
    if fields.version >= (4, 3) and not CONTIG.fullmatch(items["ID"]):
        raise NonconformingError("expected an ID without asterisks, commas, brackets and spaces")


CONTIG = re.compile(r"[0-9A-Za-z!#$%&+./:;?@^_|~=-]+")
"""A contig's name since 4.3, as the EBI's validator has it; later texts of 4.3 let `*` follow the first letter."""

_URL = r"\w[\w+.-]*://(?:[^@/\s<>]+@)?(?:[A-Za-z][\w.-]*|\d+(?:\.\d+){3})(?::\d+)?(?:/[^\s<>]*)?"
_FILE = r"file:///[^\s<>]+"


def _assembly(value: str, _: Fields) -> None:
    if not re.fullmatch(f"{_URL}|{_FILE}", value):
        raise NonconformingError("expected a URL")


def _pedigree_db(value: str, _: Fields) -> None:
    if not re.fullmatch(f"<(?:{_URL}|{_FILE})>", value):
        raise NonconformingError("expected a URL in angle brackets")


_LINES: dict[str, Callable[[str, Fields], None]] = {
    "INFO": _info,
    "FORMAT": _format,
    "FILTER": _filter,
    "ALT": _alt,
    "META": _meta,
    "contig": _contig,
    "SAMPLE": _sample,
    "PEDIGREE": _pedigree,
    "assembly": _assembly,
    "pedigreeDB": _pedigree_db,
}
