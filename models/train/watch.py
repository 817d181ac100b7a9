"""The launcher's eye on its ranks: who has fallen silent, and who holds up the others."""

import time
from pathlib import Path

from features.contract.errors import TrainingError
from features.contract.training_settings import LaunchSettings
from models.train.heartbeat import ENDED, Beat, beats_in
from models.train.progress import Tail

AGAIN = "the ranks were stopped; the same command goes on from the last checkpoint"


class Watch:
    """Reads the heartbeats of all ranks from their logs.

    A rank is watched from the first beat of any. One that is only slow beats on, however long its step
    takes: `rank_timeout_seconds` is for those that do not. When all beat and none gets on with its step for
    `stall_timeout_seconds`, one of them hangs: the one that is not waiting for its peers.
    """

    def __init__(self, logs: list[Path], settings: LaunchSettings) -> None:
        self._settings = settings
        self._tails = [Tail(log) for log in logs]
        self._last: dict[int, Beat] = {}
        self._heard: dict[int, float] = {}
        # The launcher sees how; a rank that is done has not fallen silent.
        self._ended: set[int] = set()
        self._moved = time.monotonic()

    def look(self, now: float | None = None) -> None:
        """Read what is new. Raises TrainingError naming the rank, its host and the step it last was in."""
        now = time.monotonic() if now is None else now
        for rank, tail in enumerate(self._tails):
            text = tail.new()
            for beat in beats_in(text):
                self._note(rank, beat, now)
            if any(line.startswith(ENDED) for line in text.splitlines()):
                self._ended.add(rank)
        self._check_silence(now)
        self._check_stall(now)

    def _note(self, rank: int, beat: Beat, now: float) -> None:
        if not self._heard:
            self._heard = dict.fromkeys(range(len(self._tails)), now)
        self._heard[rank] = now
        if self._last.get(rank) != beat:
            self._last[rank], self._moved = beat, now

    def _check_silence(self, now: float) -> None:
        limit = self._settings.rank_timeout_seconds
        silent = [r for r, heard in self._heard.items() if now - heard > limit and r not in self._ended]
        if silent:
            raise TrainingError(
                f"{self._name(silent[0])}: no sign of life for {limit} s (launch.rank_timeout_seconds)"
                f"{_so_have(silent[1:])}; it was stopped, or its machine is gone; {AGAIN}"
            )

    def _check_stall(self, now: float) -> None:
        limit = self._settings.stall_timeout_seconds
        if now - self._moved <= limit:
            return
        left = [(rank, beat) for rank, beat in sorted(self._last.items()) if rank not in self._ended]
        hanging = [rank for rank, beat in left if not beat.waits_for_peers]
        named = "; ".join(self._name(rank) for rank in hanging[:1] or [rank for rank, _ in left]) or (
            "the launcher does not end" if self._ended else "no rank has begun"
        )
        raise TrainingError(f"{named}: no step for {limit} s (launch.stall_timeout_seconds); {AGAIN}")

    def _name(self, rank: int) -> str:
        return f"rank {rank} ({self._last[rank]})" if rank in self._last else f"rank {rank} (never heard)"


def _so_have(others: list[int]) -> str:
    return f", nor from rank {', '.join(map(str, others))}" if others else ""
