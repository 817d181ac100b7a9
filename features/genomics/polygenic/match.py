"""Lines of scoring files to variants: by position and alleles, on either strand, each line at most once.

Kinds of match and their order are those of the PGS Catalog's pgscatalog-match
(https://pygscatalog.readthedocs.io). Many scores ask for the same alleles: these are matched first, each once.
"""

from enum import StrEnum

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as sf

from features.genomics.liftover import Unlifted
from features.genomics.polygenic.scoring_lines import COMPLEX, UNPLACED


class MatchType(StrEnum):
    """How a line was matched, the earlier kinds preferred, and why others were not.

    REFALT: the effect allele is REF and the other one ALT; FLIP: on the other strand; NO_OA: the line names
    no other allele. AMBIGUOUS: both strands read alike (A and T, C and G), or, of a repeat with several ALTs,
    the line could be one's gain or another's loss. DUPLICATE: an earlier line of the score has the variant.
    COMPLEX: a haplotype, or a weight of REF that is not additive where several ALTs replace it, or of an
    indel's REF where other REFs begin. UNPLACED: the line has no position. LIFT_...: it could not be lifted over,
    for a reason of Unlifted. UNUSABLE: quality control left out the variant or, where REF has the weight, another
    ALT of its site.
    """

    REFALT = "refalt"
    ALTREF = "altref"
    REFALT_FLIP = "refalt_flip"
    ALTREF_FLIP = "altref_flip"
    NO_OA_REF = "no_oa_ref"
    NO_OA_ALT = "no_oa_alt"
    NO_OA_REF_FLIP = "no_oa_ref_flip"
    NO_OA_ALT_FLIP = "no_oa_alt_flip"
    AMBIGUOUS = "ambiguous"
    DUPLICATE = "duplicate"
    COMPLEX = COMPLEX
    UNPLACED = UNPLACED
    LIFT_NO_CHAIN = Unlifted.NO_CHAIN
    LIFT_DELETED = Unlifted.DELETED
    LIFT_OTHER_CONTIG = Unlifted.OTHER_CONTIG
    LIFT_SPLIT = Unlifted.SPLIT
    LIFT_REVERSED_INDEL = Unlifted.REVERSED_INDEL
    UNMATCHED = "unmatched"
    UNUSABLE = "unusable"


MATCHED = tuple(MatchType)[:8]
EFFECT_IS_REF = (MatchType.REFALT, MatchType.REFALT_FLIP, MatchType.NO_OA_REF, MatchType.NO_OA_REF_FLIP)
LINE = ["score", "line"]
ALLELES = ["contig", "position", "effect_allele", "other_allele"]


def match_alleles(lines: DataFrame, variants: DataFrame) -> DataFrame:
    """What lines ask for, ALLELES, each once and only where a variant has it: the preferred one's `variant_key`,
    `ref` and `alt`, its `rank` in MATCHED, and `site`: the keys of all variants that replace the same REF bases.
    Variants that nobody was called at are as if not there."""
    sites = variants.filter("allele_number > 0").select("variant_key", "contig", "position", "ref", "alt")
    asked = lines.filter("problem is null").select(ALLELES).distinct()
    tried = asked.join(sites, ["contig", "position"]).withColumn("rank", _rank())
    one, there = Window.partitionBy(ALLELES), Window.partitionBy(*ALLELES, "ref")
    tried = tried.withColumns(
        {
            "site": sf.collect_list("variant_key").over(there),
            "n_refs": sf.size(sf.collect_set("ref").over(one)),
            "either_way": sf.max(sf.col("rank") == 0).over(one) & sf.max(sf.col("rank") == 1).over(one),
            "try": sf.row_number().over(one.orderBy("rank", "variant_key")),
        }
    )
    return tried.filter((sf.col("try") == 1) & (sf.col("rank") < len(MATCHED))).drop("try")


def match_lines(lines: DataFrame, found: DataFrame, keep_ambiguous: bool) -> DataFrame:
    """Each line once, with `match_type`, and of its alleles in `found` (`match_alleles`) `variant_key` and `site`;
    null where they are not there."""
    asked = found.withColumnsRenamed({name: f"asked_{name}" for name in ALLELES})
    same = [sf.col(name).eqNullSafe(sf.col(f"asked_{name}")) for name in ALLELES]
    judged = lines.join(asked, same, "left").withColumn("match_type", _judge(keep_ambiguous))
    known = sf.col("match_type").isin(*MATCHED)
    again = sf.row_number().over(Window.partitionBy("score", "variant_key", known).orderBy("line")) > 1
    kind = sf.when(known & again, MatchType.DUPLICATE.value).otherwise(sf.col("match_type"))
    return judged.withColumn("match_type", kind).select(*lines.columns, "variant_key", "match_type", "site")


