"""Which runs stand behind what is published now: back from the predictions to the ingests."""

from features.contract.runs import Run, Runs


def lineage(runs: Runs, outputs: list[str]) -> list[Run]:
    """The runs that published these outputs, and those that wrote what they read, oldest first."""
    found: dict[str, Run] = {}
    waiting = [run for output in outputs if (run := runs.publisher(output))]
    while waiting:
        run = waiting.pop()
        if run.run_id not in found:
            found[run.run_id] = run
            waiting += [source for table, at in run.read.items() if (source := _writer(runs, table, at))]
    return [run for run in runs.successes() if run.run_id in found]


def _writer(runs: Runs, table: str, version: int) -> Run | None:
    """The last run that published this version of a table."""
    return next((r for r in reversed(runs.successes()) if r.wrote.get(table) == str(version)), None)
