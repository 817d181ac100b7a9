"""What a line of a VCF becomes, and the one rule that each bad line breaks."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.genomics.clean import Layout, RefusedLineError, Rule, Variant
from features.genomics.formats.vcf_line import clean_line
from features.genomics.info import Annotation, InfoField
from features.genomics.normalise import normalise, trim

GENE, CONSEQUENCE = (Annotation(key, InfoField(".", "String")) for key in ("GENE", "VC"))
LAYOUT = Layout(build="GRCh38", samples=4, keep=None, gene=GENE, consequence=CONSEQUENCE)


def clean(record: str, layout: Layout = LAYOUT) -> list[Variant | Rule]:
    return clean_line(record.replace(" ", "\t").encode(), layout)


def variants(record: str, layout: Layout = LAYOUT) -> list[Variant]:
    return [item for item in clean(record, layout) if isinstance(item, Variant)]


@pytest.mark.parametrize(
    ("rule", "record"),
    [
        ("columns", "1 100 . A C . PASS . GT 0/0 0/1 1/1"),
        ("columns", "1 100 . A C . PASS . GT 0/0 0/1 1/1 0/0 0/0"),
        ("columns", "1 100 . A C"),
        ("columns", ""),
        ("position", "1 12x . A C . PASS . GT 0/0 0/1 1/1 0/0"),
        ("position", "1 0 . A C . PASS . GT 0/0 0/1 1/1 0/0"),
        ("position", "1 3000000000 . A C . PASS . GT 0/0 0/1 1/1 0/0"),
        ("position", "1 ² . A C . PASS . GT 0/0 0/1 1/1 0/0"),
        ("allele", "1 100 . Q C . PASS . GT 0/0 0/1 1/1 0/0"),
        ("allele", "1 100 . A C,? . PASS . GT 0/0 0/1 1/1 0/0"),
        ("position", "chr22 50818469 . A C . PASS . GT 0/0 0/1 1/1 0/0"),
        ("position", "XY 2781480 . A C . PASS . GT 0/0 0/1 1/1 0/0"),
        ("position", "chr25 88500000 . A C . PASS . GT 0/0 0/1 1/1 0/0"),
        ("allele", "1 100 . A A . PASS . GT 0/0 0/1 1/1 0/0"),
        ("allele", "1 100 . A C,G,c . PASS . GT 0/0 0/1 1/1 0/0"),
        ("allele", "1 100 . A  . PASS . GT 0/0 0/1 1/1 0/0"),
        ("monomorphic", "1 100 . A . . PASS . GT 0/0 0/0 0/0 0/0"),
        ("genotype", "1 100 . A C . PASS . GT 0/0 0/2 1/1 0/0"),
        ("genotype", "1 100 . A C . PASS . GT 0/0 0/x 1/1 0/0"),
        ("genotype", "1 100 . A C . PASS . GT 0/0  1/1 0/0"),
        ("genotype", "1 100 . A C . PASS . GT 0/0 0/0/1 1/1 0/0"),
        ("genotype", "1 100 . A C . PASS . DS 0 1 2 0"),
        ("half_call", "1 100 . A C . PASS . GT 0/0 ./1 1/1 0/0"),
        ("half_call", "1 100 . A C . PASS . GT:DP 0/0:3 0|.:4 1/1:5 0/0:6"),
    ],
)
def test_a_bad_line_breaks_one_rule(rule: str, record: str) -> None:
    with pytest.raises(RefusedLineError) as refusal:
        clean(record)
    assert refusal.value.rule == rule


@pytest.mark.parametrize(
    ("half_calls", "codes"), [("missing", [3, 3, 2, 3]), ("haploid", [2, 0, 2, 2]), ("reference", [1, 0, 2, 1])]
)
def test_a_half_call_is_what_the_rule_says(half_calls: str, codes: list[int]) -> None:
    layout = replace(LAYOUT, half_calls=half_calls)  # type: ignore[arg-type]
    (variant,) = variants("1 100 . A C . PASS . GT:DP ./1:3 0|.:4 1/1:5 1|.", layout)
    assert variant.calls.codes.tolist() == codes


@pytest.mark.parametrize("half_calls", ["missing", "haploid", "reference"])
def test_half_calls_count_as_in_plink2(half_calls: str, write_vcf: Callable[..., Path], tmp_path: Path) -> None:
    if shutil.which("plink2") is None:
        pytest.skip("plink2 is not installed")
    record = "1 100 . A C . PASS . GT ./1 0|. 1/1 0/. 0/0 ./. 0/. .|1 ./1"
    path, out = write_vcf("a.vcf", [f"A-{i}" for i in range(9)], [record]), tmp_path / "out"
    command = ["plink2", "--vcf", str(path), "--vcf-half-call", half_calls, "--geno-counts", "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    expected = pd.read_csv(f"{out}.gcount", sep="\t")[
        ["HOM_REF_CT", "HET_REF_ALT_CTS", "TWO_ALT_GENO_CTS", "MISSING_CT"]
    ]
    (variant,) = variants(record, replace(LAYOUT, samples=9, half_calls=half_calls))  # type: ignore[arg-type]
    assert np.bincount(variant.calls.codes, minlength=4).tolist() == expected.iloc[0].tolist()


def test_a_half_call_of_the_tenth_alt_is_one_too() -> None:
    alts = ",".join("AC" + "G" * i for i in range(10))
    record = f"1 100 . A {alts} . PASS . GT ./10 10|. 10/10 0/0"
    with pytest.raises(RefusedLineError) as refusal:
        clean(record)
    assert refusal.value.rule == Rule.HALF_CALL
    assert variants(record, replace(LAYOUT, half_calls="haploid"))[9].calls.codes.tolist() == [2, 2, 2, 0]
    assert variants(record, replace(LAYOUT, half_calls="reference"))[9].calls.codes.tolist() == [1, 1, 2, 0]


@pytest.mark.parametrize("alt", ["*", "<DEL>", "<NON_REF>", "A[chr2:321682[", "]13:123456]A", "A.", ".A"])
def test_an_alternate_without_a_sequence_is_refused_alone(alt: str) -> None:
    variant, refused = clean(f"1 100 . A C,{alt} . PASS . GT 0/0 0/1 1/2 2/2")
    assert refused == Rule.SYMBOLIC
    assert isinstance(variant, Variant)
    assert variant.calls.codes.tolist() == [0, 1, 1, 0]


def test_codes_count_the_alternate_whatever_the_phase_and_a_haploid_alternate_is_two() -> None:
    (variant,) = variants("1 100 . A C . PASS . GT 1|0 ./. 1 0:9".replace("GT", "GT:DP"))
    assert variant.calls.codes.tolist() == [1, 3, 2, 0]
    (variant,) = variants("1 100 . A C . PASS . GT 1/1 . .|.:7 0|1:.,.")
    assert variant.calls.codes.tolist() == [2, 3, 3, 1]


def test_allele_numbers_of_two_digits_are_read() -> None:
    alts = ",".join("A" + "C" * n for n in range(1, 13))
    found = variants(f"1 100 . A {alts} . PASS . GT 0/12 12|11 12 ./.")
    assert found[11].calls.codes.tolist() == [1, 1, 2, 3]
    assert found[10].calls.codes.tolist() == [0, 1, 0, 3]


def test_only_kept_samples_count_but_a_bad_call_of_any_refuses_the_line() -> None:
    layout = Layout("GRCh38", 4, np.array([3, 1]))
    (variant,) = variants("1 100 . A C . PASS . GT 0/0 0/1 1/1 ./.", layout)
    assert variant.calls.codes.tolist() == [3, 1]
    with pytest.raises(RefusedLineError):
        clean("1 100 . A C . PASS . GT 0/x 0/1 1/1 ./.", layout)


def test_annotations_are_first_values_and_filters_keep_their_reasons() -> None:
    (variant,) = variants("chr1 100 rs1;rs2 a c . q10;s50 DB;GENE=TP53,X;VC=. GT 0/0 0/1 1/1 ./.")
    assert (variant.key, variant.contig, variant.rsid) == ("GRCh38:1:100:A:C", "1", "rs1")
    assert (variant.filters, variant.gene, variant.consequence) == (["q10", "s50"], "TP53", None)


@pytest.mark.parametrize(
    ("number", "told", "found"),
    [
        ("A", "one,two", ["one", "two"]),
        ("R", "none,one,two", ["one", "two"]),
        (".", "one,two", ["one", "one"]),
        ("A", ".", [None, None]),
        ("A", ".,two", [None, "two"]),
    ],
)
def test_an_alt_has_the_annotation_that_is_declared_as_its_own(
    number: str, told: str, found: list[str | None]
) -> None:
    layout = replace(LAYOUT, consequence=Annotation("VC", InfoField(number, "String")))
    record = f"1 100 . A C,G . PASS VC={told} GT 0/0 0/1 1/1 ./."
    assert [variant.consequence for variant in variants(record, layout)] == found


def test_an_annotation_of_more_alts_than_there_are_refuses_the_line() -> None:
    layout = replace(LAYOUT, gene=Annotation("GENE", InfoField("A", "String")))
    with pytest.raises(RefusedLineError) as refusal:
        clean("1 100 . A C . PASS GENE=TP53,X GT 0/0 0/1 1/1 ./.", layout)
    assert refusal.value.rule == "info"


@pytest.mark.parametrize(("told", "sound"), [("1.05,0.95", True), ("1.1,1.09", True), ("1.9,1.9", False)])
def test_dosages_of_all_alts_are_no_more_than_the_copies_but_for_rounding(told: str, sound: bool) -> None:
    layout = replace(LAYOUT, dosages="DS")
    record = f"1 100 . A C,G . PASS . GT:DS 0/0:0,0 1/2:{told} 0/1:1,0 0/0:0,0"
    if sound:
        assert len(variants(record, layout)) == 2
    else:
        with pytest.raises(RefusedLineError) as refusal:
            clean(record, layout)
        assert refusal.value.rule == "dosage"


def test_an_older_mitochondrion_is_not_the_builds() -> None:
    layout = replace(LAYOUT, older_mt=True)
    assert len(variants("chrX 100 . A C . PASS . GT 0/0 0/1 1/1 ./.", layout)) == 1
    with pytest.raises(RefusedLineError) as refusal:
        clean("chrM 100 . A C . PASS . GT 0/0 0/1 1/1 ./.", layout)
    assert refusal.value.rule == "mitochondrion"


@pytest.mark.parametrize("name", ["XY", "25", "chrPAR1"])
def test_where_x_and_y_pair_is_no_matter_of_spelling(name: str) -> None:
    (variant,) = variants(f"{name} 2781479 . A C . PASS . GT 0/0 0/1 1/1 ./.")
    assert variant.key == "GRCh38:X:2781479:A:C"


@pytest.mark.parametrize("passed", ["PASS", "."])
def test_a_line_that_passed_or_was_not_filtered_has_no_filters(passed: str) -> None:
    (variant,) = variants(f"1 100 . A C . {passed} . GT 0/0 0/1 1/1 ./.")
    assert variant.filters == []
    assert variant.rsid is None


def test_alleles_are_trimmed_from_the_end_and_then_from_the_start() -> None:
    assert trim(100, "CTCC", "CCC") == (100, "CT", "C")
    assert trim(100, "ATG", "ACG") == (101, "T", "C")
    assert trim(100, "GG", "GGG") == (100, "G", "GG")


def test_a_long_allele_is_a_digest_in_the_key() -> None:
    key, _, _, _, alt = normalise("GRCh38", "1", 5, "A", "A" + "CG" * 25)
    assert len(alt) == 51
    assert len(key) == len("GRCh38:1:5:A:") + 64


def test_splitting_equals_bcftools_norm(write_vcf: Callable[..., Path], tmp_path: Path) -> None:
    if shutil.which("bcftools") is None:
        pytest.skip("bcftools is not installed")
    reference = "ACGTTGCAAGCTTAGGCATCGATTACAGGCTA"
    fasta = tmp_path / "reference.fa"
    fasta.write_text(f">1\n{reference}\n")
    records = [
        "1 3 . G A,T,GCC . PASS . GT 0/1 1/2 3|2 ./.",
        "1 7 . CAAG CAAT,C . PASS . GT 1/1 0/2 2/2 1",
        "1 15 . GGC G,GGT,TGC . PASS . GT 3/1 2|2 . 0/0",
        "1 20 . CG C,CGA,AG . PASS . GT 0/0 1/2 2/3 3/3",
    ]
    path = write_vcf("a.vcf", ["A-1", "A-2", "A-3", "A-4"], records)
    command = ["bcftools", "norm", "-m", "-", "-f", str(fasta), str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    expected = set()
    for line in done.splitlines():
        if not line.startswith("#"):
            contig, pos, _, ref, alt, *_, a, b, c, d = line.split("\t")
            codes = [3 if "." in gt else gt.count("1") * (1 if len(gt) == 3 else 2) for gt in (a, b, c, d)]
            expected.add((f"GRCh38:{contig}:{pos}:{ref}:{alt}", tuple(codes)))
    found = [variant for record in records for variant in variants(record)]
    assert {(variant.key, tuple(variant.calls.codes.tolist())) for variant in found} == expected
    assert len(found) == 11
