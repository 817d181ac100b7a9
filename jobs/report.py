"""One self-contained page about a study: flow of records, model beside baseline, predictions."""

import hashlib

from features.lake import Written
from jobs.frame import Context, Job
from jobs.script import main


def _body(context: Context) -> Written:
    from models.report import build_report

    files = build_report(context.lake, context.runs, context.settings)
    for name, data in files.items():
        (context.lake / f"reports/{context.run_id}/{name}").write_bytes(data)
    digests = {
        f"reports/{context.run_id}/{name}": hashlib.sha256(data).hexdigest() for name, data in files.items()
    }
    published = hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest()
    return Written({}, {"files": sorted(files)}, {f"reports/{context.settings.name}": published, **digests})


JOB = Job(
    name="report",
    body=_body,
    reads=lambda settings: [
        "predictions",
        *(f"{kind}/{task.name}" for task in settings.tasks for kind in ("training", "population", "models")),
    ],
    writes=lambda settings: [f"reports/{settings.name}"],
    sections=lambda settings: [task.without_search for task in settings.tasks],
)

if __name__ == "__main__":
    main(JOB)
