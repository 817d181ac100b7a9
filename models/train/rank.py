"""What every rank runs: each fit in turn, in step with the other ranks."""

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from features.contract.errors import ExitCode, RiskloomError, from_system
from features.contract.paths import Location
from models.train import heartbeat
from models.train.environment import configure, prepare, take_cores
from models.train.fit import Fit, TrainJob

# Set by the launchers of one machine.
LAUNCHER_PID = "RISKLOOM_LAUNCHER_PID"
LOG_FOLDER = "RISKLOOM_LOG_FOLDER"
# A rank that only lost its peers says so, and the launcher looks for the one that failed first.
LOST_PEERS = 75
LOST_PEERS_SIGNS = (
    "Connection closed by peer",
    "Connection reset by peer",
    "HorovodInternalError",
    "Horovod has been shut down",
)


def train_rank(job_json: str, gpu: str | None = None) -> None:
    """Train every fit of the job as one rank of Horovod; the results lie below the job's `work_uri`.

    `gpu` is the address of the one to use; else ranks of one machine share those they see in turn.
    """
    job = TrainJob.from_json(job_json)
    # In Spark's containers the cores are not ours to divide.
    own_cores = LAUNCHER_PID in os.environ and take_cores(
        int(os.environ["HOROVOD_LOCAL_RANK"]), int(os.environ["HOROVOD_LOCAL_SIZE"])
    )
    prepare(job.deterministic, gpu)
    import horovod.tensorflow as hvd
    import tensorflow as tf

    hvd.init()
    try:
        configure(tf, hvd.local_rank(), 1 if own_cores else hvd.local_size(), job.deterministic)
        for fit in job.fits:
            _train(job, fit)
    finally:
        hvd.shutdown()


def _train(job: TrainJob, fit: Fit) -> None:
    import horovod.tensorflow as hvd
    import keras

    from models.train.checkpoint import Keeper, identity_of
    from models.train.loop import Training
    from models.train.outputs import FINISHED, write_network, write_predictions
    from models.train.ranks import from_rank_0, wait_for_all

    folder, identity = Location(job.work_uri) / fit.name, identity_of(job.manifest, fit)
    finished = folder / FINISHED
    if from_rank_0(finished.read_bytes() if hvd.rank() == 0 and finished.exists() else b"") == identity.encode():
        return
    keras.backend.clear_session()
    training = Training(job.manifest, fit, Keeper(folder / "checkpoint.npz", identity, job.checkpoint_seconds))
    history = training.run()
    if hvd.rank() == 0:
        write_network(folder, training.network, history)
        (folder / "predictions").delete()  # an attempt with more ranks may have left some
    wait_for_all()
    for split, parts in fit.evaluate.items():
        target = folder / f"predictions/{split}-{hvd.rank()}.parquet"
        write_predictions(target, training.predictions(parts))
    wait_for_all()
    if hvd.rank() == 0:
        finished.write_bytes(identity.encode())


def main() -> None:
    """`python -m models.train.rank JOB_JSON_URI`, under a launcher."""
    if LOG_FOLDER in os.environ:
        _log_to(Path(os.environ[LOG_FOLDER]) / f"rank-{os.environ['HOROVOD_RANK']}.log")
    if LAUNCHER_PID in os.environ:
        threading.Thread(target=_end_with, args=(int(os.environ[LAUNCHER_PID]),), daemon=True).start()
    with as_a_rank():
        train_rank(Location(sys.argv[1]).read_bytes().decode())


@contextmanager
def as_a_rank() -> Iterator[None]:
    """Beat while the block runs; an error in it ends the process, with the error's own exit code."""
    heartbeat.start()
    try:
        yield
    except BaseException as error:  # noqa: BLE001
        _exit(error, error.__traceback__)
    heartbeat.end(0)


def _log_to(path: Path) -> None:
    """Both streams of this process, C++ included, go to the log."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _end_with(launcher: int) -> None:
    """A launcher that is killed cannot stop its ranks; they see it themselves."""
    while Path(f"/proc/{launcher}").exists():
        time.sleep(0.5)
    os._exit(LOST_PEERS)


def _exit(error: BaseException, trace: TracebackType | None) -> None:
    """Leave at once: Horovod's own shutdown would wait for peers that wait for us."""
    code, text = ending(error)
    try:
        if text:
            sys.stderr.write(f"{text}\n")
        else:
            traceback.print_exception(type(error), error, trace)
        heartbeat.end(code)
    finally:
        # The disk of the logs may be the one that is full.
        os._exit(code)


def ending(error: BaseException) -> tuple[int, str]:
    """The exit code of a rank that fails so, and its message; none where only a traceback tells."""
    if isinstance(error, RiskloomError):
        return int(error.exit_code), str(error)
    # TensorFlow's errors have their text in `str` alone, Horovod's their name in the type alone.
    if any(sign in f"{type(error).__name__}: {error}" for sign in LOST_PEERS_SIGNS):
        return LOST_PEERS, ""
    known = from_system(error)
    return (int(known.exit_code), str(known)) if known else (int(ExitCode.BUG), "")


if __name__ == "__main__":
    main()
