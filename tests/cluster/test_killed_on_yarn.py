"""A rank's container killed on real YARN: the training ends by name, and the same command goes on."""

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from features.contract.errors import ExitCode
from features.contract.paths import Location
from features.contract.runs import Run, Runs
from tests.cluster.conftest import Hadoop
from tests.cluster.test_study_on_yarn import PUT, Study
from tests.command import REPOSITORY, RISKLOOM, bare_environment, options

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]  # the first here waits for the local run too
# Long enough to be killed in the midst of it, which is done as soon as there is a checkpoint.
LONG = options(
    "--set",
    "tasks.0.model.epochs=12",
    "tasks.0.model.patience=12",
    "tasks.0.model.single_modality=false",
    "signing.create=true",
)
CHECKPOINT = "_work/t2d/final/checkpoint.npz"


@dataclass(frozen=True)
class Killed:
    """A lake with features, put on HDFS twice: for a training that is killed, and one that is left alone."""

    killed: Study
    alone: Study


@pytest.fixture(scope="module")
def lakes(hadoop: Hadoop, local_run: Path) -> Killed:
    lake = local_run / "lake"
    names = ("killed", "alone")
    sources = [(REPOSITORY / "build/archive", "riskloom")]
    sources += [(lake, f"{name}/lake") for name in names]
    sources += [(Path(f"{lake}.keys"), f"{name}/lake.keys") for name in names]
    for source, target in sources:
        command = [sys.executable, str(PUT), str(source), f"{hadoop.default_fs}/{target}"]
        subprocess.run(command, check=True, capture_output=True)
    study = Study(hadoop, f"{hadoop.default_fs}/raw", "", local_run)
    return Killed(*(replace(study, lake=f"{hadoop.default_fs}/{name}/lake") for name in names))


def kill_container_of(rank: str) -> None:
    """SIGKILL for the executor whose child's child is this rank."""
    own = next(process for process in ranks() if process.environ()["HOROVOD_RANK"] == rank)
    next(parent for parent in own.parents() if parent.name() == "java").kill()


def await_that(condition: Callable[[], bool], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def ranks() -> list[psutil.Process]:
    """Processes that Horovod started in Spark tasks of this machine."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if {"_HOROVOD_SECRET_KEY", "HOROVOD_RANK"} <= process.environ().keys():
                found.append(process)
    return found


def last(study: Study) -> Run:
    return max(Runs.read(study.there).rows, key=lambda run: run.started)


def weights(study: Study) -> str:
    bundle = last(study).wrote["models/t2d"]
    return hashlib.sha256((study.there / f"models/t2d/{bundle}/model.weights.h5").read_bytes()).hexdigest()


def test_a_killed_container_is_named_and_the_same_command_ends_as_if_nothing_had_happened(
    lakes: Killed, tmp_path: Path
) -> None:
    words = lakes.killed.words("train_model", *LONG, "--set", "launch.checkpoint_seconds=0")
    log = tmp_path / "log"
    with (
        log.open("w") as stream,
        subprocess.Popen(
            [RISKLOOM, *words], stderr=stream, stdout=stream, env=bare_environment(), cwd=REPOSITORY
        ) as submission,
    ):
        checkpoint = lakes.killed.there / CHECKPOINT
        await_that(lambda: checkpoint.exists() or submission.poll() is not None)
        kill_container_of("1")
        code = submission.wait(120)
    assert code == ExitCode.TRAINING, log.read_text()[-4000:]
    assert "rank 1 was" in last(lakes.killed).message and "fit final, epoch" in last(lakes.killed).message
    await_that(lambda: not ranks(), 30)
    for study, seconds in ((lakes.killed, 0), (lakes.alone, 30)):
        ended = study.submit("train_model", *LONG, "--set", f"launch.checkpoint_seconds={seconds}")
        assert ended.returncode == 0, ended.stderr[-4000:]
    assert not Location(f"{lakes.killed.lake}/_work/t2d").exists()
    assert last(lakes.killed).counts == last(lakes.alone).counts
    assert weights(lakes.killed) == weights(lakes.alone)
