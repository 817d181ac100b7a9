"""Indels moved to the left as bcftools moves them, and a reference that does not fit."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.contract.settings import GenomicsSettings
from features.genomics import reference as module
from features.genomics.clean import Layout, RefusedLineError, Rule, Variant
from features.genomics.formats.vcf_line import clean_line
from features.genomics.normalise import left_align
from features.genomics.reference import open_reference
from tests.features.genomics.conftest import Ingest, WriteVcf

BASES = np.array(list("ACGT"))


def write_fasta(path: Path, contigs: dict[str, str], width: int = 60, end: str = "\n") -> Location:
    """A FASTA file and its index, as `samtools faidx` writes it."""
    text, index = "", ""
    for name, bases in contigs.items():
        text += f">{name} something{end}"
        index += f"{name}\t{len(bases)}\t{len(text)}\t{width}\t{width + len(end)}\n"
        text += "".join(bases[i : i + width] + end for i in range(0, len(bases), width))
    path.write_text(text, newline="")
    Path(f"{path}.fai").write_text(index)
    return Location.parse(str(path))


def repetitive(rng: np.random.Generator, length: int) -> str:
    """Mostly repeats of short units, some of it in lower case: where indels have many places."""
    pieces = []
    while sum(map(len, pieces)) < length:
        unit = "".join(rng.choice(BASES, rng.integers(1, 5)))
        repeat = unit * rng.integers(1, 12)
        pieces.append(repeat.lower() if rng.uniform() < 0.2 else repeat)
    return "".join(pieces)[:length]


def record(rng: np.random.Generator, contig: str, sequence: str) -> str:
    """Anything that can be written of a place: shared bases around, insertions and losses of units."""
    start = int(rng.integers(0, 40 if rng.uniform() < 0.1 else len(sequence) - 12))
    ref = sequence[start : start + rng.integers(1, 12)].upper()
    alts: list[str] = []
    while len(alts) < rng.integers(1, 4):
        cut = rng.integers(0, len(ref) + 1)
        middle = ref[:cut] * rng.integers(0, 3) if rng.uniform() < 0.5 else "".join(rng.choice(BASES, 2))
        alt = (ref[:cut] + middle + ref[cut + rng.integers(0, 4) :]) or "A"
        if alt != ref and alt not in alts:
            alts.append(alt)
    calls = " ".join(f"{a}/{b}" for a, b in rng.integers(0, len(alts) + 1, (3, 2)))
    return f"{contig} {start + 1} . {ref} {','.join(alts)} . PASS . GT {calls}"


def place(text: str) -> tuple[str, int]:
    contig, position, *_ = text.split()
    return contig, int(position)


@pytest.mark.parametrize("seed", range(8))
def test_variants_are_where_bcftools_norm_puts_them(
    seed: int, tmp_path: Path, write_vcf: WriteVcf, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("bcftools") is None:
        pytest.skip("bcftools is not installed")
    monkeypatch.setattr(module, "WINDOW", 64)
    rng = np.random.default_rng(seed)
    contigs = {"chr1": repetitive(rng, 3000), "2": repetitive(rng, 777)}
    fasta = write_fasta(tmp_path / "reference.fa", contigs, width=int(rng.integers(20, 70)))
    records = sorted((record(rng, name, contigs[name]) for name in rng.choice(list(contigs), 400)), key=place)
    path = write_vcf(
        "a.vcf", ["A-1", "A-2", "A-3"], sorted(records, key=lambda r: (r.split()[0] == "2", place(r)[1]))
    )
    done = subprocess.run(
        ["bcftools", "norm", "-m", "-", "-f", fasta.path, str(path)], check=True, capture_output=True, text=True
    )
    expected = set()
    for line in done.stdout.splitlines():
        if not line.startswith("#"):
            contig, pos, _, ref, alt, *_, a, b, c = line.split("\t")
            key = (contig.removeprefix("chr"), int(pos), ref.upper(), alt.upper())
            expected.add((*key, *(gt.count("1") for gt in (a, b, c))))
    layout = Layout("GRCh38", 3, None, reference=open_reference(fasta))
    found = [(place(text)[1], clean_line(text.replace(" ", "\t").encode(), layout)) for text in records]
    variants = [(position, item) for position, items in found for item in items if isinstance(item, Variant)]
    assert {(v.contig, v.position, v.ref, v.alt, *v.calls.codes.tolist()) for _, v in variants} == expected
    assert len(variants) == sum(len(items) for _, items in found) > 600
    assert sum(v.position < position for position, v in variants) > 50


def test_an_indel_goes_over_windows_of_the_reference_to_the_contigs_first_base(tmp_path: Path) -> None:
    reference = open_reference(write_fasta(tmp_path / "r.fa", {"1": "A" * 100_000 + "C"}, end="\r\n"))
    assert left_align(reference, "1", 99_990, "AA", "A") == (1, "AA", "A")
    assert left_align(reference, "1", 99_990, "A", "AAA") == (1, "A", "AAA")
    assert len(reference.windows) == 2


def test_bases_are_read_by_position_over_lines_and_windows(tmp_path: Path) -> None:
    bases = "".join(np.random.default_rng(3).choice(BASES, 200_000))
    reference = open_reference(write_fasta(tmp_path / "r.fa", {"chr7": bases.lower(), "8": "ACGT"}, width=61))
    for first, last in (
        (1, 1),
        (60, 63),
        (65_530, 65_540),
        (131_000, 140_000),
        (199_999, 200_000),
        (65_536, 65_537),
    ):
        assert reference.bases("7", first, last) == bases[first - 1 : last]
    assert reference.bases("8", 3, 9) == "GT"
    assert reference.bases("8", -1, 2) == "AC"


@pytest.mark.parametrize(("ref", "fits"), [("GTT", True), ("gtt", True), ("GAT", False), ("GTTAC", False)])
def test_ref_must_be_what_the_reference_has(tmp_path: Path, ref: str, fits: bool) -> None:
    reference = open_reference(write_fasta(tmp_path / "r.fa", {"1": "ACGTT"}))
    layout = Layout("GRCh38", 1, None, reference=reference)
    line = f"1\t3\t.\t{ref}\tC\t.\tPASS\t.\tGT\t0/1".encode()
    if fits:
        assert isinstance(clean_line(line, layout)[0], Variant)
    else:
        with pytest.raises(RefusedLineError) as refusal:
            clean_line(line, layout)
        assert refusal.value.rule == Rule.REFERENCE
    with pytest.raises(RefusedLineError):
        clean_line(line.replace(b"1\t3", b"9\t3", 1), layout)


def test_where_the_reference_knows_no_base_any_ref_fits(tmp_path: Path) -> None:
    reference = open_reference(write_fasta(tmp_path / "r.fa", {"1": "ANRT"}))
    assert reference.agrees("1", 1, "ACGT")
    assert not reference.agrees("1", 1, "CCGT")


def test_a_base_that_is_none_of_four_is_n_in_an_allele(tmp_path: Path) -> None:
    """As `bcftools norm` writes it."""
    reference = open_reference(write_fasta(tmp_path / "r.fa", {"1": "ACGTRCC"}))
    assert left_align(reference, "1", 6, "C", "CC") == (5, "N", "NC")


def test_a_reference_with_two_names_of_one_contig_is_refused(tmp_path: Path) -> None:
    """UCSC's hg19 has chrM, and beside it the other mitochondrion as chrMT."""
    with pytest.raises(DataGateError, match=r"line 2: chrMT is a contig that stands above under another name"):
        open_reference(write_fasta(tmp_path / "r.fa", {"chrM": "ACGT", "chrMT": "ACGT"}))


