"""A record of a VCF file beside the specification: each column by its rule, each value by what its field declares.

Section 1.6 of https://samtools.github.io/hts-specs/; where the text leaves it open, as the EBI's validator reads
it. A genotype's values are counted by its ploidy.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

from features.genomics.conformance.header import CONTIG, Field, Fields, NonconformingError
from features.genomics.genotype import read_biallelic

FIXED = ("CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")


@dataclass(frozen=True, slots=True)
class Record:
    """What the order of records is judged by: contig, POS, REF and the ALTs that are bases."""

    contig: str
    position: int
    ref: str
    alts: tuple[str, ...]


def check_record(line: bytes, fields: Fields, samples: int) -> Record:
    """A data line of a file with so many samples; NonconformingError names the column and the rule."""
    try:
        columns = line.decode().split("\t", 9)
    except UnicodeDecodeError:
        raise NonconformingError("expected UTF-8") from None
    if len(columns) != (len(FIXED) if samples == 0 else 10):
        raise NonconformingError("expected the columns of the header, separated by tabs")
    contig, pos, ids, ref, alt, qual, filters, info = columns[: len(FIXED)]
    _contig(contig, fields)
    position = _position(pos)
    _ids(ids)
    _ref(ref)
    alts = _alts(alt)
    _qual(qual)
    _filters(filters)
    _info(info, fields, len(alts))
    if samples:
        _samples(columns[8], columns[9], fields, len(alts), samples)
    bases = tuple(a.upper() for a in alts if _BASES.fullmatch(a))
    return Record(contig.strip("<>"), position, ref.upper(), bases)


def _expect(sound: object, column: str, rule: str) -> None:
    if not sound:
        raise NonconformingError(f"{column}: expected {rule}")


_BASES = re.compile(r"[ACGTNacgtn]+")
_BREAKEND = re.compile(r"(?:[ACGTNacgtn.]+[\[\]][^\[\]\s]+[\[\]]|[\[\]][^\[\]\s]+[\[\]][ACGTNacgtn.]+)")
_ALT = re.compile(rf"{_BASES.pattern}|\*|<[^<>\s,]+>|{_BREAKEND.pattern}|\.[ACGTNacgtn]+|[ACGTNacgtn]+\.")


def _contig(contig: str, fields: Fields) -> None:
    name = contig[1:-1] if contig.startswith("<") and contig.endswith(">") else contig
    pattern = r"[^\s,<>]+" if fields.version < (4, 3) else CONTIG.pattern
    _expect(re.fullmatch(pattern, name), "CHROM", "a contig's name, without spaces, commas and single brackets")


def _position(pos: str) -> int:
    _expect(re.fullmatch("[0-9]{1,10}", pos), "POS", "a whole number, 0 or more, of ten digits at most")
    return int(pos)


def _ids(ids: str) -> None:
    names = ids.split(";")
    _expect(all(names) and not re.search(r"\s", ids), "ID", "names separated by semicolons, without spaces")
    _expect(len(set(names)) == len(names), "ID", "each name once")


def _ref(ref: str) -> None:
    _expect(_BASES.fullmatch(ref), "REF", "bases A, C, G, T or N")


def _alts(alt: str) -> list[str]:
    if alt == ".":
        return []
    alts = alt.split(",")
    _expect(
        all(map(_ALT.fullmatch, alts)),
        "ALT",
        "bases, *, <symbolic alleles> or breakends, separated by commas, or a point alone",
    )
    return alts


def _qual(qual: str) -> None:
    number = _number(qual)
    _expect(qual == "." or (number is not None and not number < 0), "QUAL", "a number, 0 or more, or a point")


def _filters(filters: str) -> None:
    names = filters.split(";")
    _expect(
        filters == "." or not (re.search(r"[\s,]", filters) or {"", ".", "0"} & set(names)),
        "FILTER",
        "PASS, a point, or names separated by semicolons, none of them 0",
    )
    _expect(len(set(names)) == len(names), "FILTER", "each name once")


_LETTERS = re.compile("[0-9A-Za-z]+")
_KEY = re.compile(r"[^\s=;]+")
_KEY_SINCE_4_3 = re.compile(r"[A-Za-z_](?:[0-9A-Za-z_.]|%[0-9A-Fa-f]{2})*|1000G")
_WHOLE = re.compile(r"[+-]?\d+")
_FLOAT = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf(?:inity)?|nan)", re.IGNORECASE)
_TYPES = {"Integer": _WHOLE, "Float": _FLOAT, "Character": re.compile("."), "String": re.compile(".+")}
_QUOTED = re.compile('"[^"]*"')
_CIGAR = re.compile(r"(?:\d+[MIDNSHPX=])+")
_NOT_NEGATIVE = {"AC", "AF", "AN", "DP", "END", "MQ0", "NS"}


def _info(info: str, fields: Fields, alts: int) -> None:
    if info == ".":
        return
    pattern = _KEY if fields.version < (4, 3) else _KEY_SINCE_4_3
    seen = set()
    for item in info.split(";"):
        key, equals, text = item.partition("=")
        _expect(pattern.fullmatch(key), "INFO", "key or key=value, separated by semicolons, without spaces")
        _expect(key not in seen, "INFO", "each key once")
        seen.add(key)
        field = fields.info.get(key)
        if field is None:
            continue
        if field.types == ("Flag",):
            _expect(not equals or text in ("0", "1"), f"INFO {key}", "no value: it is a flag")
            continue
        values = [text] if _QUOTED.fullmatch(text) else text.split(",")
        _values(f"INFO {key}", values, field, _wanted(field.number, alts, None))
        if key in _NOT_NEGATIVE:
            _expect(not any(v.startswith("-") for v in values), f"INFO {key}", "no negative number")
        if key == "CIGAR":
            _expect(all(v == "." or _CIGAR.fullmatch(v) for v in values), "INFO CIGAR", "lengths and operations")


def _samples(form: str, columns: str, fields: Fields, alts: int, samples: int) -> None:
    keys = form.split(":")
    pattern = _LETTERS if fields.version < (4, 3) else _KEY_SINCE_4_3
    sound = all(map(pattern.fullmatch, keys))
    _expect(sound, "FORMAT", "keys of letters and digits, separated by colons")
    _expect(len(set(keys)) == len(keys), "FORMAT", "each key once")
    _expect("GT" not in keys[1:], "FORMAT", "GT first")
    if form == "GT" and alts == 1 and read_biallelic(columns.encode(), samples) is not None:
        return
    parts = columns.split("\t")
    _expect(len(parts) == samples, "samples", f"{samples} columns, as in the header")
    known = [(key, fields.format.get(key)) for key in keys]
    for part in parts:
        _sample(part.split(":"), known, alts)


_MOST_PLOIDY = 64
"""Of a call whose likelihoods are counted; strawberries have eight copies."""
_GENOTYPE = re.compile(r"[/|]?(?:[0-9]{1,9}|\.)(?:[/|](?:[0-9]{1,9}|\.))*")


def _sample(texts: Sequence[str], known: Sequence[tuple[str, Field | None]], alts: int) -> None:
    _expect(len(texts) <= len(known), "samples", "no more values than FORMAT has keys")
    ploidy = None
    for text, (key, field) in zip(texts, known, strict=False):
        if key == "GT":
            ploidy = _ploidy(text, alts)
        elif field is not None:
            _values(f"FORMAT {key}", text.split(","), field, _wanted(field.number, alts, ploidy or 2))


def _ploidy(genotype: str, alts: int) -> int:
    _expect(_GENOTYPE.fullmatch(genotype), "FORMAT GT", "alleles by number, separated by / or |")
    alleles = [allele for allele in re.split(r"[/|]", genotype) if allele]
    _expect(
        alts == 0 or all(a == "." or int(a) <= alts for a in alleles), "FORMAT GT", "no allele beyond those of ALT"
    )
    return len(alleles)


def _wanted(number: str, alts: int, ploidy: int | None) -> int | None:
    """How many values a field must have; None for any number of them, as where there is no ALT to count by."""
    if number.isdecimal():
        return int(number)
    if alts == 0:
        return None
    if number == "G":
        return None if ploidy is None or ploidy > _MOST_PLOIDY else comb(alts + ploidy, ploidy)
    return {"A": alts, "R": alts + 1, "P": ploidy}.get(number)


def _values(where: str, values: Sequence[str], field: Field, wanted: int | None) -> None:
    if values == ["."]:
        return
    _expect(wanted is None or len(values) == wanted, where, f"{wanted} values (Number={field.number})")
    _expect(
        all(value == "." or any(_TYPES[kind].fullmatch(value) for kind in field.types) for value in values),
        where,
        f"values of type {' or '.join(field.types)}",
    )


def _number(text: str) -> float | None:
    return float(text) if _FLOAT.fullmatch(text) else None
