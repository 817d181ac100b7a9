"""The lake's genotypes to `kinship` and `families`: who is related, and who is there twice."""

from features.contract.settings import Settings
from features.lake import Written
from jobs.frame import Context, Job
from jobs.script import main


def _body(context: Context) -> Written:
    from features.genomics.structure.relatives import relate_genomes

    with context.scratch("relate_genomes") as folder:
        return relate_genomes(context.spark, context.lake, context.runs, context.settings, folder)


def _writes(settings: Settings) -> list[str]:
    return ["kinship", "families"] if settings.genomics and settings.genomics.relatives else []


JOB = Job(
    name="relate_genomes",
    body=_body,
    reads=lambda settings: sorted({*settings.genomics.usable.values(), "samples"}) if settings.genomics else [],
    writes=_writes,
    sections=lambda settings: [settings.genomics and settings.genomics.relatives],
)

if __name__ == "__main__":
    main(JOB)
