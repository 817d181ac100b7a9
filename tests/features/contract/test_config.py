"""A wrong configuration is told by file, line, key and what was expected."""

from pathlib import Path

import pytest
import yaml

from features.contract.config import config_digest, load_settings, resolved_yaml
from features.contract.errors import ConfigError

STUDY = """\
name: study
raw: raw
lake: lake
identity: {namespace: hospital}
clinical:
  latest: 2024-01-01
  sources:
    - name: persons
      path: persons.csv
      person_id: id
tasks:
  - name: t
    cohort: {index_date: 2020-01-01}
    outcome: {name: stroke, kind: binary, code: DIAGNOSIS//I63, horizon_days: 365}
    features:
      clinical:
        - {name: age, aggregate: age}
    scoring: {as_of: 2021-01-01}
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return path


def changed(study: Path, old: str, new: str) -> str:
    assert old in STUDY
    study.write_text(STUDY.replace(old, new))
    return str(study)


def test_a_resolved_file_loads_to_the_same_settings(study: Path, tmp_path: Path) -> None:
    settings = load_settings(str(study), overrides=["launch.ranks=3"])
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(resolved_yaml(settings))
    assert load_settings(str(resolved), profile="yarn") == settings
    assert settings.launch.ranks == 3


def test_an_unknown_key_names_line_and_nearest(study: Path) -> None:
    config = changed(study, "horizon_days: 365", "horizon_dais: 365")
    with pytest.raises(ConfigError) as error:
        load_settings(config)
    assert f"{config}:14: tasks.0.outcome.horizon_dais: unknown key; did you mean horizon_days?" in str(
        error.value
    )
    assert "tasks.0.outcome.horizon_days: this key is needed" in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("2024-01-01", "soon", ":6: clinical.latest"),
        ("kind: binary", "kind: both", "'binary' or 'survival', not 'both'"),
        ("index_date: 2020-01-01", "minimum_age_years: 18", "give either index_date or index_event"),
        ("name: study", "name: Study 1", "name: String should match"),
        (
            "{name: age, aggregate: age}",
            "{name: s, aggregate: any, code: DIAGNOSIS//I63}",
            "cannot be its feature",
        ),
    ],
)
def test_wrong_values_are_named(study: Path, old: str, new: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected.replace("(", r"\(")):
        load_settings(changed(study, old, new))


def test_genes_and_codes_that_define_a_label_cannot_be_features(study: Path) -> None:
    genomics = "      genomics: {genes: [TP53, IDH1]}\n      clinical:"
    text = STUDY.replace("code: DIAGNOSIS//I63", "genes: [IDH1]").replace(
        "      clinical:\n        -", genomics + "\n        -"
    )
    study.write_text(text + "genomics: {paths: [a.vcf.gz], build: GRCh38}\n")
    with pytest.raises(ConfigError, match="IDH1 defines the outcome stroke"):
        load_settings(str(study))
    study.write_text(study.read_text().replace("[TP53, IDH1]", "[TP53], total_burden: true"))
    with pytest.raises(ConfigError, match="total_burden defines the outcome"):
        load_settings(str(study))


@pytest.mark.parametrize(
    ("chains", "told"),
    [
        (
            "{GRCh38: a.chain}",
            "genomics: scores.chains: GRCh38 is genomics.build itself; name chains from other builds",
        ),
        ("{hg19: a.chain}", "genomics.scores.chains.hg19.*'NCBI36', 'GRCh37' or 'GRCh38'"),
    ],
)
def test_chains_lead_from_other_builds_than_the_studys(study: Path, chains: str, told: str) -> None:
    scores = f"scores: {{paths: [s.txt], chains: {chains}}}"
    study.write_text(f"{STUDY}genomics: {{paths: [a.vcf.gz], build: GRCh38, {scores}}}\n")
    with pytest.raises(ConfigError, match=told):
        load_settings(str(study))


def test_overrides_reach_into_lists_and_errors_name_them(study: Path) -> None:
    settings = load_settings(
        str(study), overrides=["tasks.0.model.epochs=2", "tasks.0.features.clinical.0.name=years"]
    )
    assert (settings.tasks[0].model.epochs, settings.tasks[0].features.clinical[0].name) == (2, "years")
    with pytest.raises(ConfigError, match="expected key=value"):
        load_settings(str(study), overrides=["epochs"])
    with pytest.raises(ConfigError, match="item 3 of a list of 1"):
        load_settings(str(study), overrides=["tasks.3.name=x"])


def test_a_missing_file_and_an_unknown_profile_are_told(study: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_settings("nowhere.yaml")
    with pytest.raises(ConfigError, match="expected one of laptop, yarn"):
        load_settings(str(study), profile="cloud")
    study.write_text("name: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_settings(str(study))


def test_the_digest_ignores_the_order_of_keys(study: Path) -> None:
    first = load_settings(str(study))
    study.write_text(yaml.safe_dump(yaml.safe_load(STUDY), sort_keys=True))
    assert config_digest(load_settings(str(study))) == config_digest(first)
    assert config_digest(load_settings(str(study), overrides=["launch.ranks=3"])) != config_digest(first)


@pytest.mark.parametrize("name", ["demo", "lgg"])
def test_the_shipped_configurations_are_valid_wherever_one_stands(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(f"conf/{name}.yaml", raw="/raw")
    assert settings.name == name
    assert settings.identity.key_uri == f"{settings.lake}.keys/identity.key"


def test_a_key_that_stands_twice_is_refused_with_both_lines(study: Path) -> None:
    study.write_text(study.read_text() + "name: again\n")
    with pytest.raises(ConfigError, match=r"name: this key stands already in line 1$"):
        load_settings(str(study))


def test_text_that_is_not_utf8_and_a_folder_are_told(study: Path) -> None:
    study.write_bytes(b"name: \xf6")
    with pytest.raises(ConfigError, match="byte 6 is not UTF-8"):
        load_settings(str(study))
    with pytest.raises(ConfigError, match="a folder, expected a YAML file"):
        load_settings(str(study.parent))


def test_an_override_is_blamed_for_its_own_errors_and_reaches_tasks_by_name(study: Path) -> None:
    name = load_settings(str(study)).tasks[0].name
    assert load_settings(str(study), overrides=[f"tasks.{name}.model.epochs=3"]).tasks[0].model.epochs == 3
    with pytest.raises(ConfigError, match=r"^--set launch.ranks=two: launch.ranks: "):
        load_settings(str(study), overrides=["launch.ranks=two"])
    with pytest.raises(ConfigError, match=r"^--set tasks\.t\.model\.dropout=2: tasks\.0\.model\.dropout: "):
        load_settings(str(study), overrides=["tasks.t.model.dropout=2"])
    with pytest.raises(ConfigError, match=r"^--set tasks\.t\.model\.dropout=2: "):
        load_settings(str(study), overrides=["tasks.t.model.dropout=2", "tasks.t.name=u"])
    with pytest.raises(ConfigError, match="no item other in a list"):
        load_settings(str(study), overrides=["tasks.other.model.epochs=3"])


def test_a_date_format_in_c_letters_is_refused(study: Path) -> None:
    override = "clinical.sources.0.person.birth_date={column: born, format: '%d.%m.%Y'}"
    with pytest.raises(ConfigError, match=r"such as dd.MM.yyyy"):
        load_settings(str(study), overrides=[override])


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ("{space: {dropot: [0.1]}}", "tasks.0.search.space.dropot: unknown key; did you mean dropout?"),
        ("{space: {seed: [1, 2]}}", "tasks.0.search.space: seed is not searched: it would be"),
        (
            "{space: {dropout: {low: 0.1, high: 1.5}}}",
            "tasks.0.search.space.dropout.high: Input should be less than",
        ),
        ("{space: {batch_size: [64, 0]}}", "tasks.0.search.space.batch_size.1: Input should be greater than"),
        ("{space: {dropout: {low: 0.5, high: 0.1}}}", "tasks.0.search.space.dropout: low must be below high"),
        (
            "{space: {dropout: {low: 0, high: 0.1, log: true}}}",
            "tasks.0.search.space.dropout: with log, low must be",
        ),
        (
            "{space: {tower_units: {low: 1, high: 2}}}",
            "tasks.0.search.space.tower_units: Input should be a valid list",
        ),
        (
            "{space: {batch_size: {low: 1, high: 64}}}",
            "tasks.t.search.space.batch_size: 2 ranks (launch.ranks) cannot",
        ),
        ("{space: {loss: [hazards, cox]}}", "tasks.0.search.space: loss is not searched: the tuning"),
        (
            "{space: {batch_size: [2, 64]}}\n    model: {micro_batches: 4}",
            "tasks.0: search.space.batch_size: 2 does not go with model: micro_batches",
        ),
        ("{space: {}}", "tasks.0.search.space: name at least one key of model"),
        ("{rounds: 2, space: {dropout: [0.1]}}", "search.rounds: 2 are wanted, and split.folds is 0"),
    ],
)
def test_a_search_outside_of_what_a_model_can_be_is_refused(study: Path, search: str, told: str) -> None:
    config = changed(study, "    scoring:", f"    search: {search}\n    scoring:")
    with pytest.raises(ConfigError) as error:
        load_settings(config)
    assert told in str(error.value)
    assert "(range)" not in str(error.value) and "(choices)" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["launch.ranks=257"], "257 ranks (launch.ranks) cannot share a batch of 256 rows in 1 parts"),
        (
            ["launch.ranks=3", "tasks.0.model.micro_batches=100"],
            "a batch of 256 rows in 100 parts (micro_batches)",
        ),
    ],
)
def test_more_ranks_than_a_batch_has_rows_are_refused(study: Path, overrides: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_settings(str(study), overrides=overrides)
    assert "tasks.t.model.batch_size: " in str(error.value) and told in str(error.value)


@pytest.mark.parametrize(
    ("split", "told"),
    [
        ("{held_out: 0.6, tuning: 0.4}", "held_out and tuning together must be below 1"),
        ("{folds: 2}", "folds: 2 leaves no one to train on"),
        ("{held_out: 0}", "held_out and folds are both 0"),
    ],
)
def test_a_split_that_leaves_no_one_to_train_on_or_to_judge_is_refused(study: Path, split: str, told: str) -> None:
    with pytest.raises(ConfigError, match=r"tasks\.0\.split: ") as error:
        load_settings(str(study), overrides=[f"tasks.0.split={split}"])
    assert told in str(error.value)


def test_curves_lie_beside_a_lake_of_this_machine_and_nowhere_by_default_else(study: Path) -> None:
    here, there = load_settings(str(study), lake="/lakes/a"), load_settings(str(study), lake="hdfs://nn:9000/a")
    assert (here.tracking.uri, here.tracking.tensorboard) == (
        "sqlite:////lakes/a.mlflow.db",
        "/lakes/a.tensorboard",
    )
    assert (there.tracking.uri, there.tracking.tensorboard) == (None, None)
    with pytest.raises(ConfigError, match="expected a folder of this machine or null"):
        load_settings(str(study), overrides=["tracking.tensorboard=hdfs://nn:9000/tb"])


def test_a_search_resolves_and_is_no_part_of_what_is_trained(study: Path, tmp_path: Path) -> None:
    without = load_settings(str(study)).task("t")
    space = "{tower_units: [[], [16, 8]], learning_rate: {low: 1e-4, high: 0.1, log: true}}"
    config = changed(study, "    scoring:", f"    search: {{trials: 5, space: {space}}}\n    scoring:")
    settings = load_settings(config)
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(resolved_yaml(settings))
    assert load_settings(str(resolved), profile="yarn") == settings
    assert settings.task("t").search is not None
    assert config_digest(settings.task("t").without_search) == config_digest(without)


def test_a_limit_on_frequency_may_not_leave_out_what_is_counted_by_gene(study: Path) -> None:
    genomics = "genomics={paths: [a], build: GRCh38, gene_field: G, quality: {minimum_allele_frequency: 0.01}}"
    load_settings(str(study), overrides=[genomics])
    for chosen in ("features.genomics={total_burden: true}", "features.genomics={genes: [TP53]}"):
        with pytest.raises(ConfigError, match=r"it leaves out the rare variants that tasks\.t counts by gene"):
            load_settings(str(study), overrides=[genomics, f"tasks.t.{chosen}"])


def test_a_build_by_its_name_at_ucsc_is_told_its_own(study: Path) -> None:
    with pytest.raises(ConfigError, match=r"hg19 is UCSC's name of GRCh37; write that"):
        load_settings(str(study), overrides=["genomics={paths: [a], build: hg19}"])


def test_genes_are_named_in_one_way(study: Path) -> None:
    with pytest.raises(ConfigError, match="give either gene_field or genes"):
        load_settings(
            str(study), overrides=["genomics={paths: [a], build: GRCh38, gene_field: G, genes: genes.bed}"]
        )
