"""Positions in another build: a walk along every chain base by base says the same, and so does pyliftover."""

import gzip
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.genomics.contigs import CHROMOSOMES, LENGTHS, harmonise
from features.genomics.liftover import CODES, Liftover, Unlifted, open_liftover
from tests.features.genomics.chains import Drawn, ends, length, plain
from tests.features.genomics.polygenic.catalog import CATALOG, stored
from tests.features.test_raw_text import bgzip

REASONS = {code: kind for kind, code in CODES.items()}
Place = tuple[str, int, str]


def opened(path: Path, source: str = "GRCh37", target: str = "GRCh38") -> Liftover:
    return open_liftover(Location.parse(str(path.parent)), path.name, "it", source, target)


def lifted(liftover: Liftover, asked: list[tuple[str, int, int]]) -> list[Place | Unlifted]:
    """Contig, 1-based position and strand of contigs, 1-based positions and numbers of bases; or why none."""
    contigs, positions, bases = zip(*asked, strict=True)
    found = liftover.lift(pa.array(contigs), np.array(positions), np.array(bases))
    return [
        (liftover.targets[target].contig, position, "-" if reverse else "+") if target >= 0 else REASONS[target]
        for target, position, reverse in zip(*(found.targets, found.positions, found.reverse), strict=True)
    ]


def walked(chains: list[Drawn], contig: str, position: int, bases: int) -> Place | Unlifted:
    """By the definition, one base after the other."""
    ways = []
    for base in range(position - 1, position - 1 + bases):
        holding = [
            (-chain.score, number, chain.there, there, chain.strand)
            for number, chain in enumerate(chains)
            for own, there in chain.bases()
            if harmonise(chain.contig) == contig and own == base
        ]
        inside = any(harmonise(c.contig) == contig and c.start <= base < ends(c)[0] for c in chains)
        ways.append(min(holding)[2:] if holding else Unlifted.DELETED if inside else Unlifted.NO_CHAIN)
    first = ways[0]
    if isinstance(first, Unlifted):
        return first
    if harmonise(first[0]) not in CHROMOSOMES:
        return Unlifted.OTHER_CONTIG
    step = -1 if first[2] == "-" else 1
    for before, after in pairwise(ways):
        if isinstance(after, Unlifted) or after != (before[0], before[1] + step, before[2]):
            return Unlifted.SPLIT
    return harmonise(first[0]), min(way[1] for way in ways if not isinstance(way, Unlifted)) + 1, first[2]


drawn = st.builds(
    Drawn,
    st.sampled_from(["chr1", "2"]),
    st.integers(0, 30),
    st.sampled_from(["chr1", "chrX", "chr1_KI270706v1_random"]),
    st.integers(0, 30),
    st.sampled_from("+-"),
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4),
    st.sampled_from([500, 1000, 1500]),
)


@pytest.fixture(scope="module")
def chain_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chains") / "a.chain"


@settings(deadline=None)
@given(st.lists(drawn, min_size=1, max_size=5), st.integers(1, 5))
def test_every_position_goes_where_a_walk_along_the_best_chain_ends(
    chain_file: Path, chains: list[Drawn], bases: int
) -> None:
    chains = [*chains, plain("chr3", 0, 0, 1)]  # one that leads to a chromosome
    chain_file.write_text("##matrix=axtChain\n" + "".join(chain.text() for chain in chains))
    asked = [(contig, position, bases) for contig in ("1", "2", "MT") for position in range(80)]
    assert lifted(opened(chain_file), asked) == [walked(chains, *one) for one in asked]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4),
            st.sampled_from("+-"),
            st.integers(0, 4),
        ),
        min_size=1,
        max_size=5,
    ),
    st.randoms(use_true_random=False),
)
def test_there_and_back_again_is_where_one_was(chain_file: Path, parts: list, random: Random) -> None:
    """By the chains and by the same turned round, for every aligned base."""
    chains, start = [], 0
    order = random.sample(range(len(parts)), len(parts))
    for part, (blocks, strand, apart) in enumerate(parts):
        first = Drawn("chr1", start, "chr1", 0, strand, blocks)
        own_end, size = ends(first)
        there = 100 * order[part]
        if strand == "-":
            there = length("GRCh38", "chr1") - there - size
        chains.append(Drawn("chr1", start, "chr1", there, strand, blocks))
        start = own_end + apart
    chain_file.write_text("".join(chain.text() for chain in chains))
    forth = opened(chain_file)
    chain_file.write_text("".join(turned_round(chain) for chain in chains))
    back = opened(chain_file, "GRCh38", "GRCh37")
    bases = [("1", base + 1, 1) for chain in chains for base, _ in chain.bases()]
    through = lifted(forth, bases)
    assert not any(isinstance(place, Unlifted) for place in through)
    returned = lifted(back, [(place[0], place[1], 1) for place in through])
    assert [place[:2] for place in returned] == [base[:2] for base in bases]
    assert [place[2] for place in returned] == [place[2] for place in through]


