"""A task's own score is what plink2 and plink1.9 make of the training people alone: --glm, --clump, --score."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.settings import GenomicsSettings, OwnScore, SampleSexes
from features.genomics.polygenic import own
from features.genomics.polygenic.own import PARTS, Genomes, OwnScores, own_scores
from features.lake import Written, read_version

Ingest = Callable[..., tuple[Written, dict[str, pd.DataFrame]]]
needs_plink = pytest.mark.skipif(
    not (shutil.which("plink2") and shutil.which("plink1.9")), reason="plink2 and plink1.9 are not installed"
)
NAMES = [f"A-{i}" for i in range(600)]
WANTED = OwnScore(largest_p=0.02, most_r2=0.3, kilobases=50)
PLACES = [
    *(("1", 10_000 * (1 + i // 6) + i) for i in range(180)),
    *(("X", 5_000_000 + 9_000 * i) for i in range(30)),
]


@dataclass
class Study:
    """Everyone's sex, age and outcome, and of the training people their part; None is not in training."""

    table: pd.DataFrame
    genomes: Genomes
    raw: Path

    def scores(self, keyer: PersonKeyer, wanted: OwnScore = WANTED) -> OwnScores:
        training = self.table.dropna(subset="part")
        rows = [
            (keyer.person_key(name), float(row["ill"]), [row["age"], float(row["sex"] == "1")], int(row["part"]))
            for name, row in training.iterrows()
        ]
        schema = "person_key string, outcome double, covariates array<double>, part int"
        people = self.genomes.variants.sparkSession.createDataFrame(rows, schema)
        return own_scores(people, self.genomes, wanted)


@pytest.fixture
def study(spark: SparkSession, ingest: Ingest, write_vcf: Callable[..., Path], raw: Path, lake: Location) -> Study:
    """Six variants at a place go together; three places and one of X have a part in the outcome. A hundred people
    are not in training."""
    rng = np.random.default_rng(7)
    men = rng.random(len(NAMES)) < 0.5
    (raw / "sexes.tsv").write_text(
        "id\tsex\n" + "".join(f"{n}\t{2 - m}\n" for n, m in zip(NAMES, men, strict=True))
    )
    records, risk, ancestral = [], rng.normal(0, 1, len(NAMES)), np.empty(0)
    for number, (contig, at) in enumerate(PLACES):
        if contig == "X" or number % 6 == 0:
            ancestral = (rng.random((2, len(NAMES))) < rng.uniform(0.1, 0.5)).astype(int)
        changed = rng.random((2, len(NAMES))) < 0.1
        copies = np.where(changed, rng.random((2, len(NAMES))) < 0.3, ancestral).astype(int)
        if contig == "X":
            copies[1, men] = copies[0, men]
        risk += {12: 0.8, 66: -0.7, 120: 0.6, 190: 0.5}.get(number, 0) * copies.sum(0)
        calls = [f"{a}/{b}" if rng.random() > 0.02 else "./." for a, b in copies.T]
        records.append(f"{contig} {at} v{number} A C . PASS . GT {' '.join(calls)}")
    write_vcf("a.vcf", NAMES, records)
    sexes = SampleSexes(path="sexes.tsv", id="id", sex="sex", values={"1": "male", "2": "female"})
    written, _ = ingest(GenomicsSettings(paths=["*.vcf"], build="GRCh37", sexes=sexes))
    ill = rng.random(len(NAMES)) < 1 / (1 + np.exp(-(risk - np.median(risk))))
    part = np.where(np.arange(len(NAMES)) % 6 == 5, np.nan, np.arange(len(NAMES)) % PARTS)
    table = pd.DataFrame({"sex": 2 - men, "age": rng.uniform(30, 70, len(NAMES)), "ill": ill, "part": part}, NAMES)
    table["sex"] = table["sex"].astype(str)
    frames = {
        name: read_version(spark, lake, name, written.tables[name])
        for name in ("variants", "genotypes", "samples")
    }
    genomes = Genomes(frames["variants"], frames["genotypes"], frames["samples"], frames["samples"], "GRCh37")
    return Study(table, genomes, raw)


