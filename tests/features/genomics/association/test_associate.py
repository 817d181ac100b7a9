"""Associations are those of `plink2 --glm`, and of plain formulas that take one variant at a time."""

import gzip
import shutil
import subprocess
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from scipy import optimize, special, stats

from features.contract.errors import DataGateError
from features.genomics.association.associate import Outcome, associate, associated
from features.genomics.association.design import Cohort, design_of
from features.genomics.association.regression import Alts, NoResult
from features.genomics.contigs import Region, region
from features.genomics.dosages import COPY, are_calls, calls_of
from features.genomics.dosages import MISSING as NO_DOSAGE
from features.genomics.packing import MISSING, pack
from tests.command import SHARED

BUILD = "GRCh37"
BLOCKS = {"a": 230, "b": 170}
PEOPLE = sum(BLOCKS.values())
COUNTS = (160, 40, 6, 25, 15, 15)
FIRST = (("1", 1000), ("2", 1000), ("X", 200_000), ("X", 5_000_000), ("Y", 6_000_000), ("MT", 300))
PLACES = [(contig, at + i) for (contig, at), count in zip(FIRST, COUNTS, strict=True) for i in range(count)]
"""Those on 2 are imputed."""
CONSTANT, SEPARATED, RARE, MOSTLY_ALT, LACKING, ONE_SEX, FEW, CASES, TOLD = *range(8), 160
IN_ONE_BLOCK = slice(170, 180)
"""Imputed, but in the other block whole numbers."""
THOUSAND_GENOMES = SHARED / "thousand_genomes"

Blocks = dict[str, int]
Found = dict[Outcome, pd.DataFrame]
needs_plink2 = pytest.mark.skipif(shutil.which("plink2") is None, reason="plink2 is not installed")


@dataclass
class Study:
    """Dosages (variants, people) as they are stored, of places in the genome, some of which are imputed; people's
    sexes, covariates and outcomes, and who is chosen."""

    places: list[tuple[str, int]]
    units: np.ndarray
    imputed: np.ndarray
    sexes: np.ndarray
    covariates: np.ndarray
    outcomes: dict[Outcome, np.ndarray]
    chosen: np.ndarray

    @property
    def keys(self) -> list[str]:
        return [f"{BUILD}:{contig}:{at}:A:C" for contig, at in self.places]

    def genotypes(self, spark: SparkSession, blocks: Blocks) -> DataFrame:
        """Without a row where a block has no call, and without dosages where its calls tell all."""
        rows, first = [], 0
        for block, size in blocks.items():
            part = self.units[:, first : first + size]
            first += size
            for key, own, codes in zip(self.keys, part, calls_of(part), strict=True):
                if (own != NO_DOSAGE).any():
                    dosages = None if are_calls(own, codes) else bytearray(own.tobytes())
                    rows.append((key, block, bytearray(pack(codes).tobytes()), dosages))
        schema = "variant_key string, sample_block string, calls binary, dosages binary"
        return spark.createDataFrame(rows, schema)

    def people(self, spark: SparkSession, kind: Outcome, blocks: Blocks) -> DataFrame:
        """The chosen, in no order."""
        names = np.repeat(list(blocks), list(blocks.values()))
        index = np.concatenate([np.arange(size) for size in blocks.values()])
        outcome = self.outcomes[kind].astype(float)
        table = pd.DataFrame({"sample_block": names, "sample_index": index, "outcome": outcome})
        table["covariates"] = self.covariates.tolist()
        schema = "sample_block string, sample_index int, outcome double, covariates array<double>"
        return spark.createDataFrame(table[self.chosen].sample(frac=1, random_state=1), schema)

    def associate(self, spark: SparkSession, kind: Outcome, blocks: Blocks) -> DataFrame:
        sexes = np.split(self.sexes, np.cumsum(list(blocks.values()))[:-1])
        by_block = dict(zip(blocks, sexes, strict=True))
        return associate(self.genotypes(spark, blocks), self.people(spark, kind, blocks), by_block, BUILD, kind)

    def associations(self, spark: SparkSession, kind: Outcome, blocks: Blocks) -> pd.DataFrame:
        found = self.associate(spark, kind, blocks).toPandas()
        assert len(found) == len(self.keys)
        return found.set_index("variant_key").loc[self.keys]


