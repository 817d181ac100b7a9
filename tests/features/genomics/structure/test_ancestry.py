"""The 1000 Genomes' axes are plink2's, and whoever had no part in them is told the right origin."""

import gzip
import shutil
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from features.contract.errors import ConfigError, DataGateError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.runs import Run, Runs
from features.contract.settings import (
    AncestrySettings,
    GenomicsSettings,
    IdentitySettings,
    PopulationLabels,
    RelativesSettings,
    Settings,
)
from features.genomics.ingestion.ingest import ingest_genomics
from features.genomics.structure.ancestry import (
    Genomes,
    _in_words,
    _kept,
    _limits,
    _names,
    _reference,
    check_current,
    infer_ancestry,
)
from features.lake import Written
from tests.command import SHARED
from tests.features.genomics.conftest import made_of, writer

DATA = SHARED / "thousand_genomes"
CALLS = DATA / "kg2504_23770snp.GRCh37.vcf.gz"
KEYER = PersonKeyer(bytes(range(32)), IdentitySettings(namespace="thousand_genomes", pattern="^(.+)$"))
LABELS = PopulationLabels(path="panel.tsv", id="sample", column="super_pop")
COMPONENTS = 6
Frames = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Lake:
    """A lake whose runs are published one after the other."""

    spark: SparkSession
    raw: Path
    lake: Location
    work: Location
    keyer: PersonKeyer
    rows: list[Run] = field(default_factory=list)

    def runs(self) -> Runs:
        return Runs(tuple(self.rows))

    def ingest(self, paths: list[str]) -> None:
        genomics = GenomicsSettings(paths=paths, build="GRCh37")
        root = Location.parse(str(self.raw))
        files = [file for file in root.files() if any(Path(file.path).match(path) for path in paths)]
        self._publish(
            "ingest_genomics", ingest_genomics(self.spark, self.lake, self.settings(genomics), self.keyer, files)
        )

    def infer(self, wanted: AncestrySettings) -> tuple[Written, Frames]:
        genomics = GenomicsSettings(paths=["*"], build="GRCh37", ancestry=wanted)
        written = infer_ancestry(
            self.spark, self.lake, self.runs(), self.settings(genomics), self.keyer, self.work
        )
        self._publish("infer_ancestry", written)
        return written, {name: self.table(name) for name in written.tables}

    def table(self, name: str) -> pd.DataFrame:
        return DeltaTable(f"{self.lake.uri}/{name}", version=self.runs().version(name)).to_pandas()

    def settings(self, genomics: GenomicsSettings) -> Settings:
        return Settings.model_construct(
            name="tests",
            raw=Location.parse(str(self.raw)).uri,
            lake=self.lake.uri,
            identity=self.keyer.identity,
            genomics=genomics,
        )

    def _publish(self, job: str, written: Written) -> None:
        now = datetime.now(UTC)
        tables = {name: str(version) for name, version in written.tables.items()}
        read = {name: int(run.wrote[name]) for run in self.rows for name in run.wrote}
        self.rows.append(
            Run(str(len(self.rows)), job, now, "c", "i", "v", read, tables, counts=written.counts, finished=now)
        )


def lake_in(folder: Path, spark: SparkSession, keyer: PersonKeyer) -> Lake:
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    lake, work = (Location.parse(str(folder / name)) for name in ("lake", "work"))
    return Lake(spark, folder / "raw", lake, work, keyer)


@dataclass(frozen=True)
class Thousand:
    """The 1000 Genomes, of whom every other person has a label."""

    lake: Lake
    panel: pd.DataFrame
    written: Written
    tables: Frames

    @property
    def ancestry(self) -> pd.DataFrame:
        """By sample, with whether it had a label, and its own population."""
        keys = [self.lake.keyer.person_key(name) for name in self.panel["sample"]]
        known = self.panel.assign(person_key=keys, labelled=np.arange(len(keys)) % 2 == 0)
        return known.merge(self.tables["ancestry"], on="person_key", validate="1:1").set_index("sample")


