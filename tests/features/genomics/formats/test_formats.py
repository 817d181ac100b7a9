"""Genomes in other files than VCF: what bcftools and plink2 made of a VCF gives the variants and calls of the VCF,
wherever the files are cut; and files that are not whole, or not of one another, are refused."""

import gzip
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.settings import GenomicsSettings
from features.genomics.formats.files import GenomeFile, open_files
from features.genomics.info import choose, read_declared
from features.genomics.ingestion.batch import sexes_of_files
from features.genomics.ingestion.candidates import PLACE, Work, layout_of, parse_part
from features.genomics.ingestion.roster import NOBODY, Columns
from features.genomics.reference import open_reference
from features.genomics.sexes import Sex
from tests.command import SHARED

SAMPLES = ["A-1", "A-2", "A-3", "A-4", "A-5"]
RECORDS = [
    "1 100 rs1;x A C 9.5 PASS GENE=G1;VC=missense,stop GT 0/1 1|1 0/0 ./. 0|1",
    "1 150 . AT A,ATT . q10 DP=5 GT:DP 0/1:3 1/2:4 2/2:. ./.:1 0/0:7",
    "1 160 . A C . . . GT 0 1 . 0/1 0",
    "1 170 . A C,* . . . GT 0/2 1/2 0/0 0/1 0/0",
    "1 180 . A . . . . GT 0/0 0/0 0/0 0/0 0/0",
    "1 190 . A <DEL> . . END=200 GT 0/0 0/1 0/0 0/0 0/0",
    "1 200 . A C . PASS VC=. GT:GQ ./1:1 0/0:2 0/1:3 0/0:4 0/0:5",
    "1 210 . A C . PASS . GT 0/0/1 0/0 0/1 0/0 0/0",
    "X 5 . G T . PASS GENE=G2 GT 0 1 0/1 1/1 .",
    "MT 7 . GAC G . PASS . GT 0 1 0 1 .",
    f"1 300 . A {','.join('A' + 'C' * i for i in range(1, 200))} . q10 DP=1 GT 0/199 150|151 ./. 0 0/0",
    f"1 301 . A C . . GENE={'G' * 70_000} GT 0/1 0/1 0/0 0/0 0/0",
    "1 303 . A C . . GENE=G;GENE=H GT 0/1 0/1 0/0 0/0 0/0",
    "1 302 . A C . . . DP:GT 3:0/1 .:0/1 1:0/0 1:0/0 1:0/0",
]
HEADER = """##fileformat=VCFv4.2
##contig=<ID=5,note="was IDX=3, ID=1">
##INFO=<ID=NOTE,Number=1,Type=String,Description="as IDX=5 has it">
##contig=<ID=MT>
##contig=<ID=X>
##contig=<ID=1>
##FILTER=<ID=q10,Description="low">
##INFO=<ID=DP,Number=1,Type=Integer,Description="depth">
##INFO=<ID=END,Number=1,Type=Integer,Description="end">
##INFO=<ID=GENE,Number=1,Type=String,Description="gene">
##INFO=<ID=VC,Number=.,Type=String,Description="consequence">
##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">
##FORMAT=<ID=DP,Number=1,Type=Integer,Description="depth">
##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="quality">
"""
GENOMICS = GenomicsSettings(paths=["*"], build="GRCh38", gene_field="GENE", consequence_field="VC")
UNNAMED = GenomicsSettings(paths=["*"], build="GRCh38")


def run(*command: str | Path) -> None:
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed")
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


def opened(keyer: PersonKeyer, paths: list[Path], step: int = 1 << 40) -> list[GenomeFile]:
    root = Location.parse(str(paths[0].parent))
    return open_files(root, keyer, [file for file in root.files() if paths[0].parent / file.path in paths], step)


_NOTHING: dict[str, Any] = {"rule": None, "variant_key": None, "calls": None, "info": None}