def without_unusable(matched: DataFrame, usable: DataFrame) -> DataFrame:
    """`matched` where a line of which not every variant is among the `usable` ones is UNUSABLE."""
    known, is_ref = sf.col("match_type").isin(*MATCHED), sf.col("match_type").isin(*EFFECT_IS_REF)
    needed = sf.explode(sf.when(is_ref, sf.col("site")).otherwise(sf.array("variant_key"))).alias("variant_key")
    wanted = matched.filter(known).select(*LINE, needed)
    lost = wanted.join(usable.select("variant_key"), "variant_key", "left_anti").select(*LINE).distinct()
    marked = matched.join(lost.withColumn("lost", sf.lit(True)), LINE, "left")
    kind = sf.when(sf.col("lost"), MatchType.UNUSABLE.value).otherwise(sf.col("match_type"))
    return marked.withColumn("match_type", kind).select(matched.columns)


def weights_of_alt(matched: DataFrame) -> DataFrame:
    """`score, variant_key`, `weights` of 0, 1 and 2 ALTs and `haploid` ones of 0 and 1, from the matched lines.

    REF's count is what the ALTs of its site leave: its weights go, turned round, to the ALT that the line
    names, and where there are others, less one weight a copy, to each of them.
    """
    used = matched.filter(sf.col("match_type").isin(*MATCHED))
    is_ref, step = sf.col("match_type").isin(*EFFECT_IS_REF), _weight(0) - _weight(1)
    three, two = [_weight(0), _weight(1), _weight(2)], [_weight(0), _weight(1)]
    named = used.select(
        *("score", "variant_key"),
        sf.when(is_ref, sf.array(three[::-1])).otherwise(sf.array(three)).alias("weights"),
        sf.when(is_ref, sf.array(two[::-1])).otherwise(sf.array(two)).alias("haploid"),
    )
    others = used.filter(is_ref & (sf.size("site") > 1)).select(
        *("score", sf.explode(sf.array_except("site", sf.array("variant_key"))).alias("variant_key")),
        sf.array(sf.lit(0.0), step, 2 * step).alias("weights"),
        sf.array(sf.lit(0.0), step).alias("haploid"),
    )
    return named.unionByName(others)


def _rank() -> Column:
    """The place in MATCHED of what this variant is to the line; one past the last where it is nothing."""
    effect, other = sf.col("effect_allele"), sf.col("other_allele")
    tests = [*_both(effect, other), *_both(_complement(effect), _complement(other))]
    unknown = sf.coalesce(other, effect) == effect  # some files repeat the effect allele
    tests += [unknown & test for test in (*_one(effect), *_one(_complement(effect)))]
    found = sf.lit(len(MATCHED))
    for place in reversed(range(len(MATCHED))):
        found = sf.when(tests[place], place).otherwise(found)
    return found


def _both(effect: Column, other: Column) -> tuple[Column, Column]:
    ref, alt = sf.col("ref"), sf.col("alt")
    return (effect == ref) & (other == alt), (effect == alt) & (other == ref)


def _one(effect: Column) -> tuple[Column, Column]:
    return effect == sf.col("ref"), effect == sf.col("alt")


def _complement(allele: Column) -> Column:
    """Of a single base; longer alleles are not turned, for the base before them would be another."""
    return sf.when(sf.length(allele) == 1, sf.translate(allele, "ACGT", "TGCA"))


def _judge(keep_ambiguous: bool) -> Column:
    kinds = sf.array(*(sf.lit(kind.value) for kind in MATCHED))
    kind = sf.element_at(kinds, sf.col("rank") + 1)
    ambiguous = sf.col("ref") == _complement(sf.col("alt"))
    if keep_ambiguous:
        ambiguous = sf.lit(False)
    ambiguous |= sf.col("either_way")
    indel = sf.length("ref") != sf.length("alt")
    additive = _weight(2) - _weight(1) == _weight(1) - _weight(0)
    crowded = ((sf.size("site") > 1) & ~additive) | (indel & (sf.col("n_refs") > 1))
    undone = kind.isin(*EFFECT_IS_REF) & crowded
    return (
        sf.when(sf.col("problem").isNotNull(), sf.col("problem"))
        .when(sf.col("rank").isNull(), MatchType.UNMATCHED.value)
        .when(ambiguous, MatchType.AMBIGUOUS.value)
        .when(undone, MatchType.COMPLEX.value)
        .otherwise(kind)
    )


def _weight(copies: int) -> Column:
    return sf.element_at("weights", copies + 1)