@pytest.fixture(scope="module")
def thousand(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Thousand:
    if not CALLS.exists():
        pytest.skip("shared/data/thousand_genomes is not here")
    lake = lake_in(tmp_path_factory.mktemp("thousand"), spark, KEYER)
    shutil.copy(CALLS, lake.raw / "all.vcf.gz")
    with gzip.open(CALLS, "rt") as calls:
        order = next(line for line in calls if line.startswith("#CHROM")).split()[9:]
    panel = pd.read_csv(DATA / "kg2504.panel.tsv", sep="\t").set_index("sample").loc[order].reset_index()
    shown = panel.assign(super_pop=np.where(np.arange(len(panel)) % 2 == 0, panel["super_pop"], ""))
    shown.to_csv(lake.raw / "panel.tsv", sep="\t", index=False)
    lake.ingest(["all.vcf.gz"])
    written, tables = lake.infer(AncestrySettings(components=COMPONENTS, populations=LABELS))
    return Thousand(lake, panel, written, tables)


def test_everyone_is_of_the_population_that_the_panel_says(thousand: Thousand) -> None:
    found = thousand.ancestry
    assert len(found) == 2504 and found["components"].notna().all()
    others = found[~found["labelled"]]
    told = others["population"].notna()
    assert told.mean() > 0.97
    assert (others["population"] == others["super_pop"])[told].mean() > 0.99
    probabilities = [dict(row) for row in others["probabilities"]]
    assert all(abs(sum(row.values()) - 1) < 1e-9 for row in probabilities)
    # Of those who are given a chance of 0.9 at least, so many are right.
    surest = np.array([max(row.values()) for row in probabilities])
    assert (surest[told] >= 0.9).all()
    counts: Any = thousand.written.counts
    in_axes = found["labelled"] & ~found["reference"]
    assert counts["axes"]["people"] == in_axes.sum() and abs(in_axes.sum() - 626) < 80
    assert counts["not_placed"] == 0 and not found["reference"][~found["labelled"]].any()
    # Those who are compared lie where the people that they are compared with do.
    assert 0.3 < others["typicality"].median() < 0.7
    assert sum(counts["populations"].values()) + counts["of_none"] == 2504
    assert sum(counts["labelled"].values()) == 1252


@pytest.mark.skipif(shutil.which("plink2") is None, reason="plink2 is not installed")
def test_axes_and_the_places_of_others_are_those_of_plink(thousand: Thousand, tmp_path: Path) -> None:
    found, axes = thousand.ancestry, thousand.tables["axes"]
    keys = axes["variant_key"].str.split(":")
    (tmp_path / "axes.txt").write_text("\n".join(keys.map(lambda parts: ":".join(parts[1:]))))
    for name, wanted in (("basis", found["labelled"] & ~found["reference"]), ("others", ~found["labelled"])):
        (tmp_path / f"{name}.txt").write_text("\n".join(found.index[wanted]))
    read = f"plink2 --vcf {CALLS} --extract {tmp_path}/axes.txt"
    pca = f"{read} --keep {tmp_path}/basis.txt --freq counts --pca {COMPONENTS} allele-wts --out {tmp_path}/basis"
    subprocess.run(pca.split(), check=True, capture_output=True)
    vectors = pd.read_csv(tmp_path / "basis.eigenvec", sep="\t").rename(columns=lambda name: name.lstrip("#"))
    ours = np.stack(found.loc[vectors["IID"], "components"].to_list())
    for axis in range(COMPONENTS):
        assert abs(np.corrcoef(ours[:, axis], vectors[f"PC{axis + 1}"])[0, 1]) > 0.9999
    theirs = np.loadtxt(tmp_path / "basis.eigenval")
    described: Any = thousand.written.counts["axes"]
    np.testing.assert_allclose(described["eigenvalues"], theirs, rtol=1e-4)
    np.testing.assert_allclose((ours**2).sum(0), theirs, rtol=1e-4)

    columns = " ".join(str(6 + axis) for axis in range(COMPONENTS))
    score = f"{read} --keep {tmp_path}/others.txt --read-freq {tmp_path}/basis.acount --out {tmp_path}/others"
    weights = f"--score {tmp_path}/basis.eigenvec.allele 2 5 header-read no-mean-imputation variance-standardize"
    numbers = f"--score-col-nums {columns.split()[0]}-{columns.split()[-1]}"
    subprocess.run(f"{score} {weights} {numbers}".split(), check=True, capture_output=True)
    projected = pd.read_csv(tmp_path / "others.sscore", sep="\t").rename(columns=lambda name: name.lstrip("#"))
    own = np.stack(found.loc[projected["IID"], "components"].to_list())
    for axis in range(COMPONENTS):
        assert abs(np.corrcoef(own[:, axis], projected[f"PC{axis + 1}_AVG"])[0, 1]) > 0.9999


PLACES = [(str(1 + at % 22), 1_000_000 * (1 + at // 22)) for at in range(400)]


FREQUENCY = np.random.default_rng(1).uniform(0.15, 0.85, (400, 2, 1))
"""Of two populations that drifted far apart."""


def genomes(population: int, people: int, seed: int) -> np.ndarray:
    """Codes (variants, people) of one of the two."""
    return np.random.default_rng(seed).binomial(2, FREQUENCY[:, population], (400, people))


def children_of_both(people: int) -> np.ndarray:
    """Codes (variants, people) of people with a parent from each."""
    return np.random.default_rng(9).binomial(1, FREQUENCY, (400, 2, people)).sum(1)


def write(lake: Lake, name: str, codes: np.ndarray, first: int, sites: int = len(PLACES)) -> list[str]:
    calls = np.array(["0/0", "0/1", "1/1", "./."])[codes]
    names = [f"A-{first + at}" for at in range(codes.shape[1])]
    lines = [
        f"{contig} {at} . A C . PASS . GT {' '.join(row)}" for (contig, at), row in zip(PLACES, calls, strict=True)
    ][:sites]
    writer(lake.raw)(name, names, lines)
    return names


SMALL = AncestrySettings(components=2)
GROUPS = PopulationLabels(path="panel.tsv", id="sample", column="group")


def test_new_people_come_to_lie_among_the_old_and_the_axes_stay(
    spark: SparkSession, tmp_path: Path, keyer: PersonKeyer
) -> None:
    small = lake_in(tmp_path / "small", spark, keyer)
    write(small, "a.vcf", np.concatenate([genomes(0, 40, 1), genomes(1, 40, 2)], axis=1), 0)
    small.ingest(["a.vcf"])
    _, before = small.infer(SMALL)
    later = write(small, "b.vcf", np.concatenate([genomes(0, 9, 3), genomes(1, 9, 4)], axis=1), 100)
    small.ingest(["?.vcf"])
    written, after = small.infer(SMALL)
    pd.testing.assert_frame_equal(before["axes"], after["axes"])
    joined = before["ancestry"].merge(after["ancestry"], on="person_key", suffixes=("", "_later"))
    assert len(joined) == 80 and len(after["ancestry"]) == 98
    np.testing.assert_allclose(
        np.stack(joined["components"].to_list()), np.stack(joined["components_later"].to_list()), rtol=1e-6
    )
    first = after["ancestry"].set_index("person_key")["components"].map(lambda row: row[0])
    side = np.sign([first[small.keyer.person_key(name)] for name in later])
    assert abs(side[:9].sum()) == abs(side[9:].sum()) == 9 and side[0] != side[-1]
    assert after["ancestry"]["population"].isna().all() and "populations" not in written.tables
    assert written.counts["axes"] == small.rows[1].counts["axes"]

    anew, tables = small.infer(SMALL.model_copy(update={"axes": 2}))
    described: Any = anew.counts["axes"]
    assert described["people"] == 98
    assert len(tables["axes"]) == len(after["axes"])
    assert not np.allclose(tables["axes"]["mean"], after["axes"]["mean"])


@pytest.fixture(scope="module")
def two(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, list[str]]:
    """Two hundred people of each population, ten children of both, and one with few calls; their samples."""
    lake = lake_in(tmp_path_factory.mktemp("two"), spark, KEYER)
    parts = [genomes(0, 200, 1), genomes(1, 200, 2), children_of_both(10), genomes(0, 1, 7)]
    parts[-1][:250] = 3
    names = write(lake, "a.vcf", np.concatenate(parts, axis=1), 0)
    lake.ingest(["a.vcf"])
    return lake, names


def label(lake: Lake, groups: dict[str, str]) -> None:
    lines = ["sample\tgroup", *("\t".join(one) for one in groups.items())]
    (lake.raw / "panel.tsv").write_text("\n".join(lines) + "\n")


def test_who_is_like_no_labelled_population_is_of_none(two: tuple[Lake, list[str]]) -> None:
    lake, names = two
    label(lake, {name: "one" if at < 200 else "two" for at, name in enumerate(names[:400])})
    written, tables = lake.infer(AncestrySettings(components=2, populations=GROUPS))
    found = tables["ancestry"].set_index("person_key").loc[[lake.keyer.person_key(name) for name in names]]
    # Of whom the axes are made, some lie too far out on one that is noise; nobody is taken for the other.
    labelled = found.iloc[:400].assign(truth=["one"] * 200 + ["two"] * 200)
    told = labelled["population"].notna()
    assert told[labelled["reference"]].all() and told.mean() > 0.9
    assert (labelled["population"] == labelled["truth"])[told].all()
    # Between the two, where nobody is: a chance is given all the same, and said to mean little.
    assert found["population"].iloc[400:410].isna().all()
    assert (found["typicality"].iloc[400:410] < 1e-8).all()
    last = found.iloc[410]
    assert last["components"] is None and 100 < last["n_called"] <= 150 and last["probabilities"] is None
    counts: Any = written.counts
    assert counts["not_placed"] == 1 and counts["of_none"] == found["population"][:410].isna().sum() >= 10
    described = tables["populations"].set_index("population")["people"]
    assert described.sum() == found["reference"].sum() and described.between(70, 130).all()


def test_too_few_variants_stop_the_job(two: tuple[Lake, list[str]]) -> None:
    wanted = AncestrySettings(components=20, minimum_allele_frequency=0.45)
    with pytest.raises(
        DataGateError, match=r"independent variants of autosomes, .* expected at least 10 a component, 200"
    ):
        two[0].infer(wanted)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"B-1": "one"}, "of 1 labelled people none has a genome"),
        ({f"A-{at}": "few" if at < 4 else "many" for at in range(60)}, r"few has \d, expected more than twice"),
        (
            {f"A-{at}": "one" for at in range(60)},
            r"\d\d unrelated people .* half that makes the axes, .* at least 50",
        ),
        ({"A-1": " "}, "column group has no value at all"),
    ],
)
def test_labels_that_name_nobody_or_too_few_stop_the_job(
    two: tuple[Lake, list[str]], groups: dict[str, str], message: str
) -> None:
    label(two[0], groups)
    with pytest.raises(DataGateError, match=message):
        two[0].infer(AncestrySettings(components=2, populations=GROUPS, axes=2))  # none that are kept


