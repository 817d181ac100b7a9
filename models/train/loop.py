"""One fit on this rank: epochs until the tuning loss stops falling, then the best weights."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import horovod.tensorflow as hvd
import keras
import numpy as np
import numpy.typing as npt

from features.contract.errors import TrainingError
from features.contract.manifest import Manifest
from models.feed.batches import Batch, Feed
from models.feed.plan import Part, shard
from models.train.fit import Fit
from models.train.progress import report
from models.train.step import Steps, specification
from models.zoo.multimodal import build_network


@dataclass(frozen=True, slots=True)
class Epoch:
    """What an epoch did over all ranks; the feed's wait is this rank's, as a share of `seconds`."""

    epoch: int
    loss: float
    tuning_loss: float
    rows: int
    steps: int
    seconds: float
    rows_per_second: float
    feed_wait_share: float


class Training:
    """A fit in the making: the network, its feed, and what it has cost so far."""

    def __init__(self, manifest: Manifest, fit: Fit) -> None:
        self.fit = fit
        self.feed = Feed(manifest, manifest.statistics[fit.statistics_key], fit.modalities)
        self.batch_rows = max(1, fit.model.batch_size // hvd.size())
        # Ranks start from rank 0's weights, but must not share their dropout masks.
        keras.utils.set_random_seed(fit.model.seed + hvd.rank())
        self.network = build_network(manifest, fit.model, fit.modalities)
        self.steps = Steps(self.network, fit.model, specification(self.network, self.batch_rows))
        self.waited = 0.0
        self.share_weights()

    def share_weights(self) -> None:
        """Give every rank the weights of rank 0; seed states stay each rank's own."""
        hvd.broadcast_variables([weight.value for weight in self.network.weights], root_rank=0)

    def run(self) -> list[dict[str, Any]]:
        """Train to the end; the network holds the best weights afterwards. One entry per epoch."""
        history: list[dict[str, Any]] = []
        best, best_weights, patience = math.inf, self.network.get_weights(), self.fit.model.patience
        for number in range(self.fit.model.epochs):
            epoch = self._epoch(number)
            history.append(asdict(epoch))
            report(self.fit.name, epoch.epoch, self.fit.model.epochs, history[-1])
            better, stop = self._decide(epoch.tuning_loss, best, number, patience)
            if better:
                best, best_weights = epoch.tuning_loss, self.network.get_weights()
                patience = number + 1 + self.fit.model.patience
            if stop:
                break
        self.network.set_weights(best_weights)
        self.share_weights()
        return history

    def _decide(self, loss: float, best: float, number: int, patience: int) -> tuple[bool, bool]:
        """Is this the best epoch, and is it the last? Rank 0 says, so that all ranks do the same."""
        better = loss < best
        decision = np.array([better, not better and number + 1 >= patience], np.int32)
        better, stop = hvd.broadcast(decision, root_rank=0, name="early_stopping").numpy().astype(bool)
        return bool(better), bool(stop)

    def _epoch(self, number: int) -> Epoch:
        started, self.waited = time.perf_counter(), 0.0
        share = self._shard(self.fit.train, self.fit.model.seed, number)
        totals = np.zeros(3)
        for batch in self._timed(self.feed.batches(share)):
            totals += self.steps.train(batch)
        self._check(totals, share.total_rows, "train")
        seconds, rows = time.perf_counter() - started, int(totals[2])
        waited = self.waited / seconds
        tuning = self._loss(self.fit.tuning)
        return Epoch(number, totals[0] / totals[1], tuning, rows, share.steps, seconds, rows / seconds, waited)

    def _loss(self, parts: list[Part]) -> float:
        """The exact mean loss over all ranks' rows."""
        share = self._shard(parts, None, 0)
        own = sum((self.steps.evaluate(batch)[1] for batch in self._timed(self.feed.batches(share))), np.zeros(3))
        totals = hvd.allreduce(own, op=hvd.Sum, name="tuning_loss").numpy()
        self._check(totals, share.total_rows, "tuning")
        return float(totals[0] / totals[1])

    def predictions(self, parts: list[Part]) -> Iterator[tuple[Any, npt.NDArray[np.float32]]]:
        """(person keys, logits [rows, K]) of this rank's share, batch by batch."""
        for batch in self.feed.batches(self._shard(parts, None, 0), person_key=True):
            if batch.rows:
                yield batch.person_key, self.steps.evaluate(batch)[0]

    def _shard(self, parts: list[Part], seed: int | None, epoch: int) -> Any:
        return shard(parts, hvd.rank(), hvd.size(), seed, epoch, self.batch_rows)

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    def _check(self, totals: npt.NDArray[np.float64], planned: int, split: str) -> None:
        name = f"fit {self.fit.name}, {split}"
        if int(totals[2]) != planned:
            raise TrainingError(f"{name}: {int(totals[2])} rows were used, {planned} are planned")
        if totals[1] <= 0:
            raise TrainingError(f"{name}: no row has a weight above 0; check the split's shares")
        if not math.isfinite(totals[0]):
            raise TrainingError(f"{name}: the loss is not finite; lower model.learning_rate")
