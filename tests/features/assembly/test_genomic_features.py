"""ALT counts, burdens and gene labels from packed calls."""

from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from features.contract.errors import ConfigError, DataGateError
from features.contract.schemas import (
    GENOTYPES,
    PERSONS,
    POLYGENIC_SCORES,
    SAMPLES,
    SCORE_MATCHES,
    VARIANTS,
)
from features.contract.settings import GenomicFeatures, OutcomeSettings
from features.genomics.features import (
    carriers,
    check_scores,
    check_variants,
    genomic_features,
    genomic_vocabulary,
    with_scores,
)
from tests.features.assembly.rows import by_person, frame, key, pack, person

NAMES = [f"p{i}" for i in range(6)]
NAN = float("nan")
ILL = OutcomeSettings(name="ill", kind="binary", code="ILL", horizon_days=1)
IDH = OutcomeSettings(name="idh", kind="binary", genes=["IDH1"], horizon_days=1)

# Variant: its annotation, its calls in block b1 (p0 to p4) and in block b2 (p5).
VARIANT_ROWS: dict[str, tuple[dict[str, Any], list[int], list[int] | None]] = {
    "v1": ({"rsid": "rs1", "gene": "G"}, [0, 1, 2, 3, 0], [2]),
    "v2": ({"rsid": "rs2", "gene": "IDH1", "consequence": "Missense"}, [1, 0, 0, 3, 0], None),
    "v3": ({"gene": "IDH1", "consequence": "Silent"}, [0, 2, 0, 0, 0], [2]),
    "v4": ({"gene": "IDH1", "filters": ["lowq"], "consequence": "Missense"}, [0, 0, 2, 0, 0], [2]),
    "v5": ({"gene": "TP53", "consequence": "Nonsense"}, [1, 2, 3, 0, 0], [0]),
    "v6": ({"gene": "TP53", "consequence": "Missense"}, [1, 0, 0, 0, 0], [0]),
    "m1": ({"rsid": "rs3"}, [1, 0, 0, 0, 3], [0]),
    "m2": ({"rsid": "rs3"}, [1, 0, 2, 0, 0], [0]),
}


def _tables(spark: SparkSession) -> tuple[DataFrame, DataFrame, DataFrame]:
    variants = [{"variant_key": name, **row[0]} for name, row in VARIANT_ROWS.items()]
    genotypes = [
        {"variant_key": name, "sample_block": block, "calls": pack(calls)}
        for name, (_, *blocks) in VARIANT_ROWS.items()
        for block, calls in zip(("b1", "b2"), blocks, strict=True)
        if calls is not None
    ]
    places = [("b1", i) for i in range(5)] + [("b2", 0)]
    samples = [
        {"person_key": key(name), "sample_block": block, "sample_index": i}
        for name, (block, i) in zip(NAMES, places, strict=True)
    ]
    return frame(spark, VARIANTS, variants), frame(spark, GENOTYPES, genotypes), frame(spark, SAMPLES, samples)


def _vectors(spark: SparkSession, features: GenomicFeatures, somatic: bool) -> np.ndarray:
    variants, genotypes, samples = _tables(spark)
    index = frame(spark, PERSONS, [person(name) for name in [*NAMES, "no genome"]])
    expected = check_variants(variants, features, ILL)
    found = genomic_features(index, variants, genotypes, samples, features, expected, somatic)
    rows = by_person(found, "x_genomics")
    assert set(rows) == {key(name) for name in NAMES}
    return np.array([rows[key(name)] for name in NAMES])


def test_a_chosen_variant_is_its_alt_count_and_a_missing_call_is_missing(spark: SparkSession) -> None:
    found = _vectors(spark, GenomicFeatures(variants=["rs2", "rs1"]), somatic=False)
    np.testing.assert_equal(found[:, 1], [0, 1, 2, NAN, 0, 2])
    np.testing.assert_equal(found[:, 0], [1, 0, 0, NAN, 0, NAN])


def test_a_split_site_is_the_count_over_all_its_alleles(spark: SparkSession) -> None:
    found = _vectors(spark, GenomicFeatures(variants=["rs3"]), somatic=False)
    np.testing.assert_equal(found[:, 0], [2, 0, 2, 0, NAN, 0])


def test_in_a_tumour_an_absent_call_is_no_variant(spark: SparkSession) -> None:
    found = _vectors(spark, GenomicFeatures(variants=["rs2", "rs1"]), somatic=True)
    np.testing.assert_equal(found, [[1, 0], [0, 1], [0, 2], [0, 0], [0, 0], [0, 2]])