def test_axes_are_of_what_panel_and_cohort_have_and_are_not_kept_beyond_it(
    spark: SparkSession, tmp_path: Path, keyer: PersonKeyer, caplog: pytest.LogCaptureFixture
) -> None:
    lake = lake_in(tmp_path / "array", spark, keyer)
    panel = np.concatenate([genomes(0, 120, 1), genomes(1, 120, 2)], axis=1)
    panel[:30] = 0  # common in the cohort alone
    names = write(lake, "panel.vcf", panel, 0)
    cohort = np.concatenate([genomes(0, 100, 3), genomes(1, 100, 4)], axis=1)
    write(lake, "cohort.vcf", cohort, 1000, sites=250)
    label(lake, {name: "one" if at < 120 else "two" for at, name in enumerate(names)})
    lake.ingest(["*.vcf"])
    wanted = AncestrySettings(components=2, populations=GROUPS)
    written, tables = lake.infer(wanted)
    places = {f"GRCh37:{contig}:{at}:A:C" for contig, at in PLACES[30:250]}
    assert set(tables["axes"]["variant_key"]) <= places and len(tables["axes"]) > 150
    counts: Any = written.counts
    assert counts["not_placed"] == 0 and abs(counts["populations"]["one"] - 220) < 3
    assert "of 2 tell no more than chance" in caplog.text  # two populations make one axis

    write(lake, "panel.vcf", panel, 0, sites=60)
    write(lake, "cohort.vcf", cohort, 1000, sites=60)
    lake.ingest(["*.vcf"])
    with pytest.raises(
        DataGateError, match=r"variants of the kept axes .* may be used now, expected at least half"
    ):
        lake.infer(wanted)


