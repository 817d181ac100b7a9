"""A record becomes biallelic variants with calls, or is refused under a rule: what holds for every format."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.contract.settings import Dosage, HalfCalls, Measure
from features.genomics import genotype
from features.genomics.contigs import LENGTHS, Region, harmonise, is_paired, region
from features.genomics.dosages import (
    Dosages,
    Flags,
    Floats,
    Imputed,
    WrongDosageError,
    are_calls,
    as_copies,
    as_shares,
    calls_of,
    from_probabilities,
    genotype_alleles,
    or_called,
    rounded,
)
from features.genomics.genes import Genes
from features.genomics.genotype import Alleles
from features.genomics.info import Annotation, Fields, Info, Values
from features.genomics.measures import Measured, measure, whole
from features.genomics.normalise import normalise
from features.genomics.numbers import WrongNumberError
from features.genomics.packing import MISSING, Codes
from features.genomics.reference import Reference

LONGEST_POSITION = 2**31 - 1

_BASE = frozenset("ACGT")
_BASES = re.compile(r"[ACGTN]+")
_NO_SEQUENCE = re.compile(r"\*|<.*>|.*[\[\]].*|\.[ACGTN]+|[ACGTN]+\.")
"""ALTs that name no sequence of their own: spanning deletion, symbolic allele, breakends."""


class Rule(StrEnum):
    """Why a line, or one ALT of it (SYMBOLIC), is refused. SYMBOLIC_UNCALLED: of a line of such ALTs alone, where
    somebody is not called. MITOCHONDRION: it is an older one than the build's."""

    COLUMNS = "columns"
    POSITION = "position"
    ALLELE = "allele"
    MONOMORPHIC = "monomorphic"
    SYMBOLIC = "symbolic"
    SYMBOLIC_UNCALLED = "symbolic_uncalled"
    REFERENCE = "reference"
    MITOCHONDRION = "mitochondrion"
    GENOTYPE = "genotype"
    HALF_CALL = "half_call"
    DOSAGE = "dosage"
    MEASURE = "measure"
    INFO = "info"


class RefusedLineError(Exception):
    """A whole line breaks a rule."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule


@contextmanager
def refused_as(rule: Rule) -> Iterator[None]:
    """A number or a dosage that is wrong refuses the line by this rule."""
    try:
        yield
    except (WrongNumberError, WrongDosageError):
        raise RefusedLineError(rule) from None


_NO_FIELDS: Fields = {}


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read the lines of a file: its number of sample columns, which of them are kept (None: all),
    the genome build, the INFO keys that name gene and consequence, what a half call is, and the reference that REF
    must agree with (None: it is not checked, and indels stay where they are), the genes that variants are looked
    up in (None: their INFO key tells), the FORMAT key of dosages in VCF and BCF (None: calls alone are read
    there), the other FORMAT keys that are read, the INFO fields that are kept, and whether MT is an
    older one than the build's."""

    build: str
    samples: int
    keep: npt.NDArray[np.int64] | None
    gene: Annotation | None = None
    consequence: Annotation | None = None
    half_calls: HalfCalls = "error"
    reference: Reference | None = None
    genes: Genes | None = None
    dosages: Dosage | None = None
    measures: Sequence[Measure] = ()
    info: Fields = field(default_factory=dict)
    older_mt: bool = False

    @property
    def annotations(self) -> Fields:
        """The fields of gene and consequence."""
        if self.gene is None and self.consequence is None:
            return _NO_FIELDS
        return {own.key: own.field for own in (self.gene, self.consequence) if own}

    @property
    def kept(self) -> slice | npt.NDArray[np.int64]:
        """Which of what all samples have is of those that are kept."""
        return slice(None) if self.keep is None else self.keep


class Calls(NamedTuple):
    """What is known of the kept samples: codes, dosages where these tell more, and how the calls were made."""

    codes: Codes
    imputed: Imputed | None = None
    measured: Measured | None = None

    @property
    def nbytes(self) -> int:
        if self.imputed is None and self.measured is None:
            return self.codes.nbytes
        more = (self.imputed.dosages if self.imputed else None, self.measured)
        return self.codes.nbytes + sum(array.nbytes for array in more if array is not None)


NOTHING = Calls(np.empty(0, np.uint8))