def simulated() -> Study:
    """Some people have no recorded sex; variants lack many, a few or nobody; some are special."""
    rng = np.random.default_rng(5)
    sexes = rng.choice([0, 1, 2], PEOPLE, p=[0.03, 0.47, 0.5]).astype(np.uint8)
    score = np.round(rng.uniform(0, 2, PEOPLE), 3)
    covariates = np.column_stack([rng.normal(60, 9, PEOPLE), score, rng.normal(size=(PEOPLE, 2))])
    lost = [(0.3, 0.04, 0)[3 * place // count] for count in COUNTS for place in range(count)]
    dosages = np.array([_variant(rng, sexes, *place, share) for place, share in zip(PLACES, lost, strict=True)])
    disease = (score + 0.4 * np.nan_to_num(dosages[20]) + rng.normal(size=PEOPLE) > 1.7).astype(float)
    weight = disease + 0.02 * covariates[:, 0] + 0.3 * np.nan_to_num(dosages[21]) + rng.normal(size=PEOPLE)
    chosen = rng.uniform(size=PEOPLE) < 0.85
    own = np.flatnonzero(chosen)
    dosages[CONSTANT] = 1
    dosages[SEPARATED] = (disease == 1) * rng.binomial(1, 0.2, PEOPLE)
    dosages[RARE] = 0
    dosages[RARE, own[disease[own] == 1][:3]] = 1, 2, 1
    dosages[MOSTLY_ALT] = 2 - (rng.uniform(size=PEOPLE) < 0.03)
    dosages[LACKING, BLOCKS["a"] :] = np.nan
    dosages[ONE_SEX, sexes == 2] = np.nan
    dosages[FEW, own[6:]] = np.nan
    dosages[CASES, disease == 0] = np.nan
    dosages[TOLD] = score
    dosages[IN_ONE_BLOCK, BLOCKS["a"] :] = np.round(dosages[IN_ONE_BLOCK, BLOCKS["a"] :])
    units = np.where(np.isnan(dosages), NO_DOSAGE, np.floor(dosages * COPY + 0.5)).astype(np.uint16)
    outcomes = {Outcome.QUANTITATIVE: weight, Outcome.BINARY: disease}
    imputed = np.array([contig == "2" for contig, _ in PLACES])
    return Study(PLACES, units, imputed, sexes, covariates, outcomes, chosen)


def _variant(rng: np.random.Generator, sexes: np.ndarray, contig: str, at: int, lost: float) -> np.ndarray:
    frequency, where = rng.uniform(0.05, 0.9), region(BUILD, contig, at)
    one = np.full(PEOPLE, where is not Region.DIPLOID) if where is not Region.X else sexes == 1
    found = np.where(one, 2 * rng.binomial(1, frequency, PEOPLE), rng.binomial(2, frequency, PEOPLE)).astype(float)
    if contig == "2":
        unsure = rng.uniform(size=PEOPLE) < 0.7
        found = np.where(unsure, np.round(rng.uniform(0, 2, PEOPLE), 3), found)
    elif where is not Region.DIPLOID:
        found[rng.uniform(size=PEOPLE) < 0.02] = 1  # heterozygous where there is one copy
    found[rng.uniform(size=PEOPLE) < lost] = np.nan
    return found


@pytest.fixture(scope="module")
def study() -> Study:
    return simulated()


@pytest.fixture(scope="module")
def found(spark: SparkSession, study: Study) -> Found:
    return {kind: study.associations(spark, kind, BLOCKS) for kind in Outcome}


def plinks(study: Study, kind: Outcome, folder: Path) -> pd.DataFrame:
    """`plink2 --glm` with its defaults, by variant."""
    names = [f"p{i}" for i in range(len(study.sexes))]
    _write_vcf(study, names, folder / "all.vcf")
    shown = np.array(["NA", "1", "2"])[study.sexes]
    outcome = study.outcomes[kind]
    if kind is Outcome.BINARY:
        outcome = outcome.astype(int) + 1
    covariates = {f"c{place}": column for place, column in enumerate(study.covariates.T)}
    tables = {"all.psam": {"SEX": shown}, "outcome": {"y": outcome}, "covariates": covariates}
    for name, columns in tables.items():
        pd.DataFrame({"#IID": names} | columns).to_csv(folder / name, sep="\t", index=False)
    own = [f"{name}\n" for name, chosen in zip(names, study.chosen, strict=True) if chosen]
    (folder / "keep").write_text("".join(own))
    command = (
        f"plink2 --vcf {folder}/all.vcf dosage=DS --psam {folder}/all.psam --split-par hg19 --threads 1 "
        f"--keep {folder}/keep --pheno {folder}/outcome --covar {folder}/covariates --covar-variance-standardize "
        f"--glm hide-covar omit-ref log10 cols=+a1freq,+beta,-orbeta --out {folder}/own"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    suffix = "linear" if kind is Outcome.QUANTITATIVE else "logistic.hybrid"
    return pd.read_csv(folder / f"own.y.glm.{suffix}", sep="\t").set_index("ID").loc[study.keys]


def _write_vcf(study: Study, names: list[str], path: Path) -> None:
    calls = np.array(["0/0", "0/1", "1/1", "./."])
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *names]
    with path.open("w") as file:
        file.write("##fileformat=VCFv4.2\n")
        for key, type_ in (("GT", "String"), ("DS", "Float")):
            file.write(f'##FORMAT=<ID={key},Number=1,Type={type_},Description="{key}">\n')
        file.write("\t".join(columns) + "\n")
        rows = zip(study.keys, study.places, study.units, study.imputed, strict=True)
        for key, (contig, at), units, imputed in rows:
            fields = calls[calls_of(units)].tolist()
            if imputed:
                shown = [f"{unit / COPY:.6f}" if unit != NO_DOSAGE else "." for unit in units]
                fields = [":".join(pair) for pair in zip(fields, shown, strict=True)]
            begin = [contig, str(at), key, "A", "C", ".", "PASS", ".", "GT:DS" if imputed else "GT"]
            file.write("\t".join([*begin, *fields]) + "\n")


ERRORS = {
    "SAMPLE_CT<=PREDICTOR_CT": NoResult.TOO_FEW,
    "CONST_OMITTED_ALLELE": NoResult.CONSTANT,
    "CORR_TOO_HIGH": NoResult.COLLINEAR,
    "VIF_TOO_HIGH": NoResult.COLLINEAR,
    "VIF_INFINITE": NoResult.COLLINEAR,
    ".": None,
}


def check_people_and_errors(own: pd.DataFrame, theirs: pd.DataFrame) -> None:
    assert own["n"].tolist() == theirs["OBS_CT"].tolist()
    np.testing.assert_allclose(own["allele_frequency"], theirs["A1_FREQ"], rtol=5e-6)
    assert own["error"].tolist() == [ERRORS[error] for error in theirs["ERRCODE"]]


def check_quantitative(own: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """It prints six digits."""
    check_people_and_errors(own, theirs)
    for name, their_name in (("beta", "BETA"), ("se", "SE"), ("statistic", "T_STAT")):
        np.testing.assert_allclose(own[name], theirs[their_name], rtol=5.1e-6)
    np.testing.assert_allclose(-np.log10(own["p"]), theirs["LOG10_P"], rtol=1e-5, atol=1e-7)


def check_binary(own: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """plink2 2.00a3.5 reckons in floats of 32 bits, so that a slope is off by some millionths of its standard
    error beside what printing takes. That error is of the slopes before the last step, whose length is up to 1e-4.
    With Firth's penalty it ends at such steps too, though the rest of them is as long.
    """
    check_people_and_errors(own, theirs)
    penalised = (theirs["FIRTH?"] == "Y") & own["error"].isna()
    assert (own["penalised"].eq(True) == penalised).all()
    tolerance = np.where(penalised, 1e-3, 1e-5) * (own["beta"].abs() + own["se"])
    assert ((own["beta"] - theirs["BETA"]).abs() <= tolerance)[own["error"].isna()].all()
    sound = ~overlooks_padding(theirs)
    assert sound.mean() > 0.97
    off = (own["se"] / theirs["SE"] - 1).abs()[sound & ~penalised]
    assert off.quantile(0.95) < 2e-5
    for mask, rtol, atol in ((sound & ~penalised, 1e-4, 1e-5), (sound & penalised, 1e-3, 1e-3)):
        np.testing.assert_allclose(own["se"][mask], theirs["SE"][mask], rtol=rtol)
        np.testing.assert_allclose(own["statistic"][mask], theirs["Z_STAT"][mask], rtol=2 * rtol, atol=atol)
        logs = -np.log10(own["p"][mask])
        np.testing.assert_allclose(logs, theirs["LOG10_P"][mask], rtol=3 * rtol, atol=atol)


def overlooks_padding(theirs: pd.DataFrame) -> "pd.Series[bool]":
    """Where a variant that lacks people comes after one that lacks nobody, this plink2 counts up to seven people
    too many in the standard error, of what the former has left in a vector: another order of variants mends it."""
    region_ = theirs["#CHROM"].ne(theirs["#CHROM"].shift()).cumsum()
    of_region = theirs["OBS_CT"].groupby(theirs["#CHROM"]).transform("max")
    lacking = theirs["OBS_CT"] < of_region
    return lacking & ~lacking.groupby(region_).shift(fill_value=False)


@needs_plink2
def test_a_quantitative_outcome_is_regressed_as_by_plink2(study: Study, found: Found, tmp_path: Path) -> None:
    own = found[Outcome.QUANTITATIVE]
    check_quantitative(own, plinks(study, Outcome.QUANTITATIVE, tmp_path))
    errors = {place: error for place, error in enumerate(own["error"]) if error is not None}
    assert errors == {CONSTANT: "constant", FEW: "too_few", TOLD: "collinear"}
    assert (own["n"] < own["n"].max()).sum() > 50 and not own["penalised"].any()


@needs_plink2
def test_a_0_1_outcome_is_regressed_as_by_plink2(study: Study, found: Found, tmp_path: Path) -> None:
    own, theirs = found[Outcome.BINARY], plinks(study, Outcome.BINARY, tmp_path)
    # Where all are cases it gives the number at which it gave up.
    assert theirs["ERRCODE"].iloc[CASES] == "UNFINISHED"
    assert own["error"].iloc[CASES] == NoResult.CONSTANT
    rest = np.arange(len(own)) != CASES
    check_binary(own[rest], theirs[rest])
    assert own["penalised"].iloc[[SEPARATED, RARE]].all()


def by_formula(study: Study, place: int, kind: Outcome) -> tuple[float, float, float, bool]:
    """Slope, standard error, p and whether it is penalised, of one variant alone."""
    contig, at = study.places[place]
    where = region(BUILD, contig, at)
    units = study.units[place]
    used = study.chosen & (units != NO_DOSAGE)
    if where is Region.X:
        used &= study.sexes > 0
    if where is Region.Y:
        used &= study.sexes == 1
    covariates = study.covariates[used]
    if where is Region.X:
        covariates = np.column_stack([covariates, study.sexes[used]])
    covariates = (covariates - covariates.mean(0)) / covariates.std(0)
    alts = units[used] / COPY / (2 if where in (Region.Y, Region.MT) else 1)
    design = np.column_stack([np.ones(used.sum()), covariates, alts])
    outcome = study.outcomes[kind][used]
    if kind is Outcome.QUANTITATIVE:
        return *_least_squares(design, outcome), False
    return _logistic(design, outcome)


def _least_squares(design: np.ndarray, outcome: np.ndarray) -> tuple[float, float, float]:
    slopes, rest, _, _ = np.linalg.lstsq(design, outcome, rcond=None)
    free = len(outcome) - design.shape[1]
    se = np.sqrt(rest[0] / free * np.linalg.inv(design.T @ design)[-1, -1])
    return slopes[-1], se, 2 * stats.t.sf(abs(slopes[-1] / se), free)


def _logistic(design: np.ndarray, outcome: np.ndarray) -> tuple[float, float, float, bool]:
    def information(slopes: np.ndarray) -> np.ndarray:
        mean = special.expit(design @ slopes)
        return design.T @ np.diag(mean * (1 - mean)) @ design

    def score(slopes: np.ndarray, penalised: bool) -> np.ndarray:
        mean = special.expit(design @ slopes)
        weight = mean * (1 - mean)
        hat = np.diag(design @ np.linalg.inv(information(slopes)) @ design.T) * weight if penalised else 0
        return design.T @ (outcome - mean + hat * (0.5 - mean))

    slopes = np.zeros(design.shape[1])
    for _ in range(25):
        slopes = slopes + np.linalg.solve(information(slopes) + 1e-14 * np.eye(len(slopes)), score(slopes, False))
    penalised = bool(np.abs(slopes).max() > 15)
    if penalised:
        start = optimize.root(score, np.zeros(len(slopes)), (True,), method="hybr", options={"xtol": 1e-13})
        slopes = start.x
    assert np.abs(score(slopes, penalised)).max() < 1e-7
    se = np.sqrt(np.linalg.inv(information(slopes))[-1, -1])
    return slopes[-1], se, 2 * stats.norm.sf(abs(slopes[-1] / se)), penalised


@pytest.mark.parametrize("kind", Outcome)
def test_regressions_of_many_variants_are_those_of_each_alone(study: Study, found: Found, kind: Outcome) -> None:
    own = found[kind]
    fit = np.flatnonzero(own["error"].isna())
    theirs = pd.DataFrame(
        [by_formula(study, place, kind) for place in fit], columns=["beta", "se", "p", "penalised"]
    )
    own = own.iloc[fit]
    np.testing.assert_allclose(own["beta"] / own["se"], theirs["beta"] / theirs["se"], rtol=1e-9, atol=1e-9)
    for name in ("se", "p"):
        np.testing.assert_allclose(own[name], theirs[name], rtol=1e-9, atol=0)
    assert own["penalised"].tolist() == theirs["penalised"].tolist()


@pytest.mark.parametrize("kind", Outcome)
def test_blocks_of_samples_are_as_one(spark: SparkSession, study: Study, found: Found, kind: Outcome) -> None:
    rows = study.associate(spark, kind, {"whole": PEOPLE})
    # Nothing is shuffled where there is one block.
    assert "Exchange" not in rows._jdf.queryExecution().toString()
    merged = rows.toPandas().set_index("variant_key").loc[study.keys]
    own = found[kind]
    np.testing.assert_allclose(own["beta"] / own["se"], merged["beta"] / merged["se"], rtol=1e-9, atol=1e-9)
    for name in ("n", "allele_frequency", "se", "p"):
        np.testing.assert_allclose(own[name], merged[name], rtol=1e-9, atol=0)
    for name in ("penalised", "error"):
        assert own[name].tolist() == merged[name].tolist()


def test_sex_is_a_covariate_on_x_once(study: Study) -> None:
    """plink2 stops where it is given already."""
    given_ = Cohort({"a": np.arange(PEOPLE)}, study.outcomes[Outcome.BINARY], study.covariates, study.sexes)
    more = np.column_stack([study.covariates, 3 - study.sexes.astype(float)])
    own, told = (
        design_of(cohort, Region.X, Outcome.BINARY)
        for cohort in (given_, Cohort(given_.places, given_.outcome, more, study.sexes))
    )
    assert own.columns.shape == told.columns.shape == ((study.sexes > 0).sum(), 6)
    np.testing.assert_allclose(np.abs(own.columns), np.abs(told.columns), rtol=0, atol=1e-12)
    men = Cohort({"a": np.arange(PEOPLE)}, given_.outcome, study.covariates, np.minimum(study.sexes, 1))
    assert design_of(men, Region.X, Outcome.BINARY).columns.shape == (PEOPLE, 5)
    women = Cohort(given_.places, given_.outcome, study.covariates, np.full(PEOPLE, 2, np.uint8))
    assert design_of(women, Region.Y, Outcome.BINARY).people == 0


@pytest.mark.parametrize("kind", Outcome)
def test_without_men_nothing_is_told_of_y(study: Study, kind: Outcome) -> None:
    sexes = np.full(PEOPLE, 2, np.uint8)
    women = Cohort({"a": np.arange(PEOPLE)}, study.outcomes[kind], study.covariates, sexes)
    n, frequency, *rest, error = associated(Alts(np.zeros((3, 0), np.uint8)), design_of(women, Region.Y, kind))
    assert n.to_pylist() == [0, 0, 0] and error.to_pylist() == [NoResult.TOO_FEW] * 3
    assert all(column.null_count == 3 for column in (frequency, *rest))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), people=st.integers(1, 30), kind=st.sampled_from(Outcome))
def test_few_people_get_an_estimate_or_a_reason(seed: int, people: int, kind: Outcome) -> None:
    """Whatever there is of calls, outcome and covariates."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(4, (40, people), p=rng.dirichlet(np.full(4, 0.7))).astype(np.uint8)
    covariates = rng.choice([0.0, 1.0, 2.5], (people, rng.integers(0, 4)), p=[0.7, 0.2, 0.1])
    outcome = rng.binomial(1, rng.uniform(), people).astype(float)
    sexes = rng.choice(3, people).astype(np.uint8)
    cohort = Cohort({"a": np.arange(people)}, outcome, covariates, sexes)
    design = design_of(cohort, Region.DIPLOID, kind)
    n, frequency, beta, se, _, p, penalised, error = (c.to_pylist() for c in associated(Alts(codes), design))
    for row, reason in enumerate(error):
        used = codes[row] != MISSING
        assert n[row] == used.sum()
        assert frequency[row] is None if not n[row] else np.isclose(frequency[row], codes[row][used].mean() / 2)
        results = beta[row], se[row], p[row], penalised[row]
        assert all((result is None) == (reason is not None) for result in results)
        if reason is None:
            assert np.isfinite(results[:3]).all() and se[row] > 0 and 0 <= p[row] <= 1
            if kind is Outcome.QUANTITATIVE:
                matrix = np.column_stack([np.ones(n[row]), design.columns[used, :-1], codes[row][used]])
                expected = np.linalg.lstsq(matrix, outcome[used], rcond=None)[0][-1]
                assert abs(beta[row] - expected) <= 1e-8 * (abs(expected) + 1)


@pytest.fixture(scope="module")
def genomes() -> Study:
    """Every 30th variant of 1000 Genomes, beside ten covariates of which four are populations."""
    if not THOUSAND_GENOMES.is_dir():
        pytest.skip("the data of 1000 Genomes are not in shared/data")
    panel = pd.read_csv(THOUSAND_GENOMES / "kg2504.panel.tsv", sep="\t")
    places, rows = [], []
    with gzip.open(THOUSAND_GENOMES / "kg2504_23770snp.GRCh37.vcf.gz", "rt") as file:
        lines = (line for line in file if line[0] != "#")
        for line in islice(lines, 0, None, 30):
            contig, at, *_, calls = line.rstrip("\n").split("\t", 9)
            places.append((contig, int(at)))
            alleles = np.array([(call[0], call[2]) for call in calls.split("\t")])
            units = (alleles == "1").sum(1) * COPY
            rows.append(np.where((alleles == ".").any(1), NO_DOSAGE, units))
    rng = np.random.default_rng(4)
    units = np.array(rows, np.uint16)
    people = units.shape[1]
    units[:400][rng.uniform(size=(400, people)) < 0.01] = NO_DOSAGE
    populations = pd.get_dummies(panel["super_pop"]).to_numpy(float)[:, 1:]
    covariates = np.column_stack([rng.normal(50, 10, people), populations, rng.normal(size=(people, 5))])
    carried = np.where(units[:3] == NO_DOSAGE, 0, units[:3]) / COPY
    weight = 0.1 * carried.sum(0) + populations[:, 0] + rng.normal(size=people)
    outcomes = {Outcome.QUANTITATIVE: weight, Outcome.BINARY: weight > 1.5}
    sexes = panel["gender"].map({"male": 1, "female": 2}).to_numpy(np.uint8)
    imputed = np.zeros(len(units), bool)
    return Study(places, units, imputed, sexes, covariates, outcomes, rng.uniform(size=people) < 0.9)


@needs_plink2
@pytest.mark.parametrize("kind", Outcome)
def test_1000_genomes_are_as_in_plink2(spark: SparkSession, genomes: Study, tmp_path: Path, kind: Outcome) -> None:
    own, theirs = genomes.associations(spark, kind, {"a": 1500, "b": 1004}), plinks(genomes, kind, tmp_path)
    assert len(own) > 700 and own["error"].isna().mean() > 0.95
    {Outcome.QUANTITATIVE: check_quantitative, Outcome.BINARY: check_binary}[kind](own, theirs)


def refusal(
    spark: SparkSession, kind: Outcome, rows: list[tuple[float, list[float] | None]], twice: bool = False
) -> str:
    people = [("a", place, *row) for place, row in enumerate(rows)] * (1 + twice)
    schema = "sample_block string, sample_index int, outcome double, covariates array<double>"
    genotypes = spark.createDataFrame([], "variant_key string, sample_block string, calls binary, dosages binary")
    with pytest.raises(DataGateError) as refused:
        associate(genotypes, spark.createDataFrame(people, schema), {"a": np.ones(9, np.uint8)}, BUILD, kind)
    return str(refused.value)


@pytest.mark.parametrize(("people", "covariates"), [(200, 2), (2000, 2), (2000, 12)])
def test_a_variant_that_tells_the_outcome_has_an_estimate_beside_covariates(people: int, covariates: int) -> None:
    """Firth's steps are many there. The oracle climbs the penalised likelihood by other steps."""
    rng = np.random.default_rng(0)
    outcome = (rng.random(people) < 0.3).astype(float)
    beside = rng.normal(size=(people, covariates))
    cohort = Cohort({"b": np.arange(people)}, outcome, beside, np.full(people, 2, np.uint8))
    codes = (2 * outcome).astype(np.uint8)
    design = design_of(cohort, Region.DIPLOID, Outcome.BINARY)
    found = associated(Alts(codes[None]), design)
    _, _, beta, se, _, p, penalised, error = (column[0].as_py() for column in found)
    assert penalised and error is None
    x = np.column_stack([np.ones(people), (beside - beside.mean(0)) / beside.std(0), codes - codes.mean()])

    def information(slopes: np.ndarray) -> np.ndarray:
        weight = special.expit(x @ slopes) * special.expit(-x @ slopes)
        return (x * weight[:, None]).T @ x

    def loss(slopes: np.ndarray) -> float:
        along = x @ slopes
        return np.logaddexp(0, along).sum() - outcome @ along - np.linalg.slogdet(information(slopes))[1] / 2

    best = optimize.minimize(loss, np.append(np.zeros(x.shape[1] - 1), 0.8 * beta), options={"gtol": 1e-6}).x
    assert beta == pytest.approx(best[-1], rel=1e-4)
    assert se == pytest.approx(np.sqrt(np.linalg.inv(information(best))[-1, -1]), rel=1e-4) and p < 1e-6


def test_what_cannot_be_regressed_is_refused(spark: SparkSession) -> None:
    quantitative, binary = Outcome.QUANTITATIVE, Outcome.BINARY
    ages = [[60.0, 1.0, 61.0], [50.0, 2.0, 52.0], [57.0, 9.0, 66.0], [41.0, 4.0, 45.0]]
    assert "nobody is chosen" in refusal(spark, quantitative, [])
    assert "the same for all 4 people" in refusal(spark, binary, [(1.0, age[:1]) for age in ages])
    assert "neither 0 nor 1" in refusal(spark, binary, [(float(i), age[:1]) for i, age in enumerate(ages)])
    assert "an outcome is no number" in refusal(spark, quantitative, [(float("nan"), [1.0]), (1.0, [2.0])])
    assert "a covariate is no number" in refusal(spark, quantitative, [(0.0, [float("inf")]), (1.0, [2.0])])
    assert "from 0 to 1 covariates" in refusal(spark, quantitative, [(0.0, []), (1.0, [2.0])])
    assert "somebody has no covariates" in refusal(spark, quantitative, [(0.0, None), (1.0, [2.0])])
    assert "a sample is chosen twice" in refusal(spark, quantitative, [(0.0, [1.0]), (1.0, [2.0])], twice=True)
    sums = refusal(spark, quantitative, [(float(i), age) for i, age in enumerate(ages)])
    assert "of 3 covariates the others tell number 1; 2; 3" in sums
    twice = [(float(i), [7.0, age[0], age[1], 2 * age[0]]) for i, age in enumerate(ages)]
    assert "of 4 covariates the others tell number 2 and 4" in refusal(spark, quantitative, twice)
