"""Train every task's model on its published training table; out come signed bundles."""

import hashlib

from features.contract.paths import Location
from features.contract.settings import TaskSettings
from features.lake import Written
from jobs.frame import Context, Job, code_version
from jobs.script import main
from jobs.tracking import track
from models.evaluate.results import Metrics


def _body(context: Context) -> Written:
    from models.train.task import train_task

    settings = context.settings
    spark = context.spark if settings.launch.launcher == "spark" else None
    work = {task.name: _work(context, task) for task in settings.tasks}
    digests, counts = {}, {}
    for task in settings.tasks:
        trained = train_task(context.lake, context.runs, settings, task, work[task.name], spark)
        digests[f"models/{task.name}"] = trained.digest
        counts[task.name] = {"rows": trained.rows} | headline(trained.metrics)
    for folder in work.values():
        folder.delete()
    return Written({}, counts, digests)


def _work(context: Context, task: TaskSettings) -> Location:
    """The ranks' folder. Checkpoints of the same code, settings and table are kept, so that a training that
    was killed goes on, with other ranks too; those of any other are removed."""
    table = context.runs.version(f"training/{task.name}")
    key = hashlib.sha256(f"{code_version()} {table} {task.model_dump_json()}".encode()).hexdigest().encode()
    folder = context.lake / f"_work/{task.name}"
    owner = folder / "key"
    if not owner.exists() or owner.read_bytes() != key:
        folder.delete()
        owner.write_bytes(key)
    return folder


def headline(metrics: Metrics) -> dict[str, object]:
    """The primary metric of every predictor, by evaluation: what the summary and `runs` keep."""
    return {
        evaluation.evaluation: {
            predictor.name: {evaluation.primary: predictor.metrics[evaluation.primary].model_dump()}
            for predictor in evaluation.predictors
            if evaluation.primary in predictor.metrics
        }
        for evaluation in metrics.evaluations
    }


JOB = Job(
    name="train_model",
    body=_body,
    reads=lambda settings: [f"training/{task.name}" for task in settings.tasks],
    writes=lambda settings: [f"models/{task.name}" for task in settings.tasks],
    sections=lambda settings: [settings.baseline, settings.launch, *settings.tasks],
    after=track,
)

if __name__ == "__main__":
    main(JOB)
