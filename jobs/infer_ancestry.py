"""The lake's genotypes to `axes`, `populations` and `ancestry`: where people's genomes come from."""

from features.contract.settings import Settings
from features.lake import Written
from jobs.frame import Context, Job
from jobs.script import main


def _body(context: Context) -> Written:
    from features.genomics.structure.ancestry import infer_ancestry

    with context.scratch("infer_ancestry") as folder:
        return infer_ancestry(context.spark, context.lake, context.runs, context.settings, context.keyer, folder)


def _panel(settings: Settings) -> list[str]:
    """The file of a reference panel's labels, where there is one."""
    ancestry = settings.genomics.ancestry if settings.genomics else None
    return [ancestry.populations.path] if ancestry and ancestry.populations else []


def _reads(settings: Settings) -> list[str]:
    genomics = settings.genomics
    if genomics is None:
        return []
    return sorted({*genomics.usable.values(), "samples", *(["families"] if genomics.relatives else [])})


def _writes(settings: Settings) -> list[str]:
    if settings.genomics is None or settings.genomics.ancestry is None:
        return []
    return ["axes", "ancestry", *(["populations"] if _panel(settings) else [])]


JOB = Job(
    name="infer_ancestry",
    body=_body,
    reads=_reads,
    writes=_writes,
    sections=lambda settings: [settings.genomics and settings.genomics.without("scores"), settings.identity],
    raw=_panel,
)

if __name__ == "__main__":
    main(JOB)
