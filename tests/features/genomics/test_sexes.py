"""Ploidy that hangs on sex: X, Y, MT and the pseudo-autosomal ends, as plink2 and plink1.9 count them."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.contract.errors import DataGateError
from features.contract.persons import PersonKeyer
from features.contract.settings import GenomicsSettings, SampleSexes
from features.genomics.contigs import Region, harmonise, region
from tests.features.genomics.conftest import Ingest, WriteVcf

PEOPLE = 90
SEXES = np.array(["1", "2", "NA"]).repeat([35, 45, 10])
NAMES = [f"A-{i}" for i in range(PEOPLE)]
PLACES = [
    *(("1", 1000 + i) for i in range(40)),
    *(("X", 200_000 + i) for i in range(10)),
    *(("X", 5_000_000 + i) for i in range(120)),
    *(("X", 155_000_000 + i) for i in range(10)),
    *(("Y", 6_000_000 + i) for i in range(20)),
    *(("MT", 300 + i) for i in range(20)),
]
GENOMICS = GenomicsSettings(paths=["*.vcf"], build="GRCh37", sexes=SampleSexes(path="sexes.psam"))


def simulated() -> list[str]:
    """Records of all places; men have one copy of X and Y but for a few wrong calls, 5 % are missing."""
    rng = np.random.default_rng(11)
    return [
        f"{chrom} {at} v{chrom}_{at} {_alleles(rng)} . PASS . GT {_calls(rng, chrom, at)}" for chrom, at in PLACES
    ]


def _alleles(rng: np.random.Generator) -> str:
    return str(rng.choice(["A C", "A G", "C T", "AT A"]))


def _calls(rng: np.random.Generator, chrom: str, at: int) -> str:
    frequency = rng.choice([1 / PEOPLE, 0.1, 0.3, 0.6])
    paired = chrom == "1" or (chrom == "X" and not 2_699_520 < at < 154_931_044)
    calls = []
    for sex in SEXES:
        one_copy = not paired and (chrom != "X" or sex == "1") and rng.uniform() > 0.05
        alleles = (rng.uniform(size=2) < frequency).astype(int)
        absent = rng.uniform() < (0.9 if chrom == "Y" and sex == "2" else 0.05)
        calls.append("./." if absent else str(alleles[0]) if one_copy else "{}|{}".format(*alleles))
    return " ".join(calls)


@pytest.fixture
def write_sexes(raw: Path) -> Callable[[str], None]:
    return lambda text: (raw / "sexes.psam").write_text(text) and None


@pytest.fixture
def found(ingest: Ingest, write_vcf: WriteVcf, write_sexes: Callable[[str], None]) -> dict[str, pd.DataFrame]:
    """The tables, from two files: the first with other names for contigs."""
    records = simulated()
    write_vcf("a.vcf", NAMES, [f"chr{record}" for record in records[:100]])
    write_vcf("b.vcf", NAMES, records[100:])
    write_sexes("#IID\tSEX\n" + table("{}\t{}\n"))
    written, tables = ingest(GENOMICS)
    assert written.counts["samples_without_sex"] == 10
    places = {place: number for number, place in enumerate(PLACES)}
    number = [
        places[place] for place in zip(tables["variants"]["contig"], tables["variants"]["position"], strict=True)
    ]
    return tables | {
        "variants": tables["variants"].iloc[np.argsort(number)],
        "samples": tables["samples"].sort_values("sample_index"),
    }


@pytest.fixture
def plink(tmp_path: Path, write_vcf: WriteVcf) -> Callable[..., pd.DataFrame]:
    """Run plink2, or plink1.9 for the sex that X tells; the report with this suffix."""
    for tool in ("plink2", "plink1.9"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    vcf, out = write_vcf("plink", NAMES, simulated()), tmp_path / "out"
    (tmp_path / "psam").write_text("#IID\tSEX\n" + table("{0}\t{1}\n"))
    (tmp_path / "update").write_text(table("{0} {0} {1}\n").replace("NA", "0"))

    def run(report: str, *flags: str) -> pd.DataFrame:
        call("plink2", "--vcf", vcf, "--psam", tmp_path / "psam", "--split-par", "hg19", *flags, "--out", out)
        return pd.read_csv(f"{out}.{report}", sep=r"\s+")

    def check_sex() -> pd.DataFrame:
        split = ["--double-id", "--update-sex", tmp_path / "update", "--split-x", "hg19", "--make-bed"]
        call("plink1.9", "--vcf", vcf, *split, "--out", out)
        call("plink1.9", "--bfile", out, "--check-sex", "--out", out)
        return pd.read_csv(f"{out}.sexcheck", sep=r"\s+")

    def call(*command: object) -> None:
        subprocess.run([str(part) for part in command], check=True, capture_output=True)

    return lambda report, *flags: check_sex() if report == "sexcheck" else run(report, *flags)


def table(row: str) -> str:
    return "".join(row.format(name, sex) for name, sex in zip(NAMES, SEXES, strict=True))


def test_counts_and_frequencies_are_those_of_plink2(
    found: dict[str, pd.DataFrame], plink: Callable[..., pd.DataFrame]
) -> None:
    variants, counts = found["variants"], plink("gcount", "--geno-counts")
    haploid = variants["contig"].isin(["X", "Y", "MT"])
    np.testing.assert_array_equal(variants["n_hom_ref"], counts["HOM_REF_CT"] + counts["HAP_REF_CT"])
    np.testing.assert_array_equal(variants["n_hom_alt"], counts["TWO_ALT_GENO_CTS"] + counts["HAP_ALT_CTS"])
    np.testing.assert_array_equal(variants["n_het"] - variants["n_het_haploid"], counts["HET_REF_ALT_CTS"])
    np.testing.assert_array_equal(variants["n_missing"] + variants["n_het_haploid"], counts["MISSING_CT"])
    assert variants.loc[haploid, "n_het_haploid"].sum() > 20

    frequencies = plink("afreq", "--freq")
    np.testing.assert_array_equal(variants["allele_number"], frequencies["OBS_CT"])
    np.testing.assert_allclose(variants["allele_frequency"], frequencies["ALT_FREQS"], rtol=5e-6)
    np.testing.assert_allclose(variants["allele_count"], variants["allele_frequency"] * variants["allele_number"])
    missing = plink("vmiss", "--missing")
    np.testing.assert_array_equal(variants["n_missing"], missing["MISSING_CT"])
    np.testing.assert_allclose(1 - variants["call_rate"], missing["F_MISS"], rtol=5e-6, atol=1e-12)


def test_equilibrium_is_tested_as_plink2_does_on_autosomes_and_on_x(
    found: dict[str, pd.DataFrame], plink: Callable[..., pd.DataFrame]
) -> None:
    variants = found["variants"]
    on_x = ((variants["contig"] == "X") & variants["position"].between(2_699_521, 154_931_043)).to_numpy()
    paired = ~on_x & variants["contig"].isin(["1", "X"]).to_numpy()
    for column, flags, p in (("hwe_exact_p", [], "P"), ("hwe_mid_p", ["midp"], "MIDP")):
        np.testing.assert_allclose(variants[column][paired], plink("hardy", "--hardy", *flags)[p], rtol=5e-6)
        np.testing.assert_allclose(variants[column][on_x], plink("hardy.x", "--hardy", *flags)[p], rtol=5e-6)
        assert variants[column][~on_x & ~paired].isna().all()


def test_samples_are_counted_as_plink2_counts_them(
    found: dict[str, pd.DataFrame], plink: Callable[..., pd.DataFrame], keyer: PersonKeyer
) -> None:
    samples, missing = found["samples"], plink("smiss", "--missing")
    assert samples["person_key"].tolist() == [keyer.person_key(name) for name in NAMES]
    assert samples["sex"].tolist() == [{"1": "male", "2": "female", "NA": "unknown"}[sex] for sex in SEXES]
    np.testing.assert_allclose(1 - samples["call_rate"], missing["F_MISS"], rtol=5e-6, atol=1e-12)
    counts = plink("scount", "--sample-counts", "cols=homalt,het,dipts,diptv,single")
    np.testing.assert_array_equal(samples["n_het"], counts["HET_CT"])
    np.testing.assert_array_equal(samples["n_hom_alt"], counts["HOM_ALT_CT"])
    np.testing.assert_array_equal(samples["n_transitions"], counts["DIPLOID_TRANSITION_CT"])
    np.testing.assert_array_equal(samples["n_transversions"], counts["DIPLOID_TRANSVERSION_CT"])
    np.testing.assert_array_equal(samples["n_singletons"], counts["SINGLETON_CT"])
    assert samples["n_singletons"].sum() > 5


def test_the_sex_that_x_tells_is_that_of_plink(
    found: dict[str, pd.DataFrame], plink: Callable[..., pd.DataFrame]
) -> None:
    samples, told = found["samples"], plink("sexcheck")
    np.testing.assert_allclose(samples["x_inbreeding"], told["F"], rtol=5e-4, atol=1e-4)  # four digits printed
    assert samples["sex_imputed"].tolist() == [
        {0: "unknown", 1: "male", 2: "female"}[sex] for sex in told["SNPSEX"]
    ]


def test_a_sample_of_another_sex_is_told_of(
    ingest: Ingest, write_vcf: WriteVcf, write_sexes: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    write_vcf("a.vcf", NAMES, simulated())
    write_sexes("#IID\tSEX\n" + table("{}\t{}\n").replace("A-3\t1", "A-3\t2"))
    written, tables = ingest(GENOMICS)
    assert written.counts["samples_of_other_sex"] == 1
    assert "1 samples: X tells another sex than is recorded" in caplog.text
    swapped = tables["samples"].set_index("sample_index").loc[3]
    assert (swapped["sex"], swapped["sex_imputed"]) == ("female", "male")


def test_two_blocks_count_as_one(
    ingest: Ingest, write_vcf: WriteVcf, raw: Path, found: dict[str, pd.DataFrame]
) -> None:
    rows = [record.split(" ") for record in simulated()]
    for name, chosen in (("a.vcf", slice(0, 30)), ("b.vcf", slice(30, PEOPLE))):
        write_vcf(name, NAMES[chosen], [" ".join([*row[:9], *row[9:][chosen]]) for row in rows])
    _, tables = ingest(GENOMICS)
    counted = tables["variants"].set_index("variant_key").loc[found["variants"]["variant_key"]].reset_index()
    pd.testing.assert_frame_equal(counted, found["variants"].reset_index(drop=True), rtol=1e-12)
    columns = [name for name in found["samples"] if name not in ("sample_block", "sample_index")]
    counted = tables["samples"].set_index("person_key").loc[found["samples"]["person_key"]].reset_index()
    pd.testing.assert_frame_equal(counted[columns], found["samples"][columns].reset_index(drop=True), rtol=1e-12)


def test_without_sexes_everyone_has_two_x_and_nobody_a_y(ingest: Ingest, write_vcf: WriteVcf) -> None:
    write_vcf("a.vcf", ["A-1", "A-2"], ["X 5000000 . A C . PASS . GT 0 0/1", "Y 9 . A C . PASS . GT 1 ."])
    _, tables = ingest(GENOMICS.model_copy(update={"sexes": None}))
    variants = tables["variants"].set_index("contig")
    assert variants.loc["X", ["allele_count", "allele_number", "call_rate"]].tolist() == [1, 4, 1]
    assert variants.loc["Y", ["n_hom_alt", "n_missing", "allele_number"]].tolist() == [0, 0, 0]
    assert variants.loc["Y", ["allele_frequency", "call_rate"]].isna().all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#IID\tSEX\nA-1\t1\nA-2\tmale?\n", "line 3: column SEX holds a value that is not one of"),
        ("#IID\tSEX\nA-1\t1\nA-1\t2\n", "line 3: this person had another sex above"),
        ("IID\tsex\nA-1\t1\n", "line 1: none of its 2 columns is #IID, SEX"),
        ("A-1\t1\nA-2\t2\n", "line 1: none of its 2 columns is #IID, SEX"),
        ("", "expected delimited text"),
        ("#IID\tSEX\nA-1\t1\nA-2\t1\tx\ty\n", "line 3: expected delimited text, each line with the columns"),
        ("#IID\tSEX\nA-1\t1\t\nA-2\t2\t\n", "line 2: expected delimited text, each line with the columns"),
        ("##made by hand\n#IID\tSEX\nA-1\t1\nA-2\tx\n", "line 4: column SEX holds a value"),
        ("#IID\tSEX\nA-8\t1\nA-9\t2\n", "it gives none of the 2 samples a sex"),
        (None, "genomics.sexes.path: sexes.psam is not below the raw root"),
    ],
)
def test_sexes_that_cannot_be_read_stop_the_job(
    ingest: Ingest, write_vcf: WriteVcf, write_sexes: Callable[[str], None], text: str | None, message: str
) -> None:
    write_vcf("a.vcf", ["A-1", "A-2"], ["1 5 . A C . PASS . GT 0 0/1"])
    if text is not None:
        write_sexes(text)
    with pytest.raises(DataGateError, match=message) as stopped:
        ingest(GENOMICS)
    assert "A-1" not in str(stopped.value)
    assert "A-2" not in str(stopped.value)


@pytest.mark.parametrize(
    ("build", "last_of_par1", "first_of_par2"),
    [("GRCh37", 2_699_520, 154_931_044), ("GRCh38", 2_781_479, 155_701_383)],  # plink2 --split-par
)
def test_x_pairs_with_y_at_both_ends(build: str, last_of_par1: int, first_of_par2: int) -> None:
    places = [last_of_par1, last_of_par1 + 1, first_of_par2 - 1, first_of_par2]
    assert [region(build, "X", place) for place in places] == [Region.DIPLOID, Region.X, Region.X, Region.DIPLOID]
    assert [region(build, contig, 5) for contig in ("Y", "MT", "22")] == [Region.Y, Region.MT, Region.DIPLOID]


@pytest.mark.parametrize(
    ("spelt", "name"),
    [
        *(("chr1", "1"), ("Chr22", "22"), ("chrX", "X"), ("chrx", "X"), ("23", "X"), ("XY", "X"), ("PAR1", "X")),
        *(("chrM", "MT"), ("M", "MT"), ("26", "MT"), ("24", "Y"), ("chrUn_KI270302v1", "Un_KI270302v1")),
        *(("chr", "chr"), ("HLA-A*01:01", "HLA-A*01:01")),
    ],
)
def test_contigs_have_one_name(spelt: str, name: str) -> None:
    assert harmonise(spelt) == name
