"""VCF, BCF and PLINK 1 files of the raw zone to `variants`, `genotypes` and `samples`."""

from features.contract.settings import Settings
from features.lake import Written
from jobs.frame import Context, Job
from jobs.script import main


def _body(context: Context) -> Written:
    from features.genomics.ingest import ingest_genomics

    genomics = context.settings.genomics
    files = context.matching(genomics.paths if genomics else [])  # not those of sexes, reference and genes
    return ingest_genomics(context.spark, context.lake, context.settings, context.keyer, files)


def _raw(settings: Settings) -> list[str]:
    genomics = settings.genomics
    if genomics is None:
        return []
    sexes = [genomics.sexes.path] if genomics.sexes else []
    reference = [genomics.reference, f"{genomics.reference}.fai"] if genomics.reference else []
    genes = [genomics.genes] if genomics.genes else []
    return [*genomics.paths, *sexes, *reference, *genes]


def _writes(settings: Settings) -> list[str]:
    return ["variants", "genotypes", "samples", "quarantine/ingest_genomics"] if settings.genomics else []


JOB = Job(
    name="ingest_genomics",
    body=_body,
    writes=_writes,
    sections=lambda settings: [
        settings.genomics and settings.genomics.without("quality", "relatives", "ancestry", "scores"),
        settings.identity,
    ],
    raw=_raw,
)

if __name__ == "__main__":
    main(JOB)
