"""Polygenic scores as plink2 sums them, and as a second formula does that knows nothing of matrices."""

import gzip
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.runs import Runs
from features.contract.settings import (
    GenomicsSettings,
    IdentitySettings,
    PolygenicSettings,
    QualitySettings,
    SampleSexes,
    Settings,
)
from features.genomics.polygenic.scores import check_current, score_genomes
from features.genomics.quality_control import JUDGED, control_quality
from features.lake import Written
from tests.features.genomics import imputed
from tests.features.genomics.chains import Drawn, plain
from tests.features.genomics.conftest import Ingest, WriteVcf, made_of
from tests.features.genomics.polygenic.catalog import CATALOG, stored

GENOMICS = GenomicsSettings(
    paths=["*.vcf"],
    build="GRCh37",
    sexes=SampleSexes(path="sexes.psam"),
    scores=PolygenicSettings(paths=["*.txt"], minimum_overlap=0.5),
)
NAMES = [f"A-{i}" for i in range(40)]
SEXES = np.array(["1", "2", "NA"]).repeat([17, 18, 5])
PLACES = [
    *(("1", 1000 + i) for i in range(60)),
    *(("X", 200_000 + i) for i in range(10)),
    *(("X", 5_000_000 + i) for i in range(40)),
    *(("Y", 6_000_000 + i) for i in range(10)),
    *(("MT", 300 + i) for i in range(10)),
]
COLUMNS = ["chr_name", "chr_position", "effect_allele", "other_allele", "effect_weight"]
Score = Callable[..., tuple[Written, pd.DataFrame, pd.DataFrame]]
Lines = list[tuple[object, ...]]


def simulated(rng: np.random.Generator) -> list[str]:
    """A record at each place; men have one copy of X and Y, a few calls are missing or wrong."""
    records = []
    for chrom, at in PLACES:
        paired = chrom == "1" or (chrom == "X" and at < 1_000_000)
        calls, frequency = [], rng.uniform(0.1, 0.7)
        for sex in SEXES:
            one = not paired and (chrom != "X" or sex == "1") and rng.uniform() > 0.05
            alleles = (rng.uniform(size=2) < frequency).astype(int)
            calls.append("./." if rng.uniform() < 0.1 else str(alleles[0]) if one else "{}/{}".format(*alleles))
        records.append(
            f"{chrom} {at} {chrom}_{at} {rng.choice(['A C', 'G A', 'C T'])} . PASS . GT {' '.join(calls)}"
        )
    return records


@pytest.fixture
def write_score(raw: Path) -> Callable[..., None]:
    """A scoring file of these lines, by default with COLUMNS."""

    def write(
        name: str, lines: Lines, columns: Sequence[str] = COLUMNS, header: str = "#genome_build=GRCh37\n"
    ) -> None:
        rows = ["\t".join(columns), *("\t".join(map(str, line)) for line in lines)]
        (raw / f"{name}.txt").write_text(header + "\n".join(rows) + "\n")

    return write


@pytest.fixture
def write_sexes(raw: Path) -> None:
    rows = [f"{name}\t{sex}\n" for name, sex in zip(NAMES, SEXES, strict=True)]
    (raw / "sexes.psam").write_text("#IID\tSEX\n" + "".join(rows))


@pytest.fixture
def score(spark: SparkSession, lake: Location, raw: Path, keyer: PersonKeyer, ingest: Ingest) -> Score:
    """Ingest the VCF files, then score; what was written, totals (people by scores) and the matches."""

    def run(
        genomics: GenomicsSettings = GENOMICS, names: Sequence[str] = NAMES
    ) -> tuple[Written, pd.DataFrame, pd.DataFrame]:
        runs = SimpleNamespace(version=ingest(genomics)[0].tables.__getitem__)
        root = Location.parse(str(raw))
        settings = Settings.model_construct(name="tests", raw=root.uri, lake=lake.uri, genomics=genomics)
        files = [file for file in root.files() if file.path.endswith(".txt")]
        written = score_genomes(spark, lake, runs, settings, keyer, files)  # type: ignore[arg-type]
        totals, matches = (
            DeltaTable(f"{lake.uri}/{table}", version=written.tables[table]).to_pandas()
            for table in ("polygenic_scores", "score_matches")
        )
        by_person = totals.pivot(index="person_key", columns="score", values="total")
        return written, by_person.loc[[keyer.person_key(name) for name in names]], matches

    return run


def codes_of(records: list[str]) -> np.ndarray:
    """ALT counts (variants, people), a haploid ALT as 2, -1 where missing."""
    found = [
        [
            sum(a == "1" for a in call.split("/")) * (2 if "/" not in call else 1) if "." not in call else -1
            for call in record.split(" ")[9:]
        ]
        for record in records
    ]
    return np.array(found)


