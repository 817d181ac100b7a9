"""PLINK 2 filesets: what plink2 makes of a VCF gives the variants, calls and dosages of the VCF and plink2's own
counts, however it is stored and wherever it is cut; and files that do not belong together are refused."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.settings import GenomicsSettings
from features.genomics.clean import Layout, Rule, Variant
from features.genomics.formats.pgen_header import open_pgen_file, read_block
from features.genomics.sexes import Sex
from tests.command import SHARED
from tests.features.genomics import imputed, pgens
from tests.features.genomics.conftest import Ingest
from tests.features.genomics.formats.test_formats import GENOMICS, UNNAMED, many, opened, rows
from tests.features.genomics.imputed import NAMES
from tests.features.genomics.test_dosages import by_id, plink2, report

WriteVcf = Callable[..., Path]
GENOMES = SHARED / "thousand_genomes/kg2504_23770snp.GRCh37.vcf.gz"
COUNTS = {
    "n_hom_ref": "HOM_REF_CT",
    "n_het": "HET_REF_ALT_CTS",
    "n_hom_alt": "TWO_ALT_GENO_CTS",
    "n_missing": "MISSING_CT",
}
BUILD_37 = GenomicsSettings(paths=["*"], build="GRCh37")


def fileset(vcf: Path, *options: object, out: str = "made") -> list[Path]:
    """The three files that plink2 makes of a VCF."""
    made = vcf.with_name(out)
    plink2("--vcf", vcf, "--out", made, "--output-chr", "MT", *(options or ("--make-pgen",)))
    return [file for file in sorted(vcf.parent.glob(f"{out}.*")) if file.suffix != ".log"]


def kinds(files: Sequence[Path]) -> set[int]:
    """The kinds of the records of a fileset."""
    pgen = next(file for file in files if file.suffix == ".pgen")
    variants, samples = np.frombuffer(pgen.read_bytes(), "<u4", 2, 3).tolist()
    file = open_pgen_file(Location.parse(str(pgen)), "digest", variants, samples)
    return {int(kind) for block in range(file.blocks) for kind in read_block(file, block).kinds}


def test_real_genomes_give_what_their_vcf_gives(tmp_path: Path, keyer: PersonKeyer) -> None:
    """Their linkage lets plink2 tell records by the difference to others, turned round too. It counts the same."""
    if not GENOMES.exists():
        pytest.skip(f"the 1000 Genomes are not at {GENOMES}")
    shutil.copy(GENOMES, tmp_path / "a.vcf.gz")
    files = fileset(tmp_path / "a.vcf.gz", "--make-pgen", "vzs")
    assert kinds(files) == {0, 1, 2, 3, 4, 6}
    found = rows(keyer, files, 1 << 20, BUILD_37)
    assert found == rows(keyer, [tmp_path / "a.vcf.gz"], 1 << 40, BUILD_37) and len(found) == 23_770
    assert len(opened(keyer, files, 1 << 20)[0].parts) > 5
    plink2("--pfile", files[0].with_suffix(""), "vzs", "--geno-counts", "--out", tmp_path / "made")
    theirs = report(tmp_path / "made.gcount").loc[[str(row["rsid"]) for row in found]]
    for ours, column in COUNTS.items():
        assert [row[ours] for row in found] == theirs[column].tolist()


def wild(samples: int, records: int) -> tuple[list[str], list[str]]:
    """Names, and records of every kind of call: rare and common, missing, phased, of several ALTs, of one copy."""
    rng = np.random.default_rng(11)
    lines = []
    for number in range(records):
        alts = int(rng.choice([1, 1, 1, 2, 3, 5, 20]))
        usual = int(rng.choice([0, 0, 0, 1, -1]))
        weights = np.full(alts + 1, 0.3 / alts)
        weights[0] = 0.7
        odd = rng.uniform() < 0.4
        columns = []
        for sample in range(samples):
            a, b = rng.choice(alts + 1, 2, p=weights)
            sign = "|" if number % 3 == 0 or (number % 3 == 1 and sample % 2) else "/"
            if odd and rng.uniform() < 0.97:
                a = b = usual
            columns.append(f"{a}{sign}{b}".replace("-1", "."))
        chrom = ("1", "2", "X", "MT")[4 * number // records]
        if chrom == "MT":
            columns = [column[0] for column in columns]
        alleles = ",".join("A" + "C" * (i + 1) for i in range(alts))
        notes = ("GENE=G1;VC=missense,stop", "DP=5", ".")[number % 3]
        lines.append(
            f"{chrom} {100 + number} {'.' if number % 5 == 0 else f'v{number}'} A {alleles} . "
            f"{('PASS', '.', 'q10;s5')[number % 3]} {notes} GT {' '.join(columns)}"
        )
    return [f"A-{i}" for i in range(samples)], lines


@pytest.fixture
def mixed(write_vcf: WriteVcf) -> Path:
    vcf = write_vcf("mixed.vcf", *wild(200, 600))
    text = vcf.read_text().replace(
        "##FORMAT",
        '##FILTER=<ID=q10,Description="low">\n##FILTER=<ID=s5,Description="few">\n'
        '##INFO=<ID=DP,Number=1,Type=Integer,Description="depth">\n##FORMAT',
        1,
    )
    vcf.write_text(text)
    return vcf


MADE = [
    ("--make-pgen",),
    ("--make-pgen", "vzs"),
    ("--make-pgen", "erase-phase"),
    ("--make-pgen", "pvar-cols=xheader,qual,filter,info,cm", "psam-cols=fid,sid,parents,sex,pheno1"),
]


@pytest.mark.parametrize("made", MADE)
def test_a_fileset_gives_what_its_vcf_gives(mixed: Path, keyer: PersonKeyer, made: tuple[str, ...]) -> None:
    files = fileset(mixed, *made)
    assert len(files) == 3
    found = kinds(files)
    assert {kind & 7 for kind in found} >= {0, 1, 4, 6, 7}
    assert {kind & 0x18 for kind in found} == ({0, 8} if "erase-phase" in made else {0, 8, 0x10, 0x18})
    for keep in (None, [150, 3, 7]):
        expected = rows(keyer, [mixed], keep=keep)
        assert rows(keyer, files, keep=keep) == expected
    assert {row["rule"] for row in expected} == {None}


PLAIN = [
    ("--make-bpgen",),
    ("--make-bpgen", "vzs"),
    ("--make-pgen", "format=2"),
    ("--make-bed", "vzs"),
    ("--make-bed",),
]


@pytest.mark.parametrize("made", PLAIN)
def test_filesets_may_be_mixed(write_vcf: WriteVcf, keyer: PersonKeyer, made: tuple[str, ...]) -> None:
    """A .bim or a .fam beside a .pgen; a .bed with a .pvar and a .psam."""
    vcf = write_vcf("a.vcf", *many(61, 3000))
    files = fileset(vcf, *made)
    if made == ("--make-bed",):
        fileset(vcf, "--make-just-pvar")
        files = fileset(vcf, "--make-just-psam")
        files = [file for file in files if file.suffix in (".bed", ".pvar", ".psam")]
    assert len(files) == 3
    hidden = {"filters": None}
    for step in (1 << 16, 1 << 40):
        expected = [row | hidden for row in rows(keyer, [vcf])]
        assert [row | hidden for row in rows(keyer, files, step)] == expected and len(expected) == 3000


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Variants of more than one block of the tables, as a .pgen and as a .bed."""
    out = tmp_path_factory.mktemp("wide") / "wide"
    plink2("--dummy", 17, 70_000, 0.02, "acgt", "--seed", 3, "--make-pgen", "--out", out)
    plink2("--pfile", out, "--make-bed", "--out", out)
    plink2("--pfile", out, "--make-just-pvar", "zs", "--out", out.with_name("zst"))
    return out


