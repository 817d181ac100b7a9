"""The lake's genotypes to `axes`, `populations` and `ancestry`: where people's genomes come from."""

from features.contract.settings import GenomicsSettings, Settings
from features.lake import Written
from jobs.frame import Context, Job
from jobs.script import main


def _body(context: Context) -> Written:
    from features.genomics.ancestry import infer_ancestry

    folder = context.lake / "_work/infer_ancestry"
    folder.delete()  # what a killed one left
    try:
        return infer_ancestry(context.spark, context.lake, context.runs, context.settings, context.keyer, folder)
    finally:
        folder.delete()


def _labelled(genomics: GenomicsSettings | None) -> bool:
    return bool(genomics and genomics.ancestry and genomics.ancestry.populations)


def _reads(settings: Settings) -> list[str]:
    genomics = settings.genomics
    if genomics is None:
        return []
    return sorted({*genomics.usable.values(), "samples", *(["families"] if genomics.relatives else [])})


def _writes(settings: Settings) -> list[str]:
    if settings.genomics is None or settings.genomics.ancestry is None:
        return []
    return ["axes", "ancestry", *(["populations"] if _labelled(settings.genomics) else [])]


def _raw(settings: Settings) -> list[str]:
    genomics = settings.genomics
    populations = genomics.ancestry.populations if genomics and genomics.ancestry else None
    return [populations.path] if populations else []


JOB = Job(
    name="infer_ancestry",
    body=_body,
    reads=_reads,
    writes=_writes,
    sections=lambda settings: [settings.genomics and settings.genomics.without("scores"), settings.identity],
    raw=_raw,
)

if __name__ == "__main__":
    main(JOB)
