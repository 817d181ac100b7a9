"""One fit on this rank: epochs until the tuning loss stops falling, then the best weights."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import horovod.tensorflow as hvd
import keras
import numpy as np
import numpy.typing as npt

from features.contract.errors import TrainingError
from features.contract.manifest import Manifest
from models.feed.batches import Batch, Feed
from models.feed.plan import Part, Progress, Shard, shard
from models.train.checkpoint import Keeper, State
from models.train.fit import Fit
from models.train.progress import going_on, report
from models.train.ranks import from_rank_0
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
    """A fit in the making: the network, its feed, where it stands, and what it has cost so far."""

    def __init__(self, manifest: Manifest, fit: Fit, keeper: Keeper) -> None:
        self.fit, self.keeper = fit, keeper
        self.feed = Feed(manifest, manifest.statistics[fit.statistics_key], fit.modalities)
        self.feed.check(fit.train[hvd.rank() % len(fit.train)])
        self.batch_rows = max(1, fit.model.batch_size // hvd.size())
        # Ranks start from rank 0's weights, but must not share their dropout masks.
        keras.utils.set_random_seed(fit.model.seed + hvd.rank())
        self.network = build_network(manifest, fit.model, fit.modalities)
        self.steps = Steps(self.network, fit.model, specification(self.network, self.batch_rows))
        self.waited = 0.0
        self.share_weights()
        self.state, self.best_weights = State(), self.network.get_weights()

    def share_weights(self) -> None:
        """Give every rank the weights of rank 0; seed states stay each rank's own."""
        hvd.broadcast_variables([weight.value for weight in self.network.weights], root_rank=0)

    def run(self) -> list[dict[str, Any]]:
        """Train to the end; the network holds the best weights afterwards. One entry per epoch."""
        self._resume()
        state = self.state
        while state.epoch < self.fit.model.epochs and not state.stop:
            epoch = self._epoch(state)
            state.history.append(asdict(epoch))
            report(self.fit.name, epoch.epoch, self.fit.model.epochs, state.history[-1])
            better, state.stop = self._decide(epoch.tuning_loss, state)
            if better:
                state.best, state.best_epoch = epoch.tuning_loss, state.epoch
                self.best_weights = self.network.get_weights()
            state.epoch, state.done, state.sums = state.epoch + 1, [], [0.0, 0.0, 0.0]
        self.network.set_weights(self.best_weights)
        self.share_weights()
        return state.history

    def _decide(self, loss: float, state: State) -> tuple[bool, bool]:
        """Is this the best epoch, and is it the last? Rank 0 says, so that all ranks do the same."""
        better = loss < state.best
        decision = np.array([better, not better and state.epoch >= state.best_epoch + self.fit.model.patience])
        better, stop = hvd.broadcast(decision.astype(np.int32), root_rank=0, name="early_stopping").numpy()
        return bool(better), bool(stop)

    def _epoch(self, state: State) -> Epoch:
        started, self.waited = time.perf_counter(), 0.0
        earlier, rows_before = list(state.done), state.sums[2]
        share = self._shard(self.fit.train, self.fit.model.seed, state.epoch, earlier)
        lanes = len(share.lanes) * hvd.size()
        for step, batch in enumerate(self._timed(self.feed.batches(share)), 1):
            state.sums = [a + float(b) for a, b in zip(state.sums, self.steps.train(batch), strict=True)]
            state.done = [*earlier, Progress(lanes, step * share.lane_rows)]
            self._keep()
        self._check(state.sums, sum(part.rows for part in self.fit.train), "train")
        seconds, rows = time.perf_counter() - started, state.sums[2] - rows_before
        waited, tuning = self.waited / seconds, self._loss(self.fit.tuning)
        loss = state.sums[0] / state.sums[1]
        return Epoch(state.epoch, loss, tuning, int(state.sums[2]), share.steps, seconds, rows / seconds, waited)

    def _keep(self) -> None:
        """Rank 0 writes for all: between two steps they differ in their seeds alone, which each rank makes
        itself. A loss that is not finite is no state to come back to."""
        if hvd.rank() == 0 and self.keeper.due() and math.isfinite(self.state.sums[0]):
            best = {f"best_{i}": weight for i, weight in enumerate(self.best_weights)}
            self.keeper.write(self.state, self.steps.arrays() | best)

    def _resume(self) -> None:
        """All ranks go on from the checkpoint that rank 0 finds, or all start anew."""
        data = from_rank_0(self.keeper.read() if hvd.rank() == 0 else b"")
        if data:
            self.state, arrays = self.keeper.decode(data)
            self.best_weights = [arrays.pop(f"best_{i}") for i in range(len(self.best_weights))]
            self.steps.restore(arrays)
            going_on(self.fit.name, self.state.epoch, self.state.sums[2])

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

    def _shard(self, parts: list[Part], seed: int | None, epoch: int, done: Sequence[Progress] = ()) -> Shard:
        return shard(parts, hvd.rank(), hvd.size(), seed, epoch, self.batch_rows, done)

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    def _check(self, totals: Sequence[float], planned: int, split: str) -> None:
        name = f"fit {self.fit.name}, {split}"
        if int(totals[2]) != planned:
            raise TrainingError(f"{name}: {int(totals[2])} rows were used, {planned} are planned")
        if totals[1] <= 0:
            raise TrainingError(f"{name}: no row has a weight above 0; check the split's shares")
        if not math.isfinite(totals[0]):
            raise TrainingError(f"{name}: the loss is not finite; lower model.learning_rate")