def called(item: Variant | Rule) -> tuple[str, bytes]:
    assert isinstance(item, Variant)
    return item.key, item.calls.codes.tobytes()


@pytest.mark.parametrize("form", [".pvar", ".pvar.zst"])
def test_a_fileset_is_cut_by_its_variants(wide: Path, keyer: PersonKeyer, tmp_path: Path, form: str) -> None:
    for suffix in (".pgen", ".psam", ".bed", ".bim", ".fam"):
        shutil.copy(wide.with_suffix(suffix), tmp_path / f"a{suffix}")
    shutil.copy((wide if form == ".pvar" else wide.with_name("zst")).with_suffix(form), tmp_path / f"a{form}")
    files = [tmp_path / f"a{suffix}" for suffix in (".pgen", form, ".psam")]
    (file,) = opened(keyer, files, 1 << 16)
    assert len(file.parts) > 3 and kinds(files) >= {0, 1}
    layout, firsts = Layout("GRCh37", 17, None), list[str]()
    bed = (
        opened(keyer, [tmp_path / f"a{suffix}" for suffix in (".bed", ".bim", ".fam")])[0].parts[0].records(layout)
    )
    number = 0
    for part in file.parts:
        for (place, (own,)), (_, (other,)) in zip(part.records(layout), bed, strict=False):
            assert own == other if isinstance(own, Rule) else called(own) == called(other)
            number += 1
            firsts.append(place)
    assert number == 70_000 and len(set(firsts)) == number