def test_people_of_reference_are_usable_unrelated_and_labelled(spark: SparkSession) -> None:
    keys = [f"p{at}" for at in range(200)]
    usable = spark.createDataFrame([(key,) for key in keys], "person_key string")
    families = spark.createDataFrame([("p0", True), ("p1", False)], "person_key string, unrelated boolean")
    labels = spark.createDataFrame(
        [(key, "one") for key in [*keys[:150], "q"]], "person_key string, population string"
    )
    genomes = Genomes(usable, usable, usable, usable, {})
    alone = _reference(genomes, None, families).toPandas()
    assert set(alone["person_key"]) == set(keys) - {"p1"} and alone["of_axes"].all() and alone["reference"].all()
    halves = _reference(genomes, labels, families).toPandas()
    assert set(halves["person_key"]) == set(keys[:150]) - {"p1"}
    assert (halves["of_axes"] != halves["reference"]).all() and 50 < halves["of_axes"].sum() < 100


def test_ancestry_of_other_genomes_or_axes_is_refused() -> None:
    genomics = GenomicsSettings(paths=["*"], build="GRCh38", ancestry=AncestrySettings())

    def runs(read: dict[str, int], of: str) -> Runs:
        return made_of("infer_ancestry", read, ("axes", "ancestry"), {"of": of})

    now = dict.fromkeys(("variants", "genotypes", "samples"), 1)
    same = _in_words(genomics, AncestrySettings(minimum_probability=0.99))
    check_current(runs(now, same), genomics)
    with pytest.raises(DataGateError, match="before the genomes were last ingested"):
        check_current(runs(now | {"genotypes": 0}, same), genomics)
    with pytest.raises(DataGateError, match="by other settings; run infer_ancestry first"):
        check_current(runs(now, _in_words(genomics, AncestrySettings(components=11))), genomics)


