"""What a launcher hands to its ranks: networks to train, and where everything lies."""

from dataclasses import dataclass

from pydantic import TypeAdapter

from features.contract.manifest import Manifest
from features.contract.training_settings import ModelSettings
from models.feed.plan import Part


@dataclass(frozen=True, slots=True)
class Fit:
    """One network: what it trains on, what stops it early, and whose predictions are wanted.

    `evaluate` maps a split's name (`tuning`, `held_out`, ...) to its parts; `statistics_key` names
    the manifest's statistics (`train` or `fold_<k>`).
    """

    name: str
    train: list[Part]
    tuning: list[Part]
    evaluate: dict[str, list[Part]]
    statistics_key: str
    modalities: list[str]
    model: ModelSettings


@dataclass(frozen=True, slots=True)
class TrainJob:
    """Fits over one table, made one after the other by the same ranks; results below `work_uri`.

    `deterministic` asks for the same weights on each run, at the price of one thread per rank. The same
    job with the same `work_uri` goes on where an earlier attempt left it, `checkpoint_seconds` ago at most.
    """

    manifest: Manifest
    fits: list[Fit]
    work_uri: str
    deterministic: bool = True
    checkpoint_seconds: float = 30

    def to_json(self) -> str:
        return TypeAdapter(TrainJob).dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "TrainJob":
        return TypeAdapter(TrainJob).validate_json(text)
