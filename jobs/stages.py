"""The eleven stages in the order of the data, and the job that is run by its own command only."""

from features.contract.errors import ConfigError
from jobs import (
    build_features,
    infer_ancestry,
    ingest_clinical,
    ingest_genomics,
    ingest_imaging,
    qc_genomes,
    relate_genomes,
    report,
    score_genomes,
    score_population,
    search_model,
    train_model,
)
from jobs.frame import Job

STAGES: tuple[Job, ...] = (
    ingest_genomics.JOB,
    ingest_clinical.JOB,
    ingest_imaging.JOB,
    qc_genomes.JOB,
    relate_genomes.JOB,
    infer_ancestry.JOB,
    score_genomes.JOB,
    build_features.JOB,
    train_model.JOB,
    score_population.JOB,
    report.JOB,
)
BY_THEMSELVES: tuple[Job, ...] = (search_model.JOB,)
JOBS: tuple[Job, ...] = (*STAGES, *BY_THEMSELVES)


def job_named(name: str) -> Job:
    """A stage, or a job that `run` leaves out."""
    for job in JOBS:
        if job.name == name:
            return job
    raise ConfigError(f"{name}: no such job; the jobs are {', '.join(job.name for job in JOBS)}")


def stages_between(first: str | None, last: str | None) -> list[Job]:
    """The stages from `first` to `last`, both included."""
    start = 0 if first is None else position(first)
    stop = len(STAGES) if last is None else position(last) + 1
    if stop <= start:
        raise ConfigError(f"--from {first} --to {last}: the first comes after the last; the order is {_names()}")
    return list(STAGES[start:stop])


def position(name: str) -> int:
    """Where a stage stands; an error that lists the stages for an unknown one."""
    for index, job in enumerate(STAGES):
        if job.name == name:
            return index
    raise ConfigError(f"{name}: no such stage; the stages are {_names()}")


def _names() -> str:
    return ", ".join(job.name for job in STAGES)
