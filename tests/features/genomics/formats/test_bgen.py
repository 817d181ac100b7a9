"""BGEN files: what plink2 makes of a VCF gives what plink2 reads of it; what a plain second writer wrote is found
again whatever its alleles, copies, phase and bits; and files that are not whole, or not of one another, are
refused."""

import gzip
import random
import sqlite3
import struct
import zlib
from collections.abc import Sequence
from itertools import combinations_with_replacement, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from features.contract.errors import DataGateError
from features.contract.persons import PersonKeyer
from features.contract.settings import GenomicsSettings
from features.genomics.clean import Layout, Variant
from features.genomics.dosages import COPY, in_alts
from features.genomics.sexes import Sex
from tests.features.genomics import imputed
from tests.features.genomics.conftest import Ingest
from tests.features.genomics.formats.test_formats import opened, rows
from tests.features.genomics.imputed import NAMES, PLACES, SEXES
from tests.features.genomics.test_dosages import by_id, plink2, report

GENOMICS = GenomicsSettings(paths=["*"], build="GRCh37")
UNIT = 1 / COPY

Genotype = tuple[bool, bool, list[list[float]]]
"""Of a sample: whether it is phased, whether it is missing, and probabilities: one list, or one for each copy."""


def dosages_of(row: dict[str, object]) -> np.ndarray:
    stored = row["dosages"]
    if stored is not None:
        return in_alts(np.frombuffer(stored, "<u2"))  # type: ignore[arg-type]
    calls = np.frombuffer(row["calls"], np.uint8)  # type: ignore[arg-type]
    codes = np.stack([calls >> shift & 3 for shift in (0, 2, 4, 6)], axis=1).reshape(-1)
    return np.where(codes == 3, np.nan, codes)


def fileset(vcf: Path, *form: str) -> list[Path]:
    """The .bgen and .sample that plink2 makes of an imputed VCF."""
    out = vcf.with_suffix("")
    read = ("--vcf", vcf, "dosage=DS", "--psam", vcf.parent / "sexes.psam")
    plink2(*read, "--export", *form, "ref-first", "--out", out, "--output-chr", "MT")
    return [out.with_suffix(".bgen"), out.with_suffix(".sample")]


FORMS = [("bgen-1.2", "bits=8"), ("bgen-1.2", "bits=16"), ("bgen-1.3", "bits=8"), ("bgen-1.3", "bits=16")]


@pytest.mark.parametrize("form", FORMS)
def test_a_bgen_gives_what_plink2_reads_of_it(raw: Path, keyer: PersonKeyer, form: tuple[str, str]) -> None:
    """plink2 rounds a probability before it makes a dosage of two: one may be the next unit."""
    files = fileset(imputed.write(raw, "DS"), *form)
    bgen, sample = files
    plink2("--bgen", bgen, "ref-first", "--sample", sample, "--export", "A", "--out", raw / "read")
    lines = [line.split("\t") for line in (raw / "read.raw").read_text().splitlines()]
    found = {row["rsid"]: row for row in rows(keyer, files, genomics=GENOMICS)}
    assert len(found) == len(PLACES)
    for column, name in enumerate(lines[0][6:], start=6):
        rsid, counted = name.rsplit("_", 1)
        theirs = np.array([np.nan if line[column] == "NA" else float(line[column]) for line in lines[1:]])
        ours = dosages_of(found[rsid])[: len(NAMES)]
        np.testing.assert_allclose(
            ours, 2 - theirs if counted == found[rsid]["ref"] else theirs, atol=1.6 * UNIT, err_msg=name
        )


