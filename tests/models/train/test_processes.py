"""Ranks end together, the one that failed first is named, and none outlives its launcher."""

import re
import subprocess

import psutil
import pytest
import tensorflow as tf
from horovod.common.exceptions import HorovodInternalError

from features.contract.errors import DataGateError
from features.contract.training_settings import LaunchSettings
from models.train.heartbeat import ENDED
from models.train.processes import failure, group, python, reported, wait
from models.train.rank import LOST_PEERS, ending
from models.train.watch import Watch

SLEEP = "import time; time.sleep(600)"


def start(own, scripts):
    return {rank: own.start(python("-c", text), own.log_of(rank)) for rank, text in enumerate(scripts)}


def end_of(own, running):
    """The error that a launcher raises for these processes, or none."""
    codes = wait(own, running, Watch(own.logs_of(len(running)), LaunchSettings()))
    return failure(own, len(running), codes)


def test_a_rank_that_stops_at_a_data_gate_stops_the_others_and_keeps_its_kind_of_error(tmp_path):
    scripts = [SLEEP, "import sys; print('x_clinical: wrong length'); sys.exit(3)"]
    with group(tmp_path) as own:
        running = start(own, scripts)
        error = end_of(own, running)
    assert isinstance(error, DataGateError)
    assert re.search(r"rank 1 ended with exit code 3(.|\n)*x_clinical", str(error))
    assert not psutil.pid_exists(running[0].pid) or running[0].poll() is not None


def test_a_rank_that_only_lost_its_peers_is_not_blamed(tmp_path):
    scripts = [f"import sys; sys.exit({LOST_PEERS})", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    with group(tmp_path) as own:
        assert "rank 1 was killed by signal 9" in str(end_of(own, start(own, scripts)))


def test_a_grandchild_in_a_session_of_its_own_is_stopped_too(tmp_path):
    spawn = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', '{SLEEP}'], start_new_session=True)"
    with group(tmp_path) as own:
        assert end_of(own, start(own, [spawn])) is None
        left = own._processes()
        assert len(left) == 1
    assert not any(process.is_running() for process in left)


def test_an_interrupt_leaves_nothing_running(tmp_path):
    with pytest.raises(KeyboardInterrupt), group(tmp_path) as own:
        running = start(own, [SLEEP, SLEEP])
        raise KeyboardInterrupt
    assert not any(psutil.pid_exists(process.pid) for process in running.values())


def test_a_rank_sees_that_its_launcher_was_killed(tmp_path):
    script = (
        "import sys; from pathlib import Path; from models.train.processes import *; "
        "own = Group(Path(sys.argv[1])); "
        "p = own.start(python('-c', 'import os; from models.train.rank import _end_with, LAUNCHER_PID; "
        "_end_with(int(os.environ[LAUNCHER_PID]))'), own.log_of(0)); print(p.pid)"
    )
    done = subprocess.run(python("-c", script, str(tmp_path)), capture_output=True, text=True, check=True)
    rank = int(done.stdout)
    if psutil.pid_exists(rank):
        psutil.wait_procs([psutil.Process(rank)], timeout=20)
    assert not psutil.pid_exists(rank)


def said(own, *codes):
    """Ranks that wrote these exit codes into their logs; None wrote nothing."""
    for rank, code in enumerate(codes):
        own.log_of(rank).write_text("" if code is None else f"{ENDED}{code}\nbecause of {rank}\n")


def test_the_rank_to_blame_is_found_in_what_horovod_and_the_ranks_say(tmp_path):
    with group(tmp_path) as own:
        said(own, LOST_PEERS, 3)
        told = failure(own, 2, reported("Process name: 0\nExit code: 75\n"))
        assert isinstance(told, DataGateError) and "rank 1 ended with exit code 3" in str(told)
        assert "because of 1" in str(told)
        # A shell's 137 is signal 9; those that Horovod itself terminated (143) are innocent.
        said(own, LOST_PEERS, None, None)
        log = "Process 0 exit with status code 75.\nProcess 1 exit with status code 143.\n"
        assert "rank 2 was killed by signal 9" in str(
            failure(own, 3, reported(log + "Process 2 exit with status code 137.\n"))
        )
        # Of a container that is gone nobody has a code.
        assert "rank 1 was lost" in str(failure(own, 2, reported("Process name: 1\nExit code: None\n")))


def test_a_rank_that_somebody_terminated_is_blamed_before_those_that_lost_it(tmp_path):
    with group(tmp_path) as own:
        assert "rank 1 was killed by signal 15" in str(failure(own, 2, {0: LOST_PEERS, 1: -15}))


def test_a_launch_without_a_failed_rank_has_no_rank_to_blame(tmp_path):
    with group(tmp_path) as own:
        assert failure(own, 2, {0: 0, 1: 0}) is None
        assert failure(own, 2, reported("no such host\n")) is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataGateError("a column is missing"), 3),
        (tf.errors.UnknownError(None, None, "Horovod has been shut down. This was caused by"), LOST_PEERS),
        (tf.errors.UnknownError(None, None, "Connection reset by peer"), LOST_PEERS),
        (HorovodInternalError("of another text"), LOST_PEERS),
        (ConnectionResetError(104, "Connection reset by peer"), LOST_PEERS),
        (OSError(28, "No space left on device"), 4),
        (tf.errors.InvalidArgumentError(None, None, "incompatible shapes"), 1),
    ],
)
def test_a_rank_knows_a_lost_peer_from_an_error_of_its_own(error, code):
    assert ending(error)[0] == code
