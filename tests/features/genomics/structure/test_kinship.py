"""Kinship of every pair is plink2's, whatever file, block and tile its people are in."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from features.contract.errors import ClusterError, ConfigError, DataGateError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.runs import Runs
from features.contract.settings import GenomicsSettings, QualitySettings, RelativesSettings, Settings
from features.genomics.quality_control import control_quality
from features.genomics.structure import tiles
from features.genomics.structure.kinship import PairCounts, _Pairs, count_pairs, kinship, opposite
from features.genomics.structure.relatives import _check, check_current, relate_genomes
from features.genomics.structure.tiles import Tile
from features.lake import Written
from tests.features.genomics.conftest import Ingest, WriteVcf, made_of

BIG, SMALL = 1_100, 30
"""More people than a tile has, and a block of their own."""
NAMES = [f"A-{i}" for i in range(BIG + SMALL)]
PLACES = [*(("1", 1000 + i) for i in range(140)), *(("22", 500 + i) for i in range(80)), ("X", 5_000_000)]
ABSENT = slice(200, 220)
"""Variants that the file of the small block does not have."""
TWIN, PARENT, CHILD = 5, 7, 1_060
LIMITS = QualitySettings(minimum_sample_call_rate=0.5, minimum_variant_call_rate=0.5)
Relate = Callable[..., tuple[Written, dict[str, pd.DataFrame]]]


def simulated() -> np.ndarray:
    """Codes (variants, people): strangers, of whom the last is A-5 once more, A-1060 a child of A-7 and A-8, and
    A-3 hardly called at all."""
    rng = np.random.default_rng(11)
    frequency = rng.uniform(0.1, 0.5, (len(PLACES), 1))
    haplotypes = (rng.uniform(size=(2, len(PLACES), BIG + SMALL)) < frequency[None]).astype(np.uint8)
    passed_on = rng.integers(0, 2, (2, len(PLACES)))
    for side, parent in enumerate((PARENT, PARENT + 1)):
        haplotypes[side, :, CHILD] = haplotypes[passed_on[side], np.arange(len(PLACES)), parent]
    haplotypes[:, :, -1] = haplotypes[:, :, TWIN]
    codes = haplotypes.sum(0)
    codes[rng.uniform(size=codes.shape) < 0.03] = 3
    codes[:, 3] = np.where(rng.uniform(size=len(PLACES)) < 0.9, 3, codes[:, 3])
    codes[ABSENT, BIG:] = 3
    return codes


def records(codes: np.ndarray) -> list[str]:
    calls = np.array(["0/0", "0/1", "1/1", "./."])[codes]
    return [
        f"{contig} {at} {contig}_{at} A C . PASS . GT {' '.join(row)}"
        for (contig, at), row in zip(PLACES, calls, strict=True)
    ]


@pytest.fixture
def relate(spark: SparkSession, lake: Location, raw: Path, tmp_path: Path, ingest: Ingest) -> Relate:
    """Ingest the VCF files, judge them, and find the relatives; the tables by name."""

    def run(
        relatives: RelativesSettings, quality: QualitySettings | None = LIMITS
    ) -> tuple[Written, dict[str, pd.DataFrame]]:
        genomics = GenomicsSettings(paths=["*.vcf"], build="GRCh37", quality=quality, relatives=relatives)
        settings = Settings.model_construct(
            name="tests", raw=Location.parse(str(raw)).uri, lake=lake.uri, genomics=genomics
        )
        versions = dict(ingest(genomics)[0].tables)
        runs = SimpleNamespace(version=versions.__getitem__, publisher=lambda _: None)
        if quality:
            versions |= control_quality(spark, lake, runs, settings, None).tables  # type: ignore[arg-type]
        work = Location.parse(str(tmp_path / "work"))
        written = relate_genomes(spark, lake, runs, settings, work)  # type: ignore[arg-type]
        return written, {
            table: DeltaTable(f"{lake.uri}/{table}", version=version).to_pandas()
            for table, version in (versions | written.tables).items()
        }

    return run


@pytest.mark.skipif(shutil.which("plink2") is None, reason="plink2 is not installed")
def test_pairs_counts_and_kinship_are_those_of_plink2(
    relate: Relate,
    write_vcf: WriteVcf,
    tmp_path: Path,
    keyer: PersonKeyer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(tiles, "VARIANTS_AT_ONCE", 50)  # five bins
    codes = simulated()
    whole = write_vcf("all.vcf", NAMES, records(codes))
    shutil.move(whole, tmp_path / "all.vcf")
    write_vcf("big.vcf", NAMES[:BIG], records(codes[:, :BIG]))
    small = [
        record
        for at, record in enumerate(records(codes[:, BIG:]))
        if at not in range(*ABSENT.indices(len(PLACES)))
    ]
    write_vcf("small.vcf", NAMES[BIG:], small)
    written, tables = relate(RelativesSettings(minimum_kinship=0.1, minimum_variants=100))

    flags = "--make-king-table counts cols=id,nsnp,hethet,ibs0,ibs1,kinship --king-table-filter 0.1"
    read = f"plink2 --vcf {tmp_path}/all.vcf --mind 0.5 --out {tmp_path}/all".split()
    subprocess.run([*read, *flags.split()], check=True, capture_output=True)
    expected = pd.read_csv(tmp_path / "all.kin0", sep="\t").rename(columns=lambda name: name.lstrip("#"))
    keys = {name: keyer.person_key(name) for name in NAMES}
    ends = [[keys[one], keys[two]] for one, two in zip(expected["IID1"], expected["IID2"], strict=True)]
    expected[["person_key_1", "person_key_2"]] = [sorted(pair) for pair in ends]
    pair = ["person_key_1", "person_key_2"]
    both = tables["kinship"].merge(expected, on=pair, how="outer")

    assert len(both) == len(expected) == len(tables["kinship"]) > 100
    assert (both["n_variants"] == both["NSNP"]).all()
    assert (both["n_het_het"] == both["HETHET"]).all()
    assert (both["n_ibs0"] == both["IBS0"]).all()
    # Which of two is heterozygous alone: plink2 2.00a3 has the two columns the other way round, so by hand.
    people = {key: codes[:-1, place] for place, key in enumerate(keys.values())}
    one, two = (np.stack([people[key] for key in both[end]]) for end in pair)
    assert (both["n_het_hom"] == ((one == 1) & (two % 2 == 0)).sum(1)).all()
    assert (both["n_hom_het"] == ((two == 1) & (one % 2 == 0)).sum(1)).all()
    assert (both["n_het_hom"] + both["n_hom_het"] == both["HET1_HOM2"] + both["HET2_HOM1"]).all()
    # plink2 prints six digits.
    np.testing.assert_allclose(both["kinship"], both["KINSHIP"], atol=1e-6)

    found = both.set_index(pair)
    assert found.loc[tuple(sorted((keys[NAMES[TWIN]], keys[NAMES[-1]]))), "relation"] == "duplicate"
    assert found.loc[tuple(sorted((keys[NAMES[PARENT]], keys[NAMES[CHILD]]))), "relation"] == "first_degree"
    assert keys["A-3"] not in set(both["person_key_1"]) | set(both["person_key_2"])  # hardly called
    assert (written.counts["people"], written.counts["not_compared"]) == (len(NAMES), 1)
    assert written.counts["pairs_not_compared"] == len(NAMES) - 1 and "is not known" not in caplog.text

    families = tables["families"].set_index("person_key")
    assert set(families.index) == set(both["person_key_1"]) | set(both["person_key_2"])
    named = families.loc[both["person_key_1"], "family"].to_numpy()
    assert (named == families.loc[both["person_key_2"], "family"]).all()
    stay = families["unrelated"]
    assert not (stay.loc[both["person_key_1"]].to_numpy() & stay.loc[both["person_key_2"]]).any()
    cut = [*read, "--king-cutoff", "0.1"]
    subprocess.run(cut, check=True, capture_output=True)
    plinks = len((tmp_path / "all.king.cutoff.in.id").read_text().splitlines()) - 1
    # Both are greedy; noise makes these pairs as tangled as no families are.
    assert 0.99 * plinks <= written.counts["unrelated"] <= len(NAMES) - 1  # type: ignore[operator]
    assert written.counts["pairs"]["duplicate"] == 1  # type: ignore[index]
    assert "1 pairs of people have one genome" in caplog.text and "the largest family has" in caplog.text


def test_pairs_that_share_too_few_calls_are_counted_and_told_of(
    relate: Relate, write_vcf: WriteVcf, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of the 20 people has enough; those of one file and those of the other have 40 variants in common."""
    lines = records(simulated()[:, BIG - 20 : BIG])
    fields = [line.split(" ") for line in lines]
    write_vcf("a.vcf", NAMES[:10], [" ".join(line[:19]) for line in fields[:130]])
    write_vcf("b.vcf", NAMES[10:20], [" ".join([*line[:9], *line[19:]]) for line in fields[90:]])
    written, _ = relate(RelativesSettings(minimum_variants=60, minimum_kinship=0.3), quality=None)
    assert (written.counts["not_compared"], written.counts["pairs_not_compared"]) == (0, 100)
    assert "100 pairs of people have enough calls each and too few in both" in caplog.text


