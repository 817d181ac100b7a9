"""The exact test against published numbers and against counting with whole fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.genomics.hwe import hwe_kernel, hwe_p


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


def test_many_variants_at_once_equal_one_at_a_time() -> None:
    counts = np.array([[5, 3, 1], [0, 0, 0], [9, 0, 9], [5, 3, 1]])
    together = np.stack(hwe_p(*counts.T), axis=1)
    np.testing.assert_array_equal(together, [hwe_kernel(*map(int, row)) for row in counts])
