"""A disk that fills up in mid-training: the job says so, and the last checkpoint is whole."""

import resource
import subprocess
import sys
from pathlib import Path

from features.contract.errors import ExitCode
from features.contract.paths import Location
from models.train.checkpoint import Keeper, identity_of
from tests.models.train.test_resume import LAUNCHER, after_a_checkpoint, kill_rank, long_job

# More than a log needs, less than a checkpoint.
MOST_BYTES = 20_000
ENDS_WITH_ITS_CODE = f"""
import sys
from features.contract.errors import RiskloomError
try:
    exec({LAUNCHER!r})
except RiskloomError as error:
    print(error)
    sys.exit(int(error.exit_code))
"""


def run_in(folder: Path, limit: int | None) -> subprocess.CompletedProcess[str]:
    """The job in a process whose files, and whose ranks' files, may not grow beyond the limit."""

    def restrict() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-c", ENDS_WITH_ITS_CODE, str(folder / "job.json")]
    return subprocess.run(command, check=False, capture_output=True, text=True, preexec_fn=restrict)


def test_a_full_disk_ends_the_job_and_leaves_the_last_checkpoint_whole(tmp_path: Path) -> None:
    job = long_job(tmp_path)
    (tmp_path / "job.json").write_text(job.to_json())
    after_a_checkpoint(tmp_path, lambda: kill_rank("1"), 7)
    run_in(tmp_path, None)
    checkpoint = tmp_path / "work/final/checkpoint.npz"
    before = checkpoint.read_bytes()
    ended = run_in(tmp_path, MOST_BYTES)
    assert ended.returncode == ExitCode.CLUSTER
    assert "could not be read or written (File too large)" in ended.stdout
    assert checkpoint.read_bytes() == before
    assert sorted(file.name for file in checkpoint.parent.iterdir()) == ["checkpoint.npz"]
    keeper = Keeper(Location(f"file://{checkpoint}"), identity_of(job.manifest, job.fits[0]), 0)
    assert keeper.decode(before)[0].history
