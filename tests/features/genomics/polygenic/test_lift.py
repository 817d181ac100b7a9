"""Lines of scoring files in another build: their strand, indels, and reasons where they have no place there."""

import gzip
from pathlib import Path

import pytest

from features.contract.paths import FileStat, Location
from features.contract.persons import PersonKeyer
from features.genomics.liftover import open_liftover
from features.genomics.polygenic.scoring_file import open_scoring_file, parse
from tests.features.genomics.chains import Drawn, plain
from tests.features.genomics.polygenic.catalog import CATALOG, stored

COLUMNS = "chr_name\tchr_position\teffect_allele\tother_allele\teffect_weight"
CHAINS = [
    Drawn("chr1", 100, "chr1", 300, "+", [(10, 5, 0), (10, 0, 3), (10, 0, 0)]),
    plain("chr1", 200, 500, 50, "-"),
    plain("chr1", 300, 0, 50, there="chr1_KI270706v1_random"),
    plain("chrX", 60_000, 10_000, 100),
]


def lines_of(folder: Path, keyer: PersonKeyer, text: str, chain: str, source: str, build: str) -> list[dict]:
    """Each line of a scoring file as it is read for a study of `build`."""
    (folder / "a.chain").write_text(chain)
    text = text.rstrip("\n") + "\n"
    (folder / "s.txt").write_text(text)
    root = Location.parse(str(folder))
    liftovers = {source: open_liftover(root, "a.chain", "it", source, build)}
    file = open_scoring_file(root, FileStat("s.txt", len(text), 0), keyer, build, liftovers)
    return [row for batch in parse(file) for row in batch.to_pylist()]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1 101 A C", ("1", 301, "A", "C", "+")),
        ("chr1 110 A C", ("1", 310, "A", "C", "+")),
        ("1 116 a ", ("1", 311, "A", None, "+")),
        ("1 100 A C", "lift_no_chain"),
        ("1 0 A C", "lift_no_chain"),
        ("2 101 A C", "lift_no_chain"),
        ("1 111 A C", "lift_deleted"),
        ("1 115 A C", "lift_deleted"),
        ("1 301 A C", "lift_other_contig"),
        ("1 109 CA C", ("1", 309, "CA", "C", "+")),
        ("1 110 CA C", "lift_split"),  # the second base is deleted
        ("1 110 C CA", "lift_split"),  # either allele may be the reference's
        ("1 125 C CT", "lift_split"),  # three bases come between
        ("1 109 GTC GTA", "lift_deleted"),  # the base that differs is the third
        ("1 108 CAT GTA", ("1", 308, "CAT", "GTA", "+")),
        ("1 109 CAT GTA", "lift_split"),
        ("1 201 A C", ("1", 550, "T", "G", "-")),
        ("1 250 A ", ("1", 501, "T", None, "-")),
        ("1 201 ACC TGG", ("1", 548, "GGT", "CCA", "-")),
        ("1 249 ACC TGG", "lift_split"),
        ("1 201 AC A", "lift_reversed_indel"),
        ("1 201 A AC", "lift_reversed_indel"),
        ("1 201 AC ", "lift_reversed_indel"),
        ("1 201 AC AC", "lift_reversed_indel"),  # repeats what it tells; whether it is an indel it does not say
        ("1 201 A A", ("1", 550, "T", "T", "-")),
        ("23 60001 A C", ("X", 10_001, "A", "C", "+")),
        ("XY 60100 A C", ("X", 10_100, "A", "C", "+")),
        ("1  A C", "unplaced"),
        ("1 101 HLA-A C", "complex"),
        ("1 1x A C", "wrong_position"),
    ],
)
def test_a_line_is_where_the_chain_leads_or_says_why_not(
    tmp_path: Path, keyer: PersonKeyer, line: str, expected: object
) -> None:
    text = f"#genome_build=hg19\n{COLUMNS}\n" + "\t".join([*line.split(" "), "0.5"]) + "\n"
    chain = "".join(one.text() for one in CHAINS)
    (row,) = lines_of(tmp_path, keyer, text, chain, "GRCh37", "GRCh38")
    place = tuple(row[name] for name in ("contig", "position", "effect_allele", "other_allele", "lifted_strand"))
    assert (row["problem"] or place) == expected
    if row["problem"]:
        assert (row["contig"], row["position"], row["lifted_strand"]) == (None, None, None)
    assert row["line"] == 3


def test_a_file_of_the_build_itself_is_not_lifted(tmp_path: Path, keyer: PersonKeyer) -> None:
    text = f"#genome_build=GRCh38\n{COLUMNS}\n1\t101\tA\tC\t1\n"
    (row,) = lines_of(tmp_path, keyer, text, CHAINS[0].text(), "GRCh37", "GRCh38")
    assert (row["position"], row["lifted_strand"]) == (101, None)


def test_harmonised_positions_are_lifted_from_their_own_build(tmp_path: Path, keyer: PersonKeyer) -> None:
    columns = f"{COLUMNS}\thm_chr\thm_pos"
    for told, expected in (("GRCh37", (301, "+")), ("GRCh38", (101, None))):
        text = f"#genome_build=NCBI36\n#HmPOS_build={told}\n{columns}\n1\t5\tA\tC\t1\t1\t101\n"
        (row,) = lines_of(tmp_path, keyer, text, CHAINS[0].text(), "GRCh37", "GRCh38")
        assert (row["position"], row["lifted_strand"]) == expected


def test_every_line_of_more_than_a_batch_is_there(tmp_path: Path, keyer: PersonKeyer) -> None:
    cells = [f"1\t{101 + number % 150}\tA\tC\t{number}" for number in range(70_000)]
    text = f"#genome_build=GRCh37\n{COLUMNS}\n" + "\n".join(cells)
    chain = "".join(one.text() for one in CHAINS)
    rows = lines_of(tmp_path, keyer, text, chain, "GRCh37", "GRCh38")
    assert [row["line"] for row in rows] == list(range(3, 70_003))
    assert all((row["contig"] is None) == (row["problem"] is not None) for row in rows)


@pytest.mark.parametrize(("source", "build"), [("GRCh37", "GRCh38"), ("GRCh38", "GRCh37")])
def test_the_catalogs_own_file_of_the_other_build_has_the_lifted_positions(
    source: str, build: str, tmp_path: Path, keyer: PersonKeyer
) -> None:
    if not CATALOG.exists():
        pytest.skip(f"the PGS Catalog's files are not at {CATALOG}")
    data = "pgscatalog.core/tests/data"
    # Named by where they lead: `lift_to_grch38` is in GRCh37.
    texts = {name: stored(f"{data}/lift_to_{name}.txt").decode() for name in ("grch37", "grch38")}
    name = {"GRCh37": "hg19ToHg38", "GRCh38": "hg38ToHg19"}[source]
    chain = gzip.decompress(stored(f"{data}/chain/{name}.over.chain.gz")).decode()
    rows = lines_of(tmp_path, keyer, texts[build.lower()], chain, source, build)
    told = [line.split("\t")[1:3] for line in texts[source.lower()].splitlines() if line.startswith("rs")][1:]
    assert len(rows) == len(told) == 77
    assert [[row["contig"], str(row["position"])] for row in rows] == told