def rows(
    keyer: PersonKeyer,
    paths: list[Path],
    step: int = 1 << 40,
    genomics: GenomicsSettings = GENOMICS,
    keep: list[int] | None = None,
) -> list[dict[str, Any]]:
    """The variants and refusals that the parts of the one file among `paths` give, without the places in it."""
    (file,) = opened(keyer, paths, step)
    total = len(file.header.names)
    columns = Columns("block" if total else NOBODY, total, None if keep is None else np.array(keep))
    sexes = {"block": np.zeros(total if keep is None else len(keep), np.uint8)}
    reference = open_reference(Location.parse(str(genomics.reference))) if genomics.reference else None
    digest, info = file.header.digest, choose([file.header], genomics.info, {})
    layout = layout_of(file.header, columns, genomics, info.get(digest, {}), reference, None)
    work = Work(file.parts, {digest: columns}, {digest: 0}, {digest: layout}, sexes)
    batches = [of_kind for part in file.parts for of_kind in parse_part(work, part)]
    offsets = [offset for kind, batch in batches if kind == "variants" for offset in batch["offset"].to_pylist()]
    assert offsets == sorted(offsets)
    found = [
        _NOTHING | row for kind, batch in batches if kind not in ("tally", "spans") for row in batch.to_pylist()
    ]
    hidden = (*PLACE[:2], "source_digest", "location")
    return sorted(({n: v for n, v in row.items() if n not in hidden} for row in found), key=str)


@pytest.mark.parametrize("half_calls", ["error", "missing", "haploid", "reference"])
@pytest.mark.parametrize("compressed", ["-Ob", "-Ou"])
def test_a_bcf_gives_what_its_vcf_gives(raw: Path, keyer: PersonKeyer, half_calls: str, compressed: str) -> None:
    vcf = raw / "a.vcf"
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *SAMPLES]
    vcf.write_text(HEADER + "\n".join(line.replace(" ", "\t") for line in (" ".join(columns), *RECORDS)) + "\n")
    bcf = vcf.with_suffix(".bcf")
    run("bcftools", "view", compressed, "-o", bcf, vcf)
    settings = GENOMICS.model_copy(update={"half_calls": half_calls})
    for keep in (None, [4, 1]):
        expected = rows(keyer, [vcf], genomics=settings, keep=keep)
        assert rows(keyer, [bcf], genomics=settings, keep=keep) == expected
    assert {row["rule"] for row in expected} >= {None, "genotype", "monomorphic", "symbolic"}
    assert opened(keyer, [bcf])[0].header.names == SAMPLES


def many(samples: int, records: int) -> tuple[list[str], list[str]]:
    """Names, and records of random calls on two contigs; REF is the rarer allele in every third."""
    random = np.random.default_rng(5)
    alts = random.choice(4, (records, samples), p=[0.5, 0.3, 0.15, 0.05])
    alts[::3] = np.array([2, 1, 0, 3])[alts[::3]]
    calls = np.array(["0/0", "0/1", "1/1", "./."])[alts]
    places = [f"{1 + i // 3000} {100 + 3 * (i % 3000)}" for i in range(records)]
    return [f"A-{i}" for i in range(samples)], [
        f"{place} v{i} {'ACGT'[i % 4]} {'CGTA'[i % 4]} . PASS . GT {' '.join(row)}"
        for i, (place, row) in enumerate(zip(places, calls, strict=True))
    ]


@pytest.fixture
def wide(write_vcf: Callable[..., Path]) -> Path:
    return write_vcf("wide.vcf", *many(61, 6000))


@pytest.mark.parametrize("step", [1 << 10, 1 << 14, 1 << 16])
def test_a_bcf_is_cut_where_its_index_says(wide: Path, keyer: PersonKeyer, step: int) -> None:
    bcf = wide.with_suffix(".bcf")
    run("bcftools", "view", "-Ob", "-o", bcf, wide)
    (whole,) = opened(keyer, [bcf], step)
    assert len(whole.parts) == 1
    run("bcftools", "index", "-m", "10", bcf)
    (cut,) = opened(keyer, [bcf], step)
    assert len(cut.parts) > 1
    found = rows(keyer, [bcf], step)
    assert found == rows(keyer, [wide]) and len(found) == 6000


def plain_bcf(vcf: Path) -> tuple[Path, bytes, int]:
    """Where the VCF's BCF is, its bytes uncompressed, and where in them the first record begins."""
    bcf = vcf.with_suffix(".bcf")
    run("bcftools", "view", "-o", bcf, vcf)
    data = gzip.decompress(bcf.read_bytes())
    return bcf, data, 9 + int.from_bytes(data[5:9], "little")


