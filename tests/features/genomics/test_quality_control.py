"""Limits on samples and variants leave out what plink2 leaves out, and count the rest as it does."""

import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
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
from features.contract.runs import Run, Runs
from features.contract.settings import (
    GenomicsSettings,
    QualitySettings,
    RelativesSettings,
    SampleGroup,
    SampleSexes,
    Settings,
)
from features.genomics.quality_control import check_current, control_quality
from features.lake import Written
from tests.features.genomics.conftest import Ingest, WriteVcf

PEOPLE = 120
NAMES = [f"A-{i}" for i in range(PEOPLE)]
SEXES = np.array(["1", "2"]).repeat(PEOPLE // 2)
PLACES = [
    *(("1", 1000 + i) for i in range(150)),
    *(("X", 5_000_000 + i) for i in range(60)),
    *(("Y", 6_000_000 + i) for i in range(20)),
    *(("MT", 300 + i) for i in range(20)),
]
LIMITS = QualitySettings(
    minimum_sample_call_rate=0.85,
    minimum_variant_call_rate=0.9,
    minimum_hwe_mid_p=0.01,
    minimum_allele_frequency=0.05,
)
START = datetime(2026, 1, 1, tzinfo=UTC)
Control = Callable[..., tuple[Written, dict[str, pd.DataFrame]]]
Plink = partial[Path]


def simulated() -> list[str]:
    """Some people and variants are called badly; some variants are rare, out of equilibrium or did not pass."""
    rng = np.random.default_rng(21)
    bad_people = rng.uniform(size=PEOPLE) < 0.1
    records = []
    for chrom, at in PLACES:
        frequency, inbreeding = rng.choice([0.02, 0.06, 0.3]), rng.choice([0, 0.5], p=[0.8, 0.2])
        lost = rng.choice([0.02, 0.25], p=[0.8, 0.2])
        passed = rng.choice(["PASS", ".", "q10"], p=[0.6, 0.3, 0.1])
        calls = []
        for sex, bad in zip(SEXES, bad_people, strict=True):
            alleles = (rng.uniform(size=2) < frequency).astype(int)
            if rng.uniform() < inbreeding:
                alleles[1] = alleles[0]
            one = chrom in ("Y", "MT") or (chrom == "X" and sex == "1")
            absent = rng.uniform() < lost + 0.15 * bad + 0.5 * (bad and passed == "q10")
            calls.append("./." if absent else str(alleles[0]) if one else "{}/{}".format(*alleles))
        records.append(f"{chrom} {at} {chrom}_{at} A C . {passed} . GT {' '.join(calls)}")
    return records


@pytest.fixture
def control(spark: SparkSession, lake: Location, raw: Path, keyer: PersonKeyer, ingest: Ingest) -> Control:
    """Ingest the VCF files, then judge them; what was written, and the tables of both by name."""

    def run(limits: QualitySettings) -> tuple[Written, dict[str, pd.DataFrame]]:
        sexes = SampleSexes(path="sexes.psam")
        genomics = GenomicsSettings(paths=["*.vcf"], build="GRCh37", sexes=sexes, quality=limits)
        ingested, tables = ingest(genomics)
        runs = SimpleNamespace(version=ingested.tables.__getitem__)
        root = Location.parse(str(raw))
        settings = Settings.model_construct(name="tests", raw=root.uri, lake=lake.uri, genomics=genomics)
        written = control_quality(spark, lake, runs, settings, keyer)  # type: ignore[arg-type]
        versions = written.tables.items()
        return written, tables | {
            table: DeltaTable(f"{lake.uri}/{table}", version=version).to_pandas() for table, version in versions
        }

    return run


@pytest.fixture
def plink(tmp_path: Path, raw: Path) -> Plink:
    """plink2 on one file of all people; where its reports are."""
    if shutil.which("plink2") is None:
        pytest.skip("plink2 is not installed")

    def run(*flags: str, vcf: Path) -> Path:
        psam, out = raw / "sexes.psam", tmp_path / "out"
        read = ["plink2", "--vcf", vcf, "--psam", psam, "--split-par", "hg19", "--bad-freqs"]
        subprocess.run([*map(str, read), *flags, "--out", str(out)], check=True, capture_output=True)
        return out

    return partial(run, vcf=tmp_path / "all.vcf")


@pytest.fixture
def two_blocks(tmp_path: Path, raw: Path, write_vcf: WriteVcf) -> None:
    """The simulated calls in one file for plink2, and in one for each half of the people."""
    records = [record.split(" ") for record in simulated()]
    write_vcf("all.vcf", NAMES, map(" ".join, records)).rename(tmp_path / "all.vcf")
    for name, start, stop in (("a.vcf", 0, 50), ("b.vcf", 50, PEOPLE)):
        write_vcf(name, NAMES[start:stop], [" ".join(row[:9] + row[9 + start : 9 + stop]) for row in records])
    rows = (f"{name}\t{sex}\t{number % 3}\n" for number, (name, sex) in enumerate(zip(NAMES, SEXES, strict=True)))
    (raw / "sexes.psam").write_text("#IID\tSEX\tGROUP\n" + "".join(rows))


def kept(tables: dict[str, pd.DataFrame]) -> set[str]:
    return set(tables["qc_variants"]["rsid"])


@pytest.mark.usefixtures("two_blocks")
def test_what_is_left_is_what_plink2_leaves(control: Control, plink: Plink, keyer: PersonKeyer) -> None:
    written, tables = control(LIMITS)
    flags = ["--var-filter", "--mind", "0.15", "--geno", "0.1", "--hwe", "0.01", "midp", "--maf", "0.05"]
    out = plink(*flags, "--make-just-pvar", "--make-just-psam")
    people = pd.read_csv(f"{out}.psam", sep="\t")["#IID"]
    variants = [line.split("\t") for line in Path(f"{out}.pvar").read_text().splitlines() if line[0] != "#"]
    assert set(tables["qc_samples"]["person_key"]) == {keyer.person_key(name) for name in people}
    assert kept(tables) == {row[2] for row in variants}
    # Each rule had something to do, and what it left out is told of.
    excluded, attrition = tables["qc_excluded"], tables["qc_attrition"].sort_values("step")
    assert attrition["rule"].tolist() == [
        "pass_only",
        *(name for name, limit in LIMITS if isinstance(limit, float)),
    ]
    assert attrition["excluded"].tolist() == [(excluded["rule"] == rule).sum() for rule in attrition["rule"]]
    assert (attrition["excluded"] > 0).all()
    assert attrition["remained"].tolist()[1:] == [
        len(tables["qc_samples"]),
        *attrition["entered"].tolist()[3:],
        len(tables["qc_variants"]),
    ]
    assert attrition["entered"].tolist()[:3] == [len(PLACES), PEOPLE, attrition["remained"].iloc[0]]
    low = excluded.dropna(subset="value").merge(tables["qc_attrition"], on="rule")
    assert (low["value"] < low["minimum"]).all() and len(low) == (attrition["excluded"].iloc[1:]).sum()
    counts = written.counts
    assert counts["samples"]["excluded"] == {"minimum_sample_call_rate": PEOPLE - len(tables["qc_samples"])}
    assert (counts["variants"]["judged"], counts["variants"]["usable"]) == (len(PLACES), len(variants))


@pytest.mark.usefixtures("two_blocks")
def test_what_is_left_is_counted_anew_as_plink2_counts_it(control: Control, plink: Plink) -> None:
    _, tables = control(LIMITS)
    out = plink("--var-filter", "--mind", "0.15", "--freq", "--hardy", "midp", "--missing", "variant-only")
    found = tables["qc_variants"].set_index("rsid").sort_index()
    frequencies = pd.read_csv(f"{out}.afreq", sep="\t").set_index("ID").loc[found.index]
    np.testing.assert_array_equal(found["allele_number"], frequencies["OBS_CT"])
    np.testing.assert_allclose(found["allele_frequency"], frequencies["ALT_FREQS"], rtol=5e-6)
    missing = pd.read_csv(f"{out}.vmiss", sep="\t").set_index("ID").loc[found.index]
    np.testing.assert_array_equal(found["n_missing"], missing["MISSING_CT"])
    for report, contig in (("hardy", "1"), ("hardy.x", "X")):
        p = pd.read_csv(f"{out}.{report}", sep="\t").set_index("ID")["MIDP"]
        own = found.loc[found["contig"] == contig, "hwe_mid_p"]
        np.testing.assert_allclose(own, p[own.index], rtol=5e-6)


@pytest.mark.usefixtures("two_blocks")
def test_equilibrium_is_judged_in_the_group_alone(control: Control, plink: Plink, tmp_path: Path) -> None:
    group = SampleGroup(path="sexes.psam", column="GROUP", values=["1", "2"])
    limits = QualitySettings(pass_only=False, minimum_hwe_exact_p=0.01, hwe_group=group)
    _, tables = control(limits)
    (tmp_path / "keep").write_text("".join(f"{name}\n" for number, name in enumerate(NAMES) if number % 3))
    out = plink("--keep", str(tmp_path / "keep"), "--hardy")
    p = pd.concat(
        [pd.read_csv(f"{out}.{report}", sep="\t").set_index("ID")["P"] for report in ("hardy", "hardy.x")]
    )
    haploid = {f"{chrom}_{at}" for chrom, at in PLACES if chrom in ("Y", "MT")}
    assert kept(tables) == set(p[p >= 0.01].index) | haploid
    found = tables["qc_variants"].set_index("rsid")["hwe_exact_p"].dropna()
    np.testing.assert_allclose(found, p[found.index], rtol=5e-6)
    # All else is of everyone.
    everyone = tables["variants"].set_index("rsid").loc[tables["qc_variants"]["rsid"]]
    assert tables["qc_variants"]["n_missing"].tolist() == everyone["n_missing"].tolist()


@pytest.mark.usefixtures("two_blocks")
def test_samples_are_judged_over_what_passed_and_a_variant_that_a_block_lacks_is_missing_there(
    control: Control, plink: Plink, keyer: PersonKeyer, raw: Path
) -> None:
    lines = (raw / "b.vcf").read_text().splitlines(keepends=True)
    data = [number for number, line in enumerate(lines) if not line.startswith("#")]
    lacking = {data[place] for place in (*range(20), 160, 230)}
    (raw / "b.vcf").write_text("".join(line for number, line in enumerate(lines) if number not in lacking))
    whole = plink.keywords["vcf"]
    records = [line.split("\t") for line in whole.read_text().splitlines()]
    for number in lacking:
        records[number][9 + 50 :] = ["./."] * (PEOPLE - 50)
    whole.write_text("".join("\t".join(record) + "\n" for record in records))
    group = SampleGroup(path="sexes.psam", column="GROUP", values=["1"])
    limits = QualitySettings(minimum_sample_call_rate=0.85, minimum_hwe_mid_p=0.001, hwe_group=group)
    _, tables = control(limits)
    out = plink("--var-filter", "--missing", "sample-only")
    rates = 1 - pd.read_csv(f"{out}.smiss", sep="\t").set_index("#IID")["F_MISS"]
    rates.index = rates.index.map(keyer.person_key)
    samples = tables["qc_samples"].set_index("person_key")["call_rate"]
    assert set(samples.index) == set(rates[rates >= 0.85].index)
    np.testing.assert_allclose(samples, rates[samples.index], rtol=5e-6)
    assert 10 < len(samples) < PEOPLE - 10
    # The group is tested without those of it who are left out.
    left = [
        name for number, name in enumerate(NAMES) if number % 3 == 1 and keyer.person_key(name) in samples.index
    ]
    (raw / "keep").write_text("".join(f"{name}\n" for name in left))
    out = plink("--keep", str(raw / "keep"), "--hardy", "midp")
    p = pd.read_csv(f"{out}.hardy", sep="\t").set_index("ID")["MIDP"]
    found = tables["qc_variants"].set_index("rsid").query("contig == '1'")["hwe_mid_p"]
    np.testing.assert_allclose(found, p[found.index], rtol=5e-6)


def test_what_equals_a_limit_is_left_and_on_y_women_have_no_call_rate_to_fall_short_of(
    control: Control, write_vcf: WriteVcf, raw: Path
) -> None:
    def calls(alts: int) -> str:
        return " ".join(["1/1"] * (alts // 2) + ["0/0"] * (10 - alts // 2))

    records = [f"1 {alts + 1} alts_{alts} A C . PASS . GT {calls(alts)}" for alts in (0, 2, 18, 20)]
    write_vcf("a.vcf", NAMES[:10], [*records, "Y 6000000 y A C . PASS . GT" + " ." * 10])
    (raw / "sexes.psam").write_text("#IID\tSEX\n" + "".join(f"{name}\t2\n" for name in NAMES[:10]))
    _, tables = control(QualitySettings(minimum_variant_call_rate=0.9, minimum_allele_frequency=0.1))
    assert kept(tables) == {"alts_2", "alts_18"}
    rules = tables["qc_excluded"].set_index("variant_key")["rule"]
    assert set(rules) == {"minimum_allele_frequency"} and len(rules) == 3


@pytest.mark.usefixtures("two_blocks")
def test_without_limits_all_that_passed_is_left_as_it_was(control: Control) -> None:
    _, tables = control(QualitySettings())
    own = tables["variants"].loc[tables["variants"]["filters"].str.len() == 0]
    same = [column for column in own.columns if column != "filters"]
    pd.testing.assert_frame_equal(
        tables["qc_variants"].sort_values("variant_key")[same].reset_index(drop=True),
        own.sort_values("variant_key")[same].reset_index(drop=True),
    )
    assert len(tables["qc_samples"]) == PEOPLE
    assert tables["qc_attrition"]["rule"].tolist() == ["pass_only"]


@pytest.mark.usefixtures("two_blocks")
def test_limits_that_leave_nothing_and_groups_that_are_none_stop_the_job(control: Control, raw: Path) -> None:
    with pytest.raises(DataGateError, match="minimum_sample_call_rate: no sample reaches it"):
        control(QualitySettings(minimum_sample_call_rate=1))
    nobody = SampleGroup(path="sexes.psam", column="GROUP", values=["controls"])
    with pytest.raises(
        DataGateError, match=r"hwe_group: of 0 listed people none is among .* is controls in column GROUP"
    ):
        control(QualitySettings(hwe_group=nobody, minimum_hwe_mid_p=0.1))
    with (raw / "sexes.psam").open("a") as file:
        file.write(f"{NAMES[0]}\t1\t2\n")
    with pytest.raises(
        DataGateError, match=r"hwe_group: file .*, line 122: this person had another value in GROUP"
    ):
        control(QualitySettings(hwe_group=nobody, minimum_hwe_mid_p=0.1))


def test_what_was_decided_on_older_tables_or_by_other_limits_is_not_used() -> None:
    def published(version: int, limits: QualitySettings) -> Runs:
        def run(job: str, read: dict[str, int], wrote: dict[str, int], **counts: object) -> Run:
            words = {name: str(number) for name, number in wrote.items()}
            return Run(job, job, START, "", "", "", read, words, counts=counts, finished=START)

        ingested = dict.fromkeys(("variants", "genotypes", "samples"), 3)
        read = ingested | {"samples": version}
        control = run("qc_genomes", read, {"qc_variants": 0}, limits=limits.model_dump_json(exclude_none=True))
        return Runs((run("ingest_genomics", {}, ingested), control))

    genomics = GenomicsSettings(paths=["*"], build="GRCh37", quality=LIMITS)
    check_current(published(3, LIMITS), genomics)
    with pytest.raises(
        DataGateError, match="made before the genomes were last ingested or judged; run qc_genomes"
    ):
        check_current(published(2, LIMITS), genomics)
    with pytest.raises(DataGateError, match="made by other settings; run qc_genomes first"):
        check_current(published(3, QualitySettings()), genomics)
    check_current(published(2, LIMITS), genomics.model_copy(update={"quality": None}))


@pytest.mark.parametrize(
    ("quality", "message"),
    [
        (
            {"hwe_group": {"path": "a", "column": "b", "values": ["c"]}},
            "give minimum_hwe_exact_p or minimum_hwe_mid_p",
        ),
        ({"hwe_group": {"path": "a", "column": "b", "values": []}, "minimum_hwe_mid_p": 0.1}, "at least 1 item"),
        ({"minimum_allele_frequency": 0.5}, "less than 0.5"),
        ({"minimum_hwe_mid_p": 2}, "less than or equal to 1"),
    ],
)
def test_limits_that_mean_nothing_are_refused(quality: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QualitySettings.model_validate(quality)


def test_somatic_calls_have_no_quality_of_a_population() -> None:
    with pytest.raises(ValueError, match="call rates and HWE mean nothing where genotypes are somatic"):
        GenomicsSettings(paths=["*"], build="GRCh37", somatic=True, quality=QualitySettings())


def test_somatic_calls_tell_no_kinship() -> None:
    with pytest.raises(ValueError, match="what tumours acquired tells neither"):
        GenomicsSettings(paths=["*"], build="GRCh37", somatic=True, relatives=RelativesSettings())
