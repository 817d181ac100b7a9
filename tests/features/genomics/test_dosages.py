"""Dosages as plink2 reads, counts and judges them, and as a second formula does; INFO as bcftools has it."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.settings import GenomicFeatures, GenomicsSettings, QualitySettings, SampleSexes, Settings
from features.genomics.dosages import (
    COPY,
    MISSING,
    are_calls,
    calls_of,
    genotype_alleles,
    in_alts,
)
from features.genomics.features import genomic_features
from features.genomics.quality_control import control_quality
from features.lake import read_version
from tests.features.genomics import imputed
from tests.features.genomics.conftest import Ingest, WriteVcf
from tests.features.genomics.formats.test_formats import rows
from tests.features.genomics.imputed import NAMES, PLACES, SEXES

GENOMICS = GenomicsSettings(paths=["*.vcf"], build="GRCh37", sexes=SampleSexes(path="sexes.psam"))
HALF_A_UNIT = 0.5 / COPY + 1e-6
"""Between a dosage and its nearest unit; plink2 prints it to so many digits that the sixth may differ."""


def plink2(*flags: object) -> None:
    if shutil.which("plink2") is None:
        pytest.skip("plink2 is not installed")
    subprocess.run(["plink2", *map(str, flags)], check=True, capture_output=True)


def report(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", na_values=["NA", "nan"], dtype={"#CHROM": str}).set_index("ID")


@pytest.fixture(params=["DS", "GP"])
def key(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pgen(tmp_path: Path, raw: Path, key: str) -> Path:
    """The imputed VCF in the raw folder, and what plink2 makes of it elsewhere."""
    vcf = imputed.write(raw, key)
    read = ("--vcf", vcf, f"dosage={key}", "--psam", raw / "sexes.psam", "--split-par", "hg19")
    plink2(*read, "--make-pgen", "--out", tmp_path / "all")
    return tmp_path / "all"


def by_id(variants: pd.DataFrame) -> pd.DataFrame:
    return variants.set_index("rsid").loc[[f"{chrom}_{at}" for chrom, at in PLACES]]


def test_variants_are_counted_as_plink2_counts_them(pgen: Path, key: str, ingest: Ingest) -> None:
    plink2(
        "--pfile", pgen, "--freq", "cols=+machr2", "--geno-counts", "--hardy", "midp", "--missing", "--out", pgen
    )
    _, tables = ingest(GENOMICS.model_copy(update={"dosages": key}))
    ours, freq = by_id(tables["variants"]), report(pgen.with_suffix(".afreq"))
    assert (ours["allele_number"] == freq["OBS_CT"].loc[ours.index]).all()
    np.testing.assert_allclose(ours["allele_frequency"], freq["ALT_FREQS"].loc[ours.index], rtol=5e-6)
    autosomal = [f"{chrom}_{at}" for chrom, at in PLACES if chrom == "1"]
    assert ours.loc[autosomal, "mach_r2"].notna().all()
    np.testing.assert_allclose(
        ours.loc[autosomal, "mach_r2"], freq.loc[autosomal, "MACH_R2"].astype(float), rtol=1e-5
    )
    counts = report(pgen.with_suffix(".gcount")).loc[ours.index]
    haploid = counts["HAP_REF_CT"], counts["HAP_ALT_CTS"]
    assert (ours["n_hom_ref"] == counts["HOM_REF_CT"] + haploid[0]).all()
    assert (ours["n_het"] - ours["n_het_haploid"] == counts["HET_REF_ALT_CTS"]).all()
    assert (ours["n_hom_alt"] == counts["TWO_ALT_GENO_CTS"] + haploid[1]).all()
    hardy = report(pgen.with_suffix(".hardy")).loc[autosomal]
    np.testing.assert_allclose(ours.loc[autosomal, "hwe_mid_p"], hardy["MIDP"], rtol=5e-6)
    people = tables["samples"].set_index("person_key")
    assert (people["call_rate"] < 0.99).all()


def test_dosages_are_those_of_a_second_formula(raw: Path, key: str, ingest: Ingest) -> None:
    imputed.write(raw, key)
    _, tables = ingest(GENOMICS.model_copy(update={"dosages": key}))
    stored = tables["genotypes"].set_index("variant_key")["dosages"]
    names = tables["variants"].set_index("rsid")["variant_key"]
    for (chrom, at), record in zip(PLACES, imputed.records(key), strict=True):
        expected = [
            imputed.dosage(column, key, imputed.one_copy(chrom, at, sex))
            for column, sex in zip(record.split(" ")[9:], SEXES, strict=True)
        ]
        ours = in_alts(np.frombuffer(stored[names[f"{chrom}_{at}"]], "<u2"))
        np.testing.assert_allclose(ours, expected, atol=HALF_A_UNIT)


def test_info_is_that_of_bcftools(raw: Path, ingest: Ingest) -> None:
    """Where everyone has probabilities of two copies: bcftools leaves out others, and does not look at sexes. Its
    probabilities are single floats."""
    if shutil.which("bcftools") is None:
        pytest.skip("bcftools is not installed")
    vcf = imputed.write(raw, "GP")
    head = [line for line in vcf.read_text().splitlines() if line.startswith("#")]
    whole = [whole_record(record) for record in imputed.records("GP") if record.startswith("1 ")]
    vcf.write_text("\n".join([*head, *whole]) + "\n")
    shown = subprocess.run(
        ["bcftools", "+impute-info", str(vcf)], check=True, capture_output=True, text=True
    ).stdout
    lines = [line.split("\t") for line in shown.splitlines() if not line.startswith("#")]
    _, tables = ingest(GENOMICS.model_copy(update={"dosages": "GP"}))
    ours = tables["variants"].set_index("rsid")["impute_info"]
    assert len(lines) == len(ours) == 60
    for fields in lines:
        assert ours[fields[2]] == pytest.approx(float(fields[7].removeprefix("INFO=")), abs=1e-5)


def whole_record(record: str) -> str:
    """With even probabilities for whoever has none."""
    fields = record.split(" ")
    columns = [column if column.count(",") == 2 else "0/0:0.2,0.3,0.5" for column in fields[9:]]
    return "\t".join([*fields[:9], *columns])


def test_a_bcf_gives_what_its_vcf_gives(raw: Path, key: str, keyer: PersonKeyer) -> None:
    """BCF has single floats: a dosage may be the next unit."""
    if shutil.which("bcftools") is None:
        pytest.skip("bcftools is not installed")
    vcf = imputed.write(raw, key)
    bcf = vcf.with_suffix(".bcf")
    subprocess.run(["bcftools", "view", "-Ob", "-o", str(bcf), str(vcf)], check=True)
    settings = GENOMICS.model_copy(update={"dosages": key})
    for keep in (None, [7, 30, 2]):
        theirs, ours = (rows(keyer, [path], genomics=settings, keep=keep) for path in (vcf, bcf))
        assert len(ours) == len(PLACES)
        for one, other in zip(theirs, ours, strict=True):
            assert one["variant_key"] == other["variant_key"] and one["calls"] == other["calls"]
            units = [np.frombuffer(row["dosages"] or b"", "<u2").astype(int) for row in (one, other)]
            assert np.abs(units[0] - units[1]).max(initial=0) <= 1


def test_without_the_key_calls_alone_are_read(raw: Path, key: str, ingest: Ingest) -> None:
    imputed.write(raw, key)
    _, tables = ingest(GENOMICS)
    assert tables["genotypes"]["dosages"].isna().all()
    assert tables["variants"]["impute_info"].isna().all()


@pytest.mark.parametrize(
    ("key", "record", "rule"),
    [
        ("DS", "1 5 . A C . . . GT:DS 0/0:2.1 0/0:0", "dosage"),
        ("DS", "1 5 . A C . . . GT:DS 0:1.1 0/0:0", "dosage"),
        ("DS", "1 5 . A C . . . GT:DS 0/0:-0.1 0/0:0", "dosage"),
        ("DS", "1 5 . A C . . . GT:DS 0/0:nan 0/0:0", "dosage"),
        ("DS", "1 5 . A C . . . GT:DS 0/0:1e 0/0:0", "dosage"),
        ("DS", "1 5 . A C . . . GT:DS 0/0:0,0 0/0:0", "dosage"),
        ("DS", "X 5000000 . A C . . . DS 0.1 0.2", "dosage"),
        ("DS", "1 5 . A C . . . DP 1 2", "genotype"),
        ("DS", "1 5 . A C . . . GT:DS ./1:0 0/0:0", "half_call"),
        ("DS", "1 5 . A C . . . GT:DS 0/0:1", "columns"),
        ("GP", "1 5 . A C . . . GT:GP 0/0:1,0 0/0:1,0,0", "dosage"),
        ("GP", "1 5 . A C . . . GT:GP 0/0:30,3,0 0/0:1,0,0", "dosage"),
        ("GP", "1 5 . A C . . . GT:GP 0/0:1,0,0,0 0/0:1,0,0", "dosage"),
        ("GP", "1 5 . A C . . . GT:GP 0/0:1,.,0 0/0:1,0,0", "dosage"),
        ("GP", "1 5 . A C . . . GT:GP 0:1,0,0 0/0:1,0,0", "dosage"),
        ("GP", "1 5 . A C . . . GT:GP 0/0:1.1,-0.1,0 0/0:1,0,0", "dosage"),
        ("GP", "1 5 . A C . . . GT:GP 0/0:0.5,0.2,0 0/0:1,0,0", "dosage"),
        ("GP", f"1 5 . A {','.join('A' + 'C' * i for i in range(1, 17))} . . . GT:GP 0/0:. 0/0:.", "dosage"),
        ("DS", "1 5 . A C . . . GT:DS 0/0:1e5 0/0:0", "dosage"),
    ],
)
def test_what_is_no_dosage_refuses_its_line(
    key: str, record: str, rule: str, write_vcf: WriteVcf, keyer: PersonKeyer
) -> None:
    vcf = write_vcf("a.vcf", ["A-1", "A-2"], [record])
    (row,) = rows(keyer, [vcf], genomics=GENOMICS.model_copy(update={"dosages": key}))
    assert row["rule"] == rule


@pytest.mark.parametrize(
    ("key", "record", "expected"),
    [
        ("DS", "1 5 . A C . . . DS 0.5 1.999", [[0.5, 1.999]]),
        ("DS", "1 5 . A C . . . GT:DS 0/0:1e-1 1:0.3", [[0.1, 0.6]]),
        ("DS", "1 5 . A C . . . GT:DS 0/0:.5 ./.", [[0.5, np.nan]]),
        ("DS", "1 5 . A C . . . GT:DS 0/0:2. ./.:1.00100000001", [[2, 1.001]]),
        ("DS", "1 5 . A C . . . DP:GT:DS 3:0/0:0.5 3:0/1:1.5", [[0.5, 1.5]]),
        ("DS", "1 5 . A C,G . . . GT:DS 0/1:0.9,0.3 1/2:1.2,.", [[0.9, 1.2], [0.3, 1]]),
        ("DS", "1 5 . A C . . . GT:DS 0/0:0.1 0/1:1.1", [[0.1, 1.1]]),
        ("DS", "1 5 . A C . . . GT:DS 0/0:0 0/1:1", [None]),
        ("DS", "1 5 . A C . . . GT:DS 0/0:+0.3 0/1:1.e-1", [[0.3, 0.1]]),
        ("DS", "1 5 . A C . . . GT:DS |0:0.3 .:0.4", [[0.6, 0.8]]),
        ("GP", "1 5 . A C . . . GT:GP 0/0:0,0,0 0/1:0.5,0.3,0.2", [[0, 0.7]]),
        ("GP", "1 5 . A C . . . GT:GP 0/0:0.33,0.33,0.33 1:0.2,0.8", [[1, 1.6]]),
        (
            "GP",
            "1 5 . A C,G . . . GT:GP 0/0:0.5,0.2,0,0.1,0.1,0.1 ./.",
            [[0.3, np.nan], [0.4, np.nan]],
        ),
    ],
)
def test_dosages_by_their_rules(
    key: str, record: str, expected: list[list[float] | None], write_vcf: WriteVcf, keyer: PersonKeyer
) -> None:
    """A haploid value counts twice, a missing one as what was called, and each ALT has its own."""
    vcf = write_vcf("a.vcf", ["A-1", "A-2"], [record])
    found = rows(keyer, [vcf], genomics=GENOMICS.model_copy(update={"dosages": key}))
    for row, dosages in zip(found, expected, strict=True):
        if dosages is None:
            assert row["dosages"] is None
        else:
            np.testing.assert_allclose(in_alts(np.frombuffer(row["dosages"], "<u2")), dosages, atol=HALF_A_UNIT)


def test_of_the_kept_samples_each_has_its_own(write_vcf: WriteVcf, keyer: PersonKeyer) -> None:
    """Copies and values go with the sample; a bad value of one that is not kept refuses the line too."""
    settings = GENOMICS.model_copy(update={"dosages": "DS"})
    names = ["A-1", "A-2", "A-3"]
    vcf = write_vcf(
        "a.vcf", names, ["1 5 . A C . . . GT:DS 0/1:0.7 0/0:0.3 1:0.9", "1 6 . A C . . . GT:DS 0/0:5 0/0:1 0:1"]
    )
    good, bad = sorted(rows(keyer, [vcf], genomics=settings, keep=[2, 1]), key=lambda row: row["rule"] or "")
    np.testing.assert_allclose(in_alts(np.frombuffer(good["dosages"], "<u2")), [1.8, 0.3], atol=HALF_A_UNIT)
    assert bad["rule"] == "dosage"


def test_certain_probabilities_give_an_info_of_one(write_vcf: WriteVcf, raw: Path, ingest: Ingest) -> None:
    imputed.write_sexes(raw)
    write_vcf("a.vcf", NAMES[:3], ["1 5 . A C . . . GT:GP 0/0:1,0,0 0/1:0,1,0 1/1:0,0,1"])
    _, tables = ingest(GENOMICS.model_copy(update={"dosages": "GP"}))
    assert tables["variants"]["impute_info"].tolist() == [1.0]
    assert tables["genotypes"]["dosages"].isna().all()


def test_a_key_that_no_file_has_is_told(
    write_vcf: WriteVcf, raw: Path, ingest: Ingest, caplog: pytest.LogCaptureFixture
) -> None:
    imputed.write_sexes(raw)
    write_vcf("a.vcf", NAMES[:3], ["1 6 . A C . . . GT:DS 0/0:0.3 0/1:0.5 1/1:1.5"])
    ingest(GENOMICS.model_copy(update={"dosages": "GP"}))
    assert "genomics.dosages: GP tells nothing of any variant" in caplog.text


def test_a_bcf_of_other_numbers_is_refused_by_its_rule(write_vcf: WriteVcf, keyer: PersonKeyer) -> None:
    """Two values of one ALT; a value that is declared as text."""
    if shutil.which("bcftools") is None:
        pytest.skip("bcftools is not installed")
    vcf = write_vcf(
        "a.vcf",
        ["A-1", "A-2"],
        ["1 5 . A C . . . GT:DS 0/0:0.1,0.2 0/0:0.1", "1 6 . A C . . . GT:DS 0/0:0.1 0/0:0"],
    )
    whole = vcf.read_text()
    for number, kind, refused in ((".", "Float", 1), ("1", "String", 2)):
        declared = f'##FORMAT=<ID=DS,Number={number},Type={kind},Description="d">\n#CHROM'
        vcf.write_text(whole.replace("#CHROM", declared))
        bcf = vcf.with_suffix(".bcf")
        subprocess.run(["bcftools", "view", "-Ob", "-o", str(bcf), str(vcf)], check=True, capture_output=True)
        found = rows(keyer, [bcf], genomics=GENOMICS.model_copy(update={"dosages": "DS"}))
        assert [row["rule"] for row in found].count("dosage") == refused


def test_a_dosage_near_a_whole_number_is_a_call() -> None:
    units = np.array([0, 1638, 1639, 16384 - 1639, 16384 - 1638, 16384 + 1638, 32768 - 1638, 32768, MISSING])
    codes = calls_of(units.astype(np.uint16))
    assert codes.tolist() == [0, 0, 3, 3, 1, 1, 2, 2, 3]
    told = np.array([0, COPY, 2 * COPY, MISSING], np.uint16)
    assert are_calls(told, np.array([0, 1, 2, 3], np.uint8))
    assert not are_calls(told + np.array([1, 0, 0, 0], np.uint16), np.array([0, 1, 2, 3], np.uint8))


def test_genotypes_come_in_the_order_of_the_specification() -> None:
    assert genotype_alleles(3, 2) == [(0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2)]
    assert genotype_alleles(3, 1) == [(0,), (1,), (2,)]


Control = Callable[[QualitySettings], dict[str, pd.DataFrame]]


@pytest.fixture
def control(spark: SparkSession, lake: Location, raw: Path, keyer: PersonKeyer, ingest: Ingest) -> Control:
    def run(limits: QualitySettings) -> dict[str, pd.DataFrame]:
        genomics = GENOMICS.model_copy(update={"dosages": "GP", "quality": limits})
        ingested, tables = ingest(genomics)
        runs = SimpleNamespace(version=ingested.tables.__getitem__)
        settings = Settings.model_construct(name="tests", raw=f"file://{raw}", lake=lake.uri, genomics=genomics)
        written = control_quality(spark, lake, runs, settings, keyer)  # type: ignore[arg-type]
        return tables | {
            table: DeltaTable(f"{lake.uri}/{table}", version=version).to_pandas()
            for table, version in written.tables.items()
        }

    return run


def test_quality_is_judged_as_plink2_judges_it(tmp_path: Path, raw: Path, control: Control) -> None:
    """Over the samples that are left: --mind leaves out some, so that all is counted anew. plink2 gives variants
    on Y an R2, of men and women, and judges them by it; ours have none."""
    vcf = imputed.write(raw, "GP")
    limits = QualitySettings(minimum_sample_call_rate=0.5, minimum_allele_frequency=0.15, minimum_mach_r2=0.6)
    tables = control(limits)
    out = tmp_path / "out"
    rates = np.sort(tables["samples"]["call_rate"])
    limits = limits.model_copy(update={"minimum_sample_call_rate": float(rates[5:7].mean())})
    tables = control(limits)
    plink2(
        *("--vcf", vcf, "dosage=GP", "--psam", raw / "sexes.psam", "--split-par", "hg19", "--bad-freqs"),
        *("--mind", 1 - (limits.minimum_sample_call_rate or 0), "--maf", 0.15, "--mach-r2-filter", 0.6),
        *("--freq", "--write-snplist", "--out", out),
    )
    freq = report(out.with_suffix(".afreq"))
    ours = tables["qc_variants"].set_index("rsid")
    assert 3 < len(tables["samples"]) - len(tables["qc_samples"]) < 10
    theirs = set(out.with_suffix(".snplist").read_text().split())
    assert {name for name in theirs ^ set(ours.index) if not name.startswith("Y_")} == set()
    assert set(tables["qc_excluded"]["rule"]) >= {"minimum_mach_r2", "minimum_allele_frequency"}
    np.testing.assert_allclose(ours["allele_frequency"], freq.loc[ours.index, "ALT_FREQS"], rtol=5e-6)
    told = tables["variants"].set_index("rsid").loc[ours.index, "impute_info"]
    np.testing.assert_array_equal(ours["impute_info"], told)


def test_info_has_a_limit_too(raw: Path, control: Control) -> None:
    imputed.write(raw, "GP")
    tables = control(QualitySettings(minimum_impute_info=0.5))
    excluded = tables["qc_excluded"]
    info = tables["variants"].set_index("variant_key")["impute_info"]
    assert set(excluded["variant_key"]) == set(info[info < 0.5].index) and len(excluded)
    assert (excluded["rule"] == "minimum_impute_info").all()


def test_a_chosen_variant_is_its_dosage(
    spark: SparkSession, raw: Path, lake: Location, ingest: Ingest, keyer: PersonKeyer
) -> None:
    imputed.write(raw, "DS")
    written, _ = ingest(GENOMICS.model_copy(update={"dosages": "DS"}))
    variants, genotypes, samples = (
        read_version(spark, lake, name, written.tables[name]) for name in ("variants", "genotypes", "samples")
    )
    chosen = GenomicFeatures(variants=["1_1000", "X_5000003"])
    found = genomic_features(
        samples, variants, genotypes, samples, chosen, dict.fromkeys(chosen.variants, 1), False
    )
    vectors = {row["person_key"]: row["x_genomics"] for row in found.collect()}
    lines = {record.split(" ")[2]: record.split(" ")[9:] for record in imputed.records("DS")}
    for number, (name, sex) in enumerate(zip(NAMES, SEXES, strict=True)):
        expected = [
            imputed.dosage(lines["1_1000"][number], "DS", False),
            imputed.dosage(lines["X_5000003"][number], "DS", sex == "1"),
        ]
        np.testing.assert_allclose(vectors[keyer.person_key(name)], expected, atol=HALF_A_UNIT)
