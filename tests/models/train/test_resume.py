"""A killed training goes on from its checkpoint, with any number of ranks; tests/chaos kills it at any step."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.contract.errors import TrainingError
from features.contract.paths import Location
from features.contract.training_settings import LaunchSettings
from models.feed.plan import Progress
from models.train.checkpoint import Keeper, State, encode, identity_of
from models.train.fit import TrainJob
from models.train.launch import launch
from tests.chaos.dying_rank import Fate, meets
from tests.models.train.test_launch import ROWS, job_in


def long_job(folder: Path) -> TrainJob:
    """Six epochs of four steps with dropout, a checkpoint after each."""
    return replace(job_in(folder, epochs=6, patience=6, dropout=0.3), checkpoint_seconds=0)


def test_another_number_of_ranks_finishes_the_epoch_with_every_row_once(tmp_path: Path) -> None:
    job = long_job(tmp_path)
    with meets(Fate(1, 8)), pytest.raises(TrainingError):
        launch(job, LaunchSettings(ranks=2))
    launch(job, LaunchSettings(ranks=3))
    assert "goes on in epoch 2" in (tmp_path / "work/logs/rank-0.log").read_text()
    history = json.loads((tmp_path / "work/final/history.json").read_text())
    assert [entry["rows"] for entry in history] == [ROWS["train"]] * 6
    files = sorted(file.name for file in (tmp_path / "work/final/predictions").iterdir())
    assert files == ["tuning-0.parquet", "tuning-1.parquet", "tuning-2.parquet"]

    weights = tmp_path / "work/final/model.weights.h5"
    before = weights.stat().st_mtime_ns
    launch(job, LaunchSettings(ranks=2))
    assert weights.stat().st_mtime_ns == before, "a finished fit was trained again"


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    keeper = Keeper(Location.parse(str(tmp_path / "checkpoint.npz")), "mine", 0)
    state = State(3, [Progress(8, 12), Progress(3, 4)], [1.5, 2.0, 3.0], 0.5, 1, False, [{"loss": 1.0}])
    arrays = {"weight_0": np.arange(3, dtype=np.float32), "draws_0": np.uint32(7)}
    assert keeper.read() == b""
    keeper.write(state, arrays)
    found, back = keeper.decode(keeper.read())
    assert found == state
    assert back.keys() == arrays.keys()
    np.testing.assert_array_equal(back["weight_0"], arrays["weight_0"])


@pytest.mark.parametrize("data", [b"PK\x03\x04 cut short", b"not a checkpoint", b"\x80\x04K\x01."])
def test_a_damaged_checkpoint_is_named_and_never_unpickled(tmp_path: Path, data: bytes) -> None:
    keeper = Keeper(Location.parse(str(tmp_path / "checkpoint.npz")), "mine", 0)
    with pytest.raises(TrainingError, match=r"checkpoint\.npz is damaged"):
        keeper.decode(data)


def test_a_checkpoint_of_another_fit_is_refused(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    mine = identity_of(job.manifest, job.fits[0])
    assert mine == identity_of(job.manifest, TrainJob.from_json(job.to_json()).fits[0])
    other = replace(job.fits[0], model=job.fits[0].model.model_copy(update={"learning_rate": 0.5}))
    theirs = encode(State(), {}, identity_of(job.manifest, other))
    with pytest.raises(TrainingError, match="another fit"):
        Keeper(Location.parse(str(tmp_path / "c")), mine, 0).decode(theirs)