def by_hand(records: list[str], effects: Sequence[str], weights: Sequence[Sequence[float]]) -> np.ndarray:
    """Each person's sum, one call after the other; `weights` of 0, 1 and 2 effect alleles."""
    totals = np.zeros(len(SEXES))
    for record, calls, effect, (w0, w1, w2) in zip(records, codes_of(records), effects, weights, strict=True):
        chrom, at, _, _, alt, *_ = record.split(" ")
        copies = np.full(len(SEXES), 2)
        if chrom == "MT" or (chrom == "X" and int(at) > 2_699_520):
            copies[(SEXES == "1") | (chrom == "MT")] = 1
        if chrom == "Y":
            copies = np.where(SEXES == "1", 1, 0)
        seen = (calls >= 0) & (copies > 0)
        frequency = (calls * copies / 2)[seen].sum() / copies[seen].sum()
        paired = chrom == "1" or (chrom == "X" and int(at) < 2_699_520)
        twos = (calls[seen] == 2).mean() if paired else frequency**2
        two, one = ((w0, w1, w2), (w0, w1)) if effect == alt else ((w2, w1, w0), (w1, w0))
        for person, (call, copy) in enumerate(zip(calls, copies, strict=True)):
            if copy == 2:
                chances = (1 - 2 * frequency + twos, 2 * frequency - 2 * twos, twos)
                totals[person] += np.dot(chances, two) if call < 0 else two[call]
            elif copy == 1:
                share = frequency if call < 0 else call / 2
                totals[person] += one[0] + share * (one[1] - one[0])
    return totals


def lines_of(records: list[str], effects: Sequence[str], weights: Sequence[float]) -> Lines:
    lines: Lines = []
    for record, effect, weight in zip(records, effects, weights, strict=True):
        chrom, at, _, ref, alt, *_ = record.split(" ")
        lines.append((chrom, at, effect, alt if effect == ref else ref, repr(float(weight))))
    return lines


def drawn_effects(records: list[str], rng: np.random.Generator) -> list[str]:
    return [str(rng.choice(record.split(" ")[3:5])) for record in records]


def plink2_sums(vcf: Path, out: Path, lines: Lines) -> np.ndarray:
    """SCORE1_SUM of `plink2 --score`, which finds variants by their ids."""
    (out.parent / "score").write_text(
        "".join(f"{c}_{at}\t{effect}\t{weight}\n" for c, at, effect, _, weight in lines)
    )
    read = ["plink2", "--vcf", str(vcf), "--psam", str(vcf.parent / "sexes.psam"), "--split-par", "hg19"]
    columns = ["1", "2", "3", "cols=+scoresums", "--xchr-model", "1", "--out", str(out)]
    subprocess.run(
        [*read, "--bad-freqs", "--score", str(out.parent / "score"), *columns], check=True, capture_output=True
    )
    return pd.read_csv(f"{out}.sscore", sep="\t")["SCORE1_SUM"].to_numpy()