def turned_round(chain: Drawn) -> str:
    """From GRCh38 to GRCh37: the first strand is always the forward one, so a reverse chain begins at its end."""
    sizes, sizes_there = length("GRCh37", chain.contig), length("GRCh38", chain.there)
    (start, start_there), (end, end_there) = (chain.start, chain.start_there), ends(chain)
    blocks = [(size, gap_there, gap) for size, gap, gap_there in chain.blocks]
    if chain.strand == "-":
        start, end = sizes - end, sizes - start
        start_there, end_there = sizes_there - end_there, sizes_there - start_there
        gaps = [block[1:] for block in blocks[-2::-1]] if len(blocks) > 1 else []
        blocks = [(block[0], *gap) for block, gap in zip(blocks[::-1], [*gaps, (0, 0)], strict=True)]
    header = f"chain 9 {chain.there} {sizes_there} + {start_there} {end_there} "
    header += f"{chain.contig} {sizes} {chain.strand} {start} {end} 1\n"
    *gapped, (last, _, _) = blocks
    return header + "".join(" ".join(map(str, block)) + "\n" for block in gapped) + f"{last}\n"


def test_a_file_is_read_plain_or_compressed_and_with_either_names_of_contigs(tmp_path: Path) -> None:
    text = Drawn("chr1", 100, "chr1", 300, "+", [(10, 5, 0), (20, 0, 0)]).text()
    found = []
    for data in (
        text.encode(),
        gzip.compress(text.encode(), mtime=0),
        bgzip(text.encode(), 20),
        text.replace("\n", "\r\n").encode(),
        text.replace("chr", "").replace("\t", " ").encode(),
        (text + text).encode(),  # the same chain twice
        text.rstrip().removesuffix(" 7").encode(),
    ):
        (tmp_path / "a").write_bytes(data)
        found.append(lifted(opened(tmp_path / "a"), [("1", position, 1) for position in range(90, 150)]))
    assert found[0][11] == ("1", 301, "+")
    assert all(places == found[0] for places in found)


def test_of_two_chains_the_higher_score_wins_and_of_equals_the_first(tmp_path: Path) -> None:
    for scores, winner in (((5, 6), 201), ((6, 5), 101), ((5, 5), 101)):
        chains = [
            Drawn("chr1", 0, "chr1", there, "+", [(10, 0, 0)], score)
            for there, score in zip((100, 200), scores, strict=True)
        ]
        (tmp_path / "a").write_text("".join(chain.text() for chain in chains))
        assert lifted(opened(tmp_path / "a"), [("1", 1, 10)]) == [("1", winner, "+")]


def test_only_a_mitochondrion_of_the_builds_length_is_lifted(tmp_path: Path) -> None:
    """chrM of UCSC's hg19, of 16,571 bases, is not the MT of GRCh37."""
    autosome = plain("chr1", 0, 0, 9).text()
    chain = plain("chrM", 0, 0, 16_000).text()
    for text, expected in (
        (chain, ("MT", 300, "+")),
        (chain.replace("chrM 16569 + 0", "chrM 16571 + 0", 1), Unlifted.NO_CHAIN),
        ("16571".join(chain.rsplit("16569", 1)), Unlifted.OTHER_CONTIG),
    ):
        (tmp_path / "a").write_text(autosome + text)
        assert lifted(opened(tmp_path / "a"), [("MT", 300, 1)]) == [expected]