def test_variants_of_a_bgen_are_counted_as_plink2_counts_them(raw: Path, ingest: Ingest, tmp_path: Path) -> None:
    """By the sexes of the .sample; a frequency may differ by what plink2 rounds, a unit a person."""
    bgen, sample = fileset(imputed.write(raw, "DS"), "bgen-1.2", "bits=8")
    out = tmp_path / "read"
    read = ("--bgen", bgen, "ref-first", "--sample", sample, "--split-par", "hg19")
    plink2(*read, "--freq", "cols=+machr2", "--geno-counts", "--out", out)
    for file in raw.glob("*"):
        if file not in (bgen, sample):
            file.unlink()
    _, tables = ingest(GENOMICS)
    freq, counts = report(out.with_suffix(".afreq")), report(out.with_suffix(".gcount"))
    ours = by_id(tables["variants"])
    assert (tables["samples"]["sex"].value_counts()[["male", "female"]] == [20, 25]).all()
    assert (ours["allele_number"] == freq.loc[ours.index, "OBS_CT"]).all()
    np.testing.assert_allclose(ours["allele_frequency"], freq.loc[ours.index, "ALT_FREQS"], atol=UNIT)
    autosomal = ours.index[ours["contig"] == "1"]
    np.testing.assert_allclose(
        ours.loc[autosomal, "mach_r2"], freq.loc[autosomal, "MACH_R2"].astype(float), rtol=1e-3
    )
    assert (ours["n_het"] - ours["n_het_haploid"] == counts.loc[ours.index, "HET_REF_ALT_CTS"]).all()
    info = ours.loc[autosomal, "impute_info"]
    assert ((info > 0) & (info <= 1)).all() and ours.loc[ours["contig"] == "MT", "impute_info"].isna().all()


def test_names_and_sexes_are_those_of_the_sample_file(raw: Path, keyer: PersonKeyer) -> None:
    bgen, sample = fileset(imputed.write(raw, "DS"), "bgen-1.2", "bits=8")
    (file,) = opened(keyer, [bgen, sample])
    assert file.header.names == NAMES
    assert file.header.sexes == [Sex(int(sex)) for sex in SEXES]
    digest, place = file.header.place(3)
    offset, length = map(int, place.split("+"))
    assert digest == keyer.path_digest(sample.name)
    assert sample.read_bytes()[offset : offset + length].split()[1] == b"A-3"
    (alone,) = opened(keyer, [bgen])
    assert alone.header.names == NAMES and not alone.header.sexes
    digest, place = alone.header.place(3)
    offset, length = map(int, place.split("+"))
    assert digest == keyer.path_digest(bgen.name) and bgen.read_bytes()[offset : offset + length] == b"A-3"


def test_only_the_kept_samples_are_read(raw: Path, keyer: PersonKeyer) -> None:
    files = fileset(imputed.write(raw, "DS"), "bgen-1.2", "bits=8")
    keep = [40, 3, 17]
    everyone, some = (rows(keyer, files, genomics=GENOMICS, keep=chosen) for chosen in (None, keep))
    for one, other in zip(everyone, some, strict=True):
        np.testing.assert_array_equal(dosages_of(one)[keep], dosages_of(other)[: len(keep)])


