"""Variants are of the gene whose region has them: a second search, and bcftools, say the same."""

import gzip
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.contract.settings import GenomicsSettings
from features.genomics.genes import open_genes

Region = tuple[str, int, int]
regions = st.tuples(st.sampled_from("12X"), st.integers(0, 60), st.integers(1, 30)).map(
    lambda drawn: (drawn[0], drawn[1], drawn[1] + drawn[2])
)
spans = st.tuples(st.sampled_from(["1", "2", "X", "MT"]), st.integers(1, 100), st.integers(1, 8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("genes")


@given(st.lists(regions, min_size=1, max_size=12), st.lists(spans, max_size=20))
def test_a_variant_is_of_the_first_region_that_has_one_of_its_bases(
    folder: Path, found: list[Region], asked: list[tuple[str, int, int]]
) -> None:
    bed = folder / "genes.bed"
    bed.write_text("".join(f"chr{c}\t{start}\t{end}\tG{i}\t0\t+\n" for i, (c, start, end) in enumerate(found)))
    genes = open_genes(Location.parse(str(bed)), "the file")
    for contig, position, length in asked:
        own = set(range(position, position + length))
        holding = [
            f"G{i}"
            for i, (c, start, end) in enumerate(found)
            if c == contig and own & set(range(start + 1, end + 1))
        ]
        assert genes.at(contig, position, length) == (holding[0] if holding else None)


SOUND = "track name=genes\n# made by hand\n1 9 20 A\n\nchr1\t30\t40\tB C\t0\n"


def test_lines_about_the_file_are_no_regions(tmp_path: Path) -> None:
    for name, data in (
        ("a.bed", SOUND.encode()),
        ("a.bed.gz", gzip.compress(SOUND.replace("\n", "\r\n").encode(), mtime=0)),
    ):
        (tmp_path / name).write_bytes(data)
        genes = open_genes(Location.parse(str(tmp_path / name)), "the file")
        assert genes.names == ["A", "B C"]
        assert [genes.at("1", position, 1) for position in (9, 10, 20, 21, 31)] == [None, "A", "A", None, "B C"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "the file: no line names a region"),
        (b"# none\n", "no line names a region"),
        (b"1\t5\t9\tA\n1\t5\t9\n", "the file, line 2: expected contig, start, end and a name"),
        (b"1\t5\t9\t \n", "line 1: expected contig, start, end and a name"),
        (b"1\t9\t5\tA\n", "line 1: expected a start before the end, counted from 0; found 9 and 5"),
        (b"1\t-1\t5\tA\n", "expected a start before the end"),
        (b"gene\tchrom\tstart\tend\n", "expected a start before the end"),
        (gzip.compress(SOUND.encode(), mtime=0)[:-9], "the compressed data is damaged"),
        (b"\xff\xfe1\x005\x00", "it is no text"),
        (None, "is not below the raw root"),
    ],
)
def test_a_file_that_is_no_bed_is_refused(tmp_path: Path, data: bytes | None, told: str) -> None:
    bed = tmp_path / "genes.bed"
    if data is not None:
        bed.write_bytes(data)
    with pytest.raises(DataGateError, match=told):
        open_genes(Location.parse(str(bed)), "the file")


def test_variants_have_the_genes_that_bcftools_annotates(
    ingest: Callable[..., tuple[object, dict]], write_vcf: Callable[..., Path], raw: Path, tmp_path: Path
) -> None:
    if shutil.which("bcftools") is None:
        pytest.skip("bcftools is not installed")
    records = [
        f"{contig} {position} . {ref} {alt} . PASS GENE=WRONG GT 0/1"
        for contig in ("1", "chr1", "X")
        for position in range(95 + (contig == "chr1"), 230, 6)
        for ref, alt in (("A", "C"), ("ACG", "A"), ("A", "ATT"))
    ]
    write_vcf("a.vcf", ["A-1"], records)
    stretches = [("1", 99, 120, "A"), ("1", 120, 150, "B"), ("X", 200, 210, "C"), ("X", 102, 103, "D")]
    (raw / "genes.bed").write_text("".join("\t".join(map(str, stretch)) + "\n" for stretch in stretches))
    found = ingest(GenomicsSettings(paths=["*.vcf"], build="GRCh38", genes="genes.bed"))[1]["variants"]

    both = tmp_path / "both.bed"
    both.write_text("".join(f"{prefix}{c}\t{s}\t{e}\t{n}\n" for c, s, e, n in stretches for prefix in ("", "chr")))
    columns = ["bcftools", "annotate", "-x", "INFO/GENE", "-a", both, "-c", "CHROM,FROM,TO,OF", raw / "a.vcf"]
    about = tmp_path / "header"
    about.write_text('##INFO=<ID=OF,Number=1,Type=String,Description="region">\n')
    told = subprocess.run([*columns, "-h", about], check=True, capture_output=True, text=True).stdout
    asked = subprocess.run(
        ["bcftools", "query", "-f", "%CHROM %POS %REF %ALT %OF\n"],
        input=told,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    expected = {tuple(line.removeprefix("chr").split()) for line in asked.splitlines()}
    described = found[["contig", "position", "ref", "alt", "gene"]].fillna(".").astype(str)
    assert set(described.itertuples(index=False, name=None)) == expected
    assert set(found["gene"].dropna()) == {"A", "B", "C", "D"}
