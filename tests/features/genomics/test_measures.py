"""DP, GQ, AD and INFO as bcftools splits, prints and sums them up, of real exomes; and what of them is refused."""

import gzip
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.contract.errors import DataGateError
from features.contract.persons import PersonKeyer
from features.contract.settings import GenomicsSettings
from features.genomics.normalise import normalise
from tests.command import SHARED
from tests.features.genomics.conftest import Ingest, WriteVcf
from tests.features.genomics.formats.test_formats import rows
from tests.features.genomics.ingestion.test_increments import Lake, kept

ARCHIVE = SHARED / "vcf_edge/vcf_edge.tar.gz"
KEYS = ["AC", "AF", "DP", "DS", "MQ", "set"]
GENOMICS = GenomicsSettings(paths=["*.vcf"], build="GRCh37", info=KEYS, measures=["DP", "GQ", "AD"])
HEADER = """##INFO=<ID=AF,Number=A,Type=Float,Description="f">
##INFO=<ID=R,Number=R,Type=Integer,Description="r">
##INFO=<ID=WHO,Number=.,Type=String,Description="w">
##INFO=<ID=DB,Number=0,Type=Flag,Description="d">
##FORMAT=<ID=DP,Number=1,Type=Integer,Description="d">
##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="q">
##FORMAT=<ID=AD,Number=R,Type=Integer,Description="a">
#CHROM"""
SMALL = GenomicsSettings(
    paths=["*.vcf"], build="GRCh38", info=["AF", "R", "WHO", "DB"], measures=["DP", "GQ", "AD"]
)


