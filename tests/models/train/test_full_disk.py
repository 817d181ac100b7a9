"""A disk that fills up in mid-training: the job says so, and the last checkpoint is whole."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from features.contract.errors import ExitCode, TrainingError
from features.contract.paths import Location
from features.contract.training_settings import LaunchSettings
from models.train.checkpoint import Keeper, identity_of
from models.train.launch import launch
from tests.chaos.dying_rank import Fate, meets
from tests.models.train.test_resume import long_job

LAUNCHER = """
import sys
from pathlib import Path
from features.contract.errors import RiskloomError
from features.contract.training_settings import LaunchSettings
from models.train.fit import TrainJob
from models.train.launch import launch
try:
    launch(TrainJob.from_json(Path(sys.argv[1]).read_text()), LaunchSettings(ranks=2))
except RiskloomError as error:
    print(error)
    sys.exit(int(error.exit_code))
"""


def run_on_a_full_disk(folder: Path, room: int) -> subprocess.CompletedProcess[str]:
    """The job in a process whose files, and whose ranks' files, cannot grow beyond `room` bytes."""

    def restrict() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    command = [sys.executable, "-c", LAUNCHER, str(folder / "job.json")]
    return subprocess.run(command, check=False, capture_output=True, text=True, preexec_fn=restrict)


def test_a_full_disk_ends_the_job_and_leaves_the_last_checkpoint_whole(tmp_path: Path) -> None:
    job = long_job(tmp_path)
    (tmp_path / "job.json").write_text(job.to_json())
    with meets(Fate(1, 8)), pytest.raises(TrainingError):
        launch(job, LaunchSettings(ranks=2))
    checkpoint = tmp_path / "work/final/checkpoint.npz"
    before = checkpoint.read_bytes()
    ended = run_on_a_full_disk(tmp_path, len(before) * 3 // 4)
    assert ended.returncode == ExitCode.CLUSTER
    assert "could not be read or written (File too large)" in ended.stdout
    assert checkpoint.read_bytes() == before
    assert sorted(file.name for file in checkpoint.parent.iterdir()) == ["checkpoint.npz"]
    keeper = Keeper(Location(f"file://{checkpoint}"), identity_of(job.manifest, job.fits[0]), 0)
    assert keeper.decode(before)[0].history
