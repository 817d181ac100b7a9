"""The exact test against published numbers and against counting with whole fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.genomics import hwe
from features.genomics.hwe import hwe_kernel, hwe_kernels, hwe_p, hwe_x_kernel


def enumerated(hom_ref: int, het: int, hom_alt: int) -> tuple[Fraction, Fraction]:
    """P(heterozygotes | allele counts) by its formula (Wigginton 2005, equation 1), in fractions."""
    n, alt = hom_ref + het + hom_alt, 2 * hom_alt + het

    def chance(h: int) -> Fraction:
        homs = (2 * n - alt - h) // 2, (alt - h) // 2
        ways = math.factorial(n) // math.prod(map(math.factorial, (*homs, h)))
        return Fraction(2**h * ways, math.comb(2 * n, alt))

    chances = [chance(h) for h in range(alt % 2, min(alt, 2 * n - alt) + 1, 2)]
    assert sum(chances) == 1
    less = sum((p for p in chances if p < chance(het)), Fraction(0))
    equal = sum((p for p in chances if p == chance(het)), Fraction(0))
    return less + equal, less + equal / 2


def test_37_homozygotes_200_heterozygotes_and_85_homozygotes_are_out_of_equilibrium() -> None:
    assert hwe_kernel(37, 200, 85) == pytest.approx((1.4595794e-06, 1.1337210e-06), rel=1e-7)


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_the_kernel_equals_whole_fractions(hom_ref: int, het: int, hom_alt: int) -> None:
    if hom_ref + het + hom_alt:
        expected = [float(p) for p in enumerated(hom_ref, het, hom_alt)]
        assert hwe_kernel(hom_ref, het, hom_alt) == pytest.approx(expected, rel=1e-10)


def test_which_allele_is_the_rare_one_does_not_matter() -> None:
    assert hwe_kernel(3, 20, 77) == hwe_kernel(77, 20, 3)


def test_a_population_in_equilibrium_of_half_a_million_has_p_one() -> None:
    assert hwe_kernel(125_000, 250_000, 125_000)[0] == pytest.approx(1)


def test_nobody_called_has_no_p() -> None:
    assert np.isnan(hwe_kernel(0, 0, 0)).all()


def enumerated_x(hom_ref: int, het: int, hom_alt: int, ref: int, alt: int) -> tuple[Fraction, Fraction]:
    """P(men's and women's calls | allele counts) by its formula (Graffelman 2016, equation 4), in fractions."""
    women, men, alleles = hom_ref + het + hom_alt, ref + alt, het + 2 * hom_alt + alt

    def chance(h: int, m: int) -> Fraction:
        homs = (alleles - m - h) // 2, women - h - (alleles - m - h) // 2
        ways = math.factorial(women) // math.prod(map(math.factorial, (*homs, h))) * math.comb(men, m)
        return Fraction(2**h * ways, math.comb(2 * women + men, alleles))

    chances = {
        (h, m): chance(h, m)
        for m in range(min(men, alleles) + 1)
        for h in range(women + 1)
        if (alleles - m - h) % 2 == 0 and 0 <= alleles - m - h <= 2 * (women - h)
    }
    assert sum(chances.values()) == 1
    seen = chances[het, alt]
    less = sum((p for p in chances.values() if p < seen), Fraction(0))
    equal = sum((p for p in chances.values() if p == seen), Fraction(0))
    return less + equal, less + equal / 2


@settings(deadline=None)
@given(*[st.integers(0, 20)] * 3, *[st.integers(0, 25)] * 2)
def test_on_x_the_kernel_equals_whole_fractions(hom_ref: int, het: int, hom_alt: int, ref: int, alt: int) -> None:
    if hom_ref + het + hom_alt:
        expected = [float(p) for p in enumerated_x(hom_ref, het, hom_alt, ref, alt)]
        assert hwe_x_kernel(hom_ref, het, hom_alt, ref, alt) == pytest.approx(expected, rel=1e-9)


def test_on_x_what_is_left_out_is_negligible_even_beside_a_tiny_p() -> None:
    counts = (90, 5, 60, 10, 150)
    expected = [float(p) for p in enumerated_x(*counts)]
    assert expected[0] < 1e-60
    assert hwe_x_kernel(*counts) == pytest.approx(expected, rel=1e-9, abs=0)


def test_on_x_the_tails_that_are_left_out_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [(600, 500, 152, 800, 450), (3000, 900, 40, 3500, 300), (0, 400, 0, 200, 200), (900, 100, 9, 1, 700)]
    found = np.array([hwe_x_kernel(*counts) for counts in tables])
    monkeypatch.setattr(hwe, "_NEGLIGIBLE", 0.0)
    whole = np.array([hwe_x_kernel(*counts) for counts in tables])
    np.testing.assert_allclose(found, whole, rtol=1e-11)
    assert (found > 0).sum() == 6


def test_the_tails_that_are_left_out_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    tables = []
    for people in (50, 900, 20_000, 300_000):
        for share in (0.0005, 0.01, 0.2, 0.5):
            # From equilibrium to where a p can hardly be written.
            for inbreeding in (0.0, 0.02, 0.3, 1.0):
                alleles = rng.uniform(size=(2, people)) < share
                counts = np.where(rng.uniform(size=people) < inbreeding, 2 * alleles[0], alleles.sum(axis=0))
                tables.append(tuple(int((counts == c).sum()) for c in (0, 1, 2)))
    found = np.array([hwe_kernel(*counts) for counts in tables])
    monkeypatch.setattr(hwe, "_NEGLIGIBLE", 0.0)
    np.testing.assert_allclose(found, [hwe_kernel(*counts) for counts in tables], rtol=1e-10, atol=0)
    assert ((found > 0) & (found < 1e-90)).any() and (found[:, 0] > 0.1).any()


def test_a_rare_allele_that_only_homozygotes_have_keeps_its_far_tail() -> None:
    expected = [float(p) for p in enumerated(5600, 8, 22)]
    assert 0 < expected[0] < 1e-50
    assert hwe_kernel(5600, 8, 22) == pytest.approx(expected, rel=1e-9, abs=0)


def test_without_men_the_test_on_x_is_the_one_of_autosomes() -> None:
    assert hwe_x_kernel(37, 200, 85, 0, 0) == pytest.approx(hwe_kernel(37, 200, 85), rel=1e-12)


def test_without_women_there_is_no_test_on_x() -> None:
    assert np.isnan(hwe_x_kernel(0, 0, 0, 5, 3)).all()


def test_many_variants_at_once_equal_one_at_a_time() -> None:
    counts = np.array([[5, 3, 1, 0, 0], [0, 0, 0, 0, 0], [9, 0, 9, 0, 0], [5, 3, 1, 0, 0], [5, 3, 1, 7, 2]])
    together = np.stack(hwe_p(counts), axis=1)
    expected = [
        hwe_x_kernel(*map(int, row)) if row[3:].any() else hwe_kernel(*map(int, row[:3])) for row in counts
    ]
    np.testing.assert_allclose(together, expected, rtol=1e-13)


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 40)] * 3), min_size=1, max_size=8))
def test_many_at_once_equal_whole_fractions(tables: list[tuple[int, int, int]]) -> None:
    found = hwe_kernels(np.array(tables))
    expected = [[float(p) for p in enumerated(*counts)] if sum(counts) else [np.nan] * 2 for counts in tables]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_many_at_once_equal_one_at_a_time_from_equilibrium_to_where_floats_end() -> None:
    rng = np.random.default_rng(5)
    for people in (3, 2_504, 60_000):
        shares = rng.dirichlet([1, 1, 1], 300)
        p = rng.beta(0.3, 2, 300)
        balanced = np.stack([(1 - p) ** 2, 2 * p * (1 - p), p**2], axis=1)
        counts = np.concatenate([rng.multinomial(people, share) for share in np.concatenate([shares, balanced])])
        counts = counts.reshape(-1, 3)
        expected = np.array([hwe_kernel(*map(int, row)) for row in counts])
        np.testing.assert_allclose(hwe_kernels(counts), expected, rtol=1e-11, atol=0)
        assert (expected == 0).any() == (people > 3)