def test_a_part_reads_no_more_than_its_own(tmp_path: Path, keyer: PersonKeyer) -> None:
    """And before it the record that its first one is told by the difference to."""
    samples, codes = 64, [0, 1, 2, 3] * 16
    records = [(0, pgens.packed(codes, 2)), *[(2, pgens.differences([3, *codes[1:]], codes))] * 5000]
    files = pgens.write(tmp_path, pgens.pgen(records, samples), ["C"] * len(records), samples)
    last = opened(keyer, files, 1 << 10)[0].parts[-1]
    assert last.first > 2000
    data = bytearray(files[0].read_bytes())
    start = len(data) - sum(len(own) for _, own in records)
    at = start + 16 + 3 * (last.first - 1)
    data[start + 16 : at] = bytes(at - start - 16)  # what lies between is gone
    files[0].write_bytes(data)
    found = [item for _, (item,) in last.records(Layout("GRCh38", samples, None))]
    assert len(found) == last.number
    assert all(item.calls.codes.tolist() == [3, *codes[1:]] for item in found)


def imputed_fileset(raw: Path, key: str) -> tuple[Path, list[Path]]:
    vcf = imputed.write(raw, key)
    made = ("--psam", raw / "sexes.psam", "--split-par", "hg19", "--make-pgen")
    out = raw / "made"
    plink2("--vcf", vcf, f"dosage={key}", *made, "--out", out)
    return vcf, [out.with_suffix(suffix) for suffix in (".pgen", ".pvar", ".psam")]


@pytest.mark.parametrize("key", ["DS", "GP"])
def test_dosages_are_those_of_the_vcf(raw: Path, keyer: PersonKeyer, key: str) -> None:
    """Exactly: plink2 and we round to one unit. Probabilities tell a variance too, which a .pgen does not keep."""
    vcf, files = imputed_fileset(raw, key)
    assert {kind & 0x60 for kind in kinds(files)} >= {0x20, 0x60}
    settings = BUILD_37.model_copy(update={"dosages": key})
    hidden = {"dosage_variance": None}
    for keep in (None, [40, 3, 17]):
        expected = [row | hidden for row in rows(keyer, [vcf], genomics=settings, keep=keep)]
        assert [row | hidden for row in rows(keyer, files, genomics=BUILD_37, keep=keep)] == expected
        assert sum(row["dosages"] is not None for row in expected) > 80