class Variant(NamedTuple):
    """A biallelic variant in its minimal representation and the calls of the kept samples.

    `filters` is empty for PASS and for `.` (no filter was applied). `rsid` is the first of the ID
    column; `gene` is by its place or, like `consequence`, what its INFO key says of the ALT.
    """

    key: str
    contig: str
    position: int
    ref: str
    alt: str
    rsid: str | None
    filters: Sequence[str]
    gene: str | None
    consequence: str | None
    info: Info
    calls: Calls


Record = tuple[str, list[Variant | Rule]]
"""Where a record lies in its file, as quarantine writes it, and one item per ALT, or the rule that it breaks."""


class Site(NamedTuple):
    """Where a record is and what is said of it there, whatever it was read from; `alts` in upper case, and
    `annotations` by the INFO keys of gene and consequence."""

    chrom: str
    position: int
    ref: str
    alts: list[str]
    rsid: str | None = None
    filters: Sequence[str] = ()
    annotations: Info = MappingProxyType({})
    info: Info = MappingProxyType({})


def check_site(site: Site, layout: Layout) -> None:
    """RefusedLineError for a place, REF and ALT that cannot be, and for a REF that is not the reference's."""
    contig = harmonise(site.chrom)
    _check_place(site, contig, layout)
    if not site.alts:
        raise RefusedLineError(Rule.MONOMORPHIC)
    ref, alts = site.ref.upper(), site.alts
    sound = all(_is_sequence(allele) or _NO_SEQUENCE.fullmatch(allele) for allele in alts)
    if not sound or not _is_sequence(ref) or ref in alts or (len(alts) > 1 and _has_twins(alts)):
        raise RefusedLineError(Rule.ALLELE)
    reference = layout.reference
    if reference and any(map(_is_sequence, alts)) and not reference.agrees(contig, site.position, ref):
        raise RefusedLineError(Rule.REFERENCE)


def _has_twins(alts: Sequence[str]) -> bool:
    sequences = list(filter(_is_sequence, alts))
    return len(set(sequences)) < len(sequences)


def _check_place(site: Site, contig: str, layout: Layout) -> None:
    last = LENGTHS[layout.build].get(contig, LONGEST_POSITION)
    if not site.chrom or not 1 <= site.position <= last:
        raise RefusedLineError(Rule.POSITION)
    if is_paired(site.chrom) and region(layout.build, contig, site.position) is not Region.DIPLOID:
        raise RefusedLineError(Rule.POSITION)
    if layout.older_mt and contig == "MT":
        raise RefusedLineError(Rule.MITOCHONDRION)


def is_turned(site: Site, layout: Layout) -> bool:
    """Whether the reference genome has the one ALT, and not REF: of a format that does not tell which is which."""
    reference = layout.reference
    if reference is None or len(site.alts) != 1:
        return False
    contig = harmonise(site.chrom)
    return not reference.agrees(contig, site.position, site.ref.upper()) and reference.agrees(
        contig, site.position, site.alts[0]
    )


def _is_sequence(allele: str) -> bool:
    return allele in _BASE or _BASES.fullmatch(allele) is not None


def biallelic(site: Site, calls: Sequence[Calls], layout: Layout) -> list[Variant | Rule]:
    """One item per ALT: the variant with its calls, or SYMBOLIC, or SYMBOLIC_UNCALLED where all are."""
    found = [
        _variant(site, alt, own, layout) if _is_sequence(site.alts[alt - 1]) else Rule.SYMBOLIC
        for alt, own in enumerate(calls, start=1)
    ]
    if found[0] is Rule.SYMBOLIC and all(item is Rule.SYMBOLIC for item in found):
        uncalled = any((own.codes == MISSING).any() for own in calls)
        return [Rule.SYMBOLIC_UNCALLED] * len(found) if uncalled else found
    return found


def _variant(site: Site, alt: int, calls: Calls, layout: Layout) -> Variant:
    allele, info = site.alts[alt - 1], _info_of_alt(site, alt, layout)
    key, contig, position, ref, own = normalise(
        layout.build, site.chrom, site.position, site.ref, allele, layout.reference
    )
    gene = layout.genes.at(contig, position, len(ref)) if layout.genes else _annotated(site, layout.gene, alt)
    consequence = _annotated(site, layout.consequence, alt)
    return Variant(key, contig, position, ref, own, site.rsid, site.filters, gene, consequence, info, calls)


