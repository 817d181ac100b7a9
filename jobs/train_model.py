"""Train every task's model on its published training table; out come signed bundles."""

from features.contract.paths import Location
from features.contract.settings import TaskSettings
from features.contract.training_settings import LaunchSettings
from features.lake import Written
from jobs.frame import Context, Job
from jobs.script import main
from jobs.tracking import track
from models.evaluate.results import Metrics


def _body(context: Context) -> Written:
    from models.train.task import train_task

    settings = context.settings
    spark = context.spark if settings.launch.launcher == "spark" else None
    tasks = [task.without_search for task in settings.tasks]
    work = {task.name: _work(context, task) for task in tasks}
    digests, counts = {}, {}
    for task in tasks:
        trained = train_task(context.lake, context.runs, settings, task, work[task.name], spark)
        digests[f"models/{task.name}"] = trained.digest
        counts[task.name] = {"rows": trained.rows} | headline(trained.metrics)
    for folder in work.values():
        folder.delete()
    return Written({}, counts, digests)


def _work(context: Context, task: TaskSettings) -> Location:
    """The ranks' folder, kept for the same settings and table, with other ranks too."""
    table = context.runs.version(f"training/{task.name}")
    return context.work(task.name, f"{table} {task.model_dump_json()}")


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
    sections=lambda settings: [
        settings.baseline,
        # What the ranks change is the digits; how they are started and watched changes nothing.
        LaunchSettings(ranks=settings.launch.ranks),
        *(task.without_search for task in settings.tasks),
    ],
    after=track,
)

if __name__ == "__main__":
    main(JOB)