def test_dosages_of_each_copy_are_read_past(raw: Path, keyer: PersonKeyer) -> None:
    """VCF's HDS has them, and plink2 keeps them; their sum is DS."""
    vcf = imputed.write(raw, "DS")
    header, body = vcf.read_text().split("#CHROM")
    declared = '##FORMAT=<ID=HDS,Number=2,Type=Float,Description="of each copy">\n'
    rng, lines = np.random.default_rng(4), [header + declared + "#CHROM" + body.split("\n")[0]]
    for number in range(60):
        first, second = rng.integers(0, 100, (2, len(NAMES))) * (rng.uniform(size=(2, len(NAMES))) < 0.3) / 100
        cells = [f"{a:.2f},{b:.2f}" for a, b in zip(first, second, strict=True)]
        columns = [
            f"{int(a > 0.5)}|{int(b > 0.5)}:{a + b:.2f}:{cell}"
            for a, b, cell in zip(first, second, cells, strict=True)
        ]
        lines.append(
            "\t".join(["1", f"{100 + number}", f"v{number}", "A", "C", ".", ".", ".", "GT:DS:HDS", *columns])
        )
    vcf.write_text("\n".join(lines) + "\n")
    plink2("--vcf", vcf, "dosage=HDS", "--make-pgen", "--out", raw / "made")
    files = [raw / f"made.{suffix}" for suffix in ("pgen", "pvar", "psam")]
    assert {kind & 0x80 for kind in kinds(files)} == {0x80}
    expected = rows(keyer, [vcf], genomics=BUILD_37.model_copy(update={"dosages": "DS"}))
    assert [row["dosages"] for row in rows(keyer, files, genomics=BUILD_37)] == [
        row["dosages"] for row in expected
    ]


def test_variants_are_counted_as_plink2_counts_them(raw: Path, ingest: Ingest, tmp_path: Path) -> None:
    """On X, Y and MT too, by the sexes of the .psam."""
    _, files = imputed_fileset(raw, "DS")
    plink2("--pfile", raw / "made", "--freq", "cols=+machr2", "--geno-counts", "--out", tmp_path / "read")
    for file in raw.glob("*"):
        if file not in files:
            file.unlink()
    _, tables = ingest(BUILD_37)
    ours = by_id(tables["variants"])
    freq, counts = (
        report(tmp_path / "read.afreq").loc[ours.index],
        report(tmp_path / "read.gcount").loc[ours.index],
    )
    assert (tables["samples"]["sex"].value_counts()[["male", "female"]] == [20, 25]).all()
    assert (ours["allele_number"] == freq["OBS_CT"]).all()
    np.testing.assert_allclose(ours["allele_frequency"], freq["ALT_FREQS"], rtol=5e-6)
    autosomal = ours.index[ours["contig"] == "1"]
    theirs = freq.loc[autosomal, "MACH_R2"].astype(float)
    np.testing.assert_allclose(ours.loc[autosomal, "mach_r2"], theirs, rtol=1e-5)
    assert (ours["n_het"] - ours["n_het_haploid"] == counts["HET_REF_ALT_CTS"]).all()
    diploid = counts.loc[autosomal]
    for column, name in COUNTS.items():
        assert (ours.loc[autosomal, column] == diploid[name]).all()
    both = counts["TWO_ALT_GENO_CTS"] + counts["HAP_ALT_CTS"]
    everyone = ours.index[ours["contig"] != "Y"]
    assert (ours.loc[everyone, "n_hom_alt"] == both[everyone]).all()