def bcftools(*command: object) -> str:
    if shutil.which("bcftools") is None:
        pytest.skip("bcftools is not installed")
    return subprocess.run(["bcftools", *map(str, command)], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def exomes(raw: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A hundred people's exomes with several ALTs, and what `bcftools norm -m -` makes of them."""
    if not ARCHIVE.exists():
        pytest.skip(f"the VCF files of others are not at {ARCHIVE}")
    shutil.unpack_archive(ARCHIVE, tmp_path / "all")
    vcf, split, names = raw / "exomes.vcf", tmp_path / "split.vcf", tmp_path / "names"
    names.write_text("".join(f"A-{number}\n" for number in range(100)))
    text = bcftools("reheader", "-s", names, tmp_path / "all/hail/sample2.vcf")
    vcf.write_text(text.replace("#CHROM", "##contig=<ID=22>\n#CHROM", 1))
    bcftools("norm", "-m", "-", "-o", tmp_path / "all.vcf", vcf)
    bcftools("view", "-e", 'ALT="*"', "-o", split, tmp_path / "all.vcf")
    return vcf, split


def keys(split: Path) -> list[str]:
    """Of the variants, as ours have them: of each allele what differs."""
    found = []
    for line in bcftools("query", "-f", "%CHROM\\t%POS\\t%REF\\t%ALT\\n", split).splitlines():
        chrom, position, ref, alt = line.split("\t")
        found.append(normalise("GRCh37", chrom, int(position), ref, alt)[0])
    return found


def table(split: Path, field: str) -> pd.DataFrame:
    """A row for each variant of a file without several ALTs, as text."""
    text = bcftools("query", "-f", f"%POS\\t%REF\\t%ALT\\t{field}\\n", split)
    return pd.DataFrame([line.rstrip("\t").split("\t") for line in text.splitlines()])


def numbers(values: pd.DataFrame) -> Any:
    return values.iloc[:, 3:].apply(pd.to_numeric, errors="coerce").to_numpy(float)


def test_depths_and_qualities_are_those_that_bcftools_prints(exomes: tuple[Path, Path], ingest: Ingest) -> None:
    _, split = exomes
    _, tables = ingest(GENOMICS)
    found = tables["variants"]
    people = tables["samples"].sort_values("sample_index")
    for key, name in (("DP", "dp"), ("GQ", "gq")):
        printed = table(split, f"[%{key}\\t]")
        values = numbers(printed)
        of_variants = pd.DataFrame(
            {
                "n": (~np.isnan(values)).sum(1),
                "sum": np.nansum(values, 1),
                "min": np.nanmin(values, 1),
                "max": np.nanmax(values, 1),
                "mean": np.nanmean(values, 1),
                "sd": np.nanstd(values, 1),
            },
            index=keys(split),
        )
        ours = pd.DataFrame(list(found[name]), index=found["variant_key"]).loc[of_variants.index]
        assert len(ours) == len(found) > 700
        pd.testing.assert_frame_equal(
            ours[of_variants.columns], of_variants, check_dtype=False, check_names=False, rtol=1e-12
        )
        of_people = pd.DataFrame(list(people[name]))
        np.testing.assert_array_equal(of_people["n"], (~np.isnan(values)).sum(0))
        np.testing.assert_array_equal(of_people["min"], np.nanmin(values, 0))
        np.testing.assert_array_equal(of_people["max"], np.nanmax(values, 0))
        np.testing.assert_allclose(of_people["mean"], np.nanmean(values, 0), rtol=1e-12)
        np.testing.assert_allclose(of_people["sd"], np.nanstd(values, 0), rtol=1e-9)


def test_a_samples_mean_depth_is_that_of_bcftools_stats(exomes: tuple[Path, Path], ingest: Ingest) -> None:
    _, split = exomes
    lines = bcftools("stats", "-s", "-", split).splitlines()
    printed = [float(line.split("\t")[9]) for line in lines if line.startswith("PSC")]
    _, tables = ingest(GENOMICS)
    people = tables["samples"].sort_values("sample_index")
    # It prints one decimal.
    np.testing.assert_allclose([dp["mean"] for dp in people["dp"]], printed, atol=0.0501)


def test_reads_of_heterozygous_calls_are_those_that_bcftools_prints(
    exomes: tuple[Path, Path], ingest: Ingest
) -> None:
    vcf, split = exomes
    _, tables = ingest(GENOMICS)
    calls, reads = table(split, "[%GT\\t]").iloc[:, 3:], table(split, "[%AD\\t]").iloc[:, 3:]
    # After the split 1/2 is 1/0 and 0/1: whoever carries another ALT at the place is known from the file.
    places = table(split, "%POS")[3]
    carried = calls.isin(["0/1", "1/0", "0|1", "1|0"]) & (reads != ".")
    whole = bcftools("query", "-f", "%POS[\\t%GT]\\n", vcf).splitlines()
    several = {
        (line.split("\t")[0], column)
        for line in whole
        for column, call in enumerate(line.split("\t")[1:])
        if "0" not in call and len(set(call.replace("|", "/").split("/"))) == 2
    }
    assert len(several) > 20
    total = np.zeros((2, carried.shape[1]), int)
    for row, column in zip(*np.nonzero(carried.to_numpy()), strict=True):
        if (places[row], column) not in several:
            ref, alt = map(int, reads.iloc[row, column].split(","))
            total[:, column] += alt, ref + alt
    people = tables["samples"].sort_values("sample_index")["het_reads"]
    np.testing.assert_array_equal([[p["alt"] for p in people], [p["total"] for p in people]], total)
    of_variants = [found for found in tables["variants"]["het_reads"] if found is not None]
    assert sum(found["alt"] for found in of_variants) == total[0].sum()
    assert 0.4 < total[0].sum() / total[1].sum() < 0.5
    shares = [None if found["total"] == 0 else found["alt"] / found["total"] for found in of_variants]
    assert [found["alt_share"] for found in of_variants] == shares


def test_info_is_typed_and_each_alt_has_its_own(exomes: tuple[Path, Path], keyer: PersonKeyer, raw: Path) -> None:
    vcf, split = exomes
    bcf = raw / "exomes.bcf"
    bcftools("view", "-Ob", "-o", bcf, vcf)
    for path in (vcf, bcf):
        found = {row["variant_key"]: row for row in rows(keyer, [path], genomics=GENOMICS)}
        ours = [
            dict(entry for name in ("info", "info_text") for entry in found[key][name] or [])
            for key in keys(split)
        ]
        for key in KEYS:
            printed = list(table(split, f"%INFO/{key}")[3])
            if key == "set":
                words = [own.get(key, ["."])[0] for own in ours]
            else:
                values = [own.get(key, [None]) for own in ours]
                assert all(len(value) == 1 for value in values), key
                words = ["." if value[0] is None else f"{value[0]:g}" for value in values]
                printed = ["." if word == "." else f"{float(word):g}" for word in printed]
            assert words == printed, key


def small(write_vcf: WriteVcf, name: str, people: list[str], records: list[str]) -> Path:
    vcf = write_vcf(name, people, records)
    vcf.write_text(vcf.read_text().replace("#CHROM", HEADER))
    return vcf


def test_what_is_wrong_refuses_its_line_alone(write_vcf: WriteVcf, keyer: PersonKeyer) -> None:
    wrong_measures = ["-1:1:1,2", "x:1:1,2", "1:1:1,2,3", "1:1e9:1,2", "1:1,2:1,2", "1:1:1,-2", "1_0:1:1,2"]
    wrong_info = ["AF=x", "AF=1,2", "R=1", "R=1,2,3", "AF=0.1;R=1,y", "AF=1_0", "R=1.5,2", "R=1,1e3", "AF=0x1"]
    sound = ["AF=.;R=.", "WHO=.;DB", "AF;R", "AF=1e-3;AF=x", ".", "XAF=x;OTHER=1,2", "AF=-INF;R=.,+7"]
    lines = [f"1 {100 + n} . A C . . . GT:DP:GQ:AD 0/1:{words}" for n, words in enumerate(wrong_measures)]
    lines += [f"1 {200 + n} . A C . . {words} GT 0/1" for n, words in enumerate(wrong_info)]
    lines += [f"1 {300 + n} . A C . . {words} GT:DP:GQ:AD 0/1:.:12.6" for n, words in enumerate(sound)]
    found = rows(keyer, [small(write_vcf, "a.vcf", ["A-1"], lines)], genomics=SMALL)
    rules = [row["rule"] for row in found]
    assert rules.count("measure") == len(wrong_measures)
    assert rules.count("info") == len(wrong_info)
    kept = {row["position"]: row for row in found if row["variant_key"] is not None}
    assert len(kept) == len(sound)
    assert {(row["gq_n"], row["gq_sum"], row["dp_n"], row["het_n"]) for row in kept.values()} == {
        (1, 13, None, None)
    }
    assert kept[301]["info"] == [("DB", [1.0])]
    assert kept[303]["info"] == [("AF", [0.001])]
    assert kept[306]["info"] == [("AF", [-np.inf]), ("R", [None, 7.0])]
    assert kept[300]["info"] is kept[302]["info"] is kept[304]["info"] is kept[305]["info"] is None


def test_wrong_info_of_a_bcf_is_refused_as_that_of_a_vcf_is(
    raw: Path, tmp_path: Path, write_vcf: WriteVcf, keyer: PersonKeyer
) -> None:
    records = [f"1 {100 + n} . A C . . AF={words} GT 0/1" for n, words in enumerate(["0.5", "x", "1_0"])]
    vcf, stored = small(write_vcf, "a.vcf", ["A-1"], records), tmp_path / "a.bcf"
    told, meant = 'Type=String,Description="f"', 'Type=Float,Description="of"'
    vcf.write_text(vcf.read_text().replace('Type=Float,Description="f"', told))
    bcftools("view", "-Ob", "-o", stored, vcf)
    (raw / "b.vcf").write_bytes(gzip.decompress(stored.read_bytes()).replace(told.encode(), meant.encode()))
    found = rows(keyer, [raw / "b.vcf"], genomics=SMALL)
    assert [row["rule"] for row in found if row["rule"]] == ["info", "info"]
    assert [row["info"] for row in found if row["variant_key"]] == [[("AF", [0.5])]]


def test_a_key_must_be_declared_and_of_one_type(write_vcf: WriteVcf, ingest: Ingest) -> None:
    one = small(write_vcf, "a.vcf", ["A-1"], ["1 5 . A C . . . GT 0/1"])
    two = small(write_vcf, "b.vcf", ["B-1"], ["1 5 . A C . . . GT 0/1"])
    with pytest.raises(DataGateError, match=r"declares no INFO NONE, which genomics[.]info names"):
        ingest(SMALL.model_copy(update={"info": ["AF", "NONE"]}))
    two.write_text(two.read_text().replace("AF,Number=A,Type=Float", "AF,Number=A,Type=String"))
    with pytest.raises(DataGateError, match="declares INFO AF as String, and another file as of another type"):
        ingest(SMALL)
    two.write_text(two.read_text().replace("AF,Number=A,Type=String", "AF,Number=A,Type=float"))
    with pytest.raises(DataGateError, match="declares INFO AF as float; expected one of Integer, Float"):
        ingest(SMALL)
    two.write_text(two.read_text().replace("AF,Number=A,Type=float", "AF, Number=A, Type=Float"))
    one.unlink()
    assert ingest(SMALL)[1]["variants"]["info"].isna().all()


def plain(value: Any) -> Any:
    """Of a struct, a list or a map what can be compared: pandas has numbers of any of its types in them."""
    if isinstance(value, dict):
        return sorted((key, plain(own)) for key, own in value.items())
    if isinstance(value, list | np.ndarray | tuple):
        return [plain(own) for own in value]
    return float(value) if isinstance(value, int | float | np.number) else value


def test_new_people_and_places_are_summed_up_as_if_all_came_at_once(
    write_vcf: WriteVcf, spark: Any, keyer: PersonKeyer, tmp_path: Path, raw: Path
) -> None:
    """Of a variant in two files the INFO that sorts first is kept, whichever came first."""
    records = {
        "b.vcf": [
            "1 5 . A C,G . . AF=0.2,0.3;R=1,2,3;WHO=z GT:DP:GQ:AD 0/1:5:9:2,3,0 1/2:7:8:0,3,4",
            "1 9 . A C . . DB GT 0/1 0/0",
        ],
        "a.vcf": ["1 5 . A C . . AF=0.1;WHO=a,b GT:DP:AD 0/1:50:20,30"],
        "c.vcf": ["2 5 . T C . . . GT:DP:GQ:AD 1/1:4:1:0,4 0/1:.:.:1,1", "2 6 . T C . . DB GT:DP 0/1:0 ./."],
    }
    people = {"b.vcf": ["B-1", "B-2"], "a.vcf": ["A-1"], "c.vcf": ["B-1", "B-2"]}
    lake = Lake(spark, raw, tmp_path / "one", keyer)
    ingests = []
    for name, lines in records.items():
        small(write_vcf, name, people[name], lines)
        ingests.append(lake.ingest(SMALL))
    assert all(kept(lake, *both) for both in pairwise(ingests))
    rebuilt = Lake(spark, raw, tmp_path / "two", keyer)
    ours, whole = lake.tables(ingests[-1]), rebuilt.tables(rebuilt.ingest(SMALL))
    for name in ("variants", "genotypes", "samples"):
        pd.testing.assert_frame_equal(ours[name].map(plain), whole[name].map(plain), check_exact=True)
    variants = ours["variants"].set_index("variant_key")
    first = variants.loc["GRCh38:1:5:A:C"]
    assert dict(first["info"])["AF"].tolist() == [0.1]
    assert dict(first["info_text"])["WHO"].tolist() == ["a", "b"]
    assert (first["dp"]["n"], first["dp"]["sum"], first["dp"]["min"], first["dp"]["max"]) == (3, 62, 5, 50)
    assert first["het_reads"] == {"n": 2, "alt": 33, "total": 55, "alt_share": 0.6}
    second = variants.loc["GRCh38:1:5:A:G"]
    assert {key: list(values) for key, values in dict(second["info"]).items()} == {"AF": [0.3], "R": [1.0, 3.0]}
    assert second["het_reads"] is None
    assert variants.loc["GRCh38:2:6:T:C", "dp"] == {
        **{"n": 1, "sum": 0, "square_sum": 0, "min": 0, "max": 0},
        **{"mean": 0.0, "sd": 0.0},
    }
    samples = ours["samples"]
    assert sorted(dp["sum"] for dp in samples["dp"]) == [14, 14, 50]


def test_a_later_file_declares_info_as_earlier_ones_do(
    write_vcf: WriteVcf, spark: Any, keyer: PersonKeyer, tmp_path: Path, raw: Path
) -> None:
    lake = Lake(spark, raw, tmp_path / "one", keyer)
    small(write_vcf, "a.vcf", ["A-1"], ["1 5 . A C . . AF=0.1 GT 0/1"])
    lake.ingest(SMALL)
    vcf = small(write_vcf, "b.vcf", ["B-1"], ["1 5 . A C . . AF=0.1 GT 0/1"])
    vcf.write_text(vcf.read_text().replace("AF,Number=A,Type=Float", "AF,Number=A,Type=String"))
    with pytest.raises(DataGateError, match="declares INFO AF as String, and another file as of another type"):
        lake.ingest(SMALL)


def test_a_wrong_value_in_a_column_that_is_left_out_refuses_the_line_too(
    write_vcf: WriteVcf, keyer: PersonKeyer
) -> None:
    vcf = small(write_vcf, "a.vcf", ["A-1", "A-2"], ["1 5 . A C . . . GT:DP 0/1:1 0/1:-1"])
    assert [row["rule"] for row in rows(keyer, [vcf], genomics=SMALL, keep=[0])] == ["measure"]


def test_what_one_batch_does_not_tell_another_may(
    write_vcf: WriteVcf, spark: Any, keyer: PersonKeyer, tmp_path: Path, raw: Path
) -> None:
    small(write_vcf, "a.vcf", ["A-1"], ["1 5 . A C,G . . AF=0.1,. GT 1/2"])
    small(write_vcf, "b.vcf", ["B-1"], ["1 5 . A G . . AF=0.3 GT 0/1"])
    lake = Lake(spark, raw, tmp_path / "one", keyer)
    variants = lake.tables(lake.ingest(SMALL))["variants"].set_index("variant_key")
    assert dict(variants.loc["GRCh38:1:5:A:G", "info"])["AF"].tolist() == [0.3]
