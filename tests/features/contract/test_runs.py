"""Which run published what is there."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from features.contract.runs import Run, Runs

START = datetime(2026, 1, 1, tzinfo=UTC)
RUN = Run("a", "relate_genomes", START, "c", "i", "v", wrote={"families": "3"}, finished=START)


def test_of_runs_that_wrote_no_rows_over_no_rows_the_last_one_published() -> None:
    later = replace(RUN, run_id="b", finished=START + timedelta(days=1))
    assert Runs((RUN, later)).publisher("families") == later


def test_the_highest_version_is_published_whatever_the_clocks_say() -> None:
    earlier = replace(RUN, run_id="b", finished=START - timedelta(days=1), wrote={"families": "4"})
    assert Runs((earlier, RUN)).publisher("families") == earlier