def _annotated(site: Site, annotation: Annotation | None, alt: int) -> str | None:
    if annotation is None or annotation.key not in site.annotations:
        return None
    with refused_as(Rule.INFO):
        return annotation.of_alt(site.annotations[annotation.key], alt, len(site.alts))


def _info_of_alt(site: Site, alt: int, layout: Layout) -> Info:
    """Without the keys of which every value is missing."""
    if not site.info:
        return {}
    told = {key: values for key, values in site.info.items() if _is_told(values)}
    with refused_as(Rule.INFO):
        own = {key: layout.info[key].of_alt(values, alt, len(site.alts)) for key, values in told.items()}
    return {key: values for key, values in own.items() if _is_told(values)}


def _is_told(values: Values) -> bool:
    return any(value is not None for value in values)


def measured_values(key: str, alts: int) -> int:
    """How many numbers a sample may have under this FORMAT key."""
    return alts + 1 if key == "AD" else 1


def with_measures(calls: list[Calls], told: Mapping[str, Floats], layout: Layout) -> list[Calls]:
    """The calls of the kept samples, and what is told of all samples besides."""
    if not told:
        return calls
    with refused_as(Rule.MEASURE):
        numbers = {key: whole(values)[layout.kept] for key, values in told.items()}
    measured = measure(numbers, [own.codes for own in calls])
    return [own._replace(measured=values) for own, values in zip(calls, measured, strict=True)]


def dosage_values(alts: int, layout: Layout) -> int:
    """How many numbers a sample's dosage may have."""
    if layout.dosages == "DS":
        return alts
    with refused_as(Rule.DOSAGE):
        return len(genotype_alleles(alts + 1, 2))


def impute(
    values: Floats, haploid: Flags | None, called: Sequence[Codes] | None, site: Site, layout: Layout
) -> list[Calls]:
    """The calls of the kept samples for each ALT from the numbers of all samples, (samples, `dosage_values`);
    where one is missing, what was `called` counts, if anything was. `haploid` are the samples of one copy; None
    where no call tells, and then everyone must have two there."""
    if haploid is None:
        if region(layout.build, harmonise(site.chrom), site.position) is not Region.DIPLOID:
            raise RefusedLineError(Rule.DOSAGE)
        haploid = np.zeros(len(values), bool)
    alleles = len(site.alts) + 1
    by_alt: Sequence[Codes | None] = called or [None] * len(site.alts)
    with refused_as(Rule.DOSAGE):
        if layout.dosages == "DS":
            dosages = rounded(as_copies(values, haploid))[layout.kept]
            return [calls_of_dosages(or_called(dosages[:, alt], own)) for alt, own in enumerate(by_alt)]
        shares = as_shares(values, haploid, alleles)[layout.kept]
    return [
        calls_of_dosages(*from_probabilities(shares, haploid[layout.kept], alt, alleles, own))
        for alt, own in enumerate(by_alt, start=1)
    ]


def calls_of_dosages(dosages: Dosages, variance: int | None = None) -> Calls:
    """The calls that dosages make, and what these and their variance tell besides."""
    return with_dosages(calls_of(dosages), dosages, variance)


def with_dosages(codes: Codes, dosages: Dosages, variance: int | None = None) -> Calls:
    """Calls, and what dosages and their variance tell besides."""
    if not are_calls(dosages, codes):
        return Calls(codes, Imputed(dosages, variance))
    return Calls(codes, None if variance is None else Imputed(None, variance))


def codes_by_alt(first: Alleles, second: Alleles, alts: int, layout: Layout) -> list[Codes]:
    """The codes of the kept samples for each ALT, from both alleles of every sample as of `read_alleles`."""
    worst = first.min()
    if worst == genotype.HALF_CALL:
        raise RefusedLineError(Rule.HALF_CALL)
    if worst == genotype.MALFORMED or max(first.max(), second.max()) > alts:
        raise RefusedLineError(Rule.GENOTYPE)
    first, second = first[layout.kept], second[layout.kept]
    return [genotype.count_alleles(first, second, allele) for allele in range(1, alts + 1)]