@pytest.mark.usefixtures("write_sexes")
def test_sums_are_those_of_plink2_and_of_a_second_formula(
    score: Score, write_vcf: WriteVcf, write_score: Callable[..., None], tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    records = simulated(rng)
    vcf = write_vcf("a.vcf", NAMES, records)
    effects = {name: drawn_effects(records, rng) for name in ("additive", "dominant", "recessive", "dosage")}
    weights = {name: rng.normal(size=len(records)) for name in effects}
    additive = lines_of(records, effects["additive"], weights["additive"])
    write_score("additive", additive)
    for kind in ("dominant", "recessive"):
        lines = lines_of(records, effects[kind], weights[kind])
        write_score(kind, [(*line, "True") for line in lines], [*COLUMNS, f"is_{kind}"])
    dosage = rng.normal(size=(len(records), 3))
    named = [f"dosage_{copies}_weight" for copies in range(3)]
    lines = lines_of(records, effects["dosage"], weights["dosage"])
    write_score(
        "dosage",
        [(*line[:4], *map(repr, map(float, w))) for line, w in zip(lines, dosage, strict=True)],
        [*COLUMNS[:4], *named],
    )

    written, totals, matches = score()
    assert all(count["overlap"] == 1 for count in written.counts["scores"].values())
    shapes = {"additive": (0, 1, 2), "dominant": (0, 1, 1), "recessive": (0, 0, 1)}
    for kind, shape in shapes.items():
        expected = by_hand(records, effects[kind], np.outer(weights[kind], shape))
        np.testing.assert_allclose(totals[kind], expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(
        totals["dosage"], by_hand(records, effects["dosage"], dosage), rtol=1e-9, atol=1e-11
    )
    assert set(matches.loc[matches["score"] == "additive", "match_type"]) == {"refalt", "altref"}

    if shutil.which("plink2") is None:
        pytest.skip("plink2 is not installed")
    np.testing.assert_allclose(
        totals["additive"], plink2_sums(vcf, tmp_path / "out", additive), rtol=5e-6, atol=5e-5
    )


@pytest.mark.usefixtures("write_sexes")
def test_lines_are_matched_by_alleles_on_either_strand(
    score: Score, write_vcf: WriteVcf, write_score: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    calls = " ".join(["0/1"] * len(NAMES))
    sites = [
        "10 . A C",
        "20 . A G",
        "30 . A C",
        "40 . A G",
        "50 . A C",
        "60 . A G",
        "70 . A T",
        "80 . CTT CT",
        "90 . G C",
    ]
    write_vcf("a.vcf", NAMES, [f"chr1 {site} . PASS . GT {calls}" for site in sites])
    lines: Lines = [
        (1, 10, "A", "C", 1),  # REF is the effect allele
        (1, 20, "G", "A", 1),
        ("chr1", 30, "T", "G", 1),  # the other strand
        (1, 40, "c", "t", 1),
        (1, 50, "A", "", 1),  # no other allele
        (1, 60, "G", "", 1),
        (1, 60, "G", "A", 1),  # the variant again
        (1, 70, "A", "T", 1),  # alike on both strands
        (1, 80, "CTT", "CT", 1),  # as the VCF spells it
        (1, 90, "A", "C", 1),  # other alleles
        (1, 91, "A", "C", 1),  # nothing there
        (1, "", "A", "C", 1),
        (1, 10, "HLA-A*24", "", 1),
    ]
    write_score("s", lines)
    written, totals, matches = score(GENOMICS)
    expected = ["refalt", "altref", "refalt_flip", "altref_flip", "no_oa_ref", "no_oa_alt", "duplicate"]
    expected += ["ambiguous", "refalt", "unmatched", "unmatched", "unplaced", "complex"]
    found = matches.sort_values("line")
    assert found["match_type"].tolist() == expected
    assert found["line"].tolist() == list(range(3, 16))
    assert found.loc[found["line"] == 11, "variant_key"].tolist() == ["GRCh37:1:80:CT:C"]
    assert written.counts["scores"]["s"]["overlap"] == round(7 / 13, 4)
    assert "1 scores have several lines of a variant, of which the first counts" in caplog.text
    assert totals["s"].tolist() == [7.0] * len(NAMES)

    kept = PolygenicSettings(paths=["*.txt"], minimum_overlap=0.5, keep_ambiguous=True)
    _, totals, matches = score(GENOMICS.model_copy(update={"scores": kept}))
    assert matches.sort_values("line")["match_type"].tolist()[7] == "refalt"
    assert totals["s"].tolist() == [8.0] * len(NAMES)


@pytest.mark.usefixtures("write_sexes")
def test_where_alts_share_a_site_ref_is_what_they_all_leave(
    score: Score, write_vcf: WriteVcf, write_score: Callable[..., None]
) -> None:
    calls = ["0/0", "0/1", "1/2", "2/2", "1/1", "0/2", "2/3", "3/3"]
    write_vcf("a.vcf", NAMES[:8], [f"1 10 . A C,G,T . PASS . GT {' '.join(calls)}"])
    write_score("of_ref", [(1, 10, "A", "G", 0.5)])
    write_score("of_alt", [(1, 10, "G", "A", 0.5)])
    write_score(
        "recessive_ref", [(1, 10, "A", "G", 0.5, "TRUE"), (1, 10, "C", "A", 1, "")], [*COLUMNS, "is_recessive"]
    )
    _, totals, matches = score(names=NAMES[:8])
    assert totals["of_ref"].tolist() == [0.5 * call.count("0") for call in calls]
    assert totals["of_alt"].tolist() == [0.5 * call.count("2") for call in calls]
    assert totals["recessive_ref"].tolist() == [call.count("1") for call in calls]
    assert matches.set_index(["score", "line"]).loc[("recessive_ref", 3), "match_type"] == "complex"


@pytest.mark.usefixtures("write_sexes")
def test_a_repeat_with_a_gain_and_a_loss_is_not_guessed_at(
    score: Score, write_vcf: WriteVcf, write_score: Callable[..., None]
) -> None:
    calls = "0/0 0/1 0/2 1/2 2/2 1/1"
    write_vcf(
        "a.vcf",
        NAMES[:6],
        [f"1 30 . CTT CT,CTTT . PASS . GT {calls}", f"1 50 . A C . PASS . GT {calls}".replace("2", "1")],
    )
    for name, (effect, other) in {"loss": ("CT", "CTT"), "gain": ("CTTT", "CTT"), "ref": ("CTT", "CT")}.items():
        write_score(name, [(1, 30, effect, other, 1), (1, 50, "C", "A", 1)])
    _, totals, matches = score(names=NAMES[:6])
    assert matches.loc[matches["position"] == 30, "match_type"].tolist() == ["ambiguous"] * 3
    assert totals["loss"].tolist() == [0, 1, 1, 2, 2, 2]


@pytest.mark.usefixtures("write_sexes")
def test_blocks_of_samples_and_variants_that_one_lacks_are_scored_as_one_table(
    score: Score, write_vcf: WriteVcf, write_score: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(8)
    records = simulated(rng)
    lacking = {12, 75, 90, 115}  # on 1, twice on X, on Y: not in the second file
    rows = [record.split(" ") for record in records]
    write_vcf("a.vcf", NAMES[:20], [" ".join(row[:29]) for row in rows])
    write_vcf(
        "b.vcf", NAMES[20:], [" ".join(row[:9] + row[29:]) for i, row in enumerate(rows) if i not in lacking]
    )
    effects, weights = drawn_effects(records, rng), rng.normal(size=len(records))
    write_score("s", lines_of(records, effects, weights))
    _, totals, _ = score()
    missing = [" ".join(row[:29] + ["./."] * 20) if i in lacking else " ".join(row) for i, row in enumerate(rows)]
    np.testing.assert_allclose(
        totals["s"], by_hand(missing, effects, np.outer(weights, (0, 1, 2))), rtol=1e-9, atol=1e-11
    )
    assert "these count as average" not in caplog.text
    write_vcf("b.vcf", NAMES[20:], [" ".join(row[:9] + row[29:]) for row in rows[: len(rows) // 3]])
    score()
    assert "the 20 people of 1 batches have no calls at more than 50% of the" in caplog.text


ScoreAfterControl = Callable[[QualitySettings], Written]


@pytest.fixture
def score_after_control(
    spark: SparkSession, lake: Location, raw: Path, keyer: PersonKeyer, ingest: Ingest
) -> ScoreAfterControl:
    """Ingest, control quality with these limits, and score."""

    def run(limits: QualitySettings) -> Written:
        genomics = GENOMICS.model_copy(update={"quality": limits})
        wrote = dict(ingest(genomics)[0].tables)
        root = Location.parse(str(raw))
        settings = Settings.model_construct(name="tests", raw=root.uri, lake=lake.uri, genomics=genomics)
        runs = SimpleNamespace(version=wrote.__getitem__)
        control = control_quality(spark, lake, runs, settings, keyer)  # type: ignore[arg-type]
        wrote.update(control.tables)
        judged = SimpleNamespace(read={name: wrote[name] for name in JUDGED}, counts=control.counts)
        runs.publisher = lambda _: judged
        files = [file for file in root.files() if file.path.endswith(".txt")]
        return score_genomes(spark, lake, runs, settings, keyer, files)  # type: ignore[arg-type]

    return run


@pytest.mark.usefixtures("write_sexes")
def test_a_variant_that_nobody_who_passed_was_called_at_is_left_out(
    lake: Location,
    write_vcf: WriteVcf,
    write_score: Callable[..., None],
    score_after_control: ScoreAfterControl,
) -> None:
    calls = [" ".join(["./.", *["0/1"] * (len(NAMES) - 1)])] * 4
    calls.append(" ".join(["0/1", *["./."] * (len(NAMES) - 1)]))
    write_vcf("a.vcf", NAMES, [f"1 {100 + row} . A C . PASS . GT {own}" for row, own in enumerate(calls)])
    write_score("s", [("1", 100 + row, "C", "A", 1) for row in range(5)])
    written = score_after_control(QualitySettings(minimum_sample_call_rate=0.7))
    assert written.counts["scores"]["s"]["match_types"] == {"altref": 4, "unusable": 1}
    found = DeltaTable(f"{lake.uri}/polygenic_scores", version=written.tables["polygenic_scores"]).to_pandas()
    assert found["total"].tolist() == [4.0] * (len(NAMES) - 1)


@pytest.mark.usefixtures("write_sexes")
def test_scores_of_who_and_what_passed_quality_control_alone(
    lake: Location,
    keyer: PersonKeyer,
    write_vcf: WriteVcf,
    write_score: Callable[..., None],
    score_after_control: ScoreAfterControl,
) -> None:
    rng = np.random.default_rng(9)
    rows = [record.split(" ") for record in simulated(rng)]
    for row in rows[::2]:
        row[9 + 3] = "./."  # the fourth sample is called badly, and one variant did not pass
    rows[1][6] = "q10"
    rows = [row for row in rows if row[0] == "1"]
    crowded = ["0/0", "1/1", "0/2", "./.", *["0/1"] * (len(NAMES) - 4)]
    rows.append(["1", "700", ".", "A", "C,G", ".", "PASS", ".", "GT", *crowded])
    write_vcf("a.vcf", NAMES, [" ".join(row) for row in rows])
    lines = [(row[0], row[1], row[4], row[3], 1 + number) for number, row in enumerate(rows[:-1])]
    # Of the ALTs of the last site one is too rare: what REF has there cannot be told from the other alone.
    write_score("s", [*lines, ("1", 700, "A", "C", 100)])
    limits = QualitySettings(minimum_sample_call_rate=0.7, minimum_allele_frequency=0.02)
    written = score_after_control(limits)
    found = DeltaTable(f"{lake.uri}/polygenic_scores", version=written.tables["polygenic_scores"]).to_pandas()
    usable = DeltaTable(f"{lake.uri}/qc_variants").to_pandas()
    left = [index for index in range(len(NAMES)) if index != 3]
    assert set(found["person_key"]) == {keyer.person_key(NAMES[index]) for index in left}
    kinds = written.counts["scores"]["s"]["match_types"]
    lost = len(lines) - usable["position"].isin([int(row[1]) for row in rows[:-1]]).sum()
    assert kinds["unusable"] == lost + 1
    # By hand, over the people who are left: the mean where a call is missing.
    codes = codes_of([" ".join(row) for row in rows[:-1]]).astype(float)[:, left]
    codes[codes < 0] = np.nan
    codes = np.where(np.isnan(codes), np.nanmean(codes, axis=1, keepdims=True), codes)
    passed = np.isin([int(row[1]) for row in rows[:-1]], usable["position"])
    expected = (codes * passed[:, None] * np.array([line[4] for line in lines])[:, None]).sum(axis=0)
    totals = found.set_index("person_key")["total"]
    ours = totals[[keyer.person_key(NAMES[index]) for index in left]]
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


@pytest.mark.usefixtures("write_sexes")
def test_a_score_with_too_few_variants_is_left_out_and_a_wrong_weight_stops_the_job(
    score: Score, write_vcf: WriteVcf, write_score: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    write_vcf("a.vcf", NAMES[:2], ["1 10 . A C . PASS . GT 0/1 1/1"])
    write_score("a_few", [(1, 10, "C", "A", 5), (1, 11, "C", "A", 1), (1, 12, "C", "A", 1)])
    with pytest.raises(DataGateError, match="of no score 50% of the lines were matched"):
        score(names=NAMES[:2])
    write_score("enough", [(1, 10, "C", "A", 1), (1, 11, "C", "A", 1)])
    written, totals, _ = score(names=NAMES[:2])
    assert written.counts["left_out"] == ["a_few"]
    assert totals.columns.tolist() == ["enough"]
    assert totals["enough"].tolist() == [1, 2]
    assert "score a_few: 33.3% of its 3 lines were matched" in caplog.text
    write_score("enough", [(1, 10, "C", "A", 1), (1, 11, "C", "A", "inf")])
    with pytest.raises(DataGateError, match=r"enough\S*, line 4: wrong weight"):
        score(names=NAMES[:2])


LIFTED = [
    ("1", 500, "A", "C", 1100),
    ("1", 510, "G", "A", 1090),
    ("1", 520, "A", "T", 1080),
    ("1", 530, "C", "G", 1070),
    ("1", 540, "AC", "TG", 1059),
    ("1", 700, "A", "C", 2700),
    ("1", 710, "A", "T", 2710),
    ("1", 720, "CTT", "C", 2720),
    ("X", 5_000_000, "C", "T", 5_200_000),
    ("X", 5_000_010, "G", "C", 5_200_010),
]
"""Contig, position, REF and ALT in GRCh38, and the position in GRCh37; up to 600 on the other strand there."""
CHAINS = [plain("chr1", 999, 499, 101, "-"), plain("chr1", 2699, 699, 50), plain("chrX", 5_199_999, 4_999_999, 50)]
UNLIFTED = {
    (1, 5, "A", "C"): "lift_no_chain",
    ("MT", 300, "A", "C"): "lift_no_chain",
    (1, 2748, "AC", "A"): "refalt",
    (1, 2749, "AC", "A"): "lift_split",
    (1, 1001, "AC", "A"): "lift_reversed_indel",
    (2, 1, "A", "C"): "lift_other_contig",
    (2, 15, "A", "C"): "lift_deleted",
    (1, "", "A", "C"): "unplaced",
}
LIFTING = GENOMICS.model_copy(
    update={
        "build": "GRCh38",
        "scores": PolygenicSettings(
            paths=["*.txt"], minimum_overlap=0.5, keep_ambiguous=True, chains={"GRCh37": "37to38.chain.gz"}
        ),
    }
)


def in_grch37(allele: str, position: int) -> str:
    return allele[::-1].translate(str.maketrans("ACGT", "TGCA")) if position < 600 else allele


@pytest.mark.usefixtures("write_sexes")
def test_sums_of_lifted_lines_are_those_of_the_same_lines_written_in_the_studys_build(
    score: Score, raw: Path, write_vcf: WriteVcf, write_score: Callable[..., None]
) -> None:
    rng = np.random.default_rng(12)
    records = [
        f"{chrom} {at} . {ref} {alt} . PASS . GT {' '.join(rng.choice(['0/0', '0/1', '1/1', './.'], len(NAMES)))}"
        for chrom, at, ref, alt, _ in [*LIFTED, ("1", 748, "AC", "A", 0)]
    ]
    write_vcf("a.vcf", NAMES, records)
    elsewhere = Drawn("chr2", 0, "chr2_alt", 0, "+", [(10, 10, 0), (10, 0, 0)])
    (raw / "37to38.chain.gz").write_bytes(gzip.compress("".join(c.text() for c in [*CHAINS, elsewhere]).encode()))
    own: Lines = []
    other: Lines = []
    for (chrom, at, ref, alt, there), weight in zip(LIFTED, rng.normal(size=len(LIFTED)), strict=True):
        effect, rest = (ref, alt) if rng.uniform() < 0.5 else (alt, ref)
        own.append((chrom, at, effect, rest, weight))
        other.append((f"chr{chrom}", there, in_grch37(effect, at), in_grch37(rest, at), weight))
    write_score("by_hand", [*own, (1, 748, "AC", "A", 1)], header="#genome_build=GRCh38\n")
    write_score("lifted", [*other, *((*line, 1) for line in UNLIFTED)], header="#genome_build=hg19\n")

    written, totals, matches = score(LIFTING)
    np.testing.assert_allclose(totals["lifted"], totals["by_hand"], rtol=1e-12, atol=1e-12)
    assert totals["by_hand"].nunique() > 10
    found = matches[matches["score"] == "lifted"].sort_values("line")
    by_hand = matches[matches["score"] == "by_hand"].sort_values("line")
    matched, rest = found.iloc[: len(own)], found.iloc[len(own) :]
    assert set(matched["match_type"]) == {"refalt", "altref"}
    assert matched["variant_key"].tolist() == by_hand["variant_key"].tolist()[: len(own)]
    assert matched["lifted_strand"].tolist() == ["-"] * 5 + ["+"] * 5
    assert rest["match_type"].tolist() == list(UNLIFTED.values())
    assert rest.loc[rest["match_type"] != "refalt", ["contig", "position", "variant_key"]].isna().all(axis=None)
    assert by_hand["lifted_strand"].isna().all()

    counts = written.counts["scores"]
    assert counts["by_hand"]["lifted"] == {}
    assert counts["lifted"]["lifted"] == {"-": 5, "+": 6}
    assert counts["lifted"]["lines"] == sum(counts["lifted"]["match_types"].values()) == len(other) + len(UNLIFTED)
    assert counts["lifted"]["match_types"]["lift_no_chain"] == 2
    assert counts["lifted"]["overlap"] == round(11 / 18, 4)  # what cannot be lifted counts as not matched


def test_scores_of_other_genomes_limits_or_settings_are_refused() -> None:
    wanted = PolygenicSettings(paths=["*.txt"])
    genomics = GenomicsSettings(paths=["*"], build="GRCh38", scores=wanted)

    def runs(read: dict[str, int], settings: PolygenicSettings) -> Runs:
        counts: dict[str, object] = {"settings": settings.model_dump_json()}
        return made_of("score_genomes", read, ("polygenic_scores", "score_matches"), counts)

    now = dict.fromkeys(("variants", "genotypes", "samples"), 1)
    check_current(runs(now, wanted), genomics)
    with pytest.raises(DataGateError, match="before the genomes were last ingested or judged; run score_genomes"):
        check_current(runs(now | {"variants": 0}, wanted), genomics)
    with pytest.raises(DataGateError, match="by other settings; run score_genomes first"):
        check_current(runs(now, PolygenicSettings(paths=["*.txt"], minimum_overlap=0.5)), genomics)


@pytest.mark.usefixtures("write_sexes")
def test_a_file_of_another_build_needs_a_chain_file_that_is_sound(
    score: Score, raw: Path, write_vcf: WriteVcf, write_score: Callable[..., None], keyer: PersonKeyer
) -> None:
    write_vcf("a.vcf", NAMES[:2], ["1 500 . A C . PASS . GT 0/1 1/1"])
    write_score("s", [(1, 1100, "T", "G", 1)], header="#genome_build=NCBI36\n")
    (raw / "37to38.chain.gz").write_text(CHAINS[0].text())
    with pytest.raises(
        DataGateError, match=r"positions are of NCBI36.*name a chain file in .*scores.chains.NCBI36"
    ):
        score(LIFTING, NAMES[:2])
    named = keyer.path_digest("37to38.chain.gz")
    (raw / "37to38.chain.gz").write_text("no chain")
    with pytest.raises(DataGateError, match=f"^file {named} of genomics.scores.chains.GRCh37, line 1: expected"):
        score(LIFTING, NAMES[:2])
    (raw / "37to38.chain.gz").unlink()
    with pytest.raises(
        DataGateError, match=f"^file {named} of genomics.scores.chains.GRCh37 is not below the raw"
    ):
        score(LIFTING, NAMES[:2])


def test_a_real_score_of_3202_people_is_plink2s(
    spark: SparkSession, lake: Location, raw: Path, ingest: Ingest, tmp_path: Path
) -> None:
    if not CATALOG.exists():
        pytest.skip(f"the PGS Catalog's files are not at {CATALOG}")
    if shutil.which("plink2") is None:
        pytest.skip("plink2 is not installed")
    (raw / "a.vcf").write_bytes(stored("pgscatalog.calc/tests/data/vcf/tiny1000G.vcf.gz"))
    lines = gzip.decompress(stored("pgscatalog.calc/tests/data/structured/PGS001229_hmPOS_GRCh38.txt.gz"))
    (raw / "PGS001229.txt").write_bytes(b"#genome_build=GRCh38\n" + lines)
    wanted = PolygenicSettings(paths=["*.txt"], minimum_overlap=0.01)
    genomics = GenomicsSettings(paths=["*.vcf"], build="GRCh38", scores=wanted)
    keyer = PersonKeyer(bytes(range(32)), IdentitySettings(namespace="kg"))
    runs = SimpleNamespace(version=ingest(genomics, keyer)[0].tables.__getitem__)
    root = Location.parse(str(raw))
    settings = Settings.model_construct(name="tests", raw=root.uri, lake=lake.uri, genomics=genomics)
    files = [file for file in root.files() if file.path == "PGS001229.txt"]
    written = score_genomes(spark, lake, runs, settings, keyer, files)  # type: ignore[arg-type]
    versions = written.tables.items()
    tables = {table: DeltaTable(f"{lake.uri}/{table}", version=version).to_pandas() for table, version in versions}

    # Those that agree with a line of the file letter by letter, found without Spark, and no other line is matched.
    vcf = pd.read_csv(raw / "a.vcf", sep="\t", comment="#", header=None, usecols=[2], compression="gzip")[2]
    file = pd.read_csv(raw / "PGS001229.txt", sep="\t", comment="#", dtype={"chr_name": str, "chr_position": str})
    at = file["chr_name"] + ":" + file["chr_position"] + ":"
    either = [
        at + file[a] + ":" + file[b]
        for a, b in (("effect_allele", "other_allele"), ("other_allele", "effect_allele"))
    ]
    alike = file[["effect_allele", "other_allele"]].agg("".join, axis=1).isin(["AT", "TA", "CG", "GC"])
    known = [ids.isin(vcf) & ~alike for ids in either]
    by_id = [
        pd.DataFrame(
            {"id": ids[own], "allele": file.loc[own, "effect_allele"], "weight": file.loc[own, "effect_weight"]}
        )
        for ids, own in zip(either, known, strict=True)
    ]
    expected = pd.concat(by_id)
    matched = tables["score_matches"].dropna(subset="variant_key").query("match_type in ('refalt', 'altref')")
    assert len(matched) > 500
    assert sorted(matched["variant_key"].str.removeprefix("GRCh38:")) == sorted(expected["id"])
    turned = tables["score_matches"].loc[tables["score_matches"]["match_type"].str.endswith("_flip")]
    assert len(turned) == 3
    bases = turned["variant_key"].str.split(":", expand=True)
    effects = turned["effect_allele"].str.translate(str.maketrans("ACGT", "TGCA"))
    assert (effects.eq(bases[3]) | effects.eq(bases[4])).all()
    on_vcf = pd.DataFrame(
        {"id": turned["variant_key"].str.removeprefix("GRCh38:"), "allele": effects, "weight": turned["weight"]}
    )
    expected = pd.concat([expected, on_vcf])

    expected.to_csv(tmp_path / "score", sep="\t", header=False, index=False)
    command = [
        "plink2",
        "--vcf",
        str(raw / "a.vcf"),
        "--score",
        str(tmp_path / "score"),
        "1",
        "2",
        "3",
        "cols=+scoresums",
    ]
    subprocess.run([*command, "--out", str(tmp_path / "out")], check=True, capture_output=True)
    sums = pd.read_csv(tmp_path / "out.sscore", sep="\t")
    people = [keyer.person_key(name) for name in sums["#IID"]]
    totals = tables["polygenic_scores"].set_index("person_key").loc[people, "total"]
    np.testing.assert_allclose(totals, sums["SCORE1_SUM"], rtol=5e-6, atol=5e-6)


def test_dosages_are_summed_as_plink2_sums_them(
    score: Score, raw: Path, write_score: Callable[..., None], tmp_path: Path
) -> None:
    """Additive with missing values, on X, Y and MT too; dominant and recessive where a value is between two whole
    numbers and none is missing, for there plink2 takes another mean."""
    if shutil.which("plink2") is None:
        pytest.skip("plink2 is not installed")
    rng = np.random.default_rng(8)
    vcf = imputed.write(raw, "DS")
    records = imputed.records("DS")
    complete = {record.split(" ")[2] for record in records if record.startswith("1 ") and "./." not in record}
    assert 3 < len(complete) < 30
    lines = lines_of(records, drawn_effects(records, rng), rng.normal(size=len(records)))
    chosen = {
        kind: [line for line in lines if kind == "additive" or f"{line[0]}_{line[1]}" in complete]
        for kind in ("additive", "dominant", "recessive")
    }
    write_score("additive", lines)
    for kind in ("dominant", "recessive"):
        write_score(kind, [(*line, "True") for line in chosen[kind]], [*COLUMNS, f"is_{kind}"])
    _, totals, _ = score(GENOMICS.model_copy(update={"dosages": "DS"}), imputed.NAMES)
    read = ["plink2", "--vcf", str(vcf), "dosage=DS", "--psam", str(raw / "sexes.psam"), "--split-par", "hg19"]
    for kind, own in chosen.items():
        out = tmp_path / kind
        out.write_text("".join(f"{c}_{at}\t{effect}\t{weight}\n" for c, at, effect, _, weight in own))
        columns = ["1", "2", "3", *([] if kind == "additive" else [kind]), "cols=+scoresums", "--xchr-model", "1"]
        flags = [*read, "--bad-freqs", "--score", str(out), *columns, "--out", str(out)]
        subprocess.run(flags, check=True, capture_output=True)
        sums = pd.read_csv(f"{out}.sscore", sep="\t")["SCORE1_SUM"].to_numpy()
        np.testing.assert_allclose(totals[kind], sums, rtol=5e-6, atol=5e-5)


def test_a_missing_dosage_has_the_mean_weight(
    score: Score, raw: Path, write_vcf: WriteVcf, write_score: Callable[..., None]
) -> None:
    """Of those known: recessive, 0.8 of the five who carry 1.8; also where no dosage makes a call."""
    imputed.write_sexes(raw)
    names, calls = imputed.NAMES[:10], ["0/1:1.8"] * 5 + ["0/0:0"] * 4 + ["./.:."]
    write_vcf(
        "a.vcf", names, [f"1 5 . A C . . . GT:DS {' '.join(calls)}", "1 6 . A C . . . DS 1.5 " + "1.5 " * 8 + "."]
    )
    for name, at in (("called", 5), ("uncalled", 6)):
        write_score(name, [(1, at, "C", "A", 1, "True")], [*COLUMNS, "is_recessive"])
    _, totals, _ = score(GENOMICS.model_copy(update={"dosages": "DS"}), names)
    np.testing.assert_allclose(totals["called"], [0.8] * 5 + [0] * 4 + [0.8 * 5 / 9], atol=1e-4)
    np.testing.assert_allclose(totals["uncalled"], [0.5] * 10)
