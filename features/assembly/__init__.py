"""From the lake's tables to one row per person: `training/<task>` and `population/<task>`."""

from features.assembly.build import build_features

__all__ = ["build_features"]