def plinks(study: Study, folder: Path, chosen: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Weights by variant, and everyone's score by name, made of the chosen people."""
    table = study.table
    for name, columns in {"sexes": ["sex"], "ill": ["ill"], "age": ["age"]}.items():
        values = table[columns].assign(ill=table["ill"] + 1)[columns]
        values.to_csv(folder / name, sep="\t", index_label="#IID", header=["SEX" if name == "sexes" else name])
    (folder / "keep").write_text("".join(f"0\t{name}\n" for name in NAMES if chosen[name]))
    run(folder, f"plink2 --vcf {study.raw}/a.vcf --update-sex sexes --make-bed --out all")
    glm = "--pheno ill --covar age --keep keep --glm sex hide-covar --covar-variance-standardize --ci 0.95"
    run(folder, f"plink2 --bfile all {glm} --out found")
    (path,) = folder.glob("found.ill.glm.*")
    found = pd.read_csv(path, sep="\t").rename(columns={"ID": "SNP"})
    found["beta"] = np.where(found["A1"] == found["ALT"], 1, -1) * np.log(found["OR"])
    found[["SNP", "P"]].dropna().to_csv(folder / "p", sep="\t", index=False)
    p = WANTED.largest_p
    clump = f"--clump p --clump-p1 {p} --clump-p2 {p} --clump-r2 0.3 --clump-kb 50"
    run(folder, f"plink1.9 --bfile all --keep keep {clump} --out c")
    index = pd.read_csv(folder / "c.clumped", sep=r"\s+")["SNP"]
    weights = found.set_index("SNP").loc[index, "beta"]
    weights.to_frame().assign(allele="C")[["allele", "beta"]].to_csv(folder / "w", sep="\t")
    run(folder, "plink2 --bfile all --score w 1 2 3 header cols=scoresums --xchr-model 2 --out s")
    scores = pd.read_csv(folder / "s.sscore", sep="\t").rename(columns=lambda name: name.strip("#"))
    return weights, scores.set_index("IID")["SCORE1_SUM"]


def run(folder: Path, command: str) -> None:
    done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def totals(found: OwnScores, keyer: PersonKeyer) -> pd.Series:
    by_key = found.totals.toPandas().set_index("person_key")["total"]
    return pd.Series({name: by_key[keyer.person_key(name)] for name in NAMES})


@needs_plink
def test_the_weights_and_scores_are_those_of_plink(study: Study, keyer: PersonKeyer, tmp_path: Path) -> None:
    """To the six digits that plink2 prints of an odds ratio: so its logarithm, and a sum of some of these."""
    found = study.scores(keyer)
    weights, ours = found.weights.to_pandas(), totals(found, keyer)
    in_training = study.table["part"].notna()
    for fit, scored in ((PARTS, ~in_training), (0, study.table["part"] == 0)):
        folder = tmp_path / str(fit)
        folder.mkdir()
        expected, theirs = plinks(study, folder, in_training & (study.table["part"] != fit))
        own_weights = weights[weights["fit"] == fit].set_index("variant_key")["weight"]
        place = dict(
            zip((f"GRCh37:{c}:{at}:A:C" for c, at in PLACES), (f"v{i}" for i in range(len(PLACES))), strict=True)
        )
        assert len(expected) > 4 and any(int(name[1:]) >= 180 for name in expected.index)
        pd.testing.assert_series_equal(
            own_weights.rename(index=place).sort_index(),
            expected.sort_index(),
            check_names=False,
            rtol=1e-4,
            atol=2e-6,
        )
        usual = (theirs - ours)[scored].median()  # plink2 gives the whole sum
        np.testing.assert_allclose(ours[scored] + usual, theirs[scored], atol=1e-4)
        assert ours[scored].std() > 0.1
    assert set(weights["effect_allele"]) == {"C"}


def test_nobodys_outcome_is_in_their_own_score(
    study: Study, keyer: PersonKeyer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "PARTS", 2)
    study.table["part"] = study.table["part"].clip(upper=1)
    before = totals(study.scores(keyer), keyer)
    first = study.table["part"] == 0
    changed = replace(study, table=study.table.assign(ill=study.table["ill"] ^ first))
    after = totals(changed.scores(keyer), keyer)
    np.testing.assert_array_equal(after[first], before[first])
    assert not np.isclose(after[~first], before[~first]).any()


def test_where_nothing_goes_with_the_outcome_there_is_no_score(study: Study, keyer: PersonKeyer) -> None:
    with pytest.raises(DataGateError, match=r"of 1e-30 or less, the smallest is \d\.\d+e-\d+; raise largest_p"):
        study.scores(keyer, OwnScore(largest_p=1e-30))
