"""One, two and four ranks learn the same and measure the same, with every switch of the training."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lifelines.utils
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from features.contract.training_settings import LaunchSettings, ModelSettings
from models.architecture import check_architecture
from models.evaluate.calibration import censoring_weights
from models.train.fit import Fit, TrainJob
from models.train.launch import launch
from models.train.losses import risk_from_logits
from tests.models.feed import tiny

EDGES = (100.0, 200.0, 365.0)
ROWS = {"train": 101, "tuning": 67}
COMMON = {"dropout": 0, "batch_size": 32, "epochs": 2, "filters": [4]}
# What any number of ranks must learn alike; float64 and float32 keep 16 and 7 digits, and the ranks' sums are
# added in another order.
EXACT = {
    "float64": {"precision": "float64", "warmup_epochs": 1, "reference_batch_size": 16},
    "cox": {"precision": "float64", "loss": "cox"},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.01},
}
TOLERANCE = {"float64": 1e-10, "cox": 1e-10, "sgd": 1e-5}
# What two ranks do with each switch.
SWITCHES = EXACT | {
    "micro": EXACT["float64"] | {"micro_batches": 3},
    "fp16": {"optimizer": "sgd", "learning_rate": 0.01, "gradient_compression": "fp16"},
    "half": {"optimizer": "sgd", "learning_rate": 0.01, "precision": "mixed_float16"},
    "brain": {"optimizer": "sgd", "learning_rate": 0.01, "precision": "mixed_bfloat16"},
}


def job_in(folder: Path, wanted: dict[str, dict[str, object]]) -> TrainJob:
    meaning = tiny.manifest("survival", EDGES)
    parts = {
        split: tiny.write(folder, split, people(rows, meaning, seed), 40)
        for seed, (split, rows) in enumerate(ROWS.items())
    }
    fits = [
        Fit(
            name,
            parts["train"],
            parts["tuning"],
            {"tuning": parts["tuning"]},
            "train",
            ["clinical", "genomics", "imaging"],
            ModelSettings(**COMMON | switches),
        )
        for name, switches in wanted.items()
    ]
    return replace(TrainJob(meaning, fits, f"file://{folder}/work"), checkpoint_seconds=0)


def people(rows: int, meaning, seed: int) -> pa.Table:
    """Days are whole, so that many share one."""
    table = tiny.people(rows, meaning, seed)
    whole = pa.array(np.ceil(table["y_death_time"].to_numpy() / 20) * 20)
    return table.set_column(table.column_names.index("y_death_time"), "y_death_time", whole)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folders = {}
    for ranks in (1, 2, 4):
        folders[ranks] = tmp_path_factory.mktemp(f"ranks{ranks}")
        launch(job_in(folders[ranks], SWITCHES if ranks == 2 else EXACT), LaunchSettings(ranks=ranks))
    return folders


def last_weights(folder: Path, fit: str) -> Iterator[np.ndarray]:
    """As they were after the last update, in the precision of the training."""
    with np.load(folder / f"work/{fit}/checkpoint.npz") as file:
        names = sorted(name for name in file.files if name.startswith("weight_"))
        yield from (file[name] for name in names)


def history(folder: Path, fit: str) -> list[dict[str, float]]:
    return json.loads((folder / f"work/{fit}/history.json").read_text())


def assert_close(left: tuple[Path, str], right: tuple[Path, str], tolerance: float) -> None:
    for one, other in zip(last_weights(*left), last_weights(*right), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("fit", EXACT)
def test_any_number_of_ranks_learns_what_one_learns(trained: dict[int, Path], fit: str) -> None:
    for ranks in (2, 4):
        assert_close((trained[1], fit), (trained[ranks], fit), TOLERANCE[fit])


@pytest.mark.parametrize("fit", EXACT)
def test_any_number_of_ranks_measures_what_one_measures(trained: dict[int, Path], fit: str) -> None:
    names = ["tuning_loss", "tuning_auroc", "tuning_auprc", "tuning_c_index"]
    for ranks in (2, 4):
        for entry, expected in zip(history(trained[ranks], fit), history(trained[1], fit), strict=True):
            tolerance = 1e-6 if fit == "sgd" else 1e-9
            assert [entry[n] for n in names] == pytest.approx([expected[n] for n in names], abs=tolerance)


def test_a_batch_in_parts_is_the_batch(trained: dict[int, Path]) -> None:
    assert_close((trained[2], "micro"), (trained[2], "float64"), 1e-10)


@pytest.mark.parametrize(("fit", "tolerance"), [("fp16", 1e-4), ("half", 1e-4), ("brain", 1e-3)])
def test_rounding_changes_the_weights_a_little(trained: dict[int, Path], fit: str, tolerance: float) -> None:
    """By far less than the 0.02 that the training moves them."""
    assert_close((trained[2], fit), (trained[2], "sgd"), tolerance)
    pairs = zip(last_weights(trained[2], fit), last_weights(trained[2], "sgd"), strict=True)
    assert any((one != other).any() for one, other in pairs)


@pytest.mark.parametrize("fit", SWITCHES)
def test_the_finished_network_is_float32_and_may_enter_a_bundle(trained: dict[int, Path], fit: str) -> None:
    architecture = (trained[2] / f"work/{fit}/architecture.json").read_bytes()
    check_architecture(architecture, fit)
    assert b"float16" not in architecture and b"float64" not in architecture


def test_the_measures_of_an_epoch_are_those_of_all_ranks_people_together(trained: dict[int, Path]) -> None:
    """Against scikit-learn and lifelines on the predictions that four ranks wrote."""
    folder = trained[4] / "work/sgd"
    predicted = pa.concat_tables([pq.read_table(file) for file in sorted((folder / "predictions").iterdir())])
    people = pq.read_table(trained[4] / "tuning.parquet").sort_by("person_key")
    predicted = predicted.sort_by("person_key")
    assert predicted["person_key"].to_pylist() == people["person_key"].to_pylist()
    risk = risk_from_logits(np.array(predicted["logits"].to_pylist()))
    days, died = people["y_death_time"].to_numpy(), people["y_death_event"].to_numpy() > 0
    case, weights = censoring_weights(days, died, EDGES[-1])
    best = min(history(trained[4], "sgd"), key=lambda entry: entry["tuning_loss"])
    assert best["tuning_auroc"] == pytest.approx(roc_auc_score(case, risk, sample_weight=weights), abs=1e-9)
    assert best["tuning_auprc"] == pytest.approx(
        average_precision_score(case, risk, sample_weight=weights), abs=1e-9
    )
    assert best["tuning_brier"] == pytest.approx(brier_score_loss(case, risk, sample_weight=weights), abs=1e-9)
    c_index = lifelines.utils.concordance_index(np.minimum(days, EDGES[-1]), -risk, case)
    assert best["tuning_c_index"] == pytest.approx(c_index, abs=1e-9)