class Writer:
    """Writes a BGEN as the specification says, one value at a time."""

    def __init__(self, samples: int, bits: int, compression: int, names: Sequence[str] = ()) -> None:
        self.samples, self.bits, self.compression, self.names = samples, bits, compression, names
        self.variants: list[bytes] = []

    def add(self, position: int, alleles: Sequence[str], genotypes: Sequence[Genotype], chrom: str = "01") -> None:
        """Probabilities must be in whole shares of 2^bits - 1."""
        most = (1 << self.bits) - 1
        about, values = bytearray(), []
        phased = genotypes[0][0]
        for _, missing, lists in genotypes:
            copies = len(lists) if phased else 1 if len(lists[0]) == len(alleles) else 2
            about.append(copies | 0x80 * missing)
            values += [0 if missing else round(p * most) for own in lists for p in own[:-1]]
        number = sum(value << self.bits * place for place, value in enumerate(values))
        stored = struct.pack("<IHBB", self.samples, len(alleles), 1, 2) + bytes(about)
        stored += bytes([phased, self.bits]) + number.to_bytes((len(values) * self.bits + 7) // 8, "little")
        if self.compression:
            packed = zlib.compress(stored) if self.compression == 1 else pa.compress(stored, "zstd", asbytes=True)
            stored = struct.pack("<I", len(stored)) + packed
        fields = [
            struct.pack("<H", len(text)) + text.encode() for text in (f"id{position}", f"rs{position}", chrom)
        ]
        fields += [struct.pack("<IH", position, len(alleles))]
        fields += [struct.pack("<I", len(allele)) + allele.encode() for allele in alleles]
        self.variants.append(b"".join([*fields, struct.pack("<I", len(stored)), stored]))

    def write(self, path: Path) -> list[int]:
        """Where each variant begins, and the file's size."""
        block = b"".join(struct.pack("<H", len(name)) + name.encode() for name in self.names)
        own = struct.pack("<II", len(block) + 8, self.samples) + block if self.names else b""
        flags = self.compression | 2 << 2 | (1 << 31 if self.names else 0)
        header = struct.pack("<III4sI", 20, len(self.variants), self.samples, b"bgen", flags)
        head = struct.pack("<I", len(header) + len(own)) + header + own
        path.write_bytes(head + b"".join(self.variants))
        return list(np.cumsum([len(head), *map(len, self.variants)]))


def shares(rng: random.Random, number: int, most: int) -> list[float]:
    """So many probabilities in whole shares."""
    cuts = sorted(rng.randint(0, most) for _ in range(number - 1))
    return [(b - a) / most for a, b in zip([0, *cuts], [*cuts, most], strict=True)]


@pytest.mark.parametrize("compression", [0, 1, 2])
@pytest.mark.parametrize("bits", [1, 2, 7, 8, 11, 16, 32])
def test_what_a_second_writer_wrote_is_found_again(
    raw: Path, keyer: PersonKeyer, bits: int, compression: int
) -> None:
    """Two to four alleles, one copy or two, phased or not: mean and variance of each ALT's count."""
    rng, samples, most = random.Random(bits), 17, (1 << bits) - 1
    writer = Writer(samples, bits, compression, [f"B-{i}" for i in range(samples)])
    expected: dict[str, tuple[list[float], float]] = {}
    for number in range(12):
        alleles, phased = ["A", "C", "G", "T"][: 2 + number % 3], number % 2 == 1
        genotypes: list[Genotype] = []
        moments = {alt: [] for alt in range(1, len(alleles))}  # type: dict[int, list[tuple[float, float]]]
        for _ in range(samples):
            copies, missing = rng.choice([1, 2, 2]), rng.random() < 0.2
            pairs = [tuple(sorted(pair)) for pair in combinations_with_replacement(range(len(alleles)), 2)]
            pairs.sort(key=lambda pair: pair[::-1])
            if phased:
                own = [shares(rng, len(alleles), most) for _ in range(copies)]
            else:
                own = [shares(rng, len(alleles) if copies == 1 else len(pairs), most)]
            genotypes.append((phased, missing, own))
            for alt in moments:
                if missing:
                    moments[alt].append((float("nan"), 0))
                elif phased:
                    p = [copy[alt] * 2 / copies for copy in own]
                    variance = sum(copy[alt] * (1 - copy[alt]) * (2 / copies) ** 2 for copy in own)
                    moments[alt].append((sum(p), variance))
                else:
                    counts = (
                        [2 * (a == alt) for a in range(len(alleles))]
                        if copies == 1
                        else [pair.count(alt) for pair in pairs]
                    )
                    mean = sum(p * n for p, n in zip(own[0], counts, strict=True))
                    square = sum(p * n * n for p, n in zip(own[0], counts, strict=True))
                    moments[alt].append((mean, square - mean**2))
        writer.add(100 + number, alleles, genotypes)
        for alt, found in moments.items():
            key = f"GRCh37:1:{100 + number}:A:{alleles[alt]}"
            expected[key] = [mean for mean, _ in found], sum(variance for _, variance in found)
    writer.write(raw / "a.bgen")
    found_rows = {row["variant_key"]: row for row in rows(keyer, [raw / "a.bgen"], genomics=GENOMICS)}
    assert found_rows.keys() == expected.keys()
    for key, (means, variance) in expected.items():
        row = found_rows[key]
        np.testing.assert_allclose(dosages_of(row)[:samples], means, atol=0.501 * UNIT, err_msg=key)
        assert (row["dosage_variance"] or 0) / COPY**2 == pytest.approx(variance, abs=1e-6)


@pytest.mark.parametrize("alleles", [["A", "C"], ["A", "C", "G"]])
@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("missing", [False, True])
def test_everyone_may_be_alike(
    raw: Path, keyer: PersonKeyer, alleles: list[str], copies: int, missing: bool
) -> None:
    """All with one copy, as on Y, all with two, or all missing; phased and not."""
    own = [0.0] * len(alleles)
    own[1] = 1
    certain = [float(a == b == 1) for b in range(len(alleles)) for a in range(b + 1)]
    writer = Writer(3, 8, 1, ["B-1", "B-2", "B-3"])
    writer.add(5, alleles, [(True, missing, [own] * copies)] * 3)
    writer.add(6, alleles, [(False, missing, [own if copies == 1 else certain])] * 3)
    writer.write(raw / "a.bgen")
    found = rows(keyer, [raw / "a.bgen"], genomics=GENOMICS)
    assert len(found) == 2 * (len(alleles) - 1)
    for row in found:
        carried = np.nan if missing else 2.0 * (row["alt"] == "C")
        np.testing.assert_array_equal(dosages_of(row)[:3], [carried] * 3)


@pytest.fixture
def many(raw: Path) -> tuple[Path, list[int]]:
    """A file of 300 variants in 40 samples, and where its variants begin."""
    rng, writer = random.Random(5), Writer(40, 8, 1, [f"B-{i}" for i in range(40)])
    for number in range(300):
        writer.add(100 + number, ["A", "C"], [(False, False, [shares(rng, 3, 255)]) for _ in range(40)])
    return raw / "a.bgen", writer.write(raw / "a.bgen")


def index(bgen: Path, starts: Sequence[int], size: int | None = None) -> None:
    """What `bgenix -index` writes."""
    with sqlite3.connect(f"{bgen}.bgi") as database:
        database.execute(
            "CREATE TABLE Variant (chromosome TEXT NOT NULL, position INT NOT NULL, rsid TEXT NOT NULL, "
            "number_of_alleles INT NOT NULL, allele1 TEXT NOT NULL, allele2 TEXT NULL, "
            "file_start_position INT NOT NULL, size_in_bytes INT NOT NULL, "
            "PRIMARY KEY (chromosome, position, rsid, allele1, allele2, file_start_position)) WITHOUT ROWID"
        )
        database.execute(
            "CREATE TABLE Metadata (filename TEXT NOT NULL, file_size INT NOT NULL, last_write_time INT NOT NULL, "
            "first_1000_bytes BLOB NOT NULL, index_creation_time INT NOT NULL)"
        )
        about = (bgen.name, bgen.stat().st_size if size is None else size, 0, bgen.read_bytes()[:1000], 0)
        database.execute("INSERT INTO Metadata VALUES (?, ?, ?, ?, ?)", about)
        for number, (start, end) in enumerate(pairwise(starts)):
            row = ("01", number, f"rs{number}", 2, "A", "C", int(start), int(end - start))
            database.execute("INSERT INTO Variant VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    database.close()


@pytest.mark.parametrize("step", [2000, 5000, 1 << 40])
def test_a_bgen_is_cut_where_its_index_says(many: tuple[Path, list[int]], keyer: PersonKeyer, step: int) -> None:
    bgen, starts = many
    (whole,) = opened(keyer, [bgen], step)
    assert len(whole.parts) == 1
    expected = rows(keyer, [bgen], genomics=GENOMICS)
    index(bgen, starts)
    (cut,) = opened(keyer, [bgen], step)
    assert (len(cut.parts) > 2) == (step < 1 << 20)
    assert rows(keyer, [bgen], step, GENOMICS) == expected and len(expected) == 300


@pytest.mark.parametrize("spoil", ["size", "places", "far", "no index", "other"])
def test_an_index_of_another_file_is_refused(many: tuple[Path, list[int]], keyer: PersonKeyer, spoil: str) -> None:
    bgen, starts = many
    if spoil == "no index":
        Path(f"{bgen}.bgi").write_bytes(b"no index" * 1000)
    elif spoil == "other":
        sqlite3.connect(f"{bgen}.bgi").execute("CREATE TABLE other (x INT)").connection.close()
    else:
        moved = {"places": [start + 1 for start in starts], "far": [*starts[:-2], 1 << 50, 1 << 51]}
        index(bgen, moved.get(spoil, starts), 7 if spoil == "size" else None)
    with pytest.raises(DataGateError, match=f"file {keyer.path_digest('a.bgen')}: its index"):
        rows(keyer, [bgen], 2000, GENOMICS)


@pytest.mark.parametrize("cut", [1, 30, 5000, 20_000])
def test_a_bgen_cut_short_is_refused(many: tuple[Path, list[int]], keyer: PersonKeyer, cut: int) -> None:
    bgen, starts = many
    bgen.write_bytes(bgen.read_bytes()[: max(starts[-1] - cut, 100)])
    with pytest.raises(DataGateError, match=f"file {keyer.path_digest('a.bgen')}: "):
        rows(keyer, [bgen], genomics=GENOMICS)


def test_whatever_is_spoilt_ends_in_a_gate_or_a_rule(raw: Path, keyer: PersonKeyer) -> None:
    files = fileset(imputed.write(raw, "DS"), "bgen-1.2", "bits=8")
    rng, outcomes = np.random.default_rng(3), set()
    for victim in files:
        whole = victim.read_bytes()
        for _ in range(200):
            data = bytearray(whole)
            for place in rng.integers(0, min(len(data), 4000), 3):
                data[place] = rng.choice([0, 1, 0x15, 0xF1, 0xF7, 0xFF, 0x80])
            victim.write_bytes(data)
            try:
                outcomes |= {row["rule"] for row in rows(keyer, files, genomics=GENOMICS)}
            except DataGateError:
                outcomes.add("gate")
        victim.write_bytes(whole)
    assert outcomes >= {None, "gate", "columns"}


SAMPLE = "ID_1 ID_2 missing sex\n0 0 0 D\n" + "".join(f"B-{i} B-{i} 0 1\n" for i in range(40))


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (SAMPLE.replace("B-7 B-7 0 1\n", ""), "39 samples, expected the 40 of its .bgen"),
        (SAMPLE.replace("B-7 B-7", "B-7 B-8"), "1 sample names come twice"),
        (SAMPLE.replace("B-7 B-7 0 1\n", "B-7 B-7 0\n"), "line 10: 3 columns, expected the 4 of line 1"),
        (SAMPLE.replace("ID_2", "IID"), "line 1: expected the columns ID_1 ID_2"),
        (SAMPLE.replace("0 0 0 D\n", ""), "line 1: expected the columns ID_1 ID_2, or ID, and a 0 below each"),
        (SAMPLE.replace("B-7 B-7 0 1", "B-7 B-7 0 M"), "line 10: its sex is none of 1, 2, 0, NA"),
        (
            SAMPLE.replace("B-7 B-7 0 1\n", "") + "B-7 B-7 0 1\n",
            "40 of its 40 samples are also named in the .bgen",
        ),
        (SAMPLE.replace("B-7 B-7", "C-7 C-7"), "39 of its 40 samples are also named in the .bgen"),
    ],
)
def test_a_sample_file_of_another_bgen_is_refused(
    many: tuple[Path, list[int]], keyer: PersonKeyer, sample: str, message: str
) -> None:
    path = many[0].with_suffix(".sample")
    path.write_text(sample)
    with pytest.raises(DataGateError, match=f"file {keyer.path_digest('a.sample')}.*{message}"):
        opened(keyer, [many[0], path])


