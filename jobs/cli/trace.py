"""`riskloom trace`: from a prediction back to the model, the tables, the runs and the raw files."""

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
            key = key_of(key, config, lake) if person else key
            # Digests must stay whole, to be copied: no wrapping to the terminal.
            Console(width=WIDEST_LINE).print(origins(Location.parse(lake), key))
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
        _add_model(branch, runs, row["model"], row["model_version"])
        _add_features(branch, runs, row["model"], row["feature_version"])
        branch.add(f"scored by run {row['run_id']} at {row['scored_at']:%Y-%m-%d %H:%M} UTC")
    return tree


def _add_model(branch: Tree, runs: Runs, model: str, digest: str) -> None:
    made = next((run for run in runs.successes() if run.wrote.get(f"models/{model}") == digest), None)
    node = branch.add(f"bundle models/{model}/{digest}")
    if made is not None:
        _add_run(node, runs, made)


def _add_features(branch: Tree, runs: Runs, model: str, feature_version: str) -> None:
    manifest, _, version = feature_version.partition(":")
    node = branch.add(f"features population/{model} version {version}, manifest {manifest[:12]}…")
    made = _writer(runs, f"population/{model}", version)
    if made is not None:
        _add_run(node, runs, made)


def _add_run(node: Tree, runs: Runs, run: Run) -> None:
    """A run, what it read, and so on down to the raw files."""
    here = node.add(f"{run.job} run {run.run_id}, code {run.code_version}, config {run.config_digest[:12]}…")
    for table, version in sorted(run.read.items()):
        writer = _writer(runs, table, str(version))
        below = here.add(f"{table} version {version}")
        if writer is not None:
            _add_run(below, runs, writer)
    for digest, size in sorted(run.counts.get("raw_files", {}).items()):
        here.add(f"raw file {digest} ({size:,} bytes)")
    if unlisted := run.counts.get("raw_files_not_listed"):
        here.add(f"{unlisted:,} raw files, too many to list; input digest {run.input_digest}")


def _writer(runs: Runs, output: str, version: str) -> Run | None:
    return next((run for run in runs.successes() if run.wrote.get(output) == version), None)
