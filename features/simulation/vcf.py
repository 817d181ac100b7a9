"""Genotypes as lines of a VCF (version 4.3, https://samtools.github.io/hts-specs/VCFv4.3.pdf)."""

from collections.abc import Sequence

import numpy as np

from features.simulation.genomes import CONTIG_LENGTHS, Contig
from features.simulation.people import Flags

FIXED_COLUMNS = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT")
MISSING = 3


def vcf_header(samples: Sequence[str]) -> bytes:
    lines = [
        "##fileformat=VCFv4.3",
        "##source=RiskloomSimulation",
        '##FILTER=<ID=PASS,Description="All filters passed">',
        '##FILTER=<ID=LowQual,Description="Low quality">',
        *(f"##contig=<ID={name},length={size}>" for name, size in CONTIG_LENGTHS.items()),
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        "\t".join((*FIXED_COLUMNS, *samples)),
    ]
    return ("\n".join(lines) + "\n").encode()


def vcf_lines(contig: Contig, missing: Flags) -> list[bytes]:
    """One line per site, without its line end; `missing` is samples x sites."""
    first, second = np.where(missing, MISSING, np.sort(contig.alleles, axis=0))
    calls = _call_texts()[first, second].T
    return [_fixed_fields(contig, site) + texts.tobytes()[:-1] for site, texts in enumerate(calls)]


def _call_texts() -> np.ndarray[tuple[int, int], np.dtype[np.bytes_]]:
    """The text of a pair of allele codes with the tab after it, four bytes each."""
    names = "012."
    return np.array([[f"{a}/{b}\t".encode() for b in names] for a in names], dtype="S4")


def _fixed_fields(contig: Contig, site: int) -> bytes:
    fields = (
        contig.name,
        str(contig.positions[site]),
        contig.rsids[site],
        contig.reference[site],
        contig.alternatives[site],
        "50",
        contig.filters[site],
        ".",
        "GT",
    )
    return ("\t".join(fields) + "\t").encode()
