"""Scoring files of the raw zone and the lake's genotypes to `polygenic_scores` and `score_matches`."""

from features.contract.settings import Settings
from features.lake import Written
from jobs.frame import Context, Job
from jobs.script import main


def _body(context: Context) -> Written:
    from features.genomics.polygenic.scores import score_genomes

    scores = context.settings.genomics and context.settings.genomics.scores
    files = context.matching(scores.paths if scores else [])  # not those of chains and development
    return score_genomes(context.spark, context.lake, context.runs, context.settings, context.keyer, files)


def _raw(settings: Settings) -> list[str]:
    scores = settings.genomics and settings.genomics.scores
    if not scores:
        return []
    development = [scores.development.path] if scores.development else []
    return [*scores.paths, *scores.chains.values(), *development]


def _reads(settings: Settings) -> list[str]:
    usable = settings.genomics.usable.values() if settings.genomics else ()
    ancestry = ["ancestry"] if settings.genomics and settings.genomics.ancestry else []
    return sorted({*usable, "variants", "samples", *ancestry})


JOB = Job(
    name="score_genomes",
    body=_body,
    reads=_reads,
    writes=lambda settings: ["polygenic_scores", "score_matches"] if _raw(settings) else [],
    sections=lambda settings: [
        settings.genomics and settings.genomics.without("relatives"),
        settings.identity,
    ],
    raw=_raw,
)

if __name__ == "__main__":
    main(JOB)