def test_records_that_are_not_as_their_header_says_are_refused_by_their_rule(
    write_vcf: Callable[..., Path], keyer: PersonKeyer
) -> None:
    """An id that the header has not, calls beyond the end of the record, fewer samples, no allele's number."""
    vcf = write_vcf("a.vcf", *many(61, 3))
    bcf, data, first = plain_bcf(vcf)
    calls = first + 8 + int.from_bytes(data[first : first + 4], "little")
    for place, value, rule in (
        (calls + 1, 99, "columns"),
        (calls + 2, 0xE1, "columns"),
        (first + 28, 60, "columns"),
        (calls + 3, 0xFB, "genotype"),
    ):
        spoilt = bytearray(data)
        spoilt[place] = value
        bcf.write_bytes(spoilt)
        assert [row["rule"] for row in rows(keyer, [bcf])].count(rule) == 1
        assert [row for row in rows(keyer, [bcf]) if not row["rule"]] == rows(keyer, [vcf])[1:]


def test_a_header_without_numbers_is_counted_by_its_names(
    write_vcf: Callable[..., Path], keyer: PersonKeyer
) -> None:
    """As older writers have it; a contig that is declared twice counts once."""
    vcf = write_vcf("a.vcf", *many(61, 3010))
    bcf, data, first = plain_bcf(vcf)
    text = re.sub(r",IDX=\d+", "", data[9:first].decode()).replace("##contig", "##contig=<ID=1>\n##contig", 1)
    assert text.count("##contig=<ID=1") == 2
    bcf.write_bytes(data[:5] + struct.pack("<I", len(text)) + text.encode() + data[first:])
    assert rows(keyer, [bcf]) == rows(keyer, [vcf])


@pytest.mark.parametrize("suffix", [".bcf", ".bed", ".bim", ".fam"])
def test_whatever_is_spoilt_ends_in_a_gate_or_a_rule(wide: Path, keyer: PersonKeyer, suffix: str) -> None:
    files = [wide.with_suffix(".bcf")] if suffix == ".bcf" else fileset(wide, "--to-bp", "200", "--chr", "1")
    if suffix == ".bcf":
        run("bcftools", "view", "-o", files[0], "-t", "1:1-200", wide)
        files[0].write_bytes(gzip.decompress(files[0].read_bytes()))
    victim = wide.with_suffix(suffix)
    whole, random = victim.read_bytes(), np.random.default_rng(3)
    outcomes = set()
    for _ in range(200):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 3):
            data[place] = random.choice([0, 1, 0x15, 0xF1, 0xF7, 0xFF, 0x80])
        victim.write_bytes(data)
        try:
            outcomes.add(len(rows(keyer, files)) > 0)
        except DataGateError:
            outcomes.add(None)
    assert None in outcomes


def test_an_index_of_another_file_is_refused(
    wide: Path, keyer: PersonKeyer, write_vcf: Callable[..., Path]
) -> None:
    bcf, other = wide.with_suffix(".bcf"), write_vcf("other.vcf", *many(60, 6000))
    run("bcftools", "view", "-Ob", "-o", bcf, other)
    run("bcftools", "index", bcf)
    run("bcftools", "view", "-Ob", "-o", bcf, wide)
    far, back, upside = (
        struct.pack("<4siiiiiIQi", b"CSI\1", 14, depth, 0, 1, bins, 0, place, chunks)
        for depth, bins, place, chunks in ((0, 1, 1 << 63, 0), (0, 2**31 - 1, 1, -1), (-2, 1, 1, 0))
    )
    for spoil in (
        lambda index: index,
        lambda index: index[:40],
        lambda _: b"no index",
        lambda _: gzip.compress(far),
        lambda _: gzip.compress(back),
        lambda _: gzip.compress(upside),
    ):
        index = Path(f"{bcf}.csi")
        index.write_bytes(spoil(index.read_bytes()))
        with pytest.raises(DataGateError, match=f"file {keyer.path_digest('wide.bcf')}: "):
            rows(keyer, [bcf], 1 << 14)


@pytest.mark.parametrize("cut", [1, 30, 5000, 100_000])
@pytest.mark.parametrize("compressed", ["-Ob", "-Ou"])
def test_a_bcf_cut_short_is_refused(wide: Path, keyer: PersonKeyer, cut: int, compressed: str) -> None:
    bcf = wide.with_suffix(".bcf")
    run("bcftools", "view", compressed, "-o", bcf, wide)
    bcf.write_bytes(bcf.read_bytes()[:-cut])
    with pytest.raises(DataGateError, match=f"file {keyer.path_digest('wide.bcf')}: "):
        rows(keyer, [bcf])


def fileset(vcf: Path, *options: str) -> list[Path]:
    """The three files that plink2 makes of a VCF, ALT in A1."""
    out = vcf.with_suffix("")
    run("plink2", "--vcf", vcf, "--make-bed", "--out", out, "--output-chr", "MT", *options)
    return [out.with_suffix(suffix) for suffix in (".bed", ".bim", ".fam")]