def test_of_many_variants_about_as_many_as_wanted_are_taken(relate: Relate, write_vcf: WriteVcf) -> None:
    write_vcf("a.vcf", NAMES[:60], records(simulated()[:, BIG - 60 : BIG]))
    written, tables = relate(RelativesSettings(most_variants=60, minimum_variants=20), quality=None)
    assert 30 < written.counts["variants"] < 90  # type: ignore[operator]
    assert len(tables["kinship"]) > 10
    assert tables["kinship"]["n_variants"].between(20, written.counts["variants"]).all()


def test_a_sample_that_may_not_be_used_has_relatives_and_is_not_among_the_unrelated(
    relate: Relate, write_vcf: WriteVcf, keyer: PersonKeyer
) -> None:
    rng = np.random.default_rng(3)
    codes = np.repeat(rng.integers(0, 3, (len(PLACES), 2)), (2, 1), axis=1).astype(np.uint8)
    codes[:120, 1] = 3
    write_vcf("a.vcf", ["A-1", "A-2", "A-3"], records(codes))
    written, tables = relate(RelativesSettings(minimum_kinship=0.3, minimum_variants=50))
    twice, poor = keyer.person_key("A-1"), keyer.person_key("A-2")
    assert tables["qc_samples"]["person_key"].isin([poor]).sum() == 0
    assert tables["kinship"][["person_key_1", "person_key_2"]].to_numpy().tolist() == [sorted([twice, poor])]
    assert tables["kinship"]["kinship"].tolist() == [0.5]
    assert tables["families"].set_index("person_key")["unrelated"].to_dict() == {twice: True, poor: False}
    assert (written.counts["unrelated"], written.counts["largest_family"]) == (2, 2)


