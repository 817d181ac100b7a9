"""What a fit needs to go on after a kill: written by rank 0, read by it alone, and given to all ranks.

Weights, optimizer, the counters of the dropout masks, the best weights so far, and the exact rows of the
epoch that are done, in a form that any number of ranks can continue. One file, replaced whole.
"""

import hashlib
import io
import json
import math
import time
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from features.contract.errors import TrainingError
from features.contract.manifest import Manifest
from features.contract.paths import Location
from models.feed.plan import Progress
from models.train.fit import Fit

Arrays = dict[str, npt.NDArray[Any]]
ABOUT = "about"


@dataclass(slots=True)
class State:
    """Where a fit stands between two steps, the same on every rank.

    `sums` are the loss sum, weight sum and people of the epoch so far, over all ranks; `history` has an
    entry per finished epoch; `stop` says that early stopping has decided.
    """

    epoch: int = 0
    done: list[Progress] = field(default_factory=list)
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    best: float = math.inf
    best_epoch: int = -1
    stop: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


class Keeper:
    """Writes a fit's checkpoint at most every `seconds`; 0 writes after each step."""

    def __init__(self, file: Location, identity: str, seconds: float) -> None:
        self._file, self._identity, self._seconds = file, identity, seconds
        self._written = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._written >= self._seconds

    def write(self, state: State, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._file.write_bytes(encode(state, arrays, self._identity))
        self._written = time.monotonic()

    def read(self) -> bytes:
        """The checkpoint's bytes; none when there is none."""
        return self._file.read_bytes() if self._file.exists() else b""

    def decode(self, data: bytes) -> tuple[State, Arrays]:
        """Raises TrainingError for a file that is damaged, or of another fit."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            about = json.loads(arrays.pop(ABOUT).tobytes())
            identity, state = about["identity"], TypeAdapter(State).validate_python(about["state"])
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise TrainingError(
                f"checkpoint {self._file.uri} is damaged ({type(error).__name__}); remove it to start the fit anew"
            ) from None
        if identity != self._identity:
            raise TrainingError(f"checkpoint {self._file.uri} is of another fit; remove it to start this one anew")
        return state, arrays


def encode(state: State, arrays: Mapping[str, npt.NDArray[Any]], identity: str) -> bytes:
    """An `.npz` without pickles: the arrays, and the state as JSON in one of bytes."""
    about = json.dumps({"identity": identity, "state": asdict(state)}).encode()
    sink, files = io.BytesIO(), dict[str, Any](arrays) | {ABOUT: np.frombuffer(about, np.uint8)}
    np.savez(sink, **files)
    return sink.getvalue()


def identity_of(manifest: Manifest, fit: Fit) -> str:
    """What must be the same for a checkpoint to be this fit's: its people, features and settings."""
    described = TypeAdapter(Fit).dump_json(fit) + manifest.to_bytes()
    return hashlib.sha256(described).hexdigest()
