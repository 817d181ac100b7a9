"""Ranks end together, the one that failed first is named, and none outlives its launcher."""

import subprocess

import psutil
import pytest

from features.contract.errors import DataGateError, TrainingError
from models.train.processes import first_failure, group, python, wait
from models.train.rank import LOST_PEERS

SLEEP = "import time; time.sleep(600)"


def start(own, scripts):
    return {rank: own.start(python("-c", text), own.log_of(rank)) for rank, text in enumerate(scripts)}


def test_a_rank_that_stops_at_a_data_gate_stops_the_others_and_keeps_its_kind_of_error(tmp_path):
    scripts = [SLEEP, "import sys; print('x_clinical: wrong length'); sys.exit(3)"]
    with (
        pytest.raises(DataGateError, match=r"rank 1 ended with exit code 3(.|\n)*x_clinical"),
        group(tmp_path) as own,
    ):
        running = start(own, scripts)
        wait(own, running)
    assert not psutil.pid_exists(running[0].pid) or running[0].poll() is not None


def test_a_rank_that_only_lost_its_peers_is_not_blamed(tmp_path):
    scripts = [f"import sys; sys.exit({LOST_PEERS})", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    with pytest.raises(TrainingError, match="rank 1 was killed by signal 9"), group(tmp_path) as own:
        wait(own, start(own, scripts))


def test_a_grandchild_in_a_session_of_its_own_is_stopped_too(tmp_path):
    spawn = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', '{SLEEP}'], start_new_session=True)"
    with group(tmp_path) as own:
        running = start(own, [spawn])
        wait(own, running)
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


def test_horovods_own_report_names_the_rank(tmp_path):
    log = tmp_path / "horovodrun.log"
    log.write_text("The first process to do so was:\nProcess name: 1\nExit code: 3\n")
    assert isinstance(first_failure(log, tmp_path), DataGateError)
    log.write_text("no such host\n")
    assert "no such host" in str(first_failure(log, tmp_path))