SAMPLES = [f"B-{i}" for i in range(3)]
PSAMS = {
    "#IID\nB-0\nB-1\nB-2\n": [],
    "#IID SEX\nB-0 1\nB-1 2\nB-2 NA\n": [Sex.MALE, Sex.FEMALE, Sex.UNKNOWN],
    "##made=by\n#FID\tIID\tSID\tSEX\tP\nf\tB-0\t1\tm\t3\nf\tB-1\t1\tF\t3\nf\tB-2\t1\t0\t3\textra\n\n": [
        Sex.MALE,
        Sex.FEMALE,
        Sex.UNKNOWN,
    ],
    "f B-0 0 0 1 -9\nf B-1 0 0 2 -9\r\nf B-2 0 0 0 -9\n": [Sex.MALE, Sex.FEMALE, Sex.UNKNOWN],
    "f B-0 0 0 1\nf B-1 0 0 2\nf B-2 0 0 0\n": [Sex.MALE, Sex.FEMALE, Sex.UNKNOWN],
}


@pytest.fixture
def small(raw: Path) -> list[Path]:
    return pgens.write(raw, pgens.pgen([(0, b"\x24"), (0, b"\x09")], 3), ["C", "G"], 3)


@pytest.mark.parametrize("text", PSAMS)
def test_names_and_sexes_are_those_of_the_psam(small: list[Path], keyer: PersonKeyer, text: str) -> None:
    small[2].write_text(text, newline="")
    header = opened(keyer, small)[0].header
    assert (header.names, header.sexes) == (SAMPLES, PSAMS[text])
    digest, place = header.place(1)
    offset, length = map(int, place.split("+"))
    assert digest == keyer.path_digest("a.psam") and "B-1" in text.encode()[offset : offset + length].decode()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("#FID SEX\nB-0 1\n", "line 1: expected a header of #FID IID, or #IID"),
        ("#IID SEX SEX\nB-0 1 1\n", "line 1: expected a header of #FID IID, or #IID"),
        ("B-0 B-0\n", "line 1: expected a header of #FID IID, or #IID"),
        ("#IID SEX\nB-0 1\nB-1\nB-2 1\n", "line 3: 1 columns or a header; expected the 2 columns of its header"),
        ("#IID SEX\nB-0 1\nB-0 2\nB-2 1\n", "1 ids of its column IID come twice"),
        ("FID IID PAT MAT SEX\nB-0 B-0 0 0 1\nB-1 B-1 0 0 1\n", "line 1: 5 columns or a header; expected"),
        ("#IID SEX\n", "it has no samples"),
        ("", "it is empty"),
    ],
)
def test_a_psam_that_is_none_is_refused(small: list[Path], keyer: PersonKeyer, text: str, told: str) -> None:
    small[2].write_text(text)
    with pytest.raises(DataGateError, match=f"file {keyer.path_digest('a.psam')}.*{told}"):
        opened(keyer, small)


def test_a_space_that_is_not_ascii_is_part_of_a_name(small: list[Path], keyer: PersonKeyer) -> None:
    small[2].write_text("#IID\tSEX\nB\u00a00\t1\nB-1\t2\nB\u30002\t1\n", encoding="utf-8")
    header = opened(keyer, small)[0].header
    assert header.names == ["B\u00a00", "B-1", "B\u30002"] and header.sexes == [Sex.MALE, Sex.FEMALE, Sex.MALE]


PVARS = [
    "#CHROM POS ID REF ALT\n1 5 v0 A C\n1 6 . A G\n",
    "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tB-0\n1\t5\tv0\tA\tC\t.\t.\t.\tGT\t0/1\n"
    "1\t6\t.\tA\tG\t.\tPASS\t.\tGT\t0/1\n",
    "1 v0 0 5 C A\n1 . 0 6 G A\n",
    "1 v0 5 C A\r\n1 . 6 G A\r\n",
    "#CHROM\tID\tALT\tREF\tPOS\n1\tv0\tC\tA\t5\n1\t.\tG\tA\t6\n",
]


