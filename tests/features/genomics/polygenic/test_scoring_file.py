"""Scoring files as the PGS Catalog writes them, and what is none."""

import gzip
from pathlib import Path

import pytest

from features.contract.errors import DataGateError
from features.contract.paths import FileStat, Location
from features.contract.persons import PersonKeyer
from features.genomics.polygenic.scoring_file import ScoringFile, open_scoring_file, parse
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
        ("effect_weight\tis_recessive\tis_dominant", "0.5\tFalse\tFALSE", [0, 0.5, 1]),
        ("dosage_0_weight\tdosage_1_weight\tdosage_2_weight", "0.1\t-2\t3e-2", [0.1, -2, 0.03]),
    ],
)
def test_weights_are_of_no_one_and_two_effect_alleles(
    tmp_path: Path, keyer: PersonKeyer, columns: str, cells: str, weights: list[float]
) -> None:
    placed = "chr_name\tchr_position\teffect_allele\tother_allele"
    (tmp_path / "s.txt").write_text(f"{BUILD}{placed}\t{columns}\n1\t10\tC\tA\t{cells}\n")
    (row,) = rows_of(opened(tmp_path / "s.txt", keyer))
    assert row["weights"] == weights


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
