"""One spelling for each variant: contigs by one name, upper case, the fewest bases, indels at the left."""

import hashlib

from features.genomics.contigs import harmonise
from features.genomics.reference import Reference

LONGEST_ALLELE_IN_KEY = 50


def normalise(
    build: str, chrom: str, position: int, ref: str, alt: str, reference: Reference | None = None
) -> tuple[str, str, int, str, str]:
    """Key, contig, position, REF and ALT in one spelling: contigs by one name, upper case, minimal alleles.

    An indel keeps one base of context; it is moved to the left if there is a reference.
    """
    contig, ref, alt = harmonise(chrom), ref.upper(), alt.upper()
    if reference:
        position, ref, alt = left_align(reference, contig, position, ref, alt)
    else:
        position, ref, alt = trim(position, ref, alt)
    key = f"{build}:{contig}:{position}:{_allele_in_key(ref)}:{_allele_in_key(alt)}"
    return key, contig, position, ref, alt


def trim(position: int, ref: str, alt: str) -> tuple[int, str, str]:
    """Cut what REF and ALT share, first from the end, then from the start, leaving a base of each.

    Tan, Abecasis, Kang, Bioinformatics 2015;31:2202 (without its step of left alignment).
    """
    if len(ref) == 1 or len(alt) == 1:
        return position, ref, alt
    end = _shared(ref[::-1], alt[::-1])
    ref, alt = ref[: len(ref) - end], alt[: len(alt) - end]
    start = _shared(ref, alt)
    return position + start, ref[start:], alt[start:]


def left_align(reference: Reference, contig: str, position: int, ref: str, alt: str) -> tuple[int, str, str]:
    """The leftmost place of a variant and its shortest alleles there.

    Tan, Abecasis, Kang, Bioinformatics 2015;31:2202, algorithm 1: cut equal last bases, taking the
    reference's base before them where an allele would be empty; then cut equal first ones.
    """
    while ref[-1] == alt[-1] and (position > 1 or min(len(ref), len(alt)) > 1):
        if min(len(ref), len(alt)) == 1:
            position -= 1
            base = reference.bases(contig, position, position)
            before = base if base in "ACGT" else "N"  # as bcftools writes R, Y and the like
            ref, alt = before + ref, before + alt
        ref, alt = ref[:-1], alt[:-1]
    start = 0
    while min(len(ref), len(alt)) - start > 1 and ref[start] == alt[start]:
        start += 1
    return position + start, ref[start:], alt[start:]


def _shared(one: str, other: str) -> int:
    """How many characters both start with, all but one at most."""
    longest = min(len(one), len(other)) - 1
    return next((i for i in range(longest) if one[i] != other[i]), longest)


def _allele_in_key(allele: str) -> str:
    return allele if len(allele) <= LONGEST_ALLELE_IN_KEY else hashlib.sha256(allele.encode()).hexdigest()