@pytest.mark.parametrize("text", PVARS)
def test_variants_are_those_of_the_pvar(small: list[Path], keyer: PersonKeyer, text: str) -> None:
    small[1].write_text(text, newline="")
    found = rows(keyer, small, genomics=UNNAMED)
    assert [(row["variant_key"], row["rsid"], row["calls"]) for row in found] == [
        ("GRCh38:1:5:A:C", "v0", b"\x24"),
        ("GRCh38:1:6:A:G", None, b"\x09"),
    ]
    offsets = [place for place, _ in opened(keyer, small)[0].parts[0].records(Layout("GRCh38", 3, None))]
    lines = [text.encode()[int(at) : int(at) + int(size)] for at, size in (place.split("+") for place in offsets)]
    assert all(line.split()[0] == b"1" and line.strip() == line for line in lines)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("#CHROM POS ID REF\n1 5 v0 A\n", "line 1: expected a header of #CHROM POS ID REF ALT"),
        ("##x\n#POS CHROM ID REF ALT\n5 1 v0 A C\n", "line 2: expected a header of #CHROM POS ID REF ALT"),
        ("1 5 v0\n", "line 1: expected a header of #CHROM POS ID REF ALT"),
        ("##x\n", "line 1: expected a header of #CHROM POS ID REF ALT"),
    ],
)
def test_a_pvar_that_is_none_is_refused(small: list[Path], keyer: PersonKeyer, text: str, told: str) -> None:
    small[1].write_text(text)
    with pytest.raises(DataGateError, match=f"file {keyer.path_digest('a.pvar')}, {told}"):
        opened(keyer, small)


def test_lines_of_a_pvar_that_cannot_be_are_refused_by_their_rule(small: list[Path], keyer: PersonKeyer) -> None:
    """The others keep their own calls."""
    small[1].write_text("#CHROM POS ID REF ALT\n1 x v0 A C\n1 6 v1 A G\n")
    assert [(row["rule"], row["calls"]) for row in rows(keyer, small)] == [("position", None), (None, b"\x09")]
    small[1].write_text("#CHROM POS ID REF ALT\n1 5 v0 A\n#1 6 v1 A G\n")
    assert [(row["rule"], row["calls"]) for row in rows(keyer, small)] == [("columns", None), (None, b"\x09")]


def test_files_of_a_fileset_that_are_missing_are_told(small: list[Path], keyer: PersonKeyer) -> None:
    pgen, pvar, psam = small
    digest = keyer.path_digest("a.pgen")
    for given, told in (([pgen, psam], "pvar"), ([pgen, pvar], "psam"), ([pgen], r"pvar and \.psam")):
        with pytest.raises(
            DataGateError, match=rf"file {digest}: genomics.paths names this \.pgen and not its \.{told}"
        ):
            opened(keyer, given)
    for orphan in (pvar, psam):
        other = orphan.with_name(f"b{orphan.suffix}")
        shutil.copy(orphan, other)
        with pytest.raises(
            DataGateError, match=rf"no \.pgen in genomics\.paths has the name of this {other.suffix}"
        ):
            opened(keyer, [*small, other])
        other.unlink()
    shutil.copy(pgen, pgen.with_suffix(""))
    with pytest.raises(DataGateError, match=r"they have one \.pvar and \.psam"):
        opened(keyer, [*small, pgen.with_suffix("")])


OF_ALLELES = """##INFO=<ID=DP,Number=1,Type=Integer,Description="d">
##INFO=<ID=AF,Number=A,Type=Float,Description="f">
##INFO=<ID=RR,Number=R,Type=Integer,Description="r">
##INFO=<ID=VC,Number=A,Type=String,Description="c">
##INFO=<ID=GENE,Number=.,Type=String,Description="g">
"""


