"""Scoring files as the PGS Catalog writes them, and what is none."""

import gzip
import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features import raw_text
from features.contract.errors import DataGateError
from features.contract.paths import FileStat, Location
from features.contract.persons import PersonKeyer
from features.genomics.contigs import harmonise
from features.genomics.normalise import trim
from features.genomics.polygenic.scoring_file import ScoringFile, open_scoring_file, parse
from features.genomics.polygenic.scoring_lines import SCHEMA
from tests.features.genomics.polygenic.catalog import CATALOG, stored

COLUMNS = "chr_name\tchr_position\teffect_allele\tother_allele\teffect_weight"
BUILD = "#genome_build=GRCh37\n"


def opened(path: Path, keyer: PersonKeyer, build: str = "GRCh37") -> ScoringFile:
    stat = FileStat(path.name, path.stat().st_size, 0)
    return open_scoring_file(Location.parse(str(path.parent)), stat, keyer, build, {})


def rows_of(file: ScoringFile) -> list[dict[str, object]]:
    return [row for batch in parse(file) for row in batch.to_pylist()]


def problems(tmp_path: Path, keyer: PersonKeyer, lines: str, columns: str = COLUMNS) -> list[object]:
    (tmp_path / "s.txt").write_text(f"{BUILD}{columns}\n{lines}\n")
    return [row["problem"] for row in rows_of(opened(tmp_path / "s.txt", keyer))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"#genome_build=GRCh38\n{COLUMNS}\n", "s.txt: its positions are of GRCh38, genomics.build is GRCh37"),
        (f"#genome_build=hg38\n{COLUMNS}\n", "s.txt: its positions are of GRCh38"),
        (f"{COLUMNS}\n1\t10\tC\tA\t1\n", r"s.txt: says no genome build \(no #genome_build line\)"),
        (f"#genome_build=NR\n{COLUMNS}\n", r"s.txt: says no genome build \(NR\).*_hmPOS_GRCh37"),
        (
            f"{BUILD}rsID\teffect_allele\teffect_weight\n",
            "s.txt, line 2: there is no column chr_name, chr_position",
        ),
        (f"{BUILD}chr_name\tchr_position\teffect_allele\n", "there is no column effect_weight"),
        (f"{BUILD}#pgs_id=PGS1\n", "has no line of column names"),
        ("", "it is empty"),
    ],
)
def test_what_is_no_scoring_file_of_this_build_is_refused(
    tmp_path: Path, keyer: PersonKeyer, text: str, message: str
) -> None:
    (tmp_path / "s.txt").write_text(text)
    with pytest.raises(DataGateError, match=message):
        opened(tmp_path / "s.txt", keyer)


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, keyer: PersonKeyer) -> None:
    whole = gzip.compress(f"{BUILD}{COLUMNS}\n{'1	10	C	A	0.5' * 100_000}".encode())
    (tmp_path / "s.txt.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataGateError, match="damaged"):
        rows_of(opened(tmp_path / "s.txt.gz", keyer))


def test_each_line_that_cannot_be_scored_says_why(tmp_path: Path, keyer: PersonKeyer) -> None:
    lines = ["1\t10\tC\tA\tx", "1\t10\tC\tA\t", "1\t10\tC\tA\tinf", "1\t10\tC\tA\tnan", "1\tten\tC\tA\t1"]
    lines += ["1\t10\tC\tA\t1\t9", "\t\tC\tA\t1", "1\t10\tHLA-A*24\t\t1", "1\t10\tC\tA\t1", "1\t10\tC"]
    expected = ["wrong_weight"] * 4 + [
        "wrong_position",
        "wrong_columns",
        "unplaced",
        "complex",
        None,
        "wrong_weight",
    ]
    assert problems(tmp_path, keyer, "\n".join(lines)) == expected
    haplotype = problems(tmp_path, keyer, "1\t10\tC\tA\t1\tTRUE", f"{COLUMNS}\tis_haplotype")
    assert haplotype == ["complex"]


@pytest.mark.parametrize(
    ("columns", "cells", "weights"),
    [
        ("effect_weight", "0.5", [0, 0.5, 1]),
        ("effect_weight\tis_dominant", "0.5\tTrue", [0, 0.5, 0.5]),
        ("effect_weight\tis_recessive", "0.5\tTRUE", [0, 0, 0.5]),
        ("effect_weight\tis_dominant", "1e308\tTRUE", [0, 1e308, 1e308]),
        ("effect_weight\tis_recessive\tis_dominant", "0.5\tFalse\tFALSE", [0, 0.5, 1]),
        ("dosage_0_weight\tdosage_1_weight\tdosage_2_weight", "0.1\t-2\t3e-2", [0.1, -2, 0.03]),
    ],
)
def test_weights_are_of_no_one_and_two_effect_alleles(
    tmp_path: Path, keyer: PersonKeyer, columns: str, cells: str, weights: list[float]
) -> None:
    placed = "chr_name\tchr_position\teffect_allele\tother_allele"
    (tmp_path / "s.txt").write_text(f"{BUILD}{placed}\t{columns}\n1\t10\tC\tA\t{cells}\n")
    with warnings.catch_warnings(action="error"):
        (row,) = rows_of(opened(tmp_path / "s.txt", keyer))
    none, two = row["others"] or (0, 2 * row["weight"])
    assert [none, row["weight"], two] == weights
    assert (row["others"] is None) == (weights[0] == 0 and weights[2] == 2 * weights[1])


@pytest.mark.parametrize("build", ["GRCh37", "GRCh38"])
def test_a_harmonised_file_of_the_catalog_is_read_at_its_harmonised_positions(
    build: str, tmp_path: Path, keyer: PersonKeyer
) -> None:
    if not CATALOG.exists():
        pytest.skip(f"the PGS Catalog's files are not at {CATALOG}")
    name = f"pgscatalog.core/tests/data/PGS000001_hmPOS_{build}.txt.gz"
    (tmp_path / "PGS000001.txt.gz").write_bytes(stored(name))
    file = opened(tmp_path / "PGS000001.txt.gz", keyer, build)
    rows = rows_of(file)
    assert (file.score, file.harmonised, len(rows)) == ("PGS000001", True, 77)
    first = min(rows, key=lambda row: int(str(row["line"])))
    assert (first["contig"], first["effect_allele"], first["problem"]) == ("11", "T", None)
    assert first["position"] == {"GRCh37": 69331418, "GRCh38": 69516650}[build]
    other = {"GRCh37": "GRCh38", "GRCh38": "GRCh37"}[build]
    with pytest.raises(DataGateError, match=f"positions are of {build}, genomics.build is {other}"):
        opened(tmp_path / "PGS000001.txt.gz", keyer, other)


TRUE = ["True", "1", "YES", "False", "0", "", "\u017ftrue"]
ALLELES = ["A", "c", "G", "t", "ACA", "acg", "CA", "N", "", "A/C", "\u00df", "\ufb01", "HLA-B*15"]
NUMBERS = [
    "0.5",
    "-1e-3",
    "+2",
    ".5",
    "1_0",
    "1e400",
    "1e308",
    "-0",
    "inf",
    "nan",
    "0x1",
    "x",
    "",
    "\u0661",
    "1e-400",
]
KNOWN = {
    "chr_name": ["1", "chr2", "CHRx", "0X", "23", "M", "GL0.1", "Chr", ""],
    "chr_position": ["1", "007", "9999999999", "10000000000", "-1", "+1", "1.0", "1e3", "", "\u0661", "\u00b2"],
    "hm_chr": ["1", "chrM", ""],
    "hm_pos": ["5", "NA", ""],
    **dict.fromkeys(("effect_allele", "other_allele", "reference_allele", "hm_inferOtherAllele"), ALLELES),
    **dict.fromkeys(("is_haplotype", "is_diplotype", "is_interaction", "is_dominant", "is_recessive"), TRUE),
    "effect_type": ["dominant", "recessive", "additive", "Dominant", ""],
    **dict.fromkeys(("effect_weight", *(f"dosage_{copies}_weight" for copies in range(3))), NUMBERS),
    "rsID": ["rs1", '"rs', "#", "\ufeffrs2", ""],
}
SURE = ["chr_name", "chr_position", "hm_chr", "hm_pos", "effect_allele", "effect_weight"]
more = st.lists(st.sampled_from([name for name in KNOWN if name not in SURE]), unique=True)
columns = more.flatmap(lambda names: st.permutations([*SURE, *names]))
spaces = st.sampled_from(["", "", "", "", " ", "\x1c", "\u2003", "\x0b", "\xad"])
ends = st.sampled_from(["\n", "\n", "\n", "\r\n", "\r", "\n\n", "\u2028\n", "\udcff\n"])


@st.composite
def line(draw: st.DrawFn, names: list[str]) -> str:
    """Mostly a good one: each cell is the usual one, or any other."""
    cells = [
        draw(spaces) + draw(st.one_of(st.just(KNOWN[name][0]), st.sampled_from(KNOWN[name]))) for name in names
    ]
    cells = cells[: draw(st.one_of(st.just(99), st.integers(0, 99)))] + draw(st.sampled_from([[], [], [], ["x"]]))
    return "\t".join(cells) + draw(spaces) + draw(ends)


def read_by_rows(data: bytes, before: int, names: list[str], harmonised: bool) -> list[tuple[object, ...]]:
    """One line, one cell after the other, behind so many of the header."""
    found: list[tuple[object, ...]] = []
    for number, stored_line in enumerate(data.splitlines(), start=1):
        cells = [text.strip() for text in stored_line.decode(errors="replace").split("\t")]
        if stored_line and number > before:
            cell = dict(zip(names, cells + [""] * len(names), strict=False))
            read = (*[None] * 6, "wrong_columns") if len(cells) > len(names) else judged(cell, harmonised)
            found.append(("s", number, *read, None))
    return found


def judged(cell: Mapping[str, str], harmonised: bool) -> tuple[object, ...]:
    try:
        weights = weighed(cell)
    except ValueError:
        return (*[None] * 6, "wrong_weight")
    others = [cell.get(name, "") for name in ("other_allele", "reference_allele", "hm_inferOtherAllele")]
    first = next(filter(None, others), "/")
    effect, other = cell["effect_allele"].upper(), None if "/" in first else first.upper()
    contig, at = (cell["hm_chr"], cell["hm_pos"]) if harmonised else (cell["chr_name"], cell["chr_position"])
    none, one, two = weights
    told = (one, None if (none, two) == (0, 2 * one) else [none, two])
    no_place = (None, None, effect, other, *told)
    plain = effect and set(effect + (other or "")) <= set("ACGT")
    if not plain or any(true(cell, f"is_{kind}") for kind in ("haplotype", "diplotype", "interaction")):
        return (*no_place, "complex")
    if not contig or not at:
        return (*no_place, "unplaced")
    if not set(at) <= set("0123456789") or len(at) > 10:
        return (*no_place, "wrong_position")
    position, ref, alt = (int(at), other, effect)
    if ref is not None and ref != alt:
        position, ref, alt = trim(position, ref, alt)
    return (harmonise(contig), position, alt, ref, *told, None)


def number(text: str) -> float:
    """As Python reads it, but for 1_000."""
    return float(text.replace("_", "?"))


def weighed(cell: Mapping[str, str]) -> list[float]:
    dosage = [cell.get(f"dosage_{copies}_weight", "") for copies in range(3)]
    if "" not in dosage:
        weights = [number(weight) for weight in dosage]
    else:
        one, kind = number(cell["effect_weight"]), cell.get("effect_type")
        weights = [0.0, one, 2 * one]
        if true(cell, "is_dominant") or kind == "dominant":
            weights = [0.0, one, one]
        elif true(cell, "is_recessive") or kind == "recessive":
            weights = [0.0, 0.0, one]
    if not all(map(math.isfinite, weights)):
        raise ValueError
    return weights


def true(cell: Mapping[str, str], flag: str) -> bool:
    return cell.get(flag, "").casefold() in ("true", "1", "yes")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(columns, st.data(), st.booleans())
def test_lines_read_many_at_once_are_those_read_one_by_one(
    tmp_path: Path,
    keyer: PersonKeyer,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    data: st.DataObject,
    harmonised: bool,
) -> None:
    monkeypatch.setattr(raw_text, "CHUNK_BYTES", data.draw(st.sampled_from([60, 300, 1 << 20])))
    lines = data.draw(st.lists(line(names), max_size=12))
    header = BUILD + ("#HmPOS_build=GRCh37\n" if harmonised else "") + "\t".join(names) + "\n"
    text = (header + "".join(lines)).encode(errors="surrogateescape")
    text += b"" if text.endswith(b"\n") else b"\n"
    (tmp_path / "s.txt").write_bytes(text)
    found = rows_of(opened(tmp_path / "s.txt", keyer))
    expected = read_by_rows(text, header.count("\n"), names, harmonised)
    assert repr([tuple(row[name] for name in SCHEMA.names) for row in found]) == repr(expected)


def test_a_file_that_ends_inside_a_line_is_refused(tmp_path: Path, keyer: PersonKeyer) -> None:
    """The weight that it ends with may be the first letters of another."""
    columns = "chr_name\tchr_position\teffect_allele\tother_allele\teffect_weight\n"
    (tmp_path / "s.txt").write_text(f"{BUILD}{columns}1\t10\tC\tA\t0.1")
    with pytest.raises(DataGateError, match="its last line has no end, so the file may have been cut short"):
        opened(tmp_path / "s.txt", keyer)