def test_a_bgen_that_is_not_layout_2_or_has_no_names_says_what_to_do(raw: Path, keyer: PersonKeyer) -> None:
    bgen, sample = fileset(imputed.write(raw, "DS"), "bgen-1.1")
    with pytest.raises(DataGateError, match=r"layout 1 of BGEN.*plink2 --export bgen-1\.2"):
        opened(keyer, [bgen, sample])
    writer = Writer(2, 8, 1)
    writer.add(5, ["A", "C"], [(False, False, [[1, 0, 0]])] * 2)
    writer.write(raw / "b.bgen")
    with pytest.raises(DataGateError, match=r"no sample names of its own; give its \.sample"):
        opened(keyer, [raw / "b.bgen"])


def test_other_names_of_the_same_people_replace_the_files_own(
    many: tuple[Path, list[int]], keyer: PersonKeyer, caplog: pytest.LogCaptureFixture
) -> None:
    path = many[0].with_suffix(".sample")
    for sample in (SAMPLE.replace("B-", "UKB"), SAMPLE.replace("B-", "UKB") + "\n"):
        path.write_text(sample)
        assert opened(keyer, [many[0], path])[0].header.names == [f"UKB{i}" for i in range(40)]
    assert "no name is in both" in caplog.text
    path.write_text("ID sex\n0 D\n" + "".join(f"B-{i} {i % 2 or 'NA'}\n" for i in range(40)))
    header = opened(keyer, [many[0], path])[0].header
    assert header.names == [f"B-{i}" for i in range(40)] and header.sexes[:2] == [Sex.UNKNOWN, Sex.MALE]


