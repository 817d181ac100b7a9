"""Delimited clinical files of the raw zone to `persons`, `observation_periods` and `events`."""

from features.contract.settings import Settings
from features.lake import Written
from jobs.frame import Context, Job
from jobs.script import main


def _body(context: Context) -> Written:
    from features.clinical.ingest import ingest_clinical

    files = {source.name: context.matching([source.path]) for source in context.settings.clinical.sources}
    return ingest_clinical(context.spark, context.lake, context.settings, context.keyer, files)


def _writes(settings: Settings) -> list[str]:
    if not settings.clinical.sources:
        return []
    return ["persons", "observation_periods", "events", "quarantine/ingest_clinical"]


JOB = Job(
    name="ingest_clinical",
    body=_body,
    writes=_writes,
    sections=lambda settings: [settings.clinical, settings.identity],
    raw=lambda settings: [source.path for source in settings.clinical.sources],
)

if __name__ == "__main__":
    main(JOB)