@pytest.mark.parametrize("step", [1 << 16, 1 << 40])
def test_a_fileset_gives_what_its_vcf_gives(wide: Path, keyer: PersonKeyer, step: int) -> None:
    files = fileset(wide)
    found = opened(keyer, files, step)[0]
    assert len(found.parts) == (1 if step > 1 << 20 else 2) and len(found.header.names) == 61
    for keep in (None, [50, 2, 7]):
        without_filters = [row | {"filters": None} for row in rows(keyer, [wide], keep=keep)]
        assert [row | {"filters": None} for row in rows(keyer, files, step, keep=keep)] == without_filters


def test_the_reference_says_which_allele_of_a_fileset_is_its(
    wide: Path, keyer: PersonKeyer, tmp_path: Path
) -> None:
    """plink1.9 puts the rarer allele into A1: without the reference some variants come out turned round."""
    bases = ["N"] * 11_000
    for i in range(3000):
        bases[99 + 3 * i] = "ACGT"[i % 4]
    fasta = tmp_path / "reference.fa"
    fasta.write_text("".join(f">{contig}\n{''.join(bases)}\n" for contig in ("1", "2")))
    index = ((contig, 3 + i * 11_004) for i, contig in enumerate("12"))
    Path(f"{fasta}.fai").write_text("".join(f"{name}\t11000\t{at}\t11000\t11001\n" for name, at in index))
    out = wide.with_suffix("")
    run("plink1.9", "--vcf", wide, "--make-bed", "--out", out, "--double-id")
    files = [out.with_suffix(suffix) for suffix in (".bed", ".bim", ".fam")]
    a1 = [line.split()[4] for line in files[1].read_text().splitlines()]
    turned = [base == "ACGT"[i % 4] for i, base in enumerate(a1)]
    assert 0 < sum(turned) < len(turned) == 6000
    with_reference = GENOMICS.model_copy(update={"reference": str(fasta)})
    expected = [row | {"filters": None} for row in rows(keyer, [wide], genomics=with_reference)]
    assert [row | {"filters": None} for row in rows(keyer, files, genomics=with_reference)] == expected
    assert [row | {"filters": None} for row in rows(keyer, files)] != expected


def test_files_that_are_no_fileset_are_refused(wide: Path, keyer: PersonKeyer) -> None:
    files = fileset(wide)
    bed, bim, fam = files
    digest = keyer.path_digest("wide.bed")
    with pytest.raises(DataGateError, match=rf"file {digest}: genomics.paths names this .bed and not its .fam"):
        opened(keyer, [bed, bim])
    whole = {path: path.read_bytes() for path in files}
    spoilt = {
        bed: [(whole[bed][:-1], "bytes, expected"), (b"\x6c\x1b\x00" + whole[bed][3:], "its rows are samples")],
        bim: [(whole[bim] + whole[bim][-40:], "bytes, expected")],
        fam: [
            (whole[fam] + b"".join(b"0 x%d 0 0 0 0\n" % i for i in range(4)), "bytes, expected"),
            (whole[fam].replace(b"A-7\t", b"A-8\t"), "come twice"),
            (whole[fam].replace(b"\t0\t0\t0\t-9", b"", 1), "line 1: expected 6 columns of a sample, found 2"),
        ],
    }
    for path, cases in spoilt.items():
        for data, told in [*cases, (b"", "empty")]:
            path.write_bytes(data)
            with pytest.raises(DataGateError, match=told):
                opened(keyer, files)
        path.write_bytes(whole[path])


def test_a_fam_with_more_samples_than_calls_is_told_of_where_the_rows_are_as_long(
    write_vcf: Callable[..., Path], keyer: PersonKeyer, caplog: pytest.LogCaptureFixture
) -> None:
    files = fileset(write_vcf("few.vcf", *many(7, 120)))
    opened(keyer, files)
    assert not caplog.records
    files[2].write_text(files[2].read_text() + "0 A-8 0 0 0 -9\n")
    opened(keyer, files)
    assert "the last sample has A1 twice in each of the first 120 variants" in caplog.text


