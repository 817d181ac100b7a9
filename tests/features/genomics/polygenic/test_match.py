"""Lines matched and weighed many at once, as one line after the other is."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.genomics.polygenic.boxes import MOST_ROWS, boxed
from features.genomics.polygenic.judge import judge_box
from features.genomics.polygenic.match import KINDS, MATCHED, match_lines, sites_of
from features.genomics.polygenic.scoring_lines import PROBLEMS, SCHEMA
from features.genomics.polygenic.weigh import BEND, ENTRY, Weighing, weigh, weighed_rows

LINES = pa.schema([("score", pa.int32()), *list(SCHEMA)[1:]])
COMPLEMENT = str.maketrans("ACGT", "TGCA")
Line = dict[str, Any]
Variant = tuple[str, int, str, str]

contigs, positions = st.sampled_from(["1", "X"]), st.integers(1, 3)
alleles = st.sampled_from(["A", "A", "C", "G", "T", "AC", "ACC", "TT"])
pairs = st.tuples(alleles, alleles).filter(lambda two: two[0] != two[1])
variants = st.lists(
    st.builds(lambda contig, at, two: (contig, at, *two), contigs, positions, pairs), unique=True, max_size=12
)
weights = st.sampled_from([(0, 1, 2), (0, 0.5, 1), (0, 1, 1), (0, 0, 1), (0.25, -1, 3)])


def as_told(none: float, one: float, two: float) -> Line:
    """As a line has the weights of its effect alleles."""
    return {"weight": one, "others": None if (none, two) == (0, 2 * one) else [none, two]}


def weights_of(line: Line) -> tuple[float, float, float]:
    none, two = line["others"] or (0.0, 2 * line["weight"])
    return none, line["weight"], two


@st.composite
def lines(draw: st.DrawFn, known: list[Variant]) -> list[Line]:
    """Most ask for a variant that there is, some of them on the other strand, or without the other allele."""
    found = []
    for number in range(draw(st.integers(1, 25))):
        contig, at, effect, other = draw(st.sampled_from(known) if known else st.just(("2", 5, "A", "C")))
        if draw(st.booleans()):
            effect, other = other, effect
        if draw(st.integers(0, 3)) == 0:
            effect, other = effect.translate(COMPLEMENT), other.translate(COMPLEMENT)
        if draw(st.integers(0, 5)) == 0:
            at, effect = draw(positions), draw(alleles)
        line = {"score": draw(st.integers(0, 2)), "line": number, "contig": contig, "position": at}
        line |= {"effect_allele": effect, "other_allele": draw(st.sampled_from([other, other, None, effect]))}
        line |= as_told(*draw(weights)) | {"problem": None, "lifted_strand": None}
        if draw(st.integers(0, 9)) == 0:
            line |= {"contig": None, "position": None, "problem": draw(st.sampled_from(PROBLEMS))}
        found.append(line)
    return draw(st.permutations(found))


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Line], list[Variant], list[bool], bool]:
    known = draw(variants)
    usable = draw(st.lists(st.sampled_from([True, True, True, False]), min_size=len(known), max_size=len(known)))
    return draw(lines(known)), draw(st.permutations(known)), usable, draw(st.booleans())


def kind_of(line: Line, variant: Variant) -> str | None:
    """What the variant is to the line, by the letter."""
    effect, other, (_, _, ref, alt) = line["effect_allele"], line["other_allele"], variant
    turned = [base.translate(COMPLEMENT) if base and len(base) == 1 else None for base in (effect, other)]
    for end, (one, two) in (("", (effect, other)), ("_flip", turned)):
        if one and two and (one, two) == (ref, alt):
            return f"refalt{end}"
        if one and two and (one, two) == (alt, ref):
            return f"altref{end}"
    if other in (None, effect):
        for end, one in (("", effect), ("_flip", turned[0])):
            if one in (ref, alt):
                return f"no_oa_{'ref' if one == ref else 'alt'}{end}"
    return None


def one_after_the_other(
    lines: list[Line], variants: list[Variant], usable: set[Variant], keep_ambiguous: bool
) -> dict[int, tuple[str, Variant | None]]:
    """Kind and variant by the number of the line."""
    found: dict[int, tuple[str, Variant | None]] = {}
    taken = set()
    for line in sorted(lines, key=lambda line: line["line"]):
        here = [v for v in variants if v[:2] == (line["contig"], line["position"])]
        kinds = [(kind, v) for v in here if (kind := kind_of(line, v))]
        if line["problem"] or not kinds:
            found[line["line"]] = (line["problem"] or "unmatched", None)
            continue
        kind, best = min(kinds, key=lambda one: (MATCHED.index(one[0]), one[1]))
        site = [v for v in here if v[2] == best[2]]
        w0, w1, w2 = weights_of(line)
        is_ref, plain = "refalt" in kind or "oa_ref" in kind, w2 - w1 == w1 - w0
        is_indel = len(best[2]) != len(best[3])
        alike = len(best[2]) == 1 and best[2] == best[3].translate(COMPLEMENT)
        if (alike and not keep_ambiguous) or {"refalt", "altref"} <= {own for own, _ in kinds}:
            kind = "ambiguous"
        elif is_ref and ((len(site) > 1 and not plain) or (is_indel and len({v[2] for v in here}) > 1)):
            kind = "complex"
        elif (line["score"], best) in taken:
            kind = "duplicate"
        else:
            taken.add((line["score"], best))
            if not set(site if is_ref else [best]) <= usable:
                kind = "unusable"
        found[line["line"]] = (kind, best)
    return found


@given(cases(), st.integers(0, 2**32 - 1))
@settings(max_examples=400, deadline=None)
def test_lines_are_matched_and_weighed_as_one_after_the_other_is(
    case: tuple[list[Line], list[Variant], list[bool], bool], seed: int
) -> None:
    told, known, chosen, keep_ambiguous = case
    table = pa.Table.from_pylist(told, LINES).combine_chunks()
    columns = [list(column) for column in zip(*known, strict=True)] or [[]] * 4
    kinds = [pa.string(), pa.int64(), pa.string(), pa.string()]
    arrays = [*map(pa.array, columns, kinds), pa.array(chosen, pa.bool_())]
    sites = sites_of(pa.table(arrays, ["contig", "position", "ref", "alt", "usable"]))
    usable = sites.variants["usable"].to_numpy()
    by_copies = np.array([weights_of(line) for line in told], float).T
    found = match_lines(table, by_copies, sites, usable, keep_ambiguous)

    ordered = [tuple(row[:4]) for row in zip(*(sites.variants[n].to_pylist() for n in LIKE), strict=True)]
    expected = one_after_the_other(
        told, known, {v for v, own in zip(known, chosen, strict=True) if own}, keep_ambiguous
    )
    ours = {
        line["line"]: (str(KINDS[kind]), ordered[variant] if variant >= 0 else None)
        for line, kind, variant in zip(told, found.kinds, found.variants, strict=True)
    }
    assert ours == expected

    copies = np.random.default_rng(seed).integers(0, 3, len(ordered))
    weighed = weigh(found, table["score"].to_numpy(), by_copies, sites)
    counts = copies[weighed.variant]
    two = weighed.two + weighed.step * counts + weighed.bend * (counts == 2)
    one = weighed.one + weighed.haploid_step * (counts > 0)
    for score in range(3):
        own = weighed.score == score
        mine = [line for line in told if line["score"] == score]
        of_lines = [
            summed(line, *expected[line["line"]], dict(zip(ordered, copies, strict=True))) for line in mine
        ]
        sums = np.sum(of_lines, axis=0) if of_lines else np.zeros(2)
        np.testing.assert_allclose([two[own].sum(), one[own].sum()], sums, atol=1e-12)
    check_packed(weighed, len(ordered))


def check_packed(weighed: Weighing, variants: int) -> None:
    """WEIGHED rows have each variant that is weighed once, and there what each score was given."""
    usable = {"variant_key": [str(number) for number in range(variants)], "region": [0] * variants}
    usable |= {"mean": [0.5] * variants, "mean_two": [0.1] * variants}
    rows = weighed_rows(weighed, pa.table(usable)).to_pylist()
    assert [int(row["variant_key"]) for row in rows] == sorted(set(weighed.variant.tolist()))
    for row in rows:
        entries, bends = np.frombuffer(row["entries"], ENTRY), np.frombuffer(row["bends"], BEND)
        for score in range(3):
            own = (weighed.variant == int(row["variant_key"])) & (weighed.score == score)
            step = entries["step"][entries["score"] == score].sum()
            bend, haploid = (bends[name][bends["score"] == score].sum() for name in ("bend", "haploid"))
            expected = [column[own].sum() for column in (weighed.step, weighed.bend, weighed.haploid_step)]
            np.testing.assert_allclose([step, bend, step + haploid], expected, atol=1e-12)


LIKE = ("contig", "position", "ref", "alt")


def summed(line: Line, kind: str, variant: Variant | None, copies: dict[Variant, int]) -> tuple[float, float]:
    """What a line gives a person with two copies, with so many ALTs of each variant, and one with one, with as few
    as one where that has any. Of a crowded site weights of REF are additive, and its copies may be negative."""
    if kind not in list(MATCHED) or variant is None:
        return 0, 0
    w0, w1, w2 = weights_of(line)
    alts, any_ = copies[variant], min(copies[variant], 1)
    if "refalt" not in kind and "oa_ref" not in kind:
        return (w0, w1, w2)[alts], (w0, w1)[any_]
    site = [own for own in copies if own[:3] == variant[:3]]
    if len(site) == 1:
        return (w2, w1, w0)[alts], (w1, w0)[any_]
    left, of_one = 2 - sum(copies[own] for own in site), 1 - sum(min(copies[own], 1) for own in site)
    return w0 + left * (w1 - w0), w0 + of_one * (w1 - w0)


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("boxes", [1, 7, 64])
def test_what_lies_at_one_place_is_in_one_box_and_nothing_is_lost(boxes: int, in_order: bool) -> None:
    rng = np.random.default_rng(1)
    size = 3 * MOST_ROWS
    contig = rng.choice(["1", "2", "X", ""], size)
    batch = pa.record_batch(
        {
            "contig": pa.array(contig, mask=contig == ""),
            "position": pa.array(rng.integers(1, 50, size) << 20, mask=contig == ""),
            "line": pa.array(np.arange(size)),
        }
    )
    if in_order:
        batch = batch.sort_by([("contig", "ascending"), ("position", "ascending")])
    where: dict[tuple[object, object], set[int]] = {}
    seen: list[int] = []
    for sealed in boxed(batch, "lines", boxes):
        for box, rows in zip(sealed["box"].to_pylist(), sealed["rows"].to_pylist(), strict=True):
            found = pa.ipc.read_record_batch(pa.py_buffer(rows), batch.schema)
            assert 0 < len(found) <= MOST_ROWS
            seen += found["line"].to_pylist()
            for row in found.select(["contig", "position"]).to_pylist():
                where.setdefault((row["contig"], row["position"]), set()).add(box)
    assert sorted(seen) == list(range(size))
    unplaced = where.pop((None, None))
    assert {len(own) for own in where.values()} == {1}
    assert len(unplaced) == boxes
    assert len(set.union(*where.values())) > boxes / 2


def test_a_box_says_what_became_of_lines_that_came_in_any_order() -> None:
    """Two scores' lines in chunks, the later ones first: how many of each kind, the first, and what they weigh."""
    line = {"contig": "1", "position": 5, "effect_allele": "C", "other_allele": "A", "weight": 0.5}
    told = [(0, 7, 6), (0, 9, 5), (1, 2, 8), (0, 4, 5), (0, 5, 9), (1, 1, 5)]
    rows = [line | {"score": score, "line": number, "position": at} for score, number, at in told]
    chunks = [pa.RecordBatch.from_pylist(rows[a:b], LINES) for a, b in ((0, 2), (2, 3), (3, 5), (5, 6))]
    place = {"variant_key": ["k5", "k6"], "contig": ["1", "1"], "position": [5, 6]}
    box = {
        "lines": pa.Table.from_batches([chunks[0], chunks[2], chunks[3], chunks[1]]),
        "variants": pa.table(place | {"ref": ["A", "A"], "alt": ["C", "C"]}),
        "usable": pa.table(
            place | {"region": pa.array([0, 0], pa.int32()), "mean": [0.2, 0.4], "mean_two": [0.0, 0.1]}
        ),
    }
    matches, parts = judge_box(3, box, ["first", "second"], keep_ambiguous=False)
    assert [(row["score"], row["line"], row["match_type"], row["variant_key"]) for row in matches.to_pylist()] == [
        ("first", 4, "altref", "k5"),
        ("first", 5, "unmatched", None),
        ("first", 7, "altref", "k6"),
        ("first", 9, "duplicate", "k5"),
        ("second", 1, "altref", "k5"),
        ("second", 2, "unmatched", None),
    ]
    counts = {
        (row["score"], row["match_type"]): (row["lines"], row["first_line"]) for row in parts["counts"].to_pylist()
    }
    assert counts[0, "altref"] == (2, 4)
    assert counts == {
        (0, "altref"): (2, 4), (0, "unmatched"): (1, 5), (0, "duplicate"): (1, 9),
        (1, "altref"): (1, 1), (1, "unmatched"): (1, 2),
    }  # fmt: skip
    (means,) = parts["means"].to_pylist()
    two, one = np.frombuffer(means["sums"]).reshape(2, 2)
    np.testing.assert_allclose([two, one], [[0.5 * 0.6, 0.5 * 0.2], [0.25 * 0.6, 0.25 * 0.2]])
    weighed = {
        row["variant_key"]: np.frombuffer(row["entries"], ENTRY)["score"].tolist()
        for row in parts["weighed"].to_pylist()
    }
    assert weighed == {"k5": [0, 1], "k6": [0]}


def test_positions_of_more_digits_than_a_line_may_have_are_not_another_contigs() -> None:
    """Trimmed to what differs this line is at 10,000,000,001 of the first contig, which is 1 of no other."""
    line = {"score": 0, "line": 3, "contig": "1", "position": 10_000_000_001, "effect_allele": "G"}
    lines = pa.Table.from_pylist([line | {"other_allele": "C", "weight": 1.0}], LINES).combine_chunks()
    variants = {"contig": ["1", "2"], "position": [5, 1], "ref": ["A", "C"], "alt": ["C", "G"]}
    found = match_lines(lines, np.array([[0.0], [1], [2]]), sites_of(pa.table(variants)), np.ones(2, bool), True)
    assert KINDS[found.kinds[0]] == "unmatched"
