"""The whole ingest: every record accounted for, blocks side by side, counts as plink2 counts them."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.errors import PythonException

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.settings import GenomicsSettings, IdentitySettings, SampleSexes
from features.genomics.packing import unpack
from features.lake import Written
from tests.command import SHARED

Ingest = Callable[..., tuple[Written, dict[str, pd.DataFrame]]]
LGG = SHARED / "lgg"


def test_every_record_is_accounted_for(
    ingest: Ingest, write_vcf: Callable[..., Path], keyer: PersonKeyer, raw: Path
) -> None:
    write_vcf(
        "a.vcf",
        ["A-1", "A-2", "nobody", "A-1-02"],
        [
            "chr1 100 rs1 A C . PASS GENE=G1;VC=Missense GT 0/1 1/1 0/0 0/0",
            "1 100 . A C . PASS . GT 0/0 0/0 0/0 0/0",  # the same variant: the first stays
            "1 200 rs2 A C,T,* . q10 . GT 0/2 1/2 0/0 0/0",
            "1 300 . A C . PASS . GT 0/1",
            "1 400 . A C . PASS . GT ./1 0/0 0/0 0/0",
        ],
    )
    write_vcf("b.vcf", ["B-1"], ["1 100 . A C . q10 . GT 1/1", "X 5 . G T . PASS . GT ."])
    sites = ["#CHROM POS ID REF ALT QUAL FILTER INFO", "1 50 . G T . . .", "1 100 . A C . . .", "1 101 . A"]
    (raw / "sites.vcf").write_text("\n".join(["##fileformat=VCFv4.2", *sites, ""]).replace(" ", "\t"))
    written, tables = ingest()

    first, second, third = map(keyer.path_digest, ("a.vcf", "b.vcf", "sites.vcf"))
    assert written.counts["balances"] == {
        first: {
            "records": 5,
            "expanded": 2,
            "used": 3,
            "merged": 1,
            "quarantined": {"columns": 1, "half_call": 1, "symbolic": 1},
        },
        second: {"records": 2, "expanded": 0, "used": 2, "merged": 0, "quarantined": {}},
        third: {"records": 3, "expanded": 0, "used": 2, "merged": 0, "quarantined": {"columns": 1}},
    }
    assert written.counts["files_without_samples"] == 1
    assert "GRCh38:1:50:G:T" not in set(tables["variants"]["variant_key"])
    assert len(tables["genotypes"]) == 5
    counts = {name: count for name, count in written.counts.items() if name.startswith("sample")}
    assert counts == {
        "samples": 3,
        "sample_blocks": 2,
        "samples_refused": 1,
        "samples_merged": 1,
        "samples_without_sex": 3,
        "samples_of_other_sex": 0,
    }

    refused = tables["quarantine/ingest_genomics"]
    assert sorted(refused["rule"]) == ["columns", "columns", "half_call", "identifier", "symbolic"]
    assert set(refused["source_digest"]) == {first, third}
    assert set(refused["job"]) == {"ingest_genomics"}

    variants = tables["variants"].set_index("variant_key")
    assert sorted(variants.index) == ["GRCh38:1:100:A:C", "GRCh38:1:200:A:C", "GRCh38:1:200:A:T", "GRCh38:X:5:G:T"]
    shared = variants.loc["GRCh38:1:100:A:C"]  # one row in each of two blocks
    assert shared[["n_hom_ref", "n_het", "n_hom_alt", "n_missing"]].tolist() == [0, 1, 2, 0]
    assert (shared["gene"], shared["consequence"], list(shared["filters"])) == ("G1", "Missense", ["q10"])
    absent = variants.loc["GRCh38:1:200:A:T"]  # no row in the block of B-1: missing there
    assert absent[["n_het", "n_missing", "allele_number"]].tolist() == [2, 1, 4]
    assert absent["call_rate"] == pytest.approx(2 / 3)
    nobody = variants.loc["GRCh38:X:5:G:T"]
    assert nobody[["n_missing", "allele_number", "call_rate"]].tolist() == [3, 0, 0]
    assert nobody[["allele_frequency", "hwe_exact_p", "hwe_mid_p"]].isna().all()

    samples = tables["samples"].set_index("person_key")
    one = samples.loc[keyer.person_key("A-1")]
    assert one[["sample_index", "n_het", "n_hom_alt", "call_rate"]].tolist() == [0, 2, 0, 3 / 4]
    other = samples.loc[keyer.person_key("B-1")]
    assert other[["sample_index", "n_het", "n_hom_alt", "call_rate"]].tolist() == [
        0,
        0,
        1,
        1 / 4,
    ]  # what its block lacks is missing
    assert len(samples) == 3

    genotypes = tables["genotypes"].set_index(["sample_block", "variant_key"])
    calls = genotypes.loc[(one["sample_block"], "GRCh38:1:200:A:T"), "calls"]
    assert unpack(calls, 2).tolist() == [1, 1]


def test_strictly_a_file_with_a_wrong_line_is_refused_whole(
    ingest: Ingest, write_vcf: Callable[..., Path], keyer: PersonKeyer, lake: Location
) -> None:
    write_vcf("a.vcf", ["A-1"], ["1 100 . A C . PASS . GT 0/1", "1 99 . A C . PASS . GT 0/1"])
    write_vcf("b.vcf", ["B-1"], ["1 100 . A C . PASS AC=x GT 0/1"])
    strict = GenomicsSettings(paths=["*"], build="GRCh38", strict=True)
    with pytest.raises(DataGateError) as refused:
        ingest(strict)
    digests = keyer.path_digest("a.vcf"), keyer.path_digest("b.vcf")
    assert f"2 lines are not as the VCF specification has them: file {digests[0]}, line 13: POS" in str(
        refused.value
    )
    assert f"file {digests[1]}, line 12: INFO AC: expected values of type Integer" in str(refused.value)
    assert not Path(lake.path, "variants").exists()

    write_vcf("a.vcf", ["A-1"], ["1 100 . A C . PASS . GT 0/1", "1 101 . A C . PASS . GT 0/1"])
    write_vcf("b.vcf", ["B-1"], ["1 100 . A C . PASS AC=1 GT 0/1"])
    assert len(ingest(strict)[1]["genotypes"]) == 3


def test_nothing_to_read_stops_the_job(ingest: Ingest, write_vcf: Callable[..., Path]) -> None:
    with pytest.raises(DataGateError, match=r"no file below \S+ matches \S+; check raw"):
        ingest()
    write_vcf("a.vcf", ["A-1"], ["1 0 . A C . PASS . GT 0/1"])
    with pytest.raises(DataGateError, match=r"none of 1 records could be used \(position 1\)"):
        ingest()
    write_vcf("a.vcf", ["A-1"], [])
    with pytest.raises(DataGateError, match="hold no record"):
        ingest()


def plink2(raw: Path, out: Path) -> dict[str, pd.DataFrame]:
    command = ["plink2", "--vcf", str(raw / "a.vcf"), "--geno-counts", "--freq", "--missing", "--sample-counts"]
    for midp in ([], ["midp"]):
        name = f"{out}{'_mid' if midp else ''}"
        subprocess.run([*command, "--hardy", *midp, "--out", name], check=True, capture_output=True)
    kinds = ["gcount", "afreq", "scount", "smiss", "hardy"]
    tables = {kind: pd.read_csv(f"{out}.{kind}", sep="\t") for kind in kinds}
    return tables | {"midp": pd.read_csv(f"{out}_mid.hardy", sep="\t")}


def as_bcf_and_fileset(vcf: Path) -> None:
    """The first half of its sites as a BCF, cut by its index, the others as a PLINK 1 fileset, in its place."""
    bcf, compressed = vcf.with_suffix(".bcf"), vcf.parents[1] / "a.vcf.gz"
    for command in (
        ["bcftools", "view", "-Oz", "-o", compressed, vcf],
        ["bcftools", "index", compressed],
        ["bcftools", "view", "-Ob", "-o", bcf, "-r", "1:1-249", compressed],
        ["bcftools", "index", bcf],
        ["plink2", "--vcf", vcf, "--from-bp", "250", "--chr", "1", "--make-bed", "--out", vcf.with_suffix("")],
    ):
        subprocess.run([str(word) for word in command], check=True, capture_output=True)
    vcf.unlink()
    vcf.with_suffix(".log").unlink()


@pytest.mark.parametrize("stored", ["VCF", "BCF and PLINK 1"])
def test_counts_are_those_of_plink2(
    ingest: Ingest,
    write_vcf: Callable[..., Path],
    raw: Path,
    tmp_path: Path,
    keyer: PersonKeyer,
    stored: str,
) -> None:
    for tool in ("plink2", "bcftools"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    rng, texts = np.random.default_rng(7), np.array(["0/0", "0|1", "1/1", "./.", "1", "0"])
    names = [f"A-{i}" for i in range(61)]
    records = [
        f"1 {100 + site} rs{site} A C . PASS . GT "
        + " ".join(rng.choice(texts, 61, p=[0.5, 0.25, 0.1, 0.05, 0.05, 0.05]))
        for site in range(300)
    ]
    vcf = write_vcf("a.vcf", names, records)
    expected = plink2(raw, tmp_path / "plink")
    if stored != "VCF":
        as_bcf_and_fileset(vcf)
        fam = vcf.with_suffix(".fam")
        fam.write_text(fam.read_text().replace("\t0\t-9", "\t2\t-9"))
    _, tables = ingest(GenomicsSettings(paths=["a.[bfv]??"], build="GRCh38", strict=True))

    found = tables["variants"].sort_values("position")
    counts = expected["gcount"][["HOM_REF_CT", "HET_REF_ALT_CTS", "TWO_ALT_GENO_CTS", "MISSING_CT"]]
    np.testing.assert_array_equal(found[["n_hom_ref", "n_het", "n_hom_alt", "n_missing"]], counts)
    np.testing.assert_array_equal(found["allele_number"], expected["afreq"]["OBS_CT"])
    np.testing.assert_allclose(found["allele_frequency"], expected["afreq"]["ALT_FREQS"], rtol=1e-5)
    np.testing.assert_allclose(found["hwe_exact_p"], expected["hardy"]["P"], rtol=1e-4)
    np.testing.assert_allclose(found["hwe_mid_p"], expected["midp"]["MIDP"], rtol=1e-4)

    samples = tables["samples"].sort_values("sample_index")
    assert samples["person_key"].tolist() == [keyer.person_key(name) for name in names]
    assert set(samples["sex"]) == ({"unknown"} if stored == "VCF" else {"female"})
    np.testing.assert_array_equal(samples["n_het"], expected["scount"]["HET_SNP_CT"])
    np.testing.assert_array_equal(samples["n_hom_alt"], expected["scount"]["HOM_ALT_SNP_CT"])
    np.testing.assert_allclose(1 - samples["call_rate"], expected["smiss"]["F_MISS"], atol=1e-5)


def test_the_glioma_calls_of_511_people_go_through(ingest: Ingest) -> None:
    if not LGG.is_dir():
        pytest.skip(f"the glioma data are not at {LGG}")
    identity = IdentitySettings(namespace="tcga", case="upper", pattern=r"^(TCGA-[A-Z0-9]{2}-[A-Z0-9]{4})")
    genomics = GenomicsSettings(
        paths=["*.vcf.gz"],
        build="GRCh37",
        gene_field="GENE",
        consequence_field="VC",
        somatic=True,
        sexes=SampleSexes(path="lgg_tcga_clinical_cdr.tsv", id="patient_id", sex="gender"),
    )
    written, tables = ingest(genomics, PersonKeyer(bytes(range(32)), identity), LGG)
    (balance,) = written.counts["balances"].values()
    assert balance == {"records": 39_822, "expanded": 48, "used": 39_870, "merged": 0, "quarantined": {}}
    variants = tables["variants"]
    assert (len(variants), len(tables["genotypes"]), len(tables["samples"])) == (39_870, 39_870, 511)
    assert variants["n_het"].sum() == tables["samples"][["n_het", "n_het_haploid"]].to_numpy().sum() == 40_604
    assert (variants["filters"].str.len() == 0).sum() == 35_252 + (len(variants) - 39_822)
    assert variants[["hwe_exact_p", "hwe_mid_p"]].isna().all(axis=None)
    assert set(tables["samples"]["sex_imputed"]) == {"unknown"}
    assert written.counts["samples_of_other_sex"] == 0
    assert set(variants.loc[variants["position"] == 209_113_113, "gene"]) == {"IDH1"}


def test_a_file_of_another_build_is_refused(write_vcf: Callable[..., Path], ingest: Ingest) -> None:
    """By the lengths that its header gives contigs; those of the other tests are of no build."""
    vcf = write_vcf("a.vcf", ["A-1"], ["1 10 . A C . . . GT 0/1"])
    text = vcf.read_text()
    for mt in (16_569, 16_571):  # as in both builds, and as in UCSC's hg19
        vcf.write_text(
            text.replace("<ID=MT,length=1000000", f"<ID=MT,length={mt}").replace(
                "<ID=chr1,length=1000000", "<ID=chr1,length=248956422"
            )
        )
        ingest(GenomicsSettings(paths=["*.vcf"], build="GRCh38"))
        with pytest.raises(DataGateError, match=r"lengths of GRCh38, and genomics.build is GRCh37; correct"):
            ingest(GenomicsSettings(paths=["*.vcf"], build="GRCh37"))


def test_a_file_of_a_build_that_none_may_be_is_refused(write_vcf: Callable[..., Path], ingest: Ingest) -> None:
    vcf = write_vcf("a.vcf", ["A-1"], ["1 10 . A C . . . GT 0/1"])
    vcf.write_text(vcf.read_text().replace("<ID=chr1,length=1000000", "<ID=chr1,length=248387328"))
    with pytest.raises(DataGateError, match=r"lengths of T2T-CHM13, and genomics.build is GRCh38"):
        ingest(GenomicsSettings(paths=["*.vcf"], build="GRCh38"))


def test_the_mitochondrion_of_hg19_is_quarantined(write_vcf: Callable[..., Path], ingest: Ingest) -> None:
    vcf = write_vcf("a.vcf", ["A-1"], ["1 10 . A C . . . GT 0/1", "chrM 10 . A C . . . GT 1"])
    genomics = GenomicsSettings(paths=["*.vcf"], build="GRCh37")
    assert len(ingest(genomics)[1]["variants"]) == 2
    vcf.write_text(vcf.read_text().replace("<ID=MT,length=1000000", "<ID=chrM,length=16571"))
    tables = ingest(genomics)[1]
    assert tables["quarantine/ingest_genomics"]["rule"].tolist() == ["mitochondrion"]
    assert tables["variants"]["contig"].tolist() == ["1"]


@pytest.mark.parametrize("setting", ["gene_field", "consequence_field"])
def test_an_annotation_that_no_header_declares_is_refused(
    setting: str, write_vcf: Callable[..., Path], ingest: Ingest
) -> None:
    write_vcf("a.vcf", ["A-1"], ["1 10 . A C . . GENE=G GT 0/1"])
    with pytest.raises(DataGateError, match=rf"its header declares no INFO GENES, which genomics.{setting} names"):
        ingest(GenomicsSettings(paths=["*.vcf"], build="GRCh38", **{setting: "GENES"}))


def test_a_last_line_without_an_end_is_told_of(
    write_vcf: Callable[..., Path], ingest: Ingest, caplog: pytest.LogCaptureFixture
) -> None:
    vcf = write_vcf("a.vcf", ["A-1"], ["1 10 . A C . . . GT 0/1"])
    ingest(GenomicsSettings(paths=["*.vcf"], build="GRCh38"))
    assert "cut short" not in caplog.text
    vcf.write_text(vcf.read_text().removesuffix("/1\n"))
    ingest(GenomicsSettings(paths=["*.vcf"], build="GRCh38"))
    assert "its last line has no end; was it cut short?" in caplog.text


@pytest.mark.parametrize("strict", [False, True])
def test_a_second_header_is_refused(strict: bool, write_vcf: Callable[..., Path], ingest: Ingest) -> None:
    """Whose columns may be other people: two files of `cat`."""
    a, b = (
        write_vcf(f"{name}.txt", people, records)
        for name, people, records in (
            ("a", ["A-1", "A-2"], ["1 100 . A C . PASS . GT 0/0 1/1"]),
            ("b", ["A-2", "A-1"], ["1 200 . A C . PASS . GT 1/1 0/0"]),
        )
    )
    (a.parent / "both.vcf").write_text(a.read_text() + b.read_text())
    told = "expected records below the header" if strict else "a second header, whose samples may be others"
    # A job tells what a task raised as if it had raised that itself.
    with pytest.raises((DataGateError, PythonException), match=told):
        ingest(GenomicsSettings(paths=["*.vcf"], build="GRCh38", strict=strict))


def test_a_record_behind_a_hash_is_a_record(write_vcf: Callable[..., Path], ingest: Ingest) -> None:
    write_vcf("a.vcf", ["A-1"], ["1 10 . A C . . . GT 0/1", "#1 11 . A C . . . GT 0/1", "1 12 . A C . . . GT 0/1"])
    written, tables = ingest(GenomicsSettings(paths=["*.vcf"], build="GRCh38"))
    (balance,) = written.counts["balances"].values()
    assert (balance["records"], balance["used"], balance["quarantined"]) == (3, 2, {"columns": 1})
    assert tables["variants"]["position"].tolist() == [10, 12]
