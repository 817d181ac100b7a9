"""Pairs in linkage disequilibrium are plink1.9's, and what is left has none."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from features.genomics.packing import pack
from features.genomics.structure.linkage import LONG_RANGE, _ranked, in_long_range, linked_pairs, pruned

WINDOW, R2 = 20_000, 0.2
PEOPLE = {"a": 90, "b": 61}


def haplotypes(variants: int, people: int, rng: np.random.Generator) -> np.ndarray:
    """Codes of variants that go with the one before, more or less; a few calls are missing."""
    codes = np.empty((variants, people), np.uint8)
    one = rng.binomial(2, 0.3, people)
    for at in range(variants):
        again = rng.uniform(size=people) < rng.uniform(0.3, 0.9)
        one = np.where(again, one, rng.binomial(2, rng.uniform(0.1, 0.5), people))
        codes[at] = one
    codes[rng.uniform(size=codes.shape) < 0.02] = 3
    return codes


class Study:
    """Two contigs of variants some hundred bases apart, in two blocks, of which not everyone is chosen."""

    def __init__(self, spark: SparkSession) -> None:
        rng = np.random.default_rng(8)
        self.codes = haplotypes(260, sum(PEOPLE.values()), rng)
        self.codes[40, 90:] = 3  # no row in the second block
        self.codes[50] = 2  # does not vary
        self.contig = np.repeat(["1", "2"], 130)
        # Some at one place, as a split site has them.
        self.position = np.concatenate([np.sort(rng.integers(1, 150_000, 130)) // 7 * 7 for _ in range(2)])
        self.keys = [
            f"GRCh38:{c}:{p}:A:C{at}" for at, (c, p) in enumerate(zip(self.contig, self.position, strict=True))
        ]
        self.chosen = {block: rng.uniform(size=size) < 0.9 for block, size in PEOPLE.items()}
        counts = np.ma.masked_equal(self.codes.astype(float), 3)
        self.frequency = counts.mean(1).filled(0) / 2
        rows = [
            (key, block, bytearray(pack(self.codes[at, part]).tobytes()))
            for at, key in enumerate(self.keys)
            for block, part in (("a", slice(0, 90)), ("b", slice(90, None)))
            if not (at == 40 and block == "b")
        ]
        self.genotypes = spark.createDataFrame(rows, "variant_key string, sample_block string, calls binary")
        table = pd.DataFrame({"variant_key": self.keys, "contig": self.contig, "position": self.position})
        self.variants: DataFrame = spark.createDataFrame(table.assign(frequency=self.frequency))

    @property
    def own(self) -> np.ndarray:
        """The codes of those who are chosen."""
        return self.codes[:, np.concatenate(list(self.chosen.values()))]


@pytest.fixture(scope="module")
def study(spark: SparkSession) -> Study:
    return Study(spark)


def plinks(study: Study, folder: Path) -> set[frozenset[str]]:
    calls = np.array(["0/0", "0/1", "1/1", "./."])[study.own]
    names = "\t".join(f"p{i}" for i in range(study.own.shape[1]))
    lines = ["##fileformat=VCFv4.2", f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{names}"]
    for contig, at, key, row in zip(study.contig, study.position, study.keys, calls, strict=True):
        lines.append("\t".join([contig, str(at), key, "A", "C", ".", "PASS", ".", "GT", *row]))
    (folder / "own.vcf").write_text("\n".join(lines) + "\n")
    flags = f"--ld-window-kb {WINDOW // 1000} --ld-window 99999 --ld-window-r2 {R2}"
    command = f"plink1.9 --vcf {folder}/own.vcf --r2 {flags} --out {folder}/own".split()
    subprocess.run(command, check=True, capture_output=True)
    found = pd.read_csv(folder / "own.ld", sep=r"\s+")
    assert (found["R2"] - R2).abs().min() > 1e-5  # it prints six digits: none is on the edge
    return {frozenset(pair) for pair in zip(found["SNP_A"], found["SNP_B"], strict=True)}


@pytest.mark.skipif(shutil.which("plink1.9") is None, reason="plink1.9 is not installed")
def test_pairs_are_those_of_plink_across_windows_and_blocks(study: Study, tmp_path: Path) -> None:
    ranked = _ranked(study.variants).persist()
    pairs = linked_pairs(study.genotypes, ranked, 260, study.chosen, WINDOW, R2).toPandas()
    names = ranked.toPandas().set_index("rank")["variant_key"]
    found = {frozenset(pair) for pair in zip(names[pairs["one"]], names[pairs["other"]], strict=True)}
    assert (pairs["one"] < pairs["other"]).all()
    assert len(found) == len(pairs)
    expected = plinks(study, tmp_path)
    assert found == expected and len(found) > 100
    windows = {one // WINDOW != other // WINDOW for one, other in _positions(study, expected)}
    assert windows == {True, False}


def _positions(study: Study, pairs: set[frozenset[str]]) -> list[tuple[int, int]]:
    at = dict(zip(study.keys, study.position.tolist(), strict=True))
    return [(at[one], at[other]) for one, other in (sorted(pair) for pair in pairs)]


@pytest.mark.skipif(shutil.which("plink1.9") is None, reason="plink1.9 is not installed")
def test_what_is_left_has_no_pair_and_everything_else_has_one_that_is_more_frequent(
    study: Study, tmp_path: Path
) -> None:
    left = {
        row["variant_key"]
        for row in pruned(study.genotypes, study.variants, 260, study.chosen, WINDOW, R2).collect()
    }
    pairs = plinks(study, tmp_path)
    assert not [pair for pair in pairs if pair <= left]
    rarer = dict(zip(study.keys, np.minimum(study.frequency, 1 - study.frequency), strict=True))
    for key in set(study.keys) - left:
        takers = [other for pair in pairs if key in pair for other in pair - {key} if other in left]
        assert max(rarer[taker] for taker in takers) >= rarer[key]
    command = (
        f"plink2 --vcf {tmp_path}/own.vcf --indep-pairwise {WINDOW // 1000}kb {R2} --out {tmp_path}/own --bad-ld"
    )
    if shutil.which("plink2"):
        subprocess.run(command.split(), check=True, capture_output=True)
        theirs = (tmp_path / "own.prune.in").read_text().split()
        assert len(left) >= 0.95 * len(theirs)


@pytest.mark.parametrize("build", ["GRCh37", "GRCh38"])
def test_regions_are_ordered_within_contigs_and_hold_the_hla_in_both_builds(
    spark: SparkSession, build: str
) -> None:
    for regions in LONG_RANGE[build].values():
        ends = [end for region in regions for end in region]
        assert ends == sorted(ends)
    # HLA-A, the inversion of 8p23, SH2B3 of 12q24; and outside.
    rows = [("6", 29_900_000, True), ("8", 9_000_000, True), ("6", 20_000_000, False), ("X", 31_000_000, False)]
    rows.append(("12", {"GRCh37": 111_884_608, "GRCh38": 111_446_804}[build], True))
    frame = spark.createDataFrame(rows, "contig string, position bigint, inside boolean")
    assert frame.filter(in_long_range(build) != sf.col("inside")).count() == 0