SOUND = Drawn("chr1", 100, "chr1", 300, "+", [(10, 5, 0), (20, 0, 0)]).text()
HEADER, FIRST, LAST = SOUND.splitlines()[:3]
MANY = "".join(plain("chr1", 50 * number, 60 * number, 40).text() for number in range(9000))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (None, "file it is not below the raw root"),
        (b"", "file it: it is empty"),
        (gzip.compress(b"", mtime=0), "file it: no chain leads from a chromosome of GRCh37 to one of GRCh38"),
        (b"# a comment\n\n", "no chain leads from a chromosome"),
        (gzip.compress(MANY.encode(), mtime=0)[:9000], "file it: the compressed data is damaged"),
        (f"{HEADER}\n{FIRST}\n", "file it, the chain of line 1: it breaks off before its last block"),
        (f"{HEADER}\n{FIRST}\n\n{SOUND}", "line 1: it breaks off before its last block"),
        (f"{HEADER}\n", "line 1: it breaks off"),
        (f"{SOUND}{HEADER}\n{FIRST[:-2]}", "the chain of line 5: it breaks off"),
        (f"{HEADER}\n{FIRST}\nx\n", "line 1: it breaks off"),
        (
            f"{HEADER}\n{FIRST}\n19\n",
            "file it, the chain of line 1: its blocks and gaps do not add up to its ends",
        ),
        (f"{HEADER}\n{FIRST.replace('0', '1', 1)}\n{LAST}\n", "do not add up"),
        (f"{HEADER}\n{FIRST[:-1]}1\n{LAST}\n", "do not add up"),  # on the other side
        (f"{SOUND}{FIRST}\n", "file it, line 5: expected `chain`, a score"),
        (HEADER[: len(HEADER) // 2], "file it, line 1: expected `chain`, a score"),
        (SOUND.replace(" + 100", " - 100"), r"line 1: expected `chain`.*\+ of the first"),
        (SOUND.replace("chain 1000", "chain ten"), "line 1: expected `chain`"),
        (SOUND.replace(" 300 ", " 99999999999999999999 "), "line 1: expected `chain`"),
        (SOUND.replace(" 300 ", " -300 "), "line 1: expected `chain`"),
        (SOUND.replace("+ 100 135", "+ 135 100"), "line 1: .*starts before ends and these within the sizes"),
        (SOUND.replace("+ 100 135", "+ 100 249250622"), "line 1: .*within the sizes"),
        (f"{HEADER}\n10 9999999999 0\n{LAST}\n", "do not add up"),
        ("#genome_build=GRCh37\nchr_name\tchr_position\n", "line 2: expected `chain`.*is it a UCSC chain file"),
        (b"\x00\xff\xfe binary\n", "line 1: expected `chain`"),
        (SOUND.replace("chr1", "NC_000001.10"), "no chain leads from a chromosome of GRCh37"),
        (SOUND.replace("chr1 248956422", "chr1_alt 5000"), "no chain leads from a chromosome of GRCh37 to one of"),
        (
            turned_round(plain("chr1", 0, 0, 9)),
            "line 1: its chromosome 1 has 248,956,422 bases, that of GRCh37 249,250,621",
        ),
        (SOUND.replace("249250621", "247249719"), "has 247,249,719 bases, that of GRCh37 249,250,621"),
    ],
)
def test_a_file_that_is_no_chain_file_between_the_builds_is_refused(
    tmp_path: Path, data: bytes | str | None, told: str
) -> None:
    if data is not None:
        (tmp_path / "a").write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(DataGateError, match=told):
        opened(tmp_path / "a")


# What pyliftover 0.4.1 answers, counted from 1; None: nothing.
BY_PYLIFTOVER: list[tuple[tuple[str, int], Place | None]] = [
    (("6", 113_042_560), ("6", 112_721_358, "+")),
    (("X", 87_518_283), ("X", 88_263_282, "+")),
    (("22", 20_696_370), ("22", 21_321_763, "-")),
    (("9", 65_722_482), ("9", 39_009_985, "-")),
    (("9", 45_729_581), ("20", 25_859_948, "-")),
    (("17", 36_627_169), None),
    (("X", 52_851_869), None),
    (("17", 34_592_445), None),  # to chr17_KI270909v1_alt there
]


def test_ucscs_chains_lead_where_pyliftover_says_and_are_between_chromosomes_of_these_lengths(
    tmp_path: Path,
) -> None:
    if not CATALOG.exists():
        pytest.skip(f"the PGS Catalog's files are not at {CATALOG}")
    for name, source, target in (("hg19ToHg38", "GRCh37", "GRCh38"), ("hg38ToHg19", "GRCh38", "GRCh37")):
        data = stored(f"pgscatalog.core/tests/data/chain/{name}.over.chain.gz")
        (tmp_path / name).write_bytes(data)
        headers = [
            line.split() for line in gzip.decompress(data).decode().splitlines() if line.startswith("chain")
        ]
        for build, at in ((source, 2), (target, 7)):
            found = {harmonise(header[at]): int(header[at + 1]) for header in headers}
            sizes = {name: length for name, length in LENGTHS[build].items() if name != "MT"}
            assert {name: found[name] for name in sizes} == sizes
        liftover = opened(tmp_path / name, source, target)
        if name == "hg19ToHg38":
            answers = lifted(liftover, [(*asked, 1) for asked, _ in BY_PYLIFTOVER])
            assert [None if isinstance(a, Unlifted) else a for a in answers] == [told for _, told in BY_PYLIFTOVER]
            assert answers[-1] == Unlifted.OTHER_CONTIG
        with pytest.raises(DataGateError, match=f"has .* bases, that of {target}"):
            opened(tmp_path / name, target, source)
