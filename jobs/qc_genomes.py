"""The lake's genotypes to `qc_variants` and `qc_samples`: what may be used, and why the rest may not."""

from features.contract.settings import Settings
from features.lake import Written
from jobs.frame import Context, Job
from jobs.script import main


def _body(context: Context) -> Written:
    from features.genomics.quality_control import control_quality

    return control_quality(context.spark, context.lake, context.runs, context.settings, context.keyer)


def _raw(settings: Settings) -> list[str]:
    quality = settings.genomics.quality if settings.genomics else None
    return [quality.hwe_group.path] if quality and quality.hwe_group else []


def _writes(settings: Settings) -> list[str]:
    wanted = settings.genomics and settings.genomics.quality
    return ["qc_variants", "qc_samples", "qc_excluded", "qc_attrition"] if wanted else []


JOB = Job(
    name="qc_genomes",
    body=_body,
    reads=lambda _: ["variants", "genotypes", "samples"],
    writes=_writes,
    sections=lambda settings: [settings.genomics and settings.genomics.quality, settings.identity],
    raw=_raw,
)

if __name__ == "__main__":
    main(JOB)
