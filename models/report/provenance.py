"""How a study was made: runs, versions, bundles, configuration; without paths, keys or secrets."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from features.contract.config import resolved_yaml
from features.contract.runs import Run
from features.contract.settings import Settings
from models.registry import Bundle
from models.report.document import Block, Cell, Code, Paragraph, Table
from models.report.words import job_name, joined, moment

LEFT_OUT = "(left out of this page)"
LOCATIONS = frozenset({"raw", "path", "paths", "key_uri", "public_keys", "uri"})
SECRET = re.compile(r"secret|password|token|credential|key", re.IGNORECASE)


def runs_table(runs: Sequence[Run]) -> Table:
    """The runs behind the results, oldest first."""
    rows: list[list[Cell]] = [
        [job_name(run.job), run.run_id, moment(run.finished), run.code_version] for run in runs
    ]
    return Table("The runs behind this page", ["Stage", "Run", "Finished", "Code"], rows)


def provenance_blocks(runs: Sequence[Run], bundles: Mapping[str, Bundle], settings: Settings) -> list[Block]:
    """Bundles, what each run read and wrote, and the configuration."""
    return [
        _bundles(bundles, settings),
        _versions(runs),
        Paragraph("Digests and versions are those in the lake's runs table; `riskloom trace` follows them."),
        Code("The configuration, resolved: paths, keys and secrets left out", configuration(settings)),
    ]


def configuration(settings: Settings) -> str:
    """`resolved_yaml` with every path, key and secret replaced."""
    document = yaml.safe_load(resolved_yaml(settings))
    document["lake"] = without_user(settings.lake)
    document["spark"]["conf"] = {
        key: LEFT_OUT if SECRET.search(key) or "/" in value else value
        for key, value in document["spark"]["conf"].items()
    }
    return str(yaml.safe_dump(_redacted(document), sort_keys=False, allow_unicode=True))


def without_user(uri: str) -> str:
    """A URI without the name and password before its host."""
    return re.sub(r"(?<=://)[^/@]*@", "", uri)


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: LEFT_OUT if k in LOCATIONS and v is not None else _redacted(v) for k, v in value.items()}
    return [_redacted(item) for item in value] if isinstance(value, list) else value


def _bundles(bundles: Mapping[str, Bundle], settings: Settings) -> Table:
    keys = len(settings.trust.public_keys)
    trusted = f"✓ trusted: signed by {'the' if keys == 1 else f'one of {keys}'} configured key{'s' * (keys > 1)}"
    rows: list[list[Cell]] = [
        [task, bundle.digest, f"{trusted}; every file has its signed SHA-256"] for task, bundle in bundles.items()
    ]
    return Table("Model bundles, checked when this page was made", ["Task", "Bundle (SHA-256)", "Signature"], rows)


def _versions(runs: Sequence[Run]) -> Table:
    rows: list[list[Cell]] = [
        [job_name(run.job), _named(run.read), _named(run.wrote), run.config_digest[:12]] for run in runs
    ]
    return Table("What each run read and wrote", ["Stage", "Read", "Wrote", "Configuration digest"], rows)


def _named(outputs: Mapping[str, int | str]) -> str:
    """`events version 3`; a digest is cut, the whole one is in the table of bundles."""
    named = [f"{name} {_version(str(version))}" for name, version in sorted(outputs.items())]
    return joined(named) if named else "nothing from the lake"


def _version(version: str) -> str:
    return f"version {version}" if version.isdigit() else version[:12]
