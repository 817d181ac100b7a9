"""Contigs by one name, and the regions where ploidy hangs on sex."""

import re
from enum import IntEnum

_ALIASES = {"M": "MT", "23": "X", "24": "Y", "25": "X", "26": "MT", "XY": "X", "PAR1": "X", "PAR2": "X"}
"""Other spellings, without `chr`: UCSC's mitochondrion, PLINK's numbers and pseudo-autosomal names."""

_NUMBERED = re.compile(r"0+([1-9][0-9]?|[XY]|MT?|XY)", re.IGNORECASE)
"""`01` and `0X`, as Oxford's tools write them."""

AUTOSOME = "^([1-9]|1[0-9]|2[0-2])$"
"""A harmonised name of one, as Spark matches it."""

# The last position of PAR1 and the first of PAR2 on X, as `plink2 --split-par` has them
# (https://www.ncbi.nlm.nih.gov/grc/human).
PSEUDO_AUTOSOMAL = {"GRCh37": (2_699_520, 154_931_044), "GRCh38": (2_781_479, 155_701_383)}


class Region(IntEnum):
    """Where ploidy hangs on sex, or is one. DIPLOID: two copies in everyone, as on autosomes and where X
    and Y pair (PAR); on X below means outside of it. All of Y is Y: callers mask its PAR or call it on X."""

    DIPLOID = 0
    X = 1
    Y = 2
    MT = 3


def harmonise(chrom: str) -> str:
    """`chr1`, `Chr1`, `01` and `1` are one contig, as are `chrM` and `MT`, or `23` and `X`. Names of other
    sequences stay as they are, but for `chr`."""
    bare = chrom[3:] if chrom[:3].lower() == "chr" and len(chrom) > 3 else chrom
    numbered = _NUMBERED.fullmatch(bare)
    bare = numbered[1] if numbered else bare
    upper = bare.upper()
    return _ALIASES.get(upper, upper if upper in ("X", "Y", "MT") else bare)


def region(build: str, contig: str, position: int) -> Region:
    """Where a position lies on a contig in its harmonised name."""
    if contig == "X":
        first, second = PSEUDO_AUTOSOMAL[build]
        return Region.X if first < position < second else Region.DIPLOID
    return {"Y": Region.Y, "MT": Region.MT}.get(contig, Region.DIPLOID)
