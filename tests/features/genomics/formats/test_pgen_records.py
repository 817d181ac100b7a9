"""Every form that a record of a .pgen may have: what a plain second writer wrote is found again, and plink2 reads
the same of it; what a record cannot be is refused."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.contract.errors import DataGateError
from features.contract.persons import PersonKeyer
from features.contract.settings import GenomicsSettings
from features.genomics.dosages import COPY
from features.genomics.formats.pgen_records import Track, WrongRecordError, read_codes, read_list
from tests.features.genomics import pgens
from tests.features.genomics.formats.test_bgen import dosages_of
from tests.features.genomics.formats.test_formats import opened, rows
from tests.features.genomics.test_dosages import plink2

GENOMICS = GenomicsSettings(paths=["*"], build="GRCh38")
SIZES = [1, 3, 4, 64, 65, 255, 256, 257, 700, 65_536, 70_000]


def codes_of(row: dict[str, object], samples: int) -> list[int]:
    calls = np.frombuffer(row["calls"], np.uint8)  # type: ignore[arg-type]
    return np.stack([calls >> shift & 3 for shift in (0, 2, 4, 6)], axis=1).reshape(-1)[:samples].tolist()


def by_id(found: Sequence[dict[str, object]]) -> dict[object, dict[str, object]]:
    return {(row["rsid"], row["alt"]): row for row in found}


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(SIZES))
def test_a_list_is_found_again(data: st.DataObject, samples: int) -> None:
    rng = random.Random(data.draw(st.integers(0, 1 << 30)))
    length = rng.randrange(min(samples, 400) + 1)
    clustered = range(min(samples, length + 3)) if rng.random() < 0.3 else range(samples)
    ids = sorted(rng.sample(clustered, length))
    codes = [rng.randrange(4) for _ in ids]
    for coded in (None, codes):
        track = Track(pgens.difflist(samples, ids, coded), samples)
        found, others = read_list(track, coded=coded is not None)
        track.end()
        assert (found.tolist(), others.tolist()) == (ids, coded or [])


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(range(8)), st.sampled_from(SIZES[:-2]))
def test_calls_are_found_again_in_every_form(data: st.DataObject, form: int, samples: int) -> None:
    rng = random.Random(data.draw(st.integers(0, 1 << 30)))
    base = rng.choices(range(4), rng.sample([100, 20, 5, 1], 4), k=samples)
    codes = [code if rng.random() > 0.1 else rng.randrange(4) for code in base]
    if form == 5:
        codes = [0] * samples
    track = Track(pgens.main_track(form, codes, base), samples)
    kept = np.array(base, np.uint8)
    assert read_codes(track, form, kept).tolist() == codes
    track.end()
    assert kept.tolist() == base


def test_a_list_of_the_specification_is_read() -> None:
    """Its own example: 79 samples of 488,377, every 5,000th."""
    stored = bytes.fromhex("4f 881300 88f504 3f") + bytes(20) + bytes.fromhex("8827") * 77
    found, _ = read_list(Track(stored, 488_377), coded=True)
    assert found.tolist() == [5000 * (i + 1) for i in range(79)]


def biallelic(samples: int, seed: int) -> tuple[list[pgens.Record], list[list[int]], list[list[float]]]:
    """Records of every form of calls, phase and dosages, their codes, and their dosages in ALTs."""
    rng = random.Random(seed)
    records, called, dosed, base = list[pgens.Record](), [], [], [0] * samples
    for number in range(200):
        form = (
            0 if number == 0 else rng.randrange(8) if records[-1][0] & 7 != 5 else rng.choice([0, 1, 4, 5, 6, 7])
        )
        weights = rng.sample([60, 10, 2, 1], 4)
        codes = rng.choices(range(4), weights, k=samples)
        near = [code if rng.random() > 0.05 else rng.randrange(4) for code in base]
        codes = {2: near, 3: [pgens.TURNED[code] for code in near], 5: [0] * samples}.get(form, codes)
        if form in (4, 6, 7):
            codes = [form & 3 if rng.random() < 0.95 else code for code in codes]
        kind, data = form, pgens.main_track(form, codes, base)
        if 1 in codes and rng.random() < 0.5:
            kind, data = kind | 0x10, data + pgens.phase(codes.count(1), rng, rng.random() < 0.5)
        dosages: list[int | None] = [None] * samples
        if dosage := rng.choice([0, 0x20, 0x40, 0x60, 0xA0, 0xC0, 0xE0]):
            kind |= dosage
            for place, code in enumerate(codes):
                if rng.random() < (0.05 if dosage & 0x60 == 0x20 else 0.6):
                    stored = rng.randrange(32769) if code == 3 else code * COPY + rng.randrange(-8000, 8000)
                    dosages[place] = min(max(stored, 0), 32768)
            phases = [None if d is None or rng.random() < 0.5 else min(d, 32768 - d) for d in dosages]
            data += pgens.dosage_tracks(kind, dosages, phases)
        if form not in (2, 3):
            base = codes
        records.append((kind, data))
        called.append(codes)
        own = [np.nan if code == 3 else code for code in codes]
        dosed.append([c if d is None else d / COPY for d, c in zip(dosages, own, strict=True)])
    return records, called, dosed


@pytest.mark.parametrize("samples", [5, 64, 256, 300])
def test_records_of_every_kind_are_read_as_written_and_as_plink2_reads_them(
    raw: Path, tmp_path: Path, keyer: PersonKeyer, samples: int
) -> None:
    records, called, dosed = biallelic(samples, samples)
    kinds = {kind for kind, _ in records}
    assert {kind & 7 for kind in kinds} == set(range(8))
    assert {kind & 0xE0 for kind in kinds} == {0, 0x20, 0x40, 0x60, 0xA0, 0xC0, 0xE0}
    assert {kind & 0x10 for kind in kinds} == {0, 0x10}
    files = pgens.write(raw, pgens.pgen(records, samples), ["C"] * len(records), samples)
    found = by_id(rows(keyer, files, genomics=GENOMICS))
    for number, (codes, dosages) in enumerate(zip(called, dosed, strict=True)):
        row = found[f"v{number}", "C"]
        assert codes_of(row, samples) == codes, number
        np.testing.assert_array_equal(dosages_of(row)[:samples], dosages, err_msg=str(number))
    some = by_id(rows(keyer, files, genomics=GENOMICS, keep=[samples - 1, 2]))
    for number, (codes, dosages) in enumerate(zip(called, dosed, strict=True)):
        row = some[f"v{number}", "C"]
        assert codes_of(row, 2) == [codes[-1], codes[2]]
        np.testing.assert_array_equal(dosages_of(row)[:2], [dosages[-1], dosages[2]])
    if samples >= 256:  # what plink2 takes is no longer than an eighth of the samples
        assert_as_plink2(files, tmp_path, called, dosed)


def assert_as_plink2(
    files: Sequence[Path], folder: Path, called: Sequence[Sequence[int]], dosed: Sequence[Sequence[float]]
) -> None:
    """The calls and dosages that plink2 prints of a fileset: a dosage to six digits, which tell its unit."""
    for name, make in (("dosed", ()), ("called", ("erase-dosage",))):
        plink2("--pfile", files[0].with_suffix(""), "--make-pgen", *make, "--out", folder / name)
        plink2("--pfile", folder / name, "--export", "A", "--out", folder / name)
        lines = [line.split("\t")[6:] for line in (folder / f"{name}.raw").read_text().splitlines()]
        refs = np.array([np.nan if cell == "NA" else float(cell) for line in lines[1:] for cell in line])
        alts = (
            2 - refs.reshape(len(lines) - 1, -1).T
            if lines[0][0].endswith("_A")
            else refs.reshape(len(lines) - 1, -1).T
        )
        if name == "dosed":
            np.testing.assert_array_equal(np.round(alts * COPY), np.array(dosed) * COPY)
        else:
            np.testing.assert_array_equal(np.where(np.isnan(alts), 3, alts), called)


ALTS = [2, 2, 3, 3, 4, 5, 6, 16, 17, 18, 40]


def multiallelic(
    samples: int, seed: int, numbers: Sequence[int]
) -> tuple[list[pgens.Record], list[list[list[int]]]]:
    """Records of variants of so many ALTs, in every form of their calls, and the codes of each ALT."""
    rng, base = random.Random(seed), [0] * samples
    records, called = list[pgens.Record](), []
    forms = [(a, b) for a in (0, 1, 15) for b in (0, 1, 15) if (a, b) != (15, 15)]
    for number, alts in enumerate(numbers):
        first, second = forms[number % len(forms)]
        form = number % 3
        codes = rng.choices(range(4), [65, 25, 4, 1], k=samples)
        if form == 2:
            codes = [code if rng.random() > 0.05 else rng.randrange(4) for code in base]
        genotypes = [_genotype(rng, code, alts, first if code == 1 else second) for code in codes]
        kind, data = form | 8, pgens.main_track(form, codes, base)
        data += pgens.rarer_alts(genotypes, alts, (first, second))
        if number % 4 > 1:
            heterozygous = sum(g is not None and g[0] != g[1] for g in genotypes)
            kind, data = kind | 0x10, data + pgens.phase(heterozygous, rng, number % 4 == 2)
        if form != 2:
            base = codes
        records.append((kind, data))
        called.append([[3 if g is None else g.count(alt) for g in genotypes] for alt in range(1, alts + 1)])
    return records, called


def _genotype(rng: random.Random, code: int, alts: int, form: int) -> tuple[int, int] | None:
    """Of one ALT or two, of which a few are not the first unless the form says that all are."""
    rare = form != 15 and rng.random() < 0.2
    if code == 3:
        return None
    if code == 2 and rare:
        low, high = sorted(rng.choices(range(1, alts + 1), k=2))
        return (low, high) if high > 1 else (1, 2)
    return (0, rng.randrange(2, alts + 1)) if code == 1 and rare else [(0, 0), (0, 1), (1, 1)][code]


def alt_names(alts: int) -> str:
    return ",".join("A" + "C" * (i + 1) for i in range(alts))


@pytest.mark.parametrize("told", [False, True])
def test_calls_of_several_alts_are_read_as_written_and_as_plink2_reads_them(
    raw: Path, keyer: PersonKeyer, told: bool
) -> None:
    numbers = ALTS * 9
    records, called = multiallelic(260, 7, numbers)
    assert {kind & 7 for kind, _ in records} == {0, 1, 2}
    alleles = [alts + 1 for alts in numbers] if told else None
    files = pgens.write(raw, pgens.pgen(records, 260, alleles=alleles), list(map(alt_names, numbers)), 260)
    found = by_id(rows(keyer, files, genomics=GENOMICS))
    assert len(found) == sum(numbers)
    for number, counts in enumerate(called):
        for alt, codes in zip(alt_names(numbers[number]).split(","), counts, strict=True):
            assert codes_of(found[f"v{number}", alt], 260) == codes
    plink2("--pfile", raw / "a", "--export", "vcf", "--out", raw / "back")
    exported = rows(keyer, [raw / "back.vcf"], genomics=GENOMICS)
    assert rows(keyer, files, genomics=GENOMICS) == exported


def test_calls_of_more_alts_than_plink2_reads_are_found_again(raw: Path, keyer: PersonKeyer) -> None:
    """From 257 on an ALT has two bytes."""
    numbers = [256, 257, 258, 300]
    records, called = multiallelic(60, 9, numbers)
    files = pgens.write(raw, pgens.pgen(records, 60), list(map(alt_names, numbers)), 60)
    found = by_id(rows(keyer, files, genomics=GENOMICS))
    for number, counts in enumerate(called):
        for alt, codes in zip(alt_names(numbers[number]).split(","), counts, strict=True):
            assert codes_of(found[f"v{number}", alt], 60) == codes


def test_dosages_of_several_alts_are_refused(raw: Path, keyer: PersonKeyer) -> None:
    """The specification does not say yet how they are told."""
    records, _ = multiallelic(20, 3, [2, 2])
    kind, data = records[1]
    records[1] = kind | 0x60, data + pgens.dosage_tracks(0x60, [3] * 20)
    files = pgens.write(raw, pgens.pgen(records, 20), ["C,G", "C,G"], 20)
    assert sorted(str(row["rule"]) for row in rows(keyer, files, genomics=GENOMICS)) == ["None", "None", "dosage"]


def test_more_alts_than_can_be_told_apart_are_refused(raw: Path, keyer: PersonKeyer) -> None:
    files = pgens.write(raw, pgens.pgen([(0, bytes(1))] * 2, 4), ["C", ",".join(["C"] * 40_000)], 4)
    assert [row["rule"] for row in rows(keyer, files, genomics=GENOMICS)] == ["allele", None]


def fixed(
    storage: int, seed: int, samples: int = 41, number: int = 30
) -> tuple[bytes, list[list[int]], list[list[float]]]:
    """A file of records of one size, its codes and its dosages in ALTs."""
    rng = random.Random(seed)
    records, called, dosed = [], [], []
    for _ in range(number):
        codes = rng.choices(range(4), [5, 3, 1, 1], k=samples)
        dosages = [
            None if rng.random() < 0.3 else min(code % 3 * COPY + rng.randrange(3000), 32768) for code in codes
        ]
        data, kind = pgens.packed(codes, 2), {2: 0, 3: 0x40, 4: 0xC0}[storage]
        if kind:
            data += pgens.dosage_tracks(kind, dosages, [None] * samples)
        own = [np.nan if code == 3 else code for code in codes]
        records.append((kind, data))
        called.append(codes)
        dosed.append([c if d is None or not kind else d / COPY for d, c in zip(dosages, own, strict=True)])
    return pgens.pgen(records, samples, storage, provisional=[i % 3 == 0 for i in range(number)]), called, dosed


@pytest.mark.parametrize("storage", [2, 3, 4])
def test_records_of_one_size_are_read_as_written_and_as_plink2_reads_them(
    raw: Path, tmp_path: Path, keyer: PersonKeyer, storage: int
) -> None:
    data, called, dosed = fixed(storage, storage)
    files = pgens.write(raw, data, ["C"] * 30, 41)
    found = by_id(rows(keyer, files, genomics=GENOMICS))
    for number, (codes, dosages) in enumerate(zip(called, dosed, strict=True)):
        assert codes_of(found[f"v{number}", "C"], 41) == codes
        np.testing.assert_array_equal(dosages_of(found[f"v{number}", "C"])[:41], dosages)
    assert_as_plink2(files, tmp_path, called, dosed)


@pytest.mark.parametrize("width", [2, 3, 4])
@pytest.mark.parametrize("wide", [False, True])
def test_the_tables_may_have_any_width_and_be_extended(
    raw: Path, keyer: PersonKeyer, width: int, wide: bool
) -> None:
    """A later version puts something before the records and behind them, which is read past."""
    records, called, _ = biallelic(41, 5)
    if not wide:
        plain = [(kind & 7, pgens.main_track(0, codes)) for (kind, _), codes in zip(records, called, strict=True)]
        records = [(0, data) for _, data in plain]
    for storage, extension, footer in (
        (0x10, b"", b""),
        (0x10, b"gap", b""),
        (0x11, b"\1\0\4extd", b"footer" * 9),
    ):
        data = pgens.pgen(records, 41, storage, None, [i % 3 > 0 for i in range(200)], width, extension) + footer
        files = pgens.write(raw, data, ["C"] * 200, 41)
        found = by_id(rows(keyer, files, genomics=GENOMICS))
        assert all(codes_of(found[f"v{n}", "C"], 41) == codes for n, codes in enumerate(called))


def wrong(samples: int = 40) -> list[tuple[str, list[pgens.Record], list[str]]]:
    """What is told of it, records, and the ALTs of each in the .pvar."""
    zeros, plain = [0] * samples, (0, bytes(10))
    ids = list(range(0, samples, 4))
    listed = bytearray(pgens.difflist(samples, ids, [1] * len(ids)))
    beyond, back = listed[:], listed[:]
    beyond[-1], back[-3] = 9, 0
    several = pgens.packed([1, 2, *zeros[2:]], 2)
    return [
        ("beyond the 40 there are", [(4, bytes(beyond))], ["C"]),
        ("a list of samples that does not grow", [(4, bytes(back))], ["C"]),
        ("a list of 41 of 40 samples", [(4, b"\x29" + bytes(90))], ["C"]),
        ("more than 5 bytes", [(4, b"\xff" * 60)], ["C"]),
        ("its record ends after 4 bytes", [(4, bytes(listed[:4]))], ["C"]),
        ("its record has 11 bytes, expected 10", [(0, bytes(11))], ["C"]),
        ("its record ends after 9 bytes", [(0, bytes(9))], ["C"]),
        ("its record ends after 0 bytes", [(0, b"")], ["C"]),
        ("a pair of codes 0x04, which is reserved", [(1, b"\4" + bytes(6))], ["C"]),
        ("a record of kind 0x80, which is reserved", [(0x80, bytes(10))], ["C"]),
        ("block 1 begins with a record that another is missing for", [(2, b"\0")], ["C"]),
        ("a difference to a record of kind 5", [(5, b""), (2, b"\0")], ["C", "C"]),
        ("a dosage of more than two copies", [(0x40, bytes(10) + b"\1\x80" * 40)], ["C"]),
        ("a dosage of more than two copies", [(0x60, bytes(10) + b"\1" + bytes(4) + b"\xff\xff")], ["C"]),
        ("calls of a second ALT, and 1 in the .pvar", [plain, (8, several + b"\xff")], ["C", "C"]),
        ("in a form 7, which is reserved", [(8, several + b"\xf7")], ["C,G"]),
        ("a call of a second ALT where none is", [(8, several + b"\xf1" + pgens.difflist(40, [1]))], ["C,G"]),
        ("a call of another ALT than the 4", [(8, several + b"\xf0\1\3")], ["C,G,T,AC"]),
        ("a call of another ALT than the 3", [(8, several + b"\x0f\1\x0f")], ["C,G,T"]),
    ]


@pytest.mark.parametrize("place", range(len(wrong())))
def test_what_a_record_cannot_be_is_told(raw: Path, keyer: PersonKeyer, place: int) -> None:
    told, records, alts = wrong()[place]
    with pytest.raises(DataGateError, match=f"file {keyer.path_digest('a.pgen')}: .*{told}"):
        rows(keyer, pgens.write(raw, pgens.pgen(records, 40), alts, 40), genomics=GENOMICS)


def test_groups_of_a_list_must_have_the_sizes_that_it_says() -> None:
    stored = bytearray(pgens.difflist(300, list(range(0, 300, 3))))
    stored[1 + 2 * 2] += 1
    with pytest.raises(WrongRecordError, match="groups are of other sizes"):
        read_list(Track(bytes(stored), 300), coded=False)


def test_the_header_and_the_pvar_must_tell_the_same_alleles(raw: Path, keyer: PersonKeyer) -> None:
    files = pgens.write(raw, pgens.pgen([(0, bytes(10))] * 3, 40, alleles=[2, 3, 2]), ["C", "C,G", "."], 40)
    assert [row["rule"] for row in rows(keyer, files, genomics=GENOMICS)].count(None) == 3
    files = pgens.write(raw, pgens.pgen([(0, bytes(10))] * 2, 40, alleles=[2, 3]), ["C", "C"], 40)
    with pytest.raises(DataGateError, match=r"variant 2: 3 alleles, and 2 in the \.pvar"):
        rows(keyer, files, genomics=GENOMICS)


def sound() -> bytes:
    return pgens.pgen([(0, bytes(10))] * 3, 40)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\x6c\x1b", "it ends inside its header"),
        (b"\x6c\x1b\x30", "storage mode 0x30 of PGEN; expected 0x01, 0x02, 0x03, 0x04, 0x10, 0x11"),
        (b"\x6c\x1b\x05" + sound()[3:], "storage mode 0x05 of PGEN"),
        (b"\x6c\x1b\x20", r"its tables are in a \.pgen\.pgi"),
        (b"\x6c\x1b\x21", r"its tables are in a \.pgen\.pgi"),
        (sound()[:11], "it ends inside its header"),
        (sound()[:30], "it ends inside its header"),
        (sound()[:-1], "the records of its block 1 of 1 end at byte 64, expected 63, where the file ends"),
        (sound() + b"x", "end at byte 64, expected 65"),
        (sound()[:11] + b"\x4b" + sound()[12:], "byte 12 is 0x4b, which is reserved"),
        (sound()[:12] + b"\x05" + sound()[13:], "its records begin inside its header"),
        (sound()[:12] + b"\xff" * 8 + sound()[20:], "its block 1 of 1 begins beyond its end"),
        (pgens.pgen([(0, bytes(10))] * 4, 40), r"its header says 4 variants, and its \.pvar has 3"),
        (pgens.pgen([(0, bytes(11))] * 3, 41), r"its header says 41 samples, and its \.psam has 40"),
        (fixed(2, 1, 40, 3)[0][:-1], "42 bytes, expected 43 for the 3 variants"),
        (fixed(3, 1, 40, 3)[0] + b"x", "284 bytes, expected 283"),
        (
            pgens.pgen([(0, bytes(10))] * 3, 40, 2)[:11] + b"\x41" + bytes(30),
            "byte 12 is 0x41, which records of one",
        ),
    ],
)
def test_a_file_that_is_not_whole_or_not_known_says_so(
    raw: Path, keyer: PersonKeyer, data: bytes, told: str
) -> None:
    files = pgens.write(raw, sound(), ["C"] * 3, 40)
    assert len(rows(keyer, files, genomics=GENOMICS)) == 3
    files[0].write_bytes(data)
    with pytest.raises(DataGateError, match=f"file {keyer.path_digest('a.pgen')}: .*{told}"):
        opened(keyer, files)


@pytest.mark.parametrize("extended", [False, True])
def test_wherever_a_file_is_cut_it_is_refused_or_gives_the_same(
    raw: Path, keyer: PersonKeyer, extended: bool
) -> None:
    """Only what a later version puts behind the records may be missing."""
    records, _, _ = biallelic(41, 8)
    footer = b"footer" if extended else b""
    whole = pgens.pgen(records[:40], 41, 0x11 if extended else 0x10) + footer
    files = pgens.write(raw, whole, ["C"] * 40, 41)
    expected = rows(keyer, files, genomics=GENOMICS)
    for cut in {*range(40), *range(40, len(whole), 17), *range(len(whole) - 15, len(whole))}:
        files[0].write_bytes(whole[:cut])
        if cut >= len(whole) - len(footer):
            assert rows(keyer, files, genomics=GENOMICS) == expected
        else:
            with pytest.raises(DataGateError):
                rows(keyer, files, genomics=GENOMICS)


def test_whatever_is_spoilt_ends_in_a_gate_or_is_read(raw: Path, keyer: PersonKeyer) -> None:
    numbers = [2, 3, 5, 17, 18, 40]
    several, _ = multiallelic(41, 3, numbers)
    one, _, _ = biallelic(41, 8)
    alts = ["C"] * 40 + list(map(alt_names, numbers))
    files = pgens.write(
        raw, pgens.pgen([*one[:40], *several], 41, alleles=[a.count(",") + 2 for a in alts]), alts, 41
    )
    rng, outcomes = np.random.default_rng(3), set()
    for victim in files:
        whole = victim.read_bytes()
        for _ in range(150):
            data = bytearray(whole)
            for place in rng.integers(0, len(data), 3):
                data[place] = rng.choice([0, 1, 0x15, 0xF1, 0xF7, 0xFF, 0x80])
            victim.write_bytes(data)
            try:
                outcomes |= {row["rule"] for row in rows(keyer, files, genomics=GENOMICS)}
            except DataGateError:
                outcomes.add("gate")
        victim.write_bytes(whole)
    assert outcomes >= {None, "gate", "position"}
