"""Contigs by one name, and the regions where ploidy hangs on sex."""

import re
from collections import Counter
from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache

from pyspark.sql import Column
from pyspark.sql import functions as sf

_ALIASES = {"M": "MT", "23": "X", "24": "Y", "25": "X", "26": "MT", "XY": "X", "PAR1": "X", "PAR2": "X"}
"""Other spellings, without `chr`: UCSC's mitochondrion, PLINK's numbers and pseudo-autosomal names."""

_PAIRED = ("25", "XY", "PAR1", "PAR2")
"""Of these the names of where X and Y pair."""

_NUMBERED = re.compile(r"0+([1-9][0-9]?|[XY]|MT?|XY)", re.IGNORECASE)
"""`01` and `0X`, as Oxford's tools write them."""

AUTOSOME = "^([1-9]|1[0-9]|2[0-2])$"
"""A harmonised name of one, as Spark matches it."""

# The last position of PAR1 and the first of PAR2 on X, as `plink2 --split-par` has them
# (https://www.ncbi.nlm.nih.gov/grc/human).
PSEUDO_AUTOSOMAL = {"GRCh37": (2_699_520, 154_931_044), "GRCh38": (2_781_479, 155_701_383)}


CHROMOSOMES = (*map(str, range(1, 23)), "X", "Y", "MT")
_LENGTHS = {
    "NCBI36": """247249719 242951149 199501827 191273063 180857866 170899992 158821424 146274826 140273252
        135374737 134452384 132349534 114142980 106368585 100338915 88827254 78774742 76117153 63811651 62435964
        46944323 49691432 154913754 57772954 16571""",
    "GRCh37": """249250621 243199373 198022430 191154276 180915260 171115067 159138663 146364022 141213431
        135534747 135006516 133851895 115169878 107349540 102531392 90354753 81195210 78077248 59128983 63025520
        48129895 51304566 155270560 59373566 16569""",
    "GRCh38": """248956422 242193529 198295559 190214555 181538259 170805979 159345973 145138636 138394717
        133797422 135086622 133275309 114364328 107043718 101991189 90338345 83257441 80373285 58617616 64444167
        46709983 50818468 156040895 57227415 16569""",
    "T2T-CHM13": """248387328 242696752 201105948 193574945 182045439 172126628 160567428 146259331 150617247
        134758134 135127769 133324548 113566686 101161492 99753195 96330374 84276897 80542538 61707364 66210255
        45090682 51324926 154259566 62460029 16569""",
}
LENGTHS = {
    build: dict(zip(CHROMOSOMES, map(int, lengths.split()), strict=True)) for build, lengths in _LENGTHS.items()
}
"""Bases of each chromosome by build (https://www.ncbi.nlm.nih.gov/grc/human/data). MT is the revised Cambridge
sequence from GRCh37 on; chrM of UCSC's hg19 is still the older one of NCBI36."""


class Region(IntEnum):
    """Where ploidy hangs on sex, or is one. DIPLOID: two copies in everyone, as on autosomes and where X
    and Y pair (PAR); on X below means outside of it. All of Y is Y: callers mask its PAR or call it on X."""

    DIPLOID = 0
    X = 1
    Y = 2
    MT = 3


RegionCounts = Counter[Region]


@lru_cache(1 << 10)
def harmonise(chrom: str) -> str:
    """`chr1`, `Chr1`, `01` and `1` are one contig, as are `chrM` and `MT`, or `23` and `X`. Names of other
    sequences stay as they are, but for `chr`."""
    bare = _bare(chrom)
    upper = bare.upper()
    return _ALIASES.get(upper, upper if upper in ("X", "Y", "MT") else bare)


@lru_cache(1 << 10)
def is_paired(chrom: str) -> bool:
    """Whether the name says that X and Y pair there, so that everyone has two copies."""
    return _bare(chrom).upper() in _PAIRED


def _bare(chrom: str) -> str:
    bare = chrom[3:] if chrom[:3].lower() == "chr" and len(chrom) > 3 else chrom
    numbered = _NUMBERED.fullmatch(bare)
    return numbered[1] if numbered else bare


def region(build: str, contig: str, position: int) -> Region:
    """Where a position lies on a contig in its harmonised name."""
    if contig == "X":
        first, second = PSEUDO_AUTOSOMAL[build]
        return Region.X if first < position < second else Region.DIPLOID
    return {"Y": Region.Y, "MT": Region.MT}.get(contig, Region.DIPLOID)


def builds_of(lengths: Mapping[str, int]) -> set[str]:
    """Of which builds contigs of these lengths are. MT tells of none, and no other is as long in two builds."""
    own = _harmonised(lengths)
    return {build for build, known in LENGTHS.items() if own & (known.items() - {("MT", known["MT"])})}


def has_older_mt(lengths: Mapping[str, int]) -> bool:
    """Whether MT is as long as that of NCBI36, most of whose bases have other positions."""
    return ("MT", LENGTHS["NCBI36"]["MT"]) in _harmonised(lengths)


def _harmonised(lengths: Mapping[str, int]) -> set[tuple[str, int]]:
    return {(harmonise(name), length) for name, length in lengths.items()}


def region_of(build: str) -> Column:
    """`region` of `contig` and `position`, worked out by Spark."""
    last, first = PSEUDO_AUTOSOMAL[build]
    position, contig = sf.col("position"), sf.col("contig")
    unpaired = (contig == "X") & (position > last) & (position < first)
    found = (
        sf.when(unpaired, Region.X.value).when(contig == "Y", Region.Y.value).when(contig == "MT", Region.MT.value)
    )
    return found.otherwise(Region.DIPLOID.value)


def place_of_key() -> dict[str, Column]:
    """Contig and position as the key has them; it is read from its end, for a contig's name may have colons."""
    pattern = "^[^:]+:(.+):([0-9]+):[^:]*:[^:]*$"
    return {
        "contig": sf.regexp_extract("variant_key", pattern, 1),
        "position": sf.regexp_extract("variant_key", pattern, 2).cast("bigint"),
    }
