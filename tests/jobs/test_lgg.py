"""The whole way on real patients: 511 genomes and records, 110 people with MRI, 109 with all three."""

import re

import pyarrow.compute as pc
import pytest

from features.contract.paths import Location
from features.contract.runs import Runs
from tests.command import SHARED, options, published, riskloom

LGG = SHARED / "lgg"
QUICK = options(
    "--set",
    *(f"tasks.{task}.model.{setting}" for task in (0, 1) for setting in ("epochs=2", "single_modality=false")),
)

PERSON = re.compile(r"(?i)TCGA[-_][A-Z0-9]{2}[-_][A-Z0-9]{4}")

pytestmark = pytest.mark.skipif(not LGG.is_dir(), reason=f"the glioma data is not at {LGG}")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Location:
    folder = tmp_path_factory.mktemp("lgg") / "lake"
    ended = riskloom("run", "conf/lgg.yaml", "--raw", str(LGG), "--lake", str(folder), *QUICK)
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert not PERSON.search(ended.stdout + ended.stderr)
    return Location.parse(str(folder))


def test_genomes_records_and_images_meet_in_109_people(lake: Location) -> None:
    genomes = set(published(lake, "samples")["person_key"].to_pylist())
    records = set(published(lake, "persons")["person_key"].to_pylist())
    imaged = set(published(lake, "series")["person_key"].to_pylist())
    assert (len(genomes), len(records), len(imaged)) == (511, 511, 110)
    assert len(genomes & records & imaged) == 109
    assert published(lake, "variants").num_rows == 39_870


def test_idh_is_predicted_without_genes(lake: Location) -> None:
    training = published(lake, "training/idh")
    assert "x_genomics" not in training.column_names
    assert (training.num_rows, pc.sum(training["y_idh"]).as_py()) == (511, 416)


def test_every_person_is_in_one_fold_and_none_is_held_out(lake: Location) -> None:
    for task in ("os", "idh"):
        training = published(lake, f"training/{task}")
        assert len(set(training["person_key"].to_pylist())) == training.num_rows
        assert set(training["fold"].to_pylist()) == set(range(5))
        assert "held_out" not in set(training["split"].to_pylist())


def test_the_report_shows_cross_validated_numbers_beside_their_baselines(lake: Location) -> None:
    publisher = Runs.read(lake).publisher("reports/lgg")
    assert publisher is not None
    report = (lake / f"reports/{publisher.run_id}/report.md").read_bytes().decode()
    for words in ("C-index", "AUROC", "cross-validation", "Cox", "ogistic"):
        assert words in report
    assert not PERSON.search(report)


def test_a_prediction_comes_from_its_own_tasks_tables_alone(lake: Location) -> None:
    scored = published(lake, "predictions").to_pylist()[0]
    branches = riskloom("trace", scored["person_key"], "--lake", lake.uri).stdout.split("── os as of")
    assert len(branches) == 2
    for own, other, branch in (("idh", "os", branches[0]), ("os", "idh", branches[1])):
        assert branch.count(f"training/{own} version") == 1 and f"training/{other}" not in branch
        assert branch.count("raw file ") >= 2
