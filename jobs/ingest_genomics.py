"""VCF, BCF, BGEN, PLINK 1 and PLINK 2 files of the raw zone to `variants`, `genotypes` and `samples`."""

import hashlib
import json
from dataclasses import asdict

from features.contract.config import config_digest
from features.contract.persons import fingerprint
from features.contract.settings import GenomicsSettings, Settings
from features.lake import Written
from jobs.frame import Context, Job, code_version
from jobs.script import main

LATER = ("quality", "relatives", "ancestry", "scores")
"""The sections of what follows."""


def _body(context: Context) -> Written:
    from features.genomics.ingestion.ingest import ingest_genomics

    genomics = context.settings.genomics
    files = context.matching(genomics.paths if genomics else [])  # not those of sexes, reference and genes
    return ingest_genomics(
        context.spark,
        context.lake,
        context.settings,
        context.keyer,
        files,
        context.runs,
        _basis(context, genomics) if genomics else "",
    )


def _basis(context: Context, genomics: GenomicsSettings) -> str:
    """What makes the rows of a file, beside the file itself: on another basis all files are read anew."""
    every_file = genomics.without(*LATER).model_copy(update={"paths": [], "jointly_called": []})
    beside = [asdict(file) for file in context.matching(_beside(genomics))]
    config = config_digest(every_file, context.settings.identity)
    parts = [code_version(), config, fingerprint(context.keyer.key), beside]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _raw(settings: Settings) -> list[str]:
    genomics = settings.genomics
    if genomics is None:
        return []
    sexes = [genomics.sexes.path] if genomics.sexes else []
    return [*genomics.paths, *sexes, *_beside(genomics)]


def _beside(genomics: GenomicsSettings) -> list[str]:
    reference = [genomics.reference, f"{genomics.reference}.fai"] if genomics.reference else []
    return [*reference, *([genomics.genes] if genomics.genes else [])]


def _writes(settings: Settings) -> list[str]:
    return ["variants", "genotypes", "samples", "quarantine/ingest_genomics"] if settings.genomics else []


JOB = Job(
    name="ingest_genomics",
    body=_body,
    writes=_writes,
    sections=lambda settings: [settings.genomics and settings.genomics.without(*LATER), settings.identity],
    raw=_raw,
)

if __name__ == "__main__":
    main(JOB)
