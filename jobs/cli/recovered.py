"""`riskloom recovered`: how much of the simulated truth a run on the demo found again."""

from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from rich.table import Table

from features.contract.config import load_settings
from features.contract.errors import DataGateError, RiskloomError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer, load_keyer
from features.contract.runs import Runs
from features.contract.settings import Settings
from features.simulation.raw_zone import load_risk, load_truth
from jobs.script import LakeOption, RawOption, console, fail
from models.evaluate.bootstrap import difference, estimate
from models.evaluate.metrics import auroc_statistic
from models.evaluate.results import Estimate
from models.registry import EVALUATION, open_bundle


def recovered(
    config: Annotated[str, typer.Argument(help="The demo's configuration.")],
    raw: RawOption = None,
    lake: LakeOption = None,
) -> None:
    """Compare the model with the true risk on the same held-out people, and dirt found with dirt planted."""
    try:
        settings = load_settings(config, raw=raw, lake=lake)
        runs = Runs.read(Location(settings.lake))
        console.print(_dirt(settings, runs))
        console.print(_discrimination(settings, runs))
    except RiskloomError as error:
        fail(error)


def _dirt(settings: Settings, runs: Runs) -> Table:
    """Records refused and merged, by job and rule, beside those planted."""
    truth = load_truth(Location(settings.raw))
    if truth is None:
        raise DataGateError(f"raw: {settings.raw} was not simulated; run riskloom simulate first")
    table = Table("job", "rule", title="Dirt")
    for name in ("planted", "found"):
        table.add_column(name, justify="right")
    for job, planted in truth.planted.items():
        found = dirt_found(runs, job)
        for rule in sorted(planted | found):
            agree = planted.get(rule, 0) == found.get(rule, 0)
            style = None if agree else "red"
            table.add_row(job, rule, f"{planted.get(rule, 0):,}", f"{found.get(rule, 0):,}", style=style)
    return table


def dirt_found(runs: Runs, job: str) -> dict[str, int]:
    """What a job's last successful run refused by rule, and merged."""
    last = next((run for run in reversed(runs.successes()) if run.job == job), None)
    found: dict[str, int] = {}
    for balance in last.counts["balances"].values() if last else ():
        for rule, count in {**balance["quarantined"], "merged": balance["merged"]}.items():
            found[rule] = found.get(rule, 0) + count
    return {rule: count for rule, count in found.items() if count}


def _discrimination(settings: Settings, runs: Runs) -> Table:
    """AUROC on the held-out people: the true risk, the model, each modality, the baselines."""
    people = held_out_risks(settings, runs)
    labels = people[f"y_{settings.tasks[0].outcome.name}"].to_numpy()
    n, events = len(labels), int(labels.sum())
    statistics = {name: auroc_statistic(labels, people[name].to_numpy()) for name in _risks(people)}
    title = f"{n:,} held-out people, {events:,} events"
    table = Table("risk", "AUROC (95 % interval)", "minus the true risk's", title=title)
    for name, statistic in statistics.items():
        against = difference(statistic, statistics["true_risk"], n, events)
        label = name.removeprefix("risk_").replace("_", " ")
        table.add_row(label, _text(estimate(statistic, n, events)), _text(against, sign="+"))
    return table


def held_out_risks(settings: Settings, runs: Runs) -> pa.Table:
    """The first task's held-out people with their label, `true_risk` and every predictor's `risk_`."""
    task = settings.tasks[0]
    digest = runs.published(f"models/{task.name}")
    if digest is None:
        raise DataGateError(f"models/{task.name} is not published in this lake; run train_model first")
    bundle = open_bundle(Location(settings.lake), task.name, digest, settings.trust)
    people = pq.read_table(pa.BufferReader(bundle.files[EVALUATION]))
    people = people.filter(pc.equal(people["evaluation"], "held_out"))
    truth = _true_risk(settings, load_keyer(settings.identity))
    return people.join(truth, "person_key", join_type="inner").sort_by("person_key")


def _risks(people: pa.Table) -> list[str]:
    return ["true_risk", *(name for name in people.column_names if name.startswith("risk_"))]


def _true_risk(settings: Settings, keyer: PersonKeyer) -> pa.Table:
    """The true risk by person key."""
    truth = load_risk(Location(settings.raw))
    keys = [keyer.person_key(source_id) for source_id in truth["source_id"].to_pylist()]
    return pa.table({"person_key": pa.array(keys, pa.string()), "true_risk": truth["risk"]})


def _text(found: Estimate | None, sign: str = "") -> str:
    return (
        "undefined"
        if found is None
        else f"{found.value:{sign}.3f} ({found.low:{sign}.3f} to {found.high:{sign}.3f})"
    )
