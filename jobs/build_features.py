"""Cohorts, labels, features and splits: `training/<task>` and `population/<task>` of every task."""

from pydantic import BaseModel

from features.contract.settings import Settings
from features.lake import Written
from jobs.frame import Context, Job
from jobs.script import main


def _body(context: Context) -> Written:
    from features.assembly import build_features

    return build_features(context.spark, context.lake, context.runs, context.settings)


def _reads(settings: Settings) -> list[str]:
    genomics = sorted({*settings.genomics.usable.values(), "variants"}) if settings.genomics else []
    imaging = ["series", "images"] if settings.imaging else []
    wanted = [task.features.genomics for task in settings.tasks]
    scores = ["polygenic_scores", "score_matches"] if any(chosen and chosen.scores for chosen in wanted) else []
    own = any(chosen and chosen.own_score for chosen in wanted)
    ancestry = ["ancestry"] if own and settings.genomics and settings.genomics.ancestry else []
    genomics = sorted({*genomics, "samples"}) if own else genomics
    known = settings.genomics and settings.genomics.relatives
    together = any(task.split.relatives_together for task in settings.tasks)
    relatives = ["kinship", "families"] if known and together else []
    return ["persons", "observation_periods", "events", *genomics, *scores, *ancestry, *relatives, *imaging]


def _sections(settings: Settings) -> list[BaseModel | None]:
    per_task = [(task.cohort, task.outcome, task.features, task.split, task.scoring) for task in settings.tasks]
    # The number of ranks decides how a training table is cut into files.
    return [settings.genomics, settings.launch, *(section for task in per_task for section in task)]


JOB = Job(
    name="build_features",
    body=_body,
    reads=_reads,
    writes=lambda settings: [
        f"{kind}/{task.name}" for task in settings.tasks for kind in ("training", "population")
    ],
    sections=_sections,
)

if __name__ == "__main__":
    main(JOB)