def test_a_sample_file_that_no_bgen_is_named_like_says_so(
    many: tuple[Path, list[int]], keyer: PersonKeyer
) -> None:
    path = many[0].with_name("ukb_s40.sample")
    path.write_text(SAMPLE)
    with pytest.raises(DataGateError, match=r"no \.bgen in genomics\.paths has the name of this \.sample"):
        opened(keyer, [many[0], path])


@pytest.mark.parametrize("indexed", [False, True])
def test_a_bgen_of_fewer_or_more_variants_than_it_says_is_refused(
    many: tuple[Path, list[int]], keyer: PersonKeyer, indexed: bool
) -> None:
    bgen, starts = many
    whole = bgen.read_bytes()
    for data, left, told in (
        (whole[: starts[100]], starts[:101], "300 variants, found 100"),
        (whole[: starts[0]], starts[:1], "300 variants, found 0"),
        (whole[:8] + struct.pack("<I", 299) + whole[12:], starts, "299 variants, found 300"),
    ):
        bgen.write_bytes(data)
        Path(f"{bgen}.bgi").unlink(missing_ok=True)
        if indexed:
            index(bgen, left)
        with pytest.raises(DataGateError, match=f"its header says {told}; copy it again"):
            rows(keyer, [bgen], 2000, GENOMICS)


