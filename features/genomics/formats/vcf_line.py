"""A data line of a VCF becomes biallelic variants with calls, or is refused under a rule.

Format: VCF 4.3, https://samtools.github.io/hts-specs/VCFv4.3.pdf, section 1.6.
"""

from features.genomics import genotype
from features.genomics.clean import (
    NOTHING,
    Calls,
    Layout,
    RefusedLineError,
    Rule,
    Site,
    Variant,
    biallelic,
    check_site,
    codes_by_alt,
    dosage_values,
    impute,
    measured_values,
    refused_as,
    with_measures,
)
from features.genomics.dosages import Floats
from features.genomics.info import Fields, Info, read_info
from features.genomics.numbers import read_numbers

FIXED_COLUMNS = 8


def clean_line(line: bytes, layout: Layout) -> list[Variant | Rule]:
    """One item per ALT: the variant, or SYMBOLIC. RefusedLineError when the line as a whole is bad."""
    fields = line.split(b"\t", FIXED_COLUMNS + 1)
    if len(fields) != (FIXED_COLUMNS + 2 if layout.samples else FIXED_COLUMNS):
        raise RefusedLineError(Rule.COLUMNS)
    fixed = b"\t".join(fields[:FIXED_COLUMNS]).decode(errors="replace")
    chrom, pos, identifier, ref, alt, _, filters, info = fixed.split("\t")
    site = site_of(chrom, pos, identifier, ref, alt, filters, info, layout)
    check_site(site, layout)
    calls = _calls(fields[8], fields[9], site, layout) if layout.samples else [NOTHING] * len(site.alts)
    return biallelic(site, calls, layout)


def site_of(
    chrom: str, pos: str, identifier: str, ref: str, alt: str, filters: str, info: str, layout: Layout
) -> Site:
    """What these columns of a VCF or a .pvar say; RefusedLineError for a POS that is none."""
    return Site(
        chrom,
        position_of(pos),
        ref,
        [] if alt == "." else alt.upper().split(","),
        None if identifier in (".", "") else identifier.split(";")[0],
        [] if filters in ("PASS", ".", "") else filters.split(";"),
        _info(info, layout.annotations),
        _info(info, layout.info),
    )


def _info(text: str, fields: Fields) -> Info:
    if not fields:
        return {}
    with refused_as(Rule.INFO):
        return read_info(text, fields)


def position_of(pos: str) -> int:
    """RefusedLineError where it is no whole number, or a very long one."""
    if not (pos.isascii() and pos.isdigit()) or len(pos) > 10:
        raise RefusedLineError(Rule.POSITION)
    return int(pos)


def _calls(form: bytes, columns: bytes, site: Site, layout: Layout) -> list[Calls]:
    """The calls of the kept samples for each ALT; a bad call of any column refuses the line."""
    samples, alts = layout.samples, len(site.alts)
    plain = genotype.read_biallelic(columns, samples) if alts == 1 and form == b"GT" else None
    if plain is not None:
        return [Calls(plain[layout.kept])]
    if columns.count(b"\t") + 1 != samples:
        raise RefusedLineError(Rule.COLUMNS)
    fields = form.decode(errors="replace").split(":")
    called = None
    if fields[0] == "GT":
        called = codes_by_alt(*genotype.read_alleles(columns, samples, layout.half_calls), alts, layout)
    if layout.dosages in fields:
        haploid = genotype.one_copy(columns, samples) if called else None
        most = dosage_values(alts, layout)
        values = _numbers(columns, fields.index(layout.dosages), most, Rule.DOSAGE, layout)
        found = impute(values, haploid, called, site, layout)
    elif called:
        found = [Calls(codes) for codes in called]
    else:
        raise RefusedLineError(Rule.GENOTYPE)
    told: dict[str, Floats] = {
        key: _numbers(columns, fields.index(key), measured_values(key, alts), Rule.MEASURE, layout)
        for key in layout.measures
        if key in fields
    }
    return with_measures(found, told, layout)


def _numbers(columns: bytes, place: int, most: int, rule: Rule, layout: Layout) -> Floats:
    with refused_as(rule):
        return read_numbers(columns, layout.samples, place, most)
