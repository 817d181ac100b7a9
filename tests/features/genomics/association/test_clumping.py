"""Clumps are those of `plink1.9 --clump`, borders and ties too."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from scipy.special import xlogy

from features.genomics.association.clumping import clump, likeliest
from features.genomics.contigs import Region, region
from features.genomics.packing import pack

needs_plink = pytest.mark.skipif(shutil.which("plink1.9") is None, reason="plink1.9 is not installed")
BUILD = "GRCh37"
Clumps = dict[str, set[str]]


@dataclass
class Study:
    """Codes (variants, people) of places, in their order, and the p of each."""

    places: list[tuple[str, int]]
    codes: np.ndarray
    p: list[float]
    sexes: np.ndarray
    chosen: np.ndarray
    statistic: list[float] | None = None

    @property
    def keys(self) -> list[str]:
        return [f"{BUILD}:{contig}:{at}:A:C{n:04}" for n, (contig, at) in enumerate(self.places)]

    def clumps(self, spark: SparkSession, blocks: dict[str, int], **limits: float) -> Clumps:
        """What each index variant takes."""
        ends = np.cumsum(list(blocks.values()))[:-1]
        parts = zip(blocks, np.split(self.codes, ends, axis=1), strict=True)
        rows = [
            (key, block, bytearray(pack(row).tobytes()))
            for block, part in parts
            for key, row in zip(self.keys, part, strict=True)
            if (row != 3).any()
        ]
        genotypes = spark.createDataFrame(rows, "variant_key string, sample_block string, calls binary")
        table = pd.DataFrame(self.places, columns=["contig", "position"]).assign(variant_key=self.keys, p=self.p)
        table["statistic"] = self.statistic or [0.0] * len(self.p)
        chosen = dict(zip(blocks, np.split(self.chosen, ends), strict=True))
        sexes = dict(zip(blocks, np.split(self.sexes, ends), strict=True))
        found = clump(spark.createDataFrame(table), genotypes, chosen, sexes, BUILD, **limits).toPandas()
        assert found["variant_key"].is_unique
        groups = found.groupby("index_key")["variant_key"]
        assert all(index in set(members) for index, members in groups)
        return {str(index): set(members) - {index} for index, members in groups}

    def plinks(self, folder: Path, flags: str = "") -> Clumps:
        names = [f"p{i}" for i in range(self.chosen.sum())]
        calls = np.array(["0/0", "0/1", "1/1", "./."])[self.codes[:, self.chosen]]
        columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *names]
        lines = ["##fileformat=VCFv4.2", "\t".join(columns)]
        for key, (contig, at), row in zip(self.keys, self.places, calls, strict=True):
            lines.append("\t".join([contig, str(at), key, "A", "C", ".", "PASS", ".", "GT", *row]))
        (folder / "own.vcf").write_text("\n".join(lines) + "\n")
        sexes = zip(names, self.sexes[self.chosen], strict=True)
        (folder / "sexes").write_text("".join(f"0 {name} {sex}\n" for name, sex in sexes))
        pairs = zip(self.keys, self.p, strict=True)
        (folder / "p").write_text("SNP P\n" + "".join(f"{key} {p!r}\n" for key, p in pairs))
        read = f"--vcf {folder}/own.vcf --const-fid 0 --update-sex {folder}/sexes --split-x hg19 no-fail"
        for step in (f"{read} --make-bed", f"--bfile {folder}/own --clump {folder}/p --allow-no-sex {flags}"):
            command = f"plink1.9 {step} --out {folder}/own".split()
            subprocess.run(command, check=True, capture_output=True)
        if not (folder / "own.clumped").exists():
            return {}
        rows = [line.split() for line in (folder / "own.clumped").read_text().splitlines()[1:] if line]
        return {row[2]: {name.removesuffix("(1)") for name in row[11].split(",")} - {"NONE"} for row in rows}


def simulated(people: int) -> Study:
    """Each haplotype is that of the variant before, more or less, on contigs of all kinds."""
    rng = np.random.default_rng(6)
    sexes = rng.choice([0, 1, 2], people, p=[0.05, 0.5, 0.45]).astype(np.uint8)
    firsts = (("1", 10_000), ("2", 10_000), ("X", 2_500_000), ("Y", 6_000_000), ("MT", 10))
    places, codes = [], []
    for (contig, first), number in zip(firsts, (160, 120, 120, 50, 50), strict=True):
        here = first + np.sort(rng.integers(0, 16_000 if contig == "MT" else 800_000, number))
        carried = rng.uniform(size=(people, 2)) < 0.3
        for at in here.tolist():
            again = rng.uniform(size=(people, 1)) < rng.choice([0.6, 0.95])
            carried = np.where(again, carried, rng.uniform(size=(people, 2)) < rng.uniform(0.1, 0.6))
            where = region(BUILD, contig, at)
            one = where in (Region.Y, Region.MT) or ((where is Region.X) & (sexes == 1))
            places.append((contig, at))
            codes.append(np.where(one, 2 * carried[:, 0], carried.sum(1)))
            if where is not Region.DIPLOID:
                codes[-1][rng.uniform(size=people) < 0.02] = 1
    found = np.array(codes, np.uint8)
    found[rng.uniform(size=found.shape) < 0.02] = 3
    found[30, : people // 2] = 3
    found[31] = 2
    p = np.round(10 ** -rng.uniform(1, 7, len(places)), 9)
    p[::11], p[::23], p[::29] = 1e-6, 1e-4, 0.01
    return Study(places, found, p.tolist(), sexes, rng.uniform(size=people) < 0.9)


@needs_plink
def test_clumps_are_those_of_plink(spark: SparkSession, tmp_path: Path) -> None:
    study = simulated(220)
    found, expected = study.clumps(spark, {"a": 110, "b": 110}), study.plinks(tmp_path)
    assert found == expected
    contigs = [key.split(":")[1] for key, members in found.items() if members]
    assert {contig: contigs.count(contig) > 5 for contig in ("1", "2", "X", "Y", "MT")} == dict.fromkeys(
        ("1", "2", "X", "Y", "MT"), True
    )


def alike(positions: list[int], p: list[float], rows: list[np.ndarray] | None = None) -> Study:
    """Variants that go together wholly, unless others are given."""
    rng = np.random.default_rng(3)
    row = rng.binomial(2, 0.3, 80)
    codes = np.array([row] * len(positions) if rows is None else rows, np.uint8)
    people = codes.shape[1]
    everyone = np.ones(people, bool)
    return Study([("1", at) for at in positions], codes, p, np.full(people, 2, np.uint8), everyone)


WINDOW = alike(
    [750_000, 750_001, 1_000_000, 1_249_999, 1_250_000, 1_500_000], [0.001, 0.001, 1e-9, 0.001, 0.001, 1e-5]
)
LIMITS = alike([1000, 2000, 3000, 4000, 500_000], [1e-4, 0.01, 0.00999, 0.5, 1.001e-4])
TIES = alike([1000, 200_000, 400_000, 400_000], [1e-5, 1e-5, 1e-5, 1e-5])
HALF = alike(
    [1000, 2000, 3000],
    [1e-9, 1e-3, 1e-3],
    [np.repeat(row, 5) for row in ([2, 2, 2, 0, 0, 0], [2, 2, 0, 0, 0, 0], [2, 2, 2, 2, 0, 0])],
)


@needs_plink
@pytest.mark.parametrize(
    ("study", "expected"),
    [
        pytest.param(WINDOW, {2: {1, 3}, 5: set()}, id="less than 250 kb away"),
        pytest.param(LIMITS, {0: {2}}, id="an index up to 1e-4, others below 0.01"),
        pytest.param(TIES, {0: {1}, 2: {3}}, id="of one p the first by position"),
        pytest.param(HALF, {0: set()}, id="an r2 above 0.5"),
    ],
)
def test_borders_are_those_of_plink(
    spark: SparkSession, tmp_path: Path, study: Study, expected: dict[int, set[int]]
) -> None:
    keys = study.keys
    found = study.clumps(spark, {"a": study.codes.shape[1]})
    assert found == {keys[index]: {keys[one] for one in others} for index, others in expected.items()}
    assert study.plinks(tmp_path) == found


@needs_plink
def test_limits_can_be_others_and_nothing_may_be_left(spark: SparkSession, tmp_path: Path) -> None:
    study = simulated(90)
    limits = {"p1": 1e-3, "p2": 0.05, "r2": 0.2, "kilobases": 40}
    found = study.clumps(spark, {"a": 90}, **limits)
    expected = study.plinks(tmp_path, "--clump-p1 0.001 --clump-p2 0.05 --clump-r2 0.2 --clump-kb 40")
    assert found == expected and len(found) > 100
    assert study.clumps(spark, {"a": 90}, p1=1e-12, p2=1e-12) == {}


def test_of_p_too_small_for_a_number_the_larger_statistic_comes_first(spark: SparkSession) -> None:
    codes = np.tile(np.random.default_rng(3).binomial(2, 0.4, 60).astype(np.uint8), (3, 1))
    places = [("1", at) for at in (1000, 2000, 3000)]
    study = Study(
        places, codes, [0.0, 0.0, 1e-200], np.zeros(60, np.uint8), np.ones(60, bool), [55.6, -61.0, 30.0]
    )
    assert study.clumps(spark, {"a": 60}) == {study.keys[1]: {study.keys[0], study.keys[2]}}


counts = st.integers(0, 30)


@given(counts, counts, counts, counts, st.integers(1, 30))
def test_the_likeliest_haplotypes_are_the_likeliest(
    surely: int, one: int, other: int, neither: int, both: int
) -> None:
    """Of a thousand ways to share those heterozygous in both none is likelier."""

    def likelihood(more: np.ndarray) -> np.ndarray:
        known = xlogy(surely, surely + more) + xlogy(neither, neither + more)
        known += xlogy(one, one + both - more) + xlogy(other, other + both - more)
        together = (surely + more) * (neither + more) + (one + both - more) * (other + both - more)
        return known + xlogy(both, together)

    numbers = [surely, one, other, (surely + one + other + neither) / 2 + both, both]
    found = likeliest(*(np.array([float(number)]) for number in numbers))
    assert 0 <= found[0] <= both
    assert likelihood(found)[0] >= likelihood(np.linspace(0, both, 1001)).max() - 1e-9
