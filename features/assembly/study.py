"""What the steps that build one task share."""

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession

from features.assembly.inputs import Inputs
from features.contract.paths import Location
from features.contract.settings import Settings, TaskSettings
from features.genomics.polygenic.own import OwnScores


@dataclass(frozen=True, slots=True)
class Study:
    """One task: its settings, the tables it reads, where it writes.

    `keep` holds a narrow frame that is used more than once until the task is built. `own_scores` come once it is
    known who is in `train`.
    """

    spark: SparkSession
    lake: Location
    settings: Settings
    task: TaskSettings
    inputs: Inputs
    keep: Callable[[DataFrame], DataFrame]
    own_scores: OwnScores | None = None

    @property
    def somatic(self) -> bool:
        return self.settings.genomics is not None and self.settings.genomics.somatic
