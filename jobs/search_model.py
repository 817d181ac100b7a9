"""Search better `model` settings for the tasks that have a `search` section; by itself, never with `run`."""

import hashlib
from typing import TYPE_CHECKING

from features.contract.paths import Location
from features.contract.settings import Settings, TaskSettings
from features.lake import Written
from jobs.frame import Context, Job
from jobs.script import console, main

if TYPE_CHECKING:
    from models.train.trials import Search


def _body(context: Context) -> Written:
    from models.train.search import search_task

    settings = context.settings
    spark = context.spark if settings.launch.launcher == "spark" else None
    work = {task.name: _work(context, task) for task in _searched(settings)}
    written = Written({}, {}, {})
    for task in _searched(settings):
        found = search_task(context.lake, context.runs, settings, task, work[task.name], spark)
        written.digests.update(_write(context.lake, found))
        written.counts[task.name] = {"trials": len(found.trials), "best": found.best.model_dump()}
    for folder in work.values():
        # The trials' records stay: a search for more of them goes on.
        for left in ("job.json", "logs"):
            (folder / left).delete()
    return written


def _write(lake: Location, found: "Search") -> dict[str, str]:
    """Publish and tell what a search found; the digests of what was written."""
    from models.train.trials import BEST, SEARCH, files, told

    published = files(found)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in published.items()}
    folder = f"searches/{found.task}/{digests[SEARCH]}"
    for name, data in published.items():
        (lake / f"{folder}/{name}").write_bytes(data)
    for line in (
        f"{found.task}: the best is trial {found.best.number}, {told(found, found.best)}",
        f"For {found.task}'s model section, if you take it:\n{published[BEST].decode()}",
        f"All trials: {lake.uri}/{folder}",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return {f"searches/{found.task}": digests[SEARCH]} | {f"{folder}/{name}": d for name, d in digests.items()}


def _searched(settings: Settings) -> list[TaskSettings]:
    return [task for task in settings.tasks if task.search is not None]


def _work(context: Context, task: TaskSettings) -> Location:
    """The trials' folder, whose name no task can have; the number of trials is no part of its key."""
    table = context.runs.version(f"training/{task.name}")
    search = task.search and task.search.model_dump_json(exclude={"trials"})
    return context.work(f"search-{task.name}", f"{table} {task.model.model_dump_json()} {search}")


JOB = Job(
    name="search_model",
    body=_body,
    reads=lambda settings: [f"training/{task.name}" for task in _searched(settings)],
    writes=lambda settings: [f"searches/{task.name}" for task in _searched(settings)],
    sections=lambda settings: [
        settings.launch,
        *(section for task in _searched(settings) for section in (task.model, task.split, task.search)),
    ],
)

if __name__ == "__main__":
    main(JOB)
