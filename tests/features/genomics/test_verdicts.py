"""By which rule a variant is left out first, beside one variant after the other."""

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from features.contract.schemas import QC_VARIANTS
from features.contract.settings import QualitySettings
from features.genomics.verdicts import first_broken, rules_of

SHARES = st.none() | st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
COLUMNS = ("call_rate", "hwe_exact_p", "hwe_mid_p", "mach_r2", "impute_info")
VARIANT = st.fixed_dictionaries(
    dict.fromkeys(COLUMNS, SHARES)
    | {
        "filters": st.lists(st.sampled_from(["q10", "s50"]), max_size=2),
        "alleles": st.tuples(st.integers(0, 8), st.integers(0, 8)).map(sorted),
    }
)
MINIMA = ("variant_call_rate", "hwe_exact_p", "hwe_mid_p", "allele_frequency", "mach_r2", "impute_info")
LIMITS = st.builds(
    lambda pass_only, minima: QualitySettings(
        pass_only=pass_only,
        **{
            f"minimum_{name}": minimum for name, minimum in zip(MINIMA, minima, strict=True) if minimum is not None
        },
    ),
    st.booleans(),
    st.tuples(*[st.none() | st.sampled_from([0.2, 0.25, 0.4]) for _ in MINIMA]),
)


def expected(variant: dict[str, Any], limits: QualitySettings) -> tuple[str | None, float | None]:
    """In the order of plink2: FILTER, --geno, --hwe, --maf, and how well it was imputed."""
    if limits.pass_only and variant["filters"]:
        return "pass_only", None
    count, number = variant["alleles"]
    found = {name: variant[name] for name in COLUMNS}
    found["variant_call_rate"] = found["call_rate"]
    found["allele_frequency"] = min(count, number - count) / number if number else 0.0
    for name in MINIMA:
        minimum, value = getattr(limits, f"minimum_{name}"), found[name]
        if minimum is not None and value is not None and value < minimum:
            return f"minimum_{name}", value
    return None, None


@given(st.lists(VARIANT, max_size=30), LIMITS)
def test_the_first_rule_that_is_broken_leaves_a_variant_out(
    variants: list[dict[str, Any]], limits: QualitySettings
) -> None:
    rows = [
        {**variant, "allele_count": variant["alleles"][0], "allele_number": variant["alleles"][1]}
        for variant in variants
    ]
    names = [*COLUMNS, "filters", "allele_count", "allele_number"]
    table = pa.Table.from_pylist(rows, pa.schema([QC_VARIANTS.schema.field(name) for name in names]))
    broken, values = first_broken(table, limits)
    rules = [None, *(name for name, _ in rules_of(limits))]
    found = [
        (rules[place], None if value != value else value) for place, value in zip(broken, values, strict=True)
    ]
    assert found == [expected(variant, limits) for variant in variants]