def test_a_burden_counts_non_silent_pass_variants(spark: SparkSession) -> None:
    found = _vectors(spark, GenomicFeatures(genes=["IDH1", "TP53"], total_burden=True), somatic=False)
    np.testing.assert_equal(found[:, :2], [[1, 2], [0, 1], [0, 0], [0, 0], [0, 0], [0, 0]])
    # v1, m1 and m2 have no annotation, so nobody knows them to be silent.
    np.testing.assert_allclose(found[:, 2], np.log1p([5, 2, 2, 0, 0, 1]), rtol=1e-6)


def test_a_gene_label_is_carrying_a_non_silent_pass_variant(spark: SparkSession) -> None:
    found = by_person(carriers(*_tables(spark), IDH, somatic=True), "carries")
    assert [found[key(name)] for name in NAMES] == [True, False, False, False, False, False]


def test_an_unknown_rsid_and_one_in_an_outcome_gene_are_refused(spark: SparkSession) -> None:
    variants = _tables(spark)[0]
    with pytest.raises(DataGateError, match="rs404"):
        check_variants(variants, GenomicFeatures(variants=["rs1", "rs404"]), ILL)
    with pytest.raises(ConfigError, match="rs2 lies in a gene that defines the outcome idh"):
        check_variants(variants, GenomicFeatures(variants=["rs1", "rs2"]), IDH)


def test_people_beyond_the_first_chunk_keep_their_own_calls(spark: SparkSession) -> None:
    calls = np.random.default_rng(1).integers(0, 4, 2500)
    variants = frame(spark, VARIANTS, [{"variant_key": "v", "rsid": "rs1"}])
    genotypes = frame(spark, GENOTYPES, [{"variant_key": "v", "sample_block": "b", "calls": pack(calls.tolist())}])
    rows = [{"person_key": key(str(i)), "sample_block": "b", "sample_index": i} for i in range(2500)]
    samples = frame(spark, SAMPLES, rows)
    chosen = GenomicFeatures(variants=["rs1"])
    found = by_person(
        genomic_features(samples, variants, genotypes, samples, chosen, {"rs1": 1}, False), "x_genomics"
    )
    ours = [found[key(str(i))][0] for i in range(2500)]
    np.testing.assert_equal(ours, np.where(calls == 3, NAN, calls))


def test_scores_stand_behind_the_other_columns_and_who_has_none_has_no_number(spark: SparkSession) -> None:
    features = GenomicFeatures(variants=["rs1"], scores=["b", "a"])
    assert genomic_vocabulary(features) == ["rs1", "b", "a"]
    variants, genotypes, samples = _tables(spark)
    found = genomic_features(samples, variants, genotypes, samples, features, {"rs1": 1}, somatic=False)
    rows = [("p0", "a", 1.5), ("p0", "b", -2.0), ("p1", "a", 0.25), ("p1", "other", 9.0)]
    scores = frame(
        spark,
        POLYGENIC_SCORES,
        [{"person_key": key(n), "score": score, "total": total} for n, score, total in rows],
    )
    vectors = by_person(with_scores(found, scores, features.scores), "x_genomics")
    expected = [[0, -2, 1.5], [1, NAN, 0.25], [2, NAN, NAN], [NAN, NAN, NAN], [0, NAN, NAN], [2, NAN, NAN]]
    np.testing.assert_equal([list(vectors[key(name)]) for name in NAMES], expected)
    with pytest.raises(
        DataGateError, match="PGS404: no such score in the polygenic_scores table, which has a, b, other"
    ):
        with_scores(found, scores, ["a", "PGS404"])


def test_a_score_that_weighs_an_outcome_gene_is_no_feature(spark: SparkSession) -> None:
    variants = _tables(spark)[0]
    rows = [("clean", "v1"), ("clean", None), ("leaks", "v1"), ("leaks", "v3")]
    matches = frame(
        spark, SCORE_MATCHES, [{"score": score, "match_type": "altref", "variant_key": v} for score, v in rows]
    )
    check_scores(matches, variants, ["clean"], IDH)
    check_scores(matches, variants, ["clean", "leaks"], ILL)
    with pytest.raises(ConfigError, match="leaks weighs variants of genes that define the outcome idh"):
        check_scores(matches, variants, ["clean", "leaks"], IDH)
