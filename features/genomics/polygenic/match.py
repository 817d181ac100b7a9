"""Lines of scoring files to variants: by position and alleles, on either strand, each line at most once.

Kinds of match and their order are those of the PGS Catalog's pgscatalog-match
(https://pygscatalog.readthedocs.io). Many scores ask for the same alleles: these are matched first, each once.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.genomics.columns import Flags, each, filled, flags
from features.genomics.liftover import Unlifted
from features.genomics.polygenic.scoring_lines import COMPLEX, MOST_DIGITS, UNPLACED, WRONG


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


Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
MATCHED = tuple(MatchType)[:8]
KINDS = (*MatchType, *WRONG)
"""What may become of a line: a match type, or that it is wrong."""
NONE = -1
_CONTIG = 10 ** (MOST_DIGITS + 1)
"""Above all positions: what a line's alleles share adds to that of its digits."""
_EFFECT_IS_REF = np.isin(KINDS, ["refalt", "refalt_flip", "no_oa_ref", "no_oa_ref_flip"])
_COMPLEMENTS = dict(zip("ACGT", "TGCA", strict=True))


@dataclass(frozen=True, slots=True)
class Sites:
    """Variants in the order of place, REF and ALT, in one chunk. Those that replace the same REF bases are a site.
    For each variant: the number of its place, the first of its site and the one behind the last, and how many
    `refs` begin at its place."""

    variants: pa.Table
    contigs: pa.StringArray
    places: Numbers
    start: Numbers
    stop: Numbers
    refs: Numbers

    @property
    def sizes(self) -> Numbers:
        return self.stop - self.start

    def everywhere(self, chosen: Flags) -> Flags:
        """Whether all variants of each variant's site are chosen."""
        before = np.append(0, np.cumsum(~chosen))
        found: Flags = before[self.stop] == before[self.start]
        return found

    def places_of(self, rows: pa.Table) -> Numbers:
        """The numbers of the places of other rows; NONE on a contig without variants."""
        return _places(rows, self.contigs)


def sites_of(variants: pa.Table) -> Sites:
    """Of `contig, position, ref, alt` and whatever else."""
    contigs = pc.unique(variants["contig"])
    placed = variants.append_column("place", pa.array(_places(variants, contigs)))
    placed = placed.sort_by([(name, "ascending") for name in ("place", "ref", "alt")]).combine_chunks()
    places, ref = placed["place"].to_numpy(), placed["ref"].combine_chunks().dictionary_encode().indices.to_numpy()
    new_place = _changes(places)
    new_site = new_place | _changes(ref)
    starts = np.append(np.flatnonzero(new_site), len(places))
    site, place = np.cumsum(new_site) - 1, np.cumsum(new_place) - 1
    refs = np.bincount(place[starts[:-1]])
    return Sites(placed.drop_columns("place"), contigs, places, starts[site], starts[site + 1], refs[place])


def _places(rows: pa.Table, contigs: pa.StringArray) -> Numbers:
    number = {name: number for number, name in enumerate(contigs.to_pylist())}
    contig = each(rows["contig"].combine_chunks(), number.get, pa.int32()).fill_null(NONE).to_numpy()
    position = rows["position"].fill_null(0).to_numpy()
    found: Numbers = np.where(contig < 0, NONE, contig.astype(np.int64) * _CONTIG + position)
    return found


@dataclass(frozen=True, slots=True)
class Matches:
    """What became of each line: a place in KINDS, and the variant that has its alleles, or NONE."""

    kinds: npt.NDArray[np.int8]
    variants: Numbers

    @property
    def known(self) -> Flags:
        found: Flags = self.kinds < len(MATCHED)
        return found

    @property
    def effect_is_ref(self) -> Flags:
        return _EFFECT_IS_REF[self.kinds]


def match_lines(lines: pa.Table, weights: Floats, sites: Sites, usable: Flags, keep_ambiguous: bool) -> Matches:
    """Of lines, `scoring_lines.SCHEMA` in one chunk but with a number as `score`, and their `weights` (3, lines);
    which of the variants are `usable` is another's to say. Of several that are as good for a line it is the first
    by REF and ALT."""
    asked, of_line = _asked(lines, sites)
    rank, best, either_way = _best(asked, sites)
    ranks, variants, ambiguous = rank[of_line], best[of_line], either_way[of_line]
    problems = each(lines["problem"].chunk(0), KINDS.index, pa.int64())
    crowded = _at(sites.sizes, variants) > 1
    unsure = _at(_is_indel(sites.variants), variants) & (_at(sites.refs, variants) > 1)
    none, one, two = weights
    additive = two - one == one - none
    if not keep_ambiguous:
        ambiguous = ambiguous | _at(_is_alike(sites.variants), variants)
    told = {
        MatchType.UNMATCHED: variants == NONE,
        MatchType.AMBIGUOUS: ambiguous,
        MatchType.COMPLEX: _EFFECT_IS_REF[ranks] & ((crowded & ~additive) | unsure),
    }
    kinds = np.select([*told.values()], [KINDS.index(kind) for kind in told], ranks)
    kinds = np.where(flags(problems.is_valid()), problems.fill_null(0).to_numpy(), kinds)
    found = Matches(kinds.astype(np.int8), variants)
    found.kinds[_is_again(lines, found, sites)] = KINDS.index(MatchType.DUPLICATE)
    enough = np.where(found.effect_is_ref, _at(sites.everywhere(usable), variants), _at(usable, variants))
    found.kinds[found.known & ~enough] = KINDS.index(MatchType.UNUSABLE)
    return found


