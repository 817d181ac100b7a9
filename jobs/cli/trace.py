"""`riskloom trace`: from a prediction back to the model, the tables, the runs and the raw files."""

from dataclasses import dataclass, field
from typing import Annotated

import pyarrow.compute as pc
import pyarrow.dataset as ds
import typer
from rich.console import Console
from rich.tree import Tree

from features.contract.config import load_settings
from features.contract.errors import ConfigError, DataGateError, RiskloomError
from features.contract.paths import Location
from features.contract.persons import load_keyer
from features.contract.runs import Run, Runs, open_delta
from jobs.script import fail

WIDEST_LINE = 400


def trace(
    key: Annotated[str, typer.Argument(help="A person_key or its beginning; or a raw file's digest.")],
    lake: Annotated[str | None, typer.Option("--lake", help="Lake: trace this person's predictions.")] = None,
    raw: Annotated[
        str | None, typer.Option("--raw", help="Raw zone: resolve a file's digest to its path.")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", help="With --raw or --person: the study that names the key.")
    ] = None,
    person: Annotated[
        bool, typer.Option("--person", help="KEY is a person's id in the source; needs the identity key.")
    ] = False,
) -> None:
    """Trace a person's predictions to their origin, or a digest to its raw file.

    Resolving a digest needs the identity key, so only those who hold it can do it.
    """
    try:
        if raw is not None and config is not None and not person:
            typer.echo(resolve(key, raw, config, lake))
        elif lake is not None:
            if person:
                # The tables of genomes have people who are in no prediction.
                key = key_of(key, config, lake)
                typer.echo(f"person_key {key}", err=True)
            # Digests must stay whole, to be copied: no wrapping to the terminal.
            Console(width=WIDEST_LINE, emoji=False).print(origins(Location.parse(lake), key))
        else:
            raise ConfigError("trace: give --lake to trace a person, or --raw and --config to resolve a digest")
    except RiskloomError as error:
        fail(error)


def key_of(source_id: str, config: str | None, lake: str) -> str:
    """The person key of an id as the source spells it, for those who hold the identity key."""
    if config is None:
        raise ConfigError("trace --person: give --config, the study whose identity section names the key")
    identity = load_settings(config, lake=lake).identity
    key = load_keyer(identity.model_copy(update={"create": False})).person_key(source_id)
    if key is None:
        raise ConfigError("trace --person: identity.pattern does not accept this id")
    return key


def resolve(digest: str, raw: str, config: str, lake: str | None) -> str:
    """The raw file whose keyed path digest this is."""
    settings = load_settings(config, raw=raw, lake=lake)
    keyer = load_keyer(settings.identity.model_copy(update={"create": False}))
    for file in Location(settings.raw).files():
        if keyer.path_digest(file.path) == digest:
            return f"{settings.raw}/{file.path}"
    raise DataGateError(f"no file below {raw} has the digest {digest}; is it the key of that ingest?")


def origins(lake: Location, person_key: str) -> Tree:
    """Every published prediction of a person, each with all that it came from."""
    runs = Runs.read(lake)
    table = open_delta(lake, "predictions", runs.version("predictions"))
    mine = pc.starts_with(ds.field("person_key"), person_key)
    found = table.to_pyarrow_dataset().to_table(filter=mine) if table else None
    if found is None or not found.num_rows:
        raise DataGateError("no published prediction for this person_key in this lake")
    if len(people := set(found["person_key"].to_pylist())) > 1:
        raise DataGateError(f"{len(people)} people have a person_key that begins so; give more of it")
    tree = Tree(f"person {people.pop()}")
    for row in found.sort_by([("as_of", "ascending"), ("model", "ascending")]).to_pylist():
        risk = (
            "no risk"
            if row["risk"] is None
            else f"risk {row['risk']:.3f} ({row['risk_low']:.3f}-{row['risk_high']:.3f})"
        )
        why = row["reason"] or ", ".join(row["top_reasons"])
        branch = tree.add(
            f"{row['model']} as of {row['as_of']}: {row['status']}, {risk}, {row['band'] or 'no band'}; {why}"
        )
        runs_of = _RunsOf(runs, row["model"])
        _add_model(branch, runs_of, row["model_version"])
        _add_features(branch, runs_of, row["feature_version"])
        branch.add(f"scored by run {row['run_id']} at {row['scored_at']:%Y-%m-%d %H:%M} UTC")
    return tree


@dataclass(frozen=True, slots=True)
class _RunsOf:
    """The runs of a lake as one prediction came from them, and those that its branch has told of."""

    runs: Runs
    task: str
    seen: set[str] = field(default_factory=set)

    def writer(self, output: str, version: str) -> Run | None:
        return next((run for run in self.runs.successes() if run.wrote.get(output) == version), None)

    def read(self, run: Run) -> list[tuple[str, str]]:
        """Tables and versions; a run of several tasks reads tables of the others too, which went into theirs."""
        of_all = ((table, str(version)) for table, version in sorted(run.read.items()))
        return [
            (table, version) for table, version in of_all if "/" not in table or table.endswith(f"/{self.task}")
        ]


def _add_model(branch: Tree, runs: _RunsOf, digest: str) -> None:
    output = f"models/{runs.task}"
    _add_run(branch.add(f"bundle {output}/{digest}"), runs, runs.writer(output, digest))


def _add_features(branch: Tree, runs: _RunsOf, feature_version: str) -> None:
    manifest, _, version = feature_version.partition(":")
    output = f"population/{runs.task}"
    node = branch.add(f"features {output} version {version}, manifest {manifest[:12]}…")
    _add_run(node, runs, runs.writer(output, version))


def _add_run(node: Tree, runs: _RunsOf, run: Run | None) -> None:
    """A run, if it is known, what it read, and so on down to the raw files; each run once."""
    if run is None:
        return
    if run.run_id in runs.seen:
        node.add(f"{run.job} run {run.run_id}, as above")
        return
    runs.seen.add(run.run_id)
    here = node.add(f"{run.job} run {run.run_id}, code {run.code_version}, config {run.config_digest[:12]}…")
    for table, version in runs.read(run):
        _add_run(here.add(f"{table} version {version}"), runs, runs.writer(table, version))
    for digest, size in sorted(run.counts.get("raw_files", {}).items()):
        here.add(f"raw file {digest} ({size:,} bytes)")
    if unlisted := run.counts.get("raw_files_not_listed"):
        here.add(f"{unlisted:,} raw files, too many to list; input digest {run.input_digest}")
