"""From a lake and its runs to one page, in HTML and in Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.contract.runs import Run, Runs
from features.contract.schemas import PREDICTIONS
from features.contract.settings import Modality, Settings, TaskSettings
from models.registry import Bundle, open_bundle
from models.report.document import Block, Bullets, Cell, Document, Paragraph, Section, Table, to_html, to_markdown
from models.report.evaluation import evaluation_blocks, meaning, notes, summary
from models.report.flow import flow_blocks, leaves
from models.report.lineage import lineage
from models.report.population import Predicted, population_blocks, read_predictions
from models.report.provenance import provenance_blocks, runs_table, without_user
from models.report.words import ABSENT, EVALUATIONS, count, human, joined, moment

Leaf = tuple[tuple[str, ...], Any]
SIBLINGS = ("rows", "events")
NOT_COUNTED = f"{ABSENT} (not counted)"
AFTER_INDEX = "images_after_index"
BASELINE_IMAGING = (
    "Imaging counts as baseline by an explicit setting (features.imaging.baseline): images taken after the "
    "index time are features too."
)


def build_report(lake: Location, runs: Runs, settings: Settings) -> dict[str, bytes]:
    """`report.html` and `report.md` of what is published; the same lake gives the same bytes.

    Raises DataGateError where a bundle or the predictions are not published, and ModelGateError for
    a bundle that is not what its signature says.
    """
    bundles = {task.name: _open(lake, runs, settings, task) for task in settings.tasks}
    predicted = {task.name: read_predictions(lake, runs, task) for task in settings.tasks}
    behind = lineage(runs, _outputs(settings))
    sections = [
        _first(behind, bundles, predicted, settings),
        Section("Flow of records and people", flow_blocks(behind)),
    ]
    for task in settings.tasks:
        sections += _task(task, bundles[task.name], predicted[task.name], behind)
    sections.append(Section("How it was made", provenance_blocks(behind, bundles, settings)))
    last = max((run.finished for run in behind if run.finished), default=None)
    subtitle = f"Lake {without_user(lake.uri)}. State of {moment(last)}, when the last of its runs finished."
    document = Document(f"Risk report: {human(settings.name)}", subtitle, sections)
    return {"report.html": to_html(document), "report.md": to_markdown(document)}


def _open(lake: Location, runs: Runs, settings: Settings, task: TaskSettings) -> Bundle:
    digest = runs.published(f"models/{task.name}")
    if digest is None:
        raise DataGateError(f"models/{task.name} is not published in this lake; run train_model")
    return open_bundle(lake, task.name, digest, settings.trust)


def _outputs(settings: Settings) -> list[str]:
    kinds = ("training", "population", "models")
    return [PREDICTIONS.path, *(f"{kind}/{task.name}" for task in settings.tasks for kind in kinds)]


def _first(
    behind: Sequence[Run], bundles: Mapping[str, Bundle], predicted: Mapping[str, Predicted], settings: Settings
) -> Section:
    sentences = [
        f"{summary(bundles[task.name].metrics, task)} {_reach(predicted[task.name], task)}"
        for task in settings.tasks
    ]
    return Section("In short", [Bullets(sentences), runs_table(behind)])


def _reach(predicted: Predicted, task: TaskSettings) -> str:
    on = f"on {task.scoring.as_of}"
    return f"{count(predicted.scored)} of {count(predicted.persons)} people have a predicted risk {on}."


def _task(task: TaskSettings, bundle: Bundle, predicted: Predicted, behind: Sequence[Run]) -> Iterable[Section]:
    metrics = bundle.metrics
    yield Section(f"Task {human(task.name)}", _about(task, bundle, behind))
    for evaluation in metrics.evaluations:
        yield Section(EVALUATIONS[evaluation.evaluation], evaluation_blocks(evaluation, task), level=3)
    counted = dict(leaf for run in behind for leaf in _of_task(run, task))
    population = population_blocks(predicted, task, bundle.digest, counted.get(("population", "persons")))
    yield Section(f"Predictions for the population on {task.scoring.as_of}", population, level=3)
    if found := notes(metrics):
        yield Section("Notes", found, level=3)


def _about(task: TaskSettings, bundle: Bundle, behind: Sequence[Run]) -> list[Block]:
    counted = [leaf for run in behind for leaf in _of_task(run, task)]
    blocks: list[Block] = [
        Paragraph(f"Predicted: {meaning(task)}. Modalities: {joined(bundle.metrics.modalities)}. {_split(bundle)}")
    ]
    if having := _by_modality(counted):
        blocks.append(having)
    after = _images_after_index(counted)
    imaging = task.features.imaging
    if after or (imaging is not None and imaging.baseline):
        number = f" In the training table: {count(after)}." if after else ""
        blocks.append(Paragraph(BASELINE_IMAGING + number, "warning"))
    return blocks


def _split(bundle: Bundle) -> str:
    """From the manifest that the bundle was trained with."""
    manifest = bundle.manifest
    parts = [
        f"{human(split).lower()} n = {count(n)}, {count(manifest.positives.get(split, 0))} events"
        for split, n in manifest.rows.items()
    ]
    certificate = manifest.certificate
    return (
        f"Split: {'; '.join(parts)}. People in two parts: {count(certificate.persons_in_two_splits)}; equal rows "
        f"in two parts: {count(certificate.identical_rows_across_splits)}."
    )


def _of_task(run: Run, task: TaskSettings) -> Iterable[Leaf]:
    """The counts below the task's name, wherever a job put it."""
    for path, value in leaves(run.counts):
        if task.name in path[:-1]:
            yield path[path.index(task.name) + 1 :], value


def _by_modality(counted: Iterable[Leaf]) -> Table | None:
    """Beside each other: counts whose last key is a modality, `has_` it or `with_` it, and their siblings
    `rows` and `events`."""
    found: dict[tuple[str, ...], dict[str, int]] = {}
    for path, n in counted:
        key = path[-1].removeprefix("has_").removeprefix("with_")
        if key in (*SIBLINGS, *get_args(Modality)) and isinstance(n, int):
            found.setdefault(path[:-1], {})[key] = n
    found = {path: counts for path, counts in found.items() if set(counts) & set(get_args(Modality))}
    if not found:
        return None
    keys = [key for key in (*SIBLINGS, *get_args(Modality)) if any(key in counts for counts in found.values())]
    rows: list[list[Cell]] = [
        [human(" ".join(path)) or "All", *(counts.get(key, NOT_COUNTED) for key in keys)]
        for path, counts in found.items()
    ]
    return Table("People with each modality", ["Where", *map(human, keys)], rows)


def _images_after_index(counted: Iterable[Leaf]) -> int:
    return sum(n for path, n in counted if path == (AFTER_INDEX,) and isinstance(n, int))