def test_too_few_variants_stop_the_job(relate: Relate, write_vcf: WriteVcf) -> None:
    write_vcf("a.vcf", NAMES[:60], records(simulated()[:, :60]))
    with pytest.raises(DataGateError, match=r"220 variants of autosomes may be used, expected at least .* 221"):
        relate(RelativesSettings(minimum_variants=221), quality=None)


def test_more_pairs_than_relatives_can_be_stop_the_job(spark: SparkSession) -> None:
    rows = [("b", one, "b", other) for one in range(10) for other in range(one + 1)]
    schema = "sample_block_1 string, sample_index_1 int, sample_block_2 string, sample_index_2 int"
    found = spark.createDataFrame(rows, schema)
    assert _check(found, 10) == 10  # pairs with themselves
    with pytest.raises(DataGateError, match="45 pairs among 2 people cannot all be relatives"):
        _check(found, 2)


def test_a_tile_whose_files_are_gone_is_an_error(tmp_path: Path) -> None:
    pairs = _Pairs([Tile("b", 0, 3)], Location.parse(str(tmp_path)), 0.1, 1)
    with pytest.raises(ClusterError, match="what this job had put there is gone"):
        next(pairs(iter([pa.RecordBatch.from_pydict({"id": [0]})])))


def test_counts_of_a_pair_by_hand() -> None:
    one = np.array([[1], [1], [0], [2], [0], [3], [2]], np.uint8)
    two = np.array([[1], [0], [1], [0], [0], [1], [2]], np.uint8)
    counts = count_pairs(one, two)
    assert [float(count[0, 0]) for count in counts.columns()] == [6, 1, 1, 1, 1]
    # KING's equation 11: (N_AaAa - 2 N_AA,aa) / (2 min) + 1/2 - (N_1 + N_2) / (4 min), with two hets each.
    assert kinship(counts)[0, 0] == (1 - 2 * 1) / (2 * 2) + 1 / 2 - (2 + 2) / (4 * 2)


def test_kinship_of_nobody_heterozygous_is_unknown() -> None:
    nobody = np.zeros((1, 1))
    assert np.isnan(kinship(PairCounts(nobody + 9, nobody, nobody, nobody, nobody))[0, 0])


@pytest.mark.parametrize("tiles", range(1, 12))
def test_every_pair_of_tiles_is_taken_once(tiles: int) -> None:
    taken = [frozenset((one, other)) for one in range(tiles) for other in opposite(one, tiles)]
    assert len(taken) == len(set(taken)) == tiles * (tiles + 1) // 2


def test_families_of_other_genomes_or_settings_are_refused() -> None:
    genomics = GenomicsSettings(paths=["*"], build="GRCh38", relatives=RelativesSettings())

    def runs(read: dict[str, int], settings: str) -> Runs:
        return made_of("relate_genomes", read, ("families", "kinship"), {"settings": settings})

    now = dict.fromkeys(("variants", "genotypes", "samples"), 1)
    same = RelativesSettings().model_dump_json()
    check_current(runs(now, same), genomics)
    with pytest.raises(DataGateError, match="before the genomes were last ingested"):
        check_current(runs(now | {"genotypes": 0}, same), genomics)
    with pytest.raises(DataGateError, match="by other settings; run relate_genomes first"):
        check_current(runs(now, RelativesSettings(minimum_kinship=0.2).model_dump_json()), genomics)


def test_without_its_section_the_job_has_nothing_to_do(spark: SparkSession, lake: Location) -> None:
    settings = Settings.model_construct(genomics=GenomicsSettings(paths=["*"], build="GRCh38"))
    with pytest.raises(ConfigError, match=r"genomics\.relatives"):
        relate_genomes(spark, lake, Runs(()), settings, lake)