def test_files_of_other_samples_or_of_two_beds_are_refused(
    write_vcf: Callable[..., Path], keyer: PersonKeyer
) -> None:
    """Seven people are as many bytes as six or eight: the empty calls at the end of a row tell them apart."""
    files = fileset(write_vcf("few.vcf", *many(7, 50)))
    bed, _, fam = files
    lines = fam.read_text().splitlines(keepends=True)
    for wrong, told in (
        (lines[1:], "more samples than its .fam"),
        (["#FID IID a b c d\n", *lines], "or a header"),
        (["FID IID PAT MAT SEX PHENO\n", *lines], "or a header"),
        ([], "no samples|is empty"),
    ):
        fam.write_text("".join(wrong))
        with pytest.raises(DataGateError, match=told):
            opened(keyer, files)
    fam.write_text("".join(lines))
    assert len(rows(keyer, files)) == 50
    other = bed.with_suffix("")
    shutil.copy(bed, other)
    with pytest.raises(DataGateError, match=r"they have one \.bim and \.fam"):
        opened(keyer, [*files, other])


def test_a_fam_tells_the_sexes(wide: Path, keyer: PersonKeyer) -> None:
    files = fileset(wide)
    lines = files[2].read_text().splitlines()
    lines[0], lines[1] = lines[0].replace("\t0\t-9", "\t1\t-9"), lines[1].replace("\t0\t-9", "\t2\t-9")
    files[2].write_text("\n".join(lines) + "\n")
    header = opened(keyer, files)[0].header
    assert header.sexes == [Sex.MALE, Sex.FEMALE, *[Sex.UNKNOWN] * 59]
    assert sexes_of_files([header, header], keyer) == {
        keyer.person_key("A-0"): Sex.MALE,
        keyer.person_key("A-1"): Sex.FEMALE,
    }
    other = replace(header, sexes=[Sex.MALE] * 61)
    with pytest.raises(
        DataGateError, match=rf"file {keyer.path_digest('wide.fam')}, sample 2: this person has another"
    ):
        sexes_of_files([header, other], keyer)


def test_lines_of_a_bim_that_cannot_be_are_refused_by_their_rule(wide: Path, keyer: PersonKeyer) -> None:
    files = fileset(wide)
    lines = files[1].read_text().splitlines()
    lines[:6] = [
        "1 a 0 100 0 A",
        f"1 b 0 {'9' * 5000} C A",
        "1 c 0 100 C",
        "1 d 0 100 I D",
        "1 e 0 0 C A",
        "1 f 0 100 C 0",
    ]
    files[1].write_text("\n".join(lines))
    with pytest.raises(DataGateError, match="its last line has no end, so the file may have been cut short"):
        rows(keyer, files)
    files[1].write_text("\n".join(lines) + "\n")
    found = rows(keyer, files)
    rules = [row["rule"] for row in found if row["rule"]]
    assert sorted(rules) == ["allele", "allele", "columns", "monomorphic", "position", "position"]
    assert len(found) == 6000


def printed(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the numbers of INFO in five digits: bcftools prints six."""
    for row in found:
        row["info"] = [
            (key, [None if number is None else f"{number:.5g}" for number in numbers])
            for key, numbers in row["info"] or []
        ]
    return found


def test_the_files_of_others_give_the_same_as_bcf(tmp_path: Path, keyer: PersonKeyer) -> None:
    """What hail, glow, adam and bcftools test their own reading with."""
    archive = SHARED / "vcf_edge" / "vcf_edge.tar.gz"
    if not archive.exists():
        pytest.skip(f"the VCF files of others are not at {archive}")
    shutil.unpack_archive(archive, tmp_path / "all")
    found = sorted(path for path in (tmp_path / "all").rglob("*") if re.search(r"[.]vcf([.]b?gz)?$", path.name))
    compared, settings = 0, UNNAMED.model_copy(update={"measures": ["DP", "GQ", "AD"]})
    for number, path in enumerate(path for path in found if path.stat().st_size < 60_000):
        folder = tmp_path / str(number)
        folder.mkdir()
        vcf, bcf, back = folder / "a.vcf", folder / "a.bcf", folder / "back.vcf"
        path.rename(vcf)
        made = subprocess.run(["bcftools", "view", "-Ob", "-o", bcf, vcf], check=False, capture_output=True)
        if made.returncode:
            continue
        try:
            keys = sorted(read_declared(opened(keyer, [vcf])[0].header.info or []))
            settings = settings.model_copy(update={"info": keys})
            expected = printed(rows(keyer, [vcf], genomics=settings))
        except DataGateError:
            continue
        run("bcftools", "view", "-o", back, bcf)
        given = printed(rows(keyer, [bcf], genomics=settings))
        assert given == printed(rows(keyer, [back], genomics=settings)), path.name
        compared += given == expected
    assert compared > 500
