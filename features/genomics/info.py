"""The INFO keys that the configuration chooses, typed as each file's header declares them.

Format: VCF 4.3, https://samtools.github.io/hts-specs/VCFv4.3.pdf, section 1.4.2. Where a record has several ALTs,
each variant has its own values of a key with one for each ALT or allele (Number A, R), as `bcftools norm -m -`
splits them, and all values of any other key.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from features.contract.errors import DataGateError
from features.genomics.formats.header import Header, described
from features.genomics.numbers import WrongNumberError

_DECLARED = re.compile(r"##INFO=<(.*)>\s*")
_FLAG = "Flag"
_TEXTS = ("String", "Character")

Values = Sequence[float | str | None]
"""Of one key all are numbers, or all are texts."""
Info = Mapping[str, Values]


@dataclass(frozen=True, slots=True)
class InfoField:
    """How many values a key has (a count, or A, R, G or `.`), and of what type, in the words of the header."""

    number: str
    type: str

    @property
    def is_text(self) -> bool:
        return self.type in _TEXTS

    def read(self, text: str) -> Values:
        """The values that a VCF has behind the key and its `=`; none where it is missing, and of a flag a 1.
        WrongNumberError where they are of another type."""
        if self.type == _FLAG:
            return [1.0]
        words = [] if text in ("", ".") else text.split(",")
        given = [None if word in ("", ".") else word for word in words]
        if self.is_text:
            return given
        return [None if word is None else _number(word) for word in given]

    def of_alt(self, values: Values, alt: int, alts: int) -> Values:
        """Those of the ALT of this number, from 1 on. WrongNumberError where there are not as many as alleles."""
        chosen = {"A": [alt - 1], "R": [0, alt]}.get(self.number)
        if chosen is None:
            return values
        if len(values) != alts + (self.number == "R"):
            raise WrongNumberError
        return [values[place] for place in chosen]


Fields = Mapping[str, InfoField]


def read_declared(lines: Iterable[str]) -> dict[str, InfoField]:
    """What the lines of a header declare of INFO; of a key that comes twice, as the first does."""
    found: dict[str, InfoField] = {}
    for line in lines:
        declaration = _DECLARED.fullmatch(line)
        about = described(declaration[1]) if declaration else {}
        if "ID" in about:
            found.setdefault(about["ID"], InfoField(about.get("Number", "."), about.get("Type", "String")))
    return found


def choose(headers: Iterable[Header], keys: Sequence[str]) -> dict[str, Fields]:
    """By digest of the file, the fields of these keys; none for a file of a format without INFO. DataGateError for
    one that does not declare a key, or of another type than another file."""
    found: dict[str, Fields] = {}
    is_text: dict[str, bool] = {}
    for header in headers:
        if header.info is None or not keys:
            continue
        declared = read_declared(header.info)
        missing = [key for key in keys if key not in declared]
        if missing:
            raise DataGateError(
                f"file {header.digest}: its header declares no INFO {', '.join(missing)}, which genomics.info "
                "names; correct either, or leave the key out"
            )
        found[header.digest] = {key: declared[key] for key in keys}
        for key in keys:
            if is_text.setdefault(key, declared[key].is_text) != declared[key].is_text:
                raise DataGateError(
                    f"file {header.digest}: its header declares INFO {key} as {declared[key].type}, and another "
                    "file as of another type; correct the headers (bcftools reheader), or leave the key out of "
                    "genomics.info"
                )
    return found


def read_info(text: str, fields: Fields) -> Info:
    """The values of these keys in an INFO column. WrongNumberError as of InfoField.read."""
    found: dict[str, Values] = {}
    for item in text.split(";") if fields else ():
        key, _, value = item.partition("=")
        if key in fields and key not in found:
            found[key] = fields[key].read(value)
    return found


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise WrongNumberError from None
