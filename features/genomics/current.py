"""Whether what an earlier job decided still holds."""

from collections.abc import Iterable

from features.contract.errors import DataGateError
from features.contract.runs import Runs


def check_made(runs: Runs, table: str, of: Iterable[str], settings: tuple[str, str], section: str) -> None:
    """DataGateError where the published `table` was made of other versions of the tables `of`, or by other
    settings: a key of the run's counts, and what it must be now. One that is not there is missed by who reads it.
    """
    made = runs.publisher(table)
    if made is None:
        return
    key, now = settings
    same_tables = all(made.read.get(name) == runs.version(name) for name in of)
    if not same_tables or made.counts.get(key) != now:
        why = "by other settings" if same_tables else "before the genomes were last ingested or judged"
        raise DataGateError(f"{section}: {table} was made {why}; run {made.job} first")
