"""From Arrow columns to the arrays a network takes; the same for training and for scoring."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.contract.errors import DataGateError
from features.contract.manifest import Manifest, Statistics
from models.feed.columns import Columns, decode
from models.feed.memory import aligned
from models.feed.schema import IMAGING, REBUILD, input_schema

Floats = npt.NDArray[np.float32]


def inputs(
    people: pa.Table, manifest: Manifest, statistics: dict[str, Statistics], modalities: list[str]
) -> dict[str, Floats]:
    """`network_inputs` of an Arrow table's rows; raises DataGateError for columns that are not as declared."""
    columns = decode(people, input_schema(manifest, modalities))
    return network_inputs(columns, manifest, statistics, modalities)


def network_inputs(
    columns: Columns, manifest: Manifest, statistics: dict[str, Statistics], modalities: list[str]
) -> dict[str, Floats]:
    """The network's inputs for B people.

    A vector modality m of n columns gives `m` float32 [B, 2n]: standardised values (0 where missing
    or absent), then flags (1 where a present modality lacks the value). Imaging gives `imaging`
    float32 [B, H, W, C] in 0..1. Each gives `has_<m>` float32 [B, 1].
    """
    arrays: dict[str, Floats] = {}
    for modality in modalities:
        has, values = columns[f"has_{modality}"][:, None], columns[f"x_{modality}"]
        if modality == IMAGING:
            shape = (len(values), *(manifest.image_shape or []))
            pixels = np.divide(values.reshape(shape), 255, out=aligned(shape, np.float32), dtype=np.float32)
            arrays[modality] = np.multiply(pixels, has[:, :, None, None], out=pixels)
        else:
            arrays[modality] = _standardised(values, statistics[modality], has)
        arrays[f"has_{modality}"] = has
    return arrays


def targets(columns: Columns, manifest: Manifest) -> dict[str, Any]:
    """`events` and `at_risk`, float32 [B, K] over the K intervals that end at `manifest.edges`; and the
    outcome as it stands, `event` float32 [B] and `time` float64 [B] (days; 0 for a binary outcome)."""
    outcome = f"y_{manifest.outcome}"
    if manifest.kind == "binary":
        event = columns[outcome]
        return binary_targets(event) | {"event": event, "time": np.zeros(len(event))}
    time, event = columns[f"{outcome}_time"].astype(np.float64), columns[f"{outcome}_event"]
    if np.isnan(time).any():
        raise DataGateError(f"column {outcome}_time: a row is not a number; {REBUILD}")
    return survival_targets(time, event > 0, np.asarray(manifest.edges)) | {"event": event, "time": time}


def binary_targets(event: Floats) -> dict[str, Floats]:
    """One interval, in which all [B] are at risk."""
    return {"events": event[:, None], "at_risk": np.ones((len(event), 1), np.float32)}


def survival_targets(
    time: npt.NDArray[np.float64], happened: npt.NDArray[np.bool_], edges: npt.NDArray[np.float64]
) -> dict[str, Floats]:
    """Interval targets from follow-up times [B] in days; an interval holds its own end.

    Someone with the event is at risk in every interval entered; someone censored only where more
    than half of it was survived (Gensheimer & Narasimhan 2019, PeerJ 7:e6257, nnet-survival).
    """
    starts = np.concatenate([[0.0], edges[:-1]])
    day = time[:, None]
    within = (day <= edges) & ((day > starts) | (starts == 0))
    entered = (day > starts) | (starts == 0)
    survived_half = day > (starts + edges) / 2
    at_risk = np.where(happened[:, None], entered, survived_half)
    return {"events": (within & happened[:, None]).astype(np.float32), "at_risk": at_risk.astype(np.float32)}


def _standardised(values: Floats, statistics: Statistics, has: Floats) -> Floats:
    """Standardised values beside missing flags; float32 [B, 2n]."""
    rows, n = values.shape
    both, missing = aligned((rows, 2 * n), np.float32), np.isnan(values)
    standard = np.subtract(values, np.asarray(statistics.mean, np.float32), out=both[:, :n])
    standard /= np.asarray(statistics.std, np.float32)
    standard[missing] = 0.0
    standard *= has
    np.multiply(missing, has, out=both[:, n:])
    return both