def test_whatever_its_header_says_it_is_a_gate(many: tuple[Path, list[int]], keyer: PersonKeyer) -> None:
    bgen, _ = many
    whole = bgen.read_bytes()
    gates = 0
    for place in range(16):
        for value in (0, 1, 5, 21, 0x80, 0xFF):
            bgen.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            try:
                rows(keyer, [bgen], genomics=GENOMICS)
            except DataGateError:
                gates += 1
    assert gates > 60


def test_a_bgen_that_was_compressed_as_a_whole_says_so(many: tuple[Path, list[int]], keyer: PersonKeyer) -> None:
    bgen, _ = many
    bgen.write_bytes(gzip.compress(bgen.read_bytes()))
    with pytest.raises(DataGateError, match=r"a \.bgen that was compressed as a whole; expand it"):
        opened(keyer, [bgen])


@pytest.mark.parametrize("first", [b"\x1f\x8b", b"\x6c\x1b\x01"])
def test_a_bgen_is_one_whatever_it_is_called_and_begins_with(raw: Path, keyer: PersonKeyer, first: bytes) -> None:
    """Its first bytes are a number: here those of gzip, and of a .bed."""
    writer = Writer(2, 8, 1, ["B-1", "B-2"])
    writer.add(5, ["A", "C"], [(False, False, [[0, 0, 1]]), (False, False, [[1, 0, 0]])])
    path = raw / "genomes"
    start = int(writer.write(path)[0])
    wanted = int.from_bytes(first.ljust(4, b"\0") if len(first) > 2 else first + b"\x01\0", "little")
    data, free = path.read_bytes(), wanted + 4 - start
    # What lies between the names and the variants is anyone's.
    path.write_bytes(struct.pack("<I", wanted) + data[4:start] + bytes(free) + data[start:])
    assert path.read_bytes().startswith(first)
    (row,) = rows(keyer, [path], genomics=GENOMICS)
    assert row["variant_key"] == "GRCh37:1:5:A:C"


def test_what_inflates_to_more_than_it_says_is_refused(raw: Path, keyer: PersonKeyer) -> None:
    """A size of 0 would be no limit; data cut inside its checksum are not whole."""
    writer = Writer(2, 8, 1, ["B-1", "B-2"])
    sure: Genotype = (False, False, [[1, 0, 0]])
    for position in (1, 2, 3):
        writer.add(position, ["A", "C"], [sure, sure])
    bomb, more, cut = writer.variants
    packed = zlib.compress(bytes(1 << 24))
    at = len(bomb) - int.from_bytes(bomb[bomb.index(b"C", 20) + 1 :][:4], "little") - 4
    bomb = bomb[:at] + struct.pack("<II", 4 + len(packed), 0) + packed
    more = more[: at + 4] + struct.pack("<I", 17) + more[at + 8 :]
    cut = cut[:at] + struct.pack("<I", len(cut) - at - 6) + cut[at + 4 : -2]
    writer.variants = [bomb, more, cut]
    writer.write(raw / "a.bgen")
    assert [row["rule"] for row in rows(keyer, [raw / "a.bgen"], genomics=GENOMICS)] == ["columns"] * 3


