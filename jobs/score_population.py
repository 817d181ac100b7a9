"""Score everybody of each task's population with its published bundle: `predictions`."""

from typing import Any

from features.lake import Written
from jobs.frame import Context, Job
from jobs.script import main


def _body(context: Context) -> Written:
    from features.contract.schemas import PREDICTIONS
    from features.lake import read_table, write_table
    from models.scoring import score_population

    settings, runs = context.settings, context.runs
    frames, slices = [], []
    for task in settings.tasks:
        digest = runs.published(f"models/{task.name}") or ""
        people = read_table(context.spark, context.lake, runs, f"population/{task.name}")
        frames.append(
            score_population(people, context.lake, runs, settings, task, context.run_id, context.started, digest)
        )
        slices.append(f"(model = '{task.name}' AND as_of = DATE '{task.scoring.as_of}')")
    scored = frames[0]
    for frame in frames[1:]:
        scored = scored.unionByName(frame)
    version = write_table(scored, context.lake, PREDICTIONS, replace_where=" OR ".join(slices))
    return Written({PREDICTIONS.path: version}, _count_statuses(context, version))


def _count_statuses(context: Context, version: int) -> dict[str, Any]:
    """People by model and status among the rows that this run wrote."""
    from features.lake import read_version

    written = read_version(context.spark, context.lake, "predictions", version)
    counts: dict[str, dict[str, int]] = {}
    for row in written.where(written.run_id == context.run_id).groupBy("model", "status").count().collect():
        counts.setdefault(row["model"], {})[row["status"]] = row["count"]
    return counts


JOB = Job(
    name="score_population",
    body=_body,
    reads=lambda settings: [f"{kind}/{task.name}" for task in settings.tasks for kind in ("population", "models")],
    writes=lambda _: ["predictions"],
    sections=lambda settings: [settings.trust, *(task.scoring for task in settings.tasks)],
)

if __name__ == "__main__":
    main(JOB)