@pytest.mark.parametrize("provisional", [0, 1, 2, 3])
def test_the_reference_is_asked_where_ref_is_provisional(raw: Path, keyer: PersonKeyer, provisional: int) -> None:
    """As the top bits of the header's byte 12 tell, or, where these do not, PR in INFO."""
    (raw / "r.fa").write_text(">1\n" + "N" * 100 + "ACAT" + "N" * 6 + "\n")
    (raw / "r.fa.fai").write_text("1\t110\t3\t110\t111\n")
    dosed = pgens.packed([0, 1, 2, 3], 2) + pgens.dosage_tracks(0x40, [1000, 16384, 32768, None])
    told = provisional if provisional < 3 else [False, True, True, True]
    data = pgens.pgen([(0x40, dosed)] * 4, 4, 0x10, None, told)
    files = pgens.write(raw, data, ["C", "C", "T", "C"], 4)
    if not provisional:
        lines = files[1].read_text().splitlines()
        said = [f"DP=1;AF=0.9;RR=10,90;VC=v;GENE=g;{'PRX' if number == 1 else 'PR'}" for number in range(5)]
        lines = [f"{line}\t{info}" for line, info in zip(lines, said, strict=True)]
        files[1].write_text(OF_ALLELES + "\n".join(lines).replace(f"ALT\t{said[0]}", "ALT\tINFO") + "\n")
    settings = GENOMICS.model_copy(update={"reference": str(raw / "r.fa")})
    if not provisional:
        settings = settings.model_copy(update={"info": ["DP", "AF", "RR"]})
    found = {row["variant_key"]: row for row in rows(keyer, files, genomics=settings)}
    straight, turned = found["GRCh38:1:101:A:C"], found.get("GRCh38:1:102:C:A")
    assert straight["calls"] == bytes([0b11100100])
    assert np.frombuffer(straight["dosages"], "<u2").tolist() == [1000, 16384, 32768, 65535]
    assert (turned is None) == (provisional == 1)
    if turned is not None:
        assert turned["calls"] == bytes([0b11000110])
        assert np.frombuffer(turned["dosages"], "<u2").tolist() == [31768, 16384, 0, 65535]
    if turned is not None and not provisional:
        assert turned["info"] == [("DP", [1.0]), ("RR", [90.0, 10.0])]
        assert (turned["gene"], turned["consequence"]) == ("g", None)
    assert found[None]["rule"] == "reference"


def test_a_bed_with_calls_of_more_samples_than_its_psam_is_refused(
    write_vcf: WriteVcf, keyer: PersonKeyer
) -> None:
    vcf = write_vcf("few.vcf", *many(7, 50))
    fileset(vcf, "--make-bed")
    fileset(vcf, "--make-just-pvar")
    files = [file for file in fileset(vcf, "--make-just-psam") if file.suffix in (".bed", ".pvar", ".psam")]
    assert len(rows(keyer, files)) == 50
    psam = next(file for file in files if file.suffix == ".psam")
    lines = psam.read_text().splitlines(keepends=True)
    for kept, told in ((lines[:-1], "calls of more samples"), (lines[:4], "103 bytes, expected 53")):
        psam.write_text("".join(kept))
        with pytest.raises(DataGateError, match=f"file {keyer.path_digest('made.bed')}: .*{told}"):
            opened(keyer, files)


@pytest.mark.parametrize("form", [".pvar", ".pvar.zst", ".psam"])
def test_wherever_the_other_files_are_cut_they_are_refused(
    write_vcf: WriteVcf, keyer: PersonKeyer, form: str
) -> None:
    """Also inside the last line, which else were of another variant or person."""
    files = fileset(write_vcf("a.vcf", *many(9, 40)), "--make-pgen", *(["vzs"] if form == ".pvar.zst" else []))
    victim = next(file for file in files if file.name.endswith(form))
    whole = victim.read_bytes()
    assert len(rows(keyer, files)) == 40
    for cut in range(len(whole)):
        victim.write_bytes(whole[:cut])
        with pytest.raises(DataGateError, match=f"file {keyer.path_digest(victim.name)}|its header says"):
            rows(keyer, files)
