"""A stage is done again when what it depends on has changed, and not for anything else."""

from pathlib import Path
from typing import Any

from features.contract.config import config_digest, load_settings
from features.contract.settings import (
    GenomicsSettings,
    IdentitySettings,
    PolygenicSettings,
    ScoreDevelopment,
    Settings,
)
from jobs.frame import Job
from jobs.stages import job_named, stages_between

README = Path(__file__).parents[2] / "README.md"
RELATIVES = {"relatives": {"minimum_kinship": 0.1}}
ANCESTRY = {"ancestry": {"components": 4}}


def digest(job: Job, **more: Any) -> str:
    genomics = GenomicsSettings.model_validate({"paths": ["a"], "build": "GRCh38", **more})
    settings = Settings.model_construct(genomics=genomics, identity=IdentitySettings(namespace="tests"))
    return config_digest(*job.sections(settings))


def test_what_is_done_with_genomes_does_not_bring_them_in_anew() -> None:
    job = job_named("ingest_genomics")
    for more in (
        RELATIVES,
        ANCESTRY,
        {"quality": {"minimum_allele_frequency": 0.1}},
        {"scores": {"paths": ["b"]}},
    ):
        assert digest(job, **more) == digest(job)
    assert digest(job, half_calls="missing") != digest(job)


def test_scores_are_summed_anew_for_other_limits_and_not_for_relatives() -> None:
    job = job_named("score_genomes")
    assert digest(job, **RELATIVES) == digest(job)
    assert digest(job, **ANCESTRY) != digest(job)
    assert digest(job, quality={"pass_only": False}) != digest(job)


def test_chains_and_metadata_are_among_what_scores_are_made_of() -> None:
    job = job_named("score_genomes")
    about = ScoreDevelopment(path="samples.csv", cohorts=["UKB"])
    scores = PolygenicSettings(paths=["*.txt"], chains={"GRCh37": "hg19ToHg38.over.chain.gz"}, development=about)
    genomics = GenomicsSettings(paths=["a"], build="GRCh38", scores=scores)
    raw = ["*.txt", "hg19ToHg38.over.chain.gz", "samples.csv"]
    assert job.raw(Settings.model_construct(genomics=genomics)) == raw
    without = {"scores": {"paths": ["scores/*.txt"]}}
    assert digest(job, scores=scores.model_dump()) != digest(job, **without)


def test_ancestry_is_judged_anew_under_other_limits_and_not_for_other_scores() -> None:
    job = job_named("infer_ancestry")
    assert digest(job, **ANCESTRY, scores={"paths": ["b"]}) == digest(job, **ANCESTRY)
    assert digest(job, **ANCESTRY, quality={"pass_only": False}) != digest(job, **ANCESTRY)


def test_a_study_of_genomes_alone_has_no_clinic(tmp_path: Path) -> None:
    """The README's: what has nothing to do is skipped on the way to the scores."""
    (shown,) = [block for block in README.read_text().split("```") if block.startswith("\nname: genomes\n")]
    (tmp_path / "genomes.yaml").write_text(shown)
    settings = load_settings(str(tmp_path / "genomes.yaml"))
    stages = stages_between(None, "score_genomes")
    assert [job.name for job in stages if job.writes(settings)] == ["ingest_genomics", "qc_genomes"]
