"""The INFO keys that the configuration chooses, typed as each file's header declares them.

Format: VCF 4.3, https://samtools.github.io/hts-specs/VCFv4.3.pdf, section 1.4.2. Where a record has several ALTs,
each variant has its own values of a key with one for each ALT or allele (Number A, R), as `bcftools norm -m -`
splits them, and all values of any other key.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from features.contract.errors import DataGateError
from features.genomics.formats.header import Header, described
from features.genomics.numbers import WrongNumberError

_DECLARED = re.compile(r"##INFO=<(.*)>\s*")
_FLAG, _TEXTS = "Flag", ("String", "Character")
_NUMBERS = {
    "Integer": re.compile(r"[-+]?[0-9]+"),
    "Float": re.compile(
        r"[-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]{1,3})?|inf|infinity|nan)", re.IGNORECASE | re.ASCII
    ),
}

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

    @property
    def kind(self) -> str:
        return "texts" if self.is_text else "numbers"

    def read(self, text: str) -> Values:
        """The values that a VCF has behind the key and its `=`; none where it is missing, and of a flag a 1.
        WrongNumberError where they are of another type."""
        if self.type == _FLAG:
            return [1.0]
        words = [] if text in ("", ".") else text.split(",")
        given = [None if word in ("", ".") else word for word in words]
        if self.is_text:
            return given
        return [None if word is None else self._number(word) for word in given]

    def _number(self, word: str) -> float:
        if not _NUMBERS[self.type].fullmatch(word):
            raise WrongNumberError
        return float(word)

    def of_alt(self, values: Values, alt: int, alts: int) -> Values:
        """Those of the ALT of this number, from 1 on. WrongNumberError where there are not as many as alleles."""
        chosen = {"A": [alt - 1], "R": [0, alt]}.get(self.number)
        if chosen is None:
            return values
        if len(values) != alts + (self.number == "R"):
            raise WrongNumberError
        return [values[place] for place in chosen]


Fields = Mapping[str, InfoField]


@dataclass(frozen=True, slots=True)
class Annotation:
    """An INFO key that names the genes or consequences of a record, and how it is declared, but as text."""

    key: str
    field: InfoField

    def of_alt(self, values: Values, alt: int, alts: int) -> str | None:
        """What is said of the ALT of this number where each has its own (Number A, R), else the first value.
        WrongNumberError as of InfoField.of_alt."""
        own = self.field.of_alt(values, alt, alts) if values else [None]
        found = own[-1] if self.field.number == "R" else own[0]
        return None if found is None else str(found)


def read_declared(lines: Iterable[str]) -> dict[str, InfoField]:
    """What the lines of a header declare of INFO; of a key that comes twice, as the first does."""
    found: dict[str, InfoField] = {}
    for line in lines:
        declaration = _DECLARED.fullmatch(line)
        about = described(declaration[1]) if declaration else {}
        if "ID" in about:
            found.setdefault(about["ID"], InfoField(about.get("Number", "."), about.get("Type", "String")))
    return found


def choose(headers: Iterable[Header], keys: Sequence[str], known: Mapping[str, str]) -> dict[str, Fields]:
    """By digest of the file, the fields of these keys; none for a file of a format without INFO. DataGateError for
    one that does not declare a key, or not as another file does, or as the `known` kinds of earlier ones."""
    found: dict[str, Fields] = {}
    so_far = dict(known)
    for header in headers:
        if header.info is None or not keys:
            continue
        found[header.digest] = fields = _declared(header, keys, "genomics.info")
        for key, field in fields.items():
            if field.type not in (_FLAG, *_TEXTS, *_NUMBERS):
                raise DataGateError(
                    f"file {header.digest}: its header declares INFO {key} as {field.type}; expected one of "
                    f"{', '.join((*_NUMBERS, _FLAG, *_TEXTS))}; correct the header (bcftools reheader)"
                )
            if so_far.setdefault(key, field.kind) != field.kind:
                raise DataGateError(
                    f"file {header.digest}: its header declares INFO {key} as {field.type}, and another "
                    "file as of another type; correct the headers (bcftools reheader), or leave the key out of "
                    "genomics.info"
                )
    return found


def turned(info: Info, fields: Fields) -> Info:
    """What still holds where REF and the one ALT change places: what is said of an ALT or a genotype does not."""
    held = {key: values for key, values in info.items() if fields[key].number not in ("A", "G")}
    return {key: values[::-1] if fields[key].number == "R" else values for key, values in held.items()}


def annotation(header: Header, key: str | None, setting: str) -> Annotation | None:
    """Of this key, if it is one, in a file of these samples. DataGateError where its header does not declare it:
    nothing would tell that the variants have none."""
    if key is None or header.info is None or not header.names:
        return None
    return Annotation(key, replace(_declared(header, [key], setting)[key], type="String"))


def _declared(header: Header, keys: Sequence[str], setting: str) -> dict[str, InfoField]:
    """The fields of these keys, which this setting names. DataGateError for one that is not declared."""
    declared = read_declared(header.info or ())
    missing = [key for key in keys if key not in declared]
    if missing:
        raise DataGateError(
            f"file {header.digest}: its header declares no INFO {', '.join(missing)}, which {setting} names; "
            "correct either (bcftools annotate adds a line to a header), or leave the key out"
        )
    return {key: declared[key] for key in keys}


def kinds(chosen: Mapping[str, Fields]) -> dict[str, str]:
    """Of each key whether its values are numbers or texts."""
    return {key: field.kind for fields in chosen.values() for key, field in fields.items()}


def read_info(text: str, fields: Fields) -> Info:
    """The values of these keys in an INFO column. WrongNumberError as of InfoField.read."""
    found: dict[str, Values] = {}
    for item in text.split(";") if fields else ():
        key, _, value = item.partition("=")
        if key in fields and key not in found:
            found[key] = fields[key].read(value)
    return found
