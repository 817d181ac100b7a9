"""Before a table is trained on: do the codes exist, and are there people with and without the outcome?"""

import difflib
import logging
from collections.abc import Mapping
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from features.contract.errors import DataGateError
from features.contract.settings import TaskSettings

log = logging.getLogger("riskloom")
MOST_CODES = 10_000


def check_codes(events: DataFrame, task: TaskSettings) -> None:
    """A code that no event has is most often misspelt: for the outcome and the index event an error,
    for a feature a warning, each with the nearest codes that there are."""
    needed = {code for code in (task.outcome.code, task.cohort.index_event) if code}
    features = {feature.code for feature in task.features.clinical if feature.code}
    wanted = needed | features
    codes = events.select("code").distinct()
    found = (
        {row["code"] for row in codes.filter(sf.col("code").isin(sorted(wanted))).collect()} if wanted else set()
    )
    if not (absent := wanted - found):
        return
    known = [row["code"] for row in codes.limit(MOST_CODES).collect()]
    for code in sorted(absent):
        text = f"task {task.name}: no event has the code {code}{_nearest(code, known)}"
        if code in needed:
            raise DataGateError(text)
        log.warning("%s; the features that ask for it hold nothing", text)


def check_outcome(splits: Mapping[str, Mapping[str, Any]], task: TaskSettings) -> None:
    """Nothing can be learnt, or calibrated, from people who all had the outcome, or all had it not."""
    for split in ("train", "tuning"):
        rows, events = splits[split]["rows"], splits[split]["events"]
        if rows and events in (0, rows):
            raise DataGateError(
                f"task {task.name}: {events} of {rows} people in {split} have the outcome {task.outcome.name}; "
                "both kinds are needed; check its code and horizon_days, the cohort, and the split's shares"
            )


def check_split(splits: Mapping[str, Mapping[str, Any]], task: TaskSettings) -> None:
    """A family as large as the cohort, which chance makes of few variants, leaves a part of the split empty."""
    shares = {"train": 1.0, "tuning": task.split.tuning, "held_out": task.split.held_out}
    for split, share in shares.items():
        if task.split.relatives_together and share and not splits[split]["rows"]:
            raise DataGateError(
                f"task {task.name}: nobody is left for {split} once relatives are together; look at the largest "
                "family (riskloom show families), and raise genomics.relatives.minimum_kinship"
            )


def _nearest(code: str, known: list[str]) -> str:
    close = difflib.get_close_matches(code, known, n=3)
    return f"; there are {', '.join(close)}" if close else ""
