"""DICOM files of the raw zone to `series` and `images`."""

from features.contract.settings import Settings
from features.lake import Written
from jobs.frame import Context, Job
from jobs.script import main


def _body(context: Context) -> Written:
    from features.imaging.ingest import ingest_imaging

    return ingest_imaging(context.spark, context.lake, context.settings, context.keyer, context.files)


def _writes(settings: Settings) -> list[str]:
    return ["series", "images", "quarantine/ingest_imaging"] if settings.imaging else []


JOB = Job(
    name="ingest_imaging",
    body=_body,
    writes=_writes,
    sections=lambda settings: [settings.imaging, settings.identity],
    raw=lambda settings: settings.imaging.paths if settings.imaging else [],
)

if __name__ == "__main__":
    main(JOB)
