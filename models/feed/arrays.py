"""From Arrow columns to the arrays a network takes; the same for training and for scoring."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.contract.errors import DataGateError
from features.contract.manifest import Manifest, Statistics

Floats = npt.NDArray[np.float32]


def inputs(
    table: pa.Table, manifest: Manifest, statistics: dict[str, Statistics], modalities: list[str]
) -> dict[str, Floats]:
    """The network's inputs for B people.

    A vector modality m of n columns gives `m` float32 [B, 2n]: standardised values (0 where missing
    or absent), then flags (1 where a present modality lacks the value). Imaging gives `imaging`
    float32 [B, H, W, C] in 0..1. Each gives `has_<m>` float32 [B, 1]. Raises DataGateError for a
    column of another length than the manifest says.
    """
    arrays: dict[str, Floats] = {}
    for modality in modalities:
        has = _numbers(table, f"has_{modality}")[:, None]
        if modality == "imaging":
            arrays[modality] = _image(table, manifest) * has[:, :, None, None]
        else:
            arrays[modality] = _vector(table, manifest, statistics[modality], modality, has)
        arrays[f"has_{modality}"] = has
    return arrays


def targets(table: pa.Table, manifest: Manifest) -> dict[str, Any]:
    """`events` and `at_risk`, float32 [B, K] over the K intervals that end at `manifest.edges`; and the
    outcome as it stands, `event` float32 [B] and `time` float64 [B] (days; 0 for a binary outcome)."""
    outcome = f"y_{manifest.outcome}"
    if manifest.kind == "binary":
        event = _numbers(table, outcome)
        return binary_targets(event) | {"event": event, "time": np.zeros(len(event))}
    time, event = _numbers(table, f"{outcome}_time", np.float64), _numbers(table, f"{outcome}_event")
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


def weights(table: pa.Table) -> Floats:
    """float32 [B]."""
    return _numbers(table, "weight")


def _vector(table: pa.Table, manifest: Manifest, statistics: Statistics, modality: str, has: Floats) -> Floats:
    """Standardised values beside missing flags; float32 [B, 2n]."""
    values = _lists(table, f"x_{modality}", len(manifest.vocabulary[modality]))
    missing = np.isnan(values)
    standard = (values - np.asarray(statistics.mean, np.float32)) / np.asarray(statistics.std, np.float32)
    standard[missing] = 0.0
    return np.concatenate([standard * has, missing * has], axis=1, dtype=np.float32)


def _lists(table: pa.Table, name: str, length: int) -> Floats:
    """A list column as float32 [B, length], without a copy where Arrow has none to make."""
    column = _column(table, name)
    _check_lengths(name, pc.list_value_length(column), length, "values")
    values = column.flatten().cast(pa.float32()).to_numpy(zero_copy_only=False)
    return np.asarray(values, np.float32).reshape(len(column), length)


def _image(table: pa.Table, manifest: Manifest) -> Floats:
    """Pixels / 255; float32 [B, H, W, C]."""
    if manifest.image_shape is None:
        raise DataGateError("x_imaging: the manifest has no image_shape; run build_features again")
    column = _column(table, "x_imaging")
    length = int(np.prod(manifest.image_shape))
    _check_lengths("x_imaging", pc.binary_length(column), length, "bytes")
    _, offsets, data = column.buffers()
    width = np.int64 if pa.types.is_large_binary(column.type) else np.int32
    first = int(np.frombuffer(offsets, width)[column.offset]) if len(column) else 0
    pixels = np.frombuffer(data or b"", np.uint8, count=len(column) * length, offset=first)
    return pixels.reshape(len(column), *manifest.image_shape).astype(np.float32) / np.float32(255)


def _numbers(table: pa.Table, name: str, dtype: Any = np.float32) -> npt.NDArray[Any]:
    column = _column(table, name)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype)


def _column(table: pa.Table, name: str) -> pa.Array:
    if name not in table.column_names:
        raise DataGateError(f"{name}: this column is missing; run build_features again")
    column = table[name].combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if column.null_count:
        raise DataGateError(f"{name}: {column.null_count} of {len(column)} rows are null, expected none")
    return column


def _check_lengths(name: str, lengths: pa.Array, expected: int, what: str) -> None:
    found = pc.min_max(lengths)
    for length in (found["min"].as_py(), found["max"].as_py()):
        if length is not None and length != expected:
            raise DataGateError(
                f"{name}: a row has {length} {what}, the manifest says {expected}; run build_features again"
            )