def test_a_stray_record_is_quarantined_and_another_build_stops_the_job(
    ingest: Ingest, write_vcf: WriteVcf, raw: Path
) -> None:
    write_fasta(raw / "r.fa", {"chr1": "ACGTTTTTTC" * 10})
    genomics = GenomicsSettings(paths=["*.vcf"], build="GRCh38", reference="r.fa")
    sound = [f"1 {10 * i + 1} . A C . PASS . GT 0/1" for i in range(9)]
    write_vcf("a.vcf", ["A-1"], [*sound, "1 97 . TT T . PASS . GT 1/1", "1 100 . G T . PASS . GT 1/1"])
    written, tables = ingest(genomics)
    assert [balance["quarantined"] for balance in written.counts["balances"].values()] == [{"reference": 1}]
    assert "GRCh38:1:93:GT:G" in set(tables["variants"]["variant_key"])
    write_vcf("a.vcf", ["A-1"], [sound[0], *(record.replace(" A C ", " G C ") for record in sound[1:])])
    with pytest.raises(DataGateError, match=r"REF of 8 of 9 records is not what genomics.reference has there"):
        ingest(genomics)


def test_a_reference_without_index_or_with_another_files_stops(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "r.fa", {"1": "ACGT" * 100})
    index = Path(f"{fasta.path}.fai")
    kept = index.read_text()
    index.write_text(kept.replace("400", "4000"))
    with pytest.raises(DataGateError, match="its index does not fit it"):
        open_reference(fasta).bases("1", 1, 9)
    index.write_text("1\t400\tsix\t60\t61\n")
    with pytest.raises(DataGateError, match="line 1: expected a name and four numbers"):
        open_reference(fasta)
    index.unlink()
    with pytest.raises(DataGateError, match=r"r.fa.fai is missing.*samtools faidx"):
        open_reference(fasta)
