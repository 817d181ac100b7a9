"""A page as a list of blocks, and its two writers: HTML and Markdown.

Whoever fills a page gives plain text; the writers escape it.
"""

import re
from dataclasses import dataclass, field
from importlib import resources

from jinja2 import Environment, StrictUndefined

LONGEST_NARROW = 40  # characters in a cell


@dataclass(frozen=True, slots=True)
class Value:
    """A number and what never leaves its side: interval, n, events."""

    main: str
    aside: str = ""

    def __str__(self) -> str:
        return f"{self.main} {self.aside}".strip()


Cell = str | int | Value


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str
    tone: str = "plain"  # or: lead, quiet, note, warning
    kind: str = "paragraph"


@dataclass(frozen=True, slots=True)
class Bullets:
    lines: list[str]
    kind: str = "bullets"


@dataclass(frozen=True, slots=True)
class Table:
    """`folded` hides it in HTML behind its caption until it is asked for."""

    caption: str
    columns: list[str]
    rows: list[list[Cell]]
    folded: bool = False
    kind: str = "table"

    @property
    def wide(self) -> bool:
        """A phone shows it row by row, each cell with its column's name."""
        longest = max((len(str(cell)) for row in self.rows for cell in row), default=0)
        return len(self.columns) > 3 or longest > LONGEST_NARROW


@dataclass(frozen=True, slots=True)
class Figure:
    """An SVG that carries its own title and description; `caption` says what to see in it."""

    svg: str
    caption: str


@dataclass(frozen=True, slots=True)
class Figures:
    """Side by side where there is room."""

    figures: list[Figure]
    kind: str = "figures"


@dataclass(frozen=True, slots=True)
class Code:
    title: str
    text: str
    kind: str = "code"


Block = Paragraph | Bullets | Table | Figures | Code


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    blocks: list[Block] = field(default_factory=list)
    level: int = 2


@dataclass(frozen=True, slots=True)
class Document:
    title: str
    subtitle: str
    sections: list[Section]


def to_html(document: Document) -> bytes:
    """One page that needs nothing beside it: no script, no font, no picture to fetch."""
    source = (resources.files(__package__) / "report.html.j2").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(source).render(page=document).encode()


def to_markdown(document: Document) -> bytes:
    """The same words and tables; figures are left out."""
    parts = [f"# {_escaped(document.title)}", _escaped(document.subtitle)]
    for section in document.sections:
        parts.append(f"{'#' * section.level} {_escaped(section.title)}")
        parts += [text for block in section.blocks if (text := _block(block))]
    return ("\n\n".join(parts) + "\n").encode()


def _block(block: Block) -> str:
    match block:
        case Paragraph():
            return f"**{_escaped(block.text)}**" if block.tone == "warning" else _escaped(block.text)
        case Bullets():
            return "\n".join(f"- {_escaped(item)}" for item in block.lines)
        case Table():
            return _table(block)
        case Code():
            return f"{_escaped(block.title)}\n\n" + _indented(block.text)
        case Figures():
            return ""


def _table(table: Table) -> str:
    rows = [[_escaped(column) for column in table.columns], [_ruler(table, i) for i in range(len(table.columns))]]
    rows += [[_escaped(_text(cell)) for cell in row] for row in table.rows]
    return "\n".join([f"{_escaped(table.caption)}\n", *(f"| {' | '.join(row)} |" for row in rows)])


def _ruler(table: Table, column: int) -> str:
    """Columns of counts are set to the right."""
    numeric = bool(table.rows) and all(isinstance(row[column], int) for row in table.rows)
    return "---:" if numeric else "---"


def _text(cell: Cell) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _indented(text: str) -> str:
    """A code block whose content cannot end it."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is: no tag, no emphasis, no cell border, no new line."""
    plain = re.sub(r"([\\`*\[\]|]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"^(\d*)([#.+-]+)(?=\s)", r"\1\\\2", plain)
