"""The tables a task reads, at their published versions, and what is checked before it starts."""

from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession

from features.contract.errors import ConfigError
from features.contract.paths import Location
from features.contract.runs import Runs
from features.contract.settings import Settings, TaskSettings
from features.genomics.polygenic.scores import check_current as check_scores
from features.genomics.quality_control import check_current
from features.genomics.structure.ancestry import check_current as check_ancestry
from features.genomics.structure.relatives import check_current as check_relatives
from features.lake import read_table

CLINICAL = ("persons", "observation_periods", "events")
GENOMICS = ("variants", "genotypes", "samples")
EVERY_VARIANT = "every variant"
"""What quality control left out too: a score's variants may have been usable when it was made."""
EVERY_SAMPLE = "every sample"
"""And who was genotyped beside them, for blocks hold all."""
SCORES = ("polygenic_scores", "score_matches")
KINSHIP, FAMILIES = "kinship", "families"
ANCESTRY = "ancestry"
IMAGING = ("series", "images")


@dataclass(frozen=True, slots=True)
class Inputs:
    """The frames of the tables a task reads, by what they are, and their versions by name."""

    frames: dict[str, DataFrame]
    versions: dict[str, int]

    def __getitem__(self, table: str) -> DataFrame:
        return self.frames[table]


def read_inputs(spark: SparkSession, lake: Location, runs: Runs, settings: Settings, task: TaskSettings) -> Inputs:
    """Open what the task needs and nothing else."""
    tables = {table: table for table in CLINICAL}
    if settings.genomics and (task.features.genomics or task.outcome.genes):
        check_current(runs, settings.genomics)
        tables |= settings.genomics.usable | {EVERY_VARIANT: "variants"}
    if settings.genomics and task.features.genomics and task.features.genomics.scores:
        check_scores(runs, settings.genomics)
        tables |= {table: table for table in SCORES}
    if settings.genomics and task.features.genomics and task.features.genomics.own_score:
        tables[EVERY_SAMPLE] = "samples"
        if settings.genomics.ancestry:
            check_ancestry(runs, settings.genomics)
            tables[ANCESTRY] = ANCESTRY
    if settings.genomics and task.split.relatives_together:
        check_relatives(runs, settings.genomics)
        tables |= {table: table for table in (KINSHIP, FAMILIES)}
    if task.features.imaging:
        tables |= {table: table for table in IMAGING}
    frames = {role: read_table(spark, lake, runs, table) for role, table in tables.items()}
    return Inputs(frames, {table: runs.version(table) for table in tables.values()})


def check_task(settings: Settings, task: TaskSettings) -> None:
    """What no single section of the configuration can know about itself."""
    features, where = task.features, f"tasks.{task.name}"
    if not (features.genomics or features.clinical or features.imaging):
        raise ConfigError(f"{where}.features: expected features of at least one modality")
    named = settings.genomics is not None and settings.genomics.names_genes
    if features.genomics and features.genomics.genes and not named:
        raise ConfigError(
            f"{where}.features.genomics.genes: set genomics.gene_field or genomics.genes, which name them"
        )
    if features.genomics and features.genomics.scores and not (settings.genomics and settings.genomics.scores):
        raise ConfigError(f"{where}.features.genomics.scores: set genomics.scores, which names the scoring files")
    if task.split.relatives_together and not (settings.genomics and settings.genomics.relatives):
        raise ConfigError(
            f"{where}.split.relatives_together: set genomics.relatives, by which relatives are found"
        )
    if task.outcome.genes and not named:
        raise ConfigError(f"{where}.outcome.genes: set genomics.gene_field or genomics.genes, which name them")
