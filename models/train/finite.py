"""Which column is to blame when a loss is no number: found on all ranks together, named without its value."""

from collections.abc import Iterator

import horovod.tensorflow as hvd
import numpy as np
import numpy.typing as npt

from features.contract.manifest import Manifest
from models.feed.batches import Batch

# Standard deviations from the mean; a mistaken unit is rarely more than a million away.
EXTREME = 1e3


def extreme_column(batch: Batch, manifest: Manifest, modalities: list[str]) -> str | None:
    """The input furthest from its mean in the batch of all ranks, if it is further than `EXTREME` or no
    number at all."""
    named = list(_columns(batch, manifest, modalities))
    own = np.array([_furthest(values) for _, values in named])
    furthest = hvd.allgather(own[None, :], name="extreme_column").numpy().max(axis=0)
    worst = int(furthest.argmax())
    return named[worst][0] if furthest[worst] > EXTREME else None


def _columns(
    batch: Batch, manifest: Manifest, modalities: list[str]
) -> Iterator[tuple[str, npt.NDArray[np.floating]]]:
    for modality in modalities:
        for i, column in enumerate(manifest.vocabulary.get(modality, [])):
            yield f"x_{modality} column {column}", batch.arrays[modality][:, i]
    for name in ("weight", "time"):
        yield name, batch.arrays[name][~np.isfinite(batch.arrays[name])]


def _furthest(values: npt.NDArray[np.floating]) -> float:
    return float(np.nan_to_num(np.abs(values), nan=np.inf, posinf=np.inf).max(initial=0.0))