def test_axes_are_made_anew_where_people_have_other_names(keyer: PersonKeyer) -> None:
    """The halves of a panel are by a hash of the key: under another those of the axes would be on both sides."""
    wanted = AncestrySettings()
    genomics = GenomicsSettings(paths=["*"], build="GRCh38", ancestry=wanted)
    described = {"names": _names(keyer), "limits": _limits(genomics), "people": 9, "variants": 9}
    counts: dict[str, object] = {"of": _in_words(genomics, wanted), "axes": described}
    runs = made_of("infer_ancestry", {}, ("axes", "ancestry"), counts)
    assert _kept(runs, genomics, wanted, keyer) == described
    others = IdentitySettings(namespace="others"), keyer.identity
    assert _kept(runs, genomics, wanted, PersonKeyer(keyer.key, others[0])) is None
    assert _kept(runs, genomics, wanted, PersonKeyer(bytes(32), others[1])) is None


def test_ancestry_of_other_families_is_refused() -> None:
    """Of relatives one alone is among those whom everyone is compared with."""
    genomics = GenomicsSettings(
        paths=["*"], build="GRCh38", ancestry=AncestrySettings(), relatives=RelativesSettings()
    )
    read = dict.fromkeys(("variants", "genotypes", "samples"), 1)
    related = made_of("relate_genomes", read, ("families", "kinship"), {}).rows
    of = {"of": _in_words(genomics, AncestrySettings())}

    def runs(families: int) -> Runs:
        placed = made_of("infer_ancestry", read | {"families": families}, ("ancestry",), of).rows[-1]
        return Runs((*related, placed))

    check_current(runs(0), genomics)
    with pytest.raises(DataGateError, match="run infer_ancestry first"):
        check_current(runs(1), genomics)


def test_without_its_section_the_job_has_nothing_to_do(
    spark: SparkSession, lake: Location, keyer: PersonKeyer
) -> None:
    settings = Settings.model_construct(genomics=GenomicsSettings(paths=["*"], build="GRCh38"))
    with pytest.raises(ConfigError, match=r"genomics\.ancestry"):
        infer_ancestry(spark, lake, Runs(()), settings, keyer, lake)