def _asked(lines: pa.Table, sites: Sites) -> tuple[pa.Table, Numbers]:
    """What lines ask for, `place, effect_allele, other_allele`, each once; and which of these each line does. Of
    a line with a problem it says nothing."""
    places = sites.places_of(lines)
    effect, other = (lines[name].chunk(0).dictionary_encode() for name in ("effect_allele", "other_allele"))
    of_line, _ = _coded(pa.array(places))
    for column in (effect, other):
        codes, distinct = _coded(column)
        of_line, asked = _coded(pa.array(of_line * distinct + codes))
    first = np.zeros(asked, np.int64)
    first[of_line[::-1]] = np.arange(len(lines))[::-1]
    told = [column.take(pa.array(first)).dictionary_decode() for column in (effect, other)]
    return pa.table([places[first], *told], ["place", "effect_allele", "other_allele"]), of_line


def _best(asked: pa.Table, sites: Sites) -> tuple[Numbers, Numbers, Flags]:
    """Of what is asked for the preferred variant: its rank, a place in MATCHED, and its number, or NONE; and
    whether either allele could be REF."""
    places = asked["place"].to_numpy()
    first, last = (np.searchsorted(sites.places, places, side) for side in ("left", "right"))
    counts = np.where(places == NONE, 0, last - first)
    line = np.repeat(np.arange(len(asked)), counts)
    variant = np.arange(len(line)) + np.repeat(first - np.append(0, np.cumsum(counts))[:-1], counts)
    ranks = _ranks(asked.take(pa.array(line)), sites.variants.take(pa.array(variant)))
    order = np.lexsort((variant, ranks, line))
    order = order[_changes(line[order])]
    order = order[ranks[order] < len(MATCHED)]
    rank, best = np.full(len(asked), len(MATCHED)), np.full(len(asked), NONE)
    rank[line[order]], best[line[order]] = ranks[order], variant[order]
    either_way = np.isin(np.arange(len(asked)), line[ranks == 0]) & np.isin(
        np.arange(len(asked)), line[ranks == 1]
    )
    return rank, best, either_way


def _ranks(asked: pa.Table, variants: pa.Table) -> Numbers:
    """The place in MATCHED of what each variant is to what is asked for; one past the last where it is nothing."""
    effect, other = (asked[name].combine_chunks() for name in ("effect_allele", "other_allele"))
    ref, alt = (variants[name].combine_chunks() for name in ("ref", "alt"))
    unknown = pc.equal(pc.coalesce(other, effect), effect)  # some files repeat the effect allele
    turned = [_complement(allele) for allele in (effect, other)]
    both = [
        pc.and_(pc.equal(one, a), pc.equal(two, b))
        for one, two in ((effect, other), turned)
        for a, b in ((ref, alt), (alt, ref))
    ]
    one = [pc.and_(unknown, pc.equal(allele, a)) for allele in (effect, turned[0]) for a in (ref, alt)]
    return np.select([flags(test) for test in (*both, *one)], range(len(MATCHED)), len(MATCHED))


def _complement(alleles: pa.StringArray) -> pa.StringArray:
    """Of single bases; longer alleles are not turned, for the base before them would be another."""
    return each(alleles, _COMPLEMENTS.get)


def _is_alike(variants: pa.Table) -> Flags:
    """Whether both strands read alike."""
    ref, alt = (variants[name].combine_chunks() for name in ("ref", "alt"))
    return flags(pc.equal(ref, _complement(alt)))


def _is_indel(variants: pa.Table) -> Flags:
    return flags(pc.not_equal(*(pc.binary_length(variants[name].combine_chunks()) for name in ("ref", "alt"))))


def _is_again(lines: pa.Table, found: Matches, sites: Sites) -> Flags:
    """Whether an earlier line of the score was matched to the variant."""
    known = np.flatnonzero(found.known)
    score = lines["score"].to_numpy()[known].astype(np.int64)
    of_score = score * (len(sites.places) + 1) + found.variants[known]
    again = np.zeros(len(lines), bool)
    if (of_score[1:] <= of_score[:-1]).any():  # else the files are in the order of places, and name none twice
        order = np.lexsort((lines["line"].to_numpy()[known], of_score))
        again[known[order]] = ~_changes(of_score[order])
    return again


def _coded(values: pa.Array) -> tuple[Numbers, int]:
    """A number for each value, the same for the same, below how many there are; null is one, too."""
    coded = values.dictionary_encode()
    return filled(coded.indices, len(coded.dictionary)).astype(np.int64), len(coded.dictionary) + 1


def _at(values: npt.NDArray[Any], variants: Numbers) -> npt.NDArray[Any]:
    """Of each line's variant; zero, or false, where there is NONE."""
    found: npt.NDArray[Any] = np.append(values, values.dtype.type(0))[variants]
    return found


def _changes(values: npt.NDArray[Any]) -> Flags:
    """Whether each differs from the one before."""
    found: Flags = np.append(np.ones(min(len(values), 1), bool), values[1:] != values[:-1])
    return found
