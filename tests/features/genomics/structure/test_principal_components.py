"""Axes are those of numpy's own decomposition, and people lie on them whatever calls they lack."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from features.contract.paths import Location
from features.genomics.packing import pack
from features.genomics.structure import tiles
from features.genomics.structure.principal_components import TOLERANCE, Axes, Passes, leading, place, standardised
from features.genomics.structure.tiles import write_tiles

Matrix = np.ndarray


def structured(variants: int, people: int, populations: int, seed: int) -> Matrix:
    """Codes (variants, people) of populations that drifted apart, with some calls missing."""
    rng = np.random.default_rng(seed)
    ancestral = rng.uniform(0.1, 0.9, (variants, 1))
    own = np.clip(ancestral + rng.normal(0, 0.15, (variants, populations)), 0.02, 0.98)
    codes = rng.binomial(2, own[:, np.arange(people) % populations]).astype(np.uint8)
    codes[rng.uniform(size=codes.shape) < 0.02] = 3
    return codes


def by_numpy(codes: Matrix, number: int) -> tuple[Matrix, Matrix]:
    """Eigenvalues of the relationship matrix and its vectors, each called allele counted once."""
    counts = np.ma.masked_equal(codes.astype(float), 3)
    frequency = counts.mean(1) / 2
    z = ((counts - 2 * frequency[:, None]) / np.sqrt(2 * frequency * (1 - frequency))[:, None]).filled(0)
    values, vectors = np.linalg.eigh(z.T @ z / len(z))
    return values[::-1][:number], vectors[:, ::-1][:, :number]


@pytest.mark.parametrize("size", [3, 12, 400])
def test_leading_vectors_are_those_of_a_full_decomposition(size: int) -> None:
    rng = np.random.default_rng(size)
    factor = rng.normal(size=(size, size)) * np.linspace(3, 0.1, size)
    matrix = factor @ factor.T
    values, vectors = leading(matrix.__matmul__, size, 3)
    expected, theirs = np.linalg.eigh(matrix)
    np.testing.assert_allclose(values, expected[::-1][:3], rtol=10 * TOLERANCE)
    assert np.abs((vectors * theirs[:, ::-1][:, :3]).sum(0)).min() > 0.9999
    assert (vectors[np.abs(vectors).argmax(0), range(3)] > 0).all()


def test_a_matrix_of_little_rank_is_known_after_a_pass_and_its_null_space_is_nothing() -> None:
    vector = np.random.default_rng(1).normal(size=(50, 2))
    values, _ = leading((vector @ vector.T).__matmul__, 50, 3)
    np.testing.assert_allclose(values[:2], np.linalg.svd(vector)[1] ** 2, rtol=1e-9)
    assert abs(values[2]) < 1e-9


@pytest.fixture
def passes(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Matrix, Matrix], Passes]:
    """Of codes and of a mask of people, in two blocks, three tiles and six bins."""
    monkeypatch.setattr(tiles, "VARIANTS_AT_ONCE", 70)

    def made(codes: Matrix, chosen: Matrix) -> Passes:
        first = 1_100
        parts = {"a": slice(0, first), "b": slice(first, None)}
        rows = [
            (f"v{at:05}", block, bytearray(pack(codes[at, part]).tobytes()))
            for at in range(len(codes))
            for block, part in parts.items()
        ]
        genotypes = spark.createDataFrame(rows, "variant_key string, sample_block string, calls binary")
        places = spark.createDataFrame(
            [(f"v{at:05}", at) for at in range(len(codes))], "variant_key string, place int"
        )
        people = {"a": first, "b": codes.shape[1] - first}
        folder = Location.parse(str(tmp_path / "work"))
        write_tiles(genotypes, places, len(codes), people, folder)
        frame = spark.range(0, len(tiles.tiles_of(people)), 1, 3)
        return Passes(frame, people, {block: chosen[part] for block, part in parts.items()}, folder, len(codes))

    return made


def test_axes_from_tiles_are_those_of_numpy_and_others_are_placed_on_them(
    passes: Callable[[Matrix, Matrix], Passes],
) -> None:
    codes = structured(400, 1_300, 4, 5)
    codes[7] = 0  # does not vary
    chosen = np.arange(1_300) % 4 != np.arange(1_300) // 4 % 4
    made = passes(codes, chosen)
    frequency = np.ma.masked_equal(codes[:, chosen].astype(float), 3).mean(1).filled(0) / 2
    axes = made.axes(3, frequency)
    varying = np.delete(codes[:, chosen], 7, axis=0)
    values, vectors = by_numpy(varying, 3)
    np.testing.assert_allclose(axes.eigenvalues, values, rtol=1e-4)
    assert axes.scale[7] == 0 and not axes.loadings[7].any()

    rows = made.placed(axes).orderBy("sample_block", "sample_index").toPandas()
    assert len(rows) == 1_300 and rows["sample_index"].tolist() == [*range(1_100), *range(200)]
    components = np.stack(rows["components"].to_list())
    assert (rows["n_called"].to_numpy() == (np.delete(codes, 7, axis=0) != 3).sum(0)).all()
    for axis in range(3):
        assert abs(np.corrcoef(components[chosen, axis], vectors[:, axis])[0, 1]) > 0.999
    # Those who had no part in the axes lie among their own population.
    own = np.arange(1_300) % 4
    centres = np.stack([components[chosen & (own == name)].mean(0) for name in range(4)])
    nearest = np.linalg.norm(components[~chosen][:, None] - centres[None], axis=2).argmin(1)
    assert (nearest == own[~chosen]).mean() > 0.95


def test_half_of_the_calls_place_a_person_where_all_do() -> None:
    codes = structured(4000, 300, 3, 9)
    frequency = np.ma.masked_equal(codes.astype(float), 3).mean(1).filled(0) / 2
    mean, scale = 2 * frequency, 1 / np.sqrt(2 * frequency * (1 - frequency))
    loadings = np.linalg.svd(standardised(codes, mean, scale), full_matrices=False)[0][:, :2].astype(float)
    axes = Axes(mean, scale, loadings, np.ones(2))
    _, whole = place({0: codes}, 300, axes)
    fewer = np.where(np.random.default_rng(2).uniform(size=codes.shape) < 0.45, 3, codes).astype(np.uint8)
    called, half = place({0: fewer}, 300, axes)
    assert (called < 2400).all()
    for axis in range(2):
        slope = np.polyfit(whole[:, axis], half[:, axis], 1)[0]
        assert abs(slope - 1) < 0.05  # with missing calls counted as average it is 0.55


def test_who_has_less_than_half_of_the_calls_is_not_placed() -> None:
    codes = structured(100, 3, 1, 4)
    codes[:, 0] = 3
    codes[:60, 1] = 3
    axes = Axes(
        np.ones(100), np.ones(100), np.linalg.qr(np.random.default_rng(1).normal(size=(100, 2)))[0], np.ones(2)
    )
    called, found = place({0: codes[:50], 50: codes[50:]}, 3, axes)
    assert called[0] == 0 and np.isnan(found[:2]).all() and np.isfinite(found[2]).all()
