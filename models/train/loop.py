"""One fit on this rank: epochs until the tuning loss stops falling, then the best weights."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
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
from models.train.finite import extreme_column
from models.train.fit import Fit
from models.train.heartbeat import note
from models.train.progress import going_on, report
from models.train.ranks import from_rank_0
from models.train.step import Forward, Steps, precision
from models.train.tuning import gather, loss_sums, measures
from models.zoo.multimodal import build_network


@dataclass(frozen=True, slots=True)
class Epoch:
    """What an epoch did over all ranks. The shares of `seconds` are rank 0's: waiting for data, and the
    updates with their exchange between ranks."""

    epoch: int
    loss: float
    tuning_loss: float
    rows: int
    steps: int
    seconds: float
    rows_per_second: float
    feed_wait_share: float
    update_share: float


class Training:
    """A fit in the making: the network, its feed, where it stands, and what it has cost so far."""

    def __init__(self, manifest: Manifest, fit: Fit, keeper: Keeper) -> None:
        self.manifest, self.fit, self.keeper = manifest, fit, keeper
        self.feed = Feed(manifest, manifest.statistics[fit.statistics_key], fit.modalities)
        self.feed.check(fit.train[hvd.rank() % len(fit.train)])
        self.batch_rows = max(1, fit.model.batch_size // hvd.size())
        self.cox = fit.model.loss == "cox"
        # Ranks start from rank 0's weights, but must not share their dropout masks.
        keras.utils.set_random_seed(fit.model.seed + hvd.rank())
        with precision(fit.model.precision):
            self.network = build_network(manifest, fit.model, fit.modalities)
        self.positive_weight = _positive_weight(manifest, fit)
        rows = sum(part.rows for part in fit.train)
        self.steps = Steps(self.network, fit.model, self.batch_rows, rows, self.positive_weight)
        self.forward = Forward(self.network, self.batch_rows)
        self.waited = self.updating = 0.0
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
            entry = self._epoch(state)
            state.history.append(entry)
            report(self.fit.name, state.epoch, self.fit.model.epochs, entry)
            better, state.stop = self._decide(entry["tuning_loss"], state)
            if better:
                state.best, state.best_epoch = entry["tuning_loss"], state.epoch
                self.best_weights = self.network.get_weights()
            state.epoch, state.done, state.sums = state.epoch + 1, [], [0.0, 0.0, 0.0]
        self._finish()
        return state.history

    def _finish(self) -> None:
        """The best weights in a float32 network whose risks are those of the people as they are."""
        self.network.set_weights(self.best_weights)
        self.share_weights()
        head = self.network.layers[-1]
        head.bias.assign_sub(np.full(head.bias.shape, math.log(self.positive_weight)))
        if self.fit.model.precision != "float32":
            found = self.network.get_weights()
            self.network = build_network(self.manifest, self.fit.model, self.fit.modalities)
            self.network.set_weights(found)
            self.forward = Forward(self.network, self.batch_rows)

    def _decide(self, loss: float, state: State) -> tuple[bool, bool]:
        """Is this the best epoch, and is it the last? Rank 0 says, so that all ranks do the same."""
        better = loss < state.best
        decision = np.array([better, not better and state.epoch >= state.best_epoch + self.fit.model.patience])
        better, stop = hvd.broadcast(decision.astype(np.int32), root_rank=0, name="early_stopping").numpy()
        return bool(better), bool(stop)

    def _epoch(self, state: State) -> dict[str, Any]:
        started, self.waited, self.updating = time.perf_counter(), 0.0, 0.0
        earlier, rows_before = list(state.done), state.sums[2]
        share = self._shard(self.fit.train, self.fit.model.seed, state.epoch, earlier)
        lanes = len(share.lanes) * hvd.size()
        for step, batch in enumerate(self._timed(self.feed.batches(share)), 1):
            sums = self._update(batch, step)
            state.sums = [a + float(b) for a, b in zip(state.sums, sums, strict=True)]
            state.done = [*earlier, Progress(lanes, step * share.lane_rows)]
            self._keep()
        self._check(state.sums, sum(part.rows for part in self.fit.train), "train")
        seconds, rows = time.perf_counter() - started, state.sums[2] - rows_before
        shares = self.waited / seconds, self.updating / seconds
        tuning_loss, found = self._tuning()
        loss = state.sums[0] / state.sums[1]
        numbers = (int(state.sums[2]), share.steps, seconds, rows / seconds, *shares)
        return asdict(Epoch(state.epoch, loss, tuning_loss, *numbers)) | found

    def _update(self, batch: Batch, step: int) -> npt.NDArray[np.float64]:
        started = time.perf_counter()
        sums = self.steps.train(batch)
        self.updating += time.perf_counter() - started
        if not math.isfinite(sums[0]):
            column = extreme_column(batch, self.manifest, self.fit.modalities)
            cause = f"{column} is far outside what it is elsewhere; check its unit and build_features' bounds"
            raise TrainingError(
                f"fit {self.fit.name}: the loss is not finite in epoch {self.state.epoch + 1}, step {step}: "
                + (cause if column else "no input is extreme; lower model.learning_rate")
            )
        return sums

    def _keep(self) -> None:
        """Rank 0 writes for all: between two steps they differ in their seeds alone, which each rank makes
        itself."""
        if hvd.rank() == 0 and self.keeper.due():
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

    def _tuning(self) -> tuple[float, dict[str, float]]:
        """The exact loss over all ranks' tuning people, and the measures as `tuning_<name>`."""
        share = self._shard(self.fit.tuning, None, 0)
        shift = math.log(self.positive_weight)
        scored = ((batch, self.forward(batch) - shift) for batch in self._timed(self.feed.batches(share)))
        people = gather(scored, self.network.output.shape[1])
        sums = loss_sums(people, self.manifest, self.cox)
        self._check(sums, share.total_rows, "tuning")
        found = measures(people, self.manifest, self.cox)
        return float(sums[0] / sums[1]), {f"tuning_{name}": value for name, value in found.items()}

    def predictions(self, parts: list[Part]) -> Iterator[tuple[Any, npt.NDArray[np.float32]]]:
        """(person keys, logits [rows, K]) of this rank's share, batch by batch."""
        for batch in self._timed(self.feed.batches(self._shard(parts, None, 0), person_key=True)):
            if batch.rows:
                yield batch.person_key, self.forward(batch)

    def _shard(self, parts: list[Part], seed: int | None, epoch: int, done: Sequence[Progress] = ()) -> Shard:
        return shard(parts, hvd.rank(), hvd.size(), seed, epoch, self.batch_rows, done)

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for step in count(1):
            started = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - started
            if batch is None:
                return
            note(self.fit.name, self.state.epoch, step)
            yield batch

    def _check(self, totals: Sequence[float] | npt.NDArray[np.float64], planned: int, split: str) -> None:
        name = f"fit {self.fit.name}, {split}"
        if int(totals[2]) != planned:
            raise TrainingError(f"{name}: {int(totals[2])} rows were used, {planned} are planned")
        if totals[1] <= 0:
            counted = "event" if self.cox else "row"
            raise TrainingError(f"{name}: no {counted} has a weight above 0; check the split's shares")
        if not math.isfinite(totals[0]):
            raise TrainingError(f"{name}: the loss is not finite; lower model.learning_rate")


def _positive_weight(manifest: Manifest, fit: Fit) -> float:
    """What an event counts while training; `balanced` makes events and all else in train weigh the same."""
    chosen = fit.model.positive_weight
    if chosen != "balanced":
        return float(chosen)
    rows, positives = manifest.rows.get("train", 0), manifest.positives.get("train", 0)
    if not 0 < positives < rows:
        raise TrainingError(
            f"fit {fit.name}: positive_weight: balanced needs people with and without the event in train, "
            f"{positives} of {rows} have it"
        )
    return (rows - positives) / positives
