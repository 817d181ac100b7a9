"""Who is alive, who only waits, and who holds up the others."""

import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from features.contract.errors import TrainingError
from features.contract.training_settings import LaunchSettings
from models.train.heartbeat import ENDED, MARK, Beat, beats_in, last_beat
from models.train.watch import Watch

SETTINGS = LaunchSettings(rank_timeout_seconds=10, stall_timeout_seconds=100)
READING = Beat(1, "node-b", "final", 2, 7, "models.feed.reader._next", "petastorm")
WAITING = Beat(0, "node-a", "final", 2, 7, "models.train.step.train", "tensorflow")


@pytest.fixture
def ranks(tmp_path):
    """Two ranks' logs, a watch over them, and how they beat."""
    logs = [tmp_path / f"rank-{rank}.log" for rank in range(2)]

    def beats(*found):
        for beat in found:
            with logs[beat.rank].open("a") as log:
                log.write(f"a warning of TensorFlow\n{MARK}{json.dumps(asdict(beat))}\n")

    return Watch(logs, SETTINGS), beats


def begin(watch):
    """The time on the watch's own clock at which it began."""
    return watch._moved


def test_a_silent_rank_is_named_with_its_host_and_its_last_step(ranks):
    watch, beats = ranks
    began = begin(watch)
    beats(READING, WAITING)
    watch.look(began)
    for second in (5, 10):
        beats(WAITING)
        watch.look(began + second)
    beats(WAITING)
    with pytest.raises(TrainingError, match=r"^rank 1 \(fit final, epoch 3, step 7, on node-b, .* 10 s"):
        watch.look(began + 11)


def test_a_rank_that_is_slow_at_its_step_is_no_silent_one(ranks):
    watch, beats = ranks
    began = begin(watch)
    for second in range(0, 100, 5):
        beats(READING, WAITING)
        watch.look(began + second)


def test_a_rank_that_never_beats_is_silent_from_the_first_beat_of_another_on(ranks):
    watch, beats = ranks
    began = begin(watch)
    watch.look(began + 50)
    beats(WAITING)
    watch.look(began + 60)
    beats(WAITING)
    with pytest.raises(TrainingError, match=r"^rank 1 \(never heard\)"):
        watch.look(began + 71)


def test_of_ranks_that_all_beat_and_none_moves_the_one_that_does_not_wait_for_its_peers_hangs(ranks):
    watch, beats = ranks
    began = begin(watch)
    with pytest.raises(TrainingError, match=r"^rank 1 \(.*petastorm\): no step for 100 s"):
        for second in range(0, 110, 5):
            beats(READING, WAITING)
            watch.look(began + second)


def test_where_all_wait_all_are_named(ranks):
    watch, beats = ranks
    began = begin(watch)
    with pytest.raises(TrainingError, match=r"^rank 0 .*; rank 1 .*: no step for 100 s"):
        for second in range(0, 110, 5):
            beats(replace(READING, place=WAITING.place, inside="horovod"), WAITING)
            watch.look(began + second)


def test_ranks_that_get_on_are_left_alone(ranks):
    watch, beats = ranks
    began = begin(watch)
    for second in range(0, 500, 5):
        beats(replace(READING, step=second), WAITING)
        watch.look(began + second)


def test_a_rank_that_is_done_is_not_missed(ranks, tmp_path):
    watch, beats = ranks
    began = begin(watch)
    beats(READING, WAITING)
    with (tmp_path / "rank-1.log").open("a") as log:
        log.write(f"{ENDED}0\n")
    beats(READING)
    for second in range(0, 60, 5):
        beats(WAITING)
        watch.look(began + second)


def test_a_rank_that_is_done_does_not_hang(ranks, tmp_path):
    watch, beats = ranks
    began = begin(watch)
    beats(replace(READING, place="", inside=""), WAITING)
    with (tmp_path / "rank-1.log").open("a") as log:
        log.write(f"{ENDED}0\n")
    with pytest.raises(TrainingError, match=r"^rank 0 .*: no step for 100 s") as raised:
        for second in range(0, 110, 5):
            beats(WAITING)
            watch.look(began + second)
    assert "rank 1" not in str(raised.value)


def test_a_beat_glued_to_other_words_is_heard_and_half_a_beat_is_passed_over():
    beat = f"{MARK}{json.dumps(asdict(WAITING))}"
    assert (
        beats_in(f"a warning without an end {beat}\n{beat[:40]}{beat}\n{beat[:40]}\n{MARK}[]\n") == [WAITING] * 2
    )


def test_a_beat_of_which_half_is_written_waits_for_its_other_half(tmp_path):
    line = f"{MARK}{json.dumps(asdict(WAITING))}\n"
    watch = Watch([tmp_path / "rank-0.log"], SETTINGS)
    for half in (line[:30], line[30:]):
        with (tmp_path / "rank-0.log").open("a") as log:
            log.write(half)
        watch.look()
    assert watch._last == {0: WAITING}
    assert last_beat(tmp_path / "rank-0.log") == WAITING


HANGING = """
import os, threading
from models.train import heartbeat
os.environ["HOROVOD_RANK"] = "5"
heartbeat.BEAT_SECONDS = 0.05
heartbeat.note("final", 3, 12)
heartbeat.start()
threading.Event().wait()
"""


def test_a_process_whose_main_thread_hangs_still_beats():
    with subprocess.Popen([sys.executable, "-c", HANGING], stderr=subprocess.PIPE, text=True) as rank:
        try:
            heard = [beats_in(rank.stderr.readline())[0] for _ in range(3)]
        finally:
            rank.kill()
    assert {(beat.rank, beat.fit, beat.epoch, beat.step) for beat in heard} == {(5, "final", 3, 12)}
