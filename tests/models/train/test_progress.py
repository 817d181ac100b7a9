"""What a scheduler's log tells of a training that takes hours."""

import io
import sys
import time

import pytest

from models.train.progress import MARK, LiveLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def follow(tmp_path, monkeypatch):
    """Lines of a rank's log, each so many seconds after the one before; what is shown of them."""

    def shown(*lines: tuple[float, str], stream: io.StringIO) -> str:
        clock, log = [0.0], tmp_path / "rank-0.log"
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        monkeypatch.setattr(sys, "stderr", stream)
        live = LiveLine(log)
        with log.open("a") as rank:
            for seconds, line in lines:
                clock[0] += seconds
                rank.write(f"{line}\n")
                rank.flush()
                live.update()
            live.close()
        return stream.getvalue()

    return shown


def epoch(fit: str, number: int) -> str:
    return f"{MARK}{fit}: epoch {number}"


def test_a_log_has_the_first_line_one_a_minute_and_each_fits_last(follow):
    lines = [(0, f"{MARK}a: goes on"), (20, epoch("a", 1)), (20, epoch("a", 2)), (25, epoch("a", 3))]
    lines += [(1, epoch("a", 4)), (1, "something else"), (1, epoch("b", 1)), (1, epoch("b", 2))]
    found = follow(*lines, stream=io.StringIO()).splitlines()
    assert found == ["a: goes on", "a: epoch 3", "a: epoch 4", "b: epoch 2"]


def test_a_terminal_has_one_line_that_is_written_over(follow):
    found = follow((0, epoch("a", 1)), (1, epoch("a", 2)), stream=Terminal())
    assert found == "\r\x1b[Ka: epoch 1\r\x1b[Ka: epoch 2\n"


def test_a_training_that_says_nothing_shows_nothing(follow):
    assert follow(stream=Terminal()) == follow((0, "noise"), stream=io.StringIO()) == ""