def test_a_bgen_without_samples_lists_sites(raw: Path, keyer: PersonKeyer) -> None:
    writer = Writer(0, 8, 1)
    writer.variants = [bytes.fromhex("0000 0000 0100 31 05000000 0200 01000000 61 01000000 63 00000000")]
    writer.write(raw / "a.bgen")
    (file,) = opened(keyer, [raw / "a.bgen"])
    layout = Layout(build="GRCh37", samples=0, keep=None)
    ((_, (variant,)),) = [record for part in file.parts for record in part.records(layout)]
    assert isinstance(variant, Variant)
    assert (variant.key, variant.rsid, len(variant.calls.codes)) == ("GRCh37:1:5:A:C", None, 0)
    assert rows(keyer, [raw / "a.bgen"], genomics=GENOMICS) == []


def test_a_part_reads_no_more_than_its_own(many: tuple[Path, list[int]], keyer: PersonKeyer) -> None:
    bgen, starts = many
    index(bgen, starts)
    (cut,) = opened(keyer, [bgen], 2000)
    bgen.write_bytes(bytes(starts[150]) + bgen.read_bytes()[starts[150] :])  # what lies before is gone
    last = cut.parts[-1]
    layout = Layout("GRCh37", 40, None)
    found = [location for location, _ in last.records(layout)]
    assert found and int(found[-1].partition("+")[0]) == starts[-2]


def test_variants_that_cannot_be_are_refused_by_their_rule(raw: Path, keyer: PersonKeyer) -> None:
    """More than two copies, probabilities above 1, an allele that is none, no position, data of
    another length, a phase that is neither."""
    sure: Genotype = (False, False, [[1, 0, 0]])
    writer = Writer(2, 8, 0, ["B-1", "B-2"])
    for position, alleles in ((1, "AC"), (2, "AC"), (3, "AC"), (4, "AC"), (5, "AX"), (0, "AC")):
        writer.add(position, list(alleles), [sure, sure])
    for number, (place, value) in enumerate([(-8, 3), (-3, 200), (-5, 16), (-6, 2)]):
        changed = bytearray(writer.variants[number])
        changed[place] = value
        writer.variants[number] = bytes(changed)
    writer.write(raw / "a.bgen")
    found = [row["rule"] for row in rows(keyer, [raw / "a.bgen"], genomics=GENOMICS)]
    assert sorted(found) == ["allele", "columns", "columns", "dosage", "genotype", "position"]


def test_the_reference_says_which_allele_is_ref(raw: Path, keyer: PersonKeyer) -> None:
    (raw / "r.fa").write_text(">1\nAAAAAAAAAA\n")
    (raw / "r.fa.fai").write_text("1\t10\t3\t10\t11\n")
    writer = Writer(2, 8, 1, ["B-1", "B-2"])
    for position, alleles in ((1, ["A", "C"]), (2, ["C", "A"]), (3, ["C", "G"])):
        writer.add(position, alleles, [(False, False, [[51 / 255, 204 / 255, 0]]), (False, False, [[0, 0, 1]])])
    writer.write(raw / "a.bgen")
    settings = GENOMICS.model_copy(update={"reference": str(raw / "r.fa")})
    found = {row["variant_key"]: row for row in rows(keyer, [raw / "a.bgen"], genomics=settings)}
    assert found.keys() == {"GRCh37:1:1:A:C", "GRCh37:1:2:A:C", None}
    np.testing.assert_allclose(dosages_of(found["GRCh37:1:1:A:C"])[:2], [0.8, 2], atol=UNIT)
    np.testing.assert_allclose(dosages_of(found["GRCh37:1:2:A:C"])[:2], [1.2, 0], atol=UNIT)
    assert found[None]["rule"] == "reference"
