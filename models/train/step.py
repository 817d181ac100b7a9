"""The compiled steps: one averaged update over all ranks, and the logits of a batch."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import horovod.tensorflow as hvd
import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from features.contract.training_settings import ModelSettings
from models.feed.batches import Batch
from models.feed.memory import tensor
from models.train.losses import nll_cox, nll_logistic_hazard

SGD_MOMENTUM = 0.9
# Gradients travel in buffers of about this size: few enough that waits are few, and the first is on its way
# while the next is computed. Which gradients share one is fixed, so that the digits do not hang on timing.
BUFFER_BYTES = 25 * 2**20


class Forward:
    """A network's logits, compiled for batches of one shape."""

    def __init__(self, network: keras.Model, batch_rows: int) -> None:
        self._network, self._specification = network, _inputs(network, batch_rows)
        self._logits = _compiled(self._call, self._specification)

    def __call__(self, batch: Batch) -> npt.NDArray[Any]:
        """Logits [rows, K] of this rank's people."""
        given = {name: tensor(batch.arrays[name]) for name in self._specification}
        return np.asarray(self._logits(given).numpy()[: batch.rows])

    def _call(self, arrays: dict[str, Any]) -> Any:
        return self._network(arrays, training=False)


class Steps:
    """A bare network with its optimizer and its compiled update.

    `rows` are the people of an epoch, which say how many updates the warm-up takes.
    """

    def __init__(
        self, network: keras.Model, settings: ModelSettings, batch_rows: int, rows: int, positive_weight: float
    ) -> None:
        self.network, self._settings, self._positive_weight = network, settings, positive_weight
        self._all_rows = batch_rows * hvd.size()
        self.optimizer = _optimizer(settings, self._all_rows, rows)
        self.optimizer.build(network.trainable_variables)
        given = _inputs(network, batch_rows) | _targets(batch_rows)
        self._train = _compiled(self._update, given, tf.TensorSpec([], tf.float32))

    def train(self, batch: Batch) -> npt.NDArray[np.float64]:
        """One update. Loss sum, weight sum and people over all ranks; float64 [3]."""
        given = {name: tensor(array) for name, array in batch.arrays.items()}
        return np.asarray(self._train(given, np.float32(batch.rows)), np.float64)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that a step changes: weights, the optimizer's variables, how often each seed was drawn from."""
        found = {f"weight_{i}": variable.numpy() for i, variable in enumerate(self.network.weights)}
        found |= {f"optimizer_{i}": variable.numpy() for i, variable in enumerate(self.optimizer.variables)}
        return found | {f"draws_{i}": state.numpy()[1] for i, state in enumerate(self._seed_states())}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Back to `arrays()`; each rank keeps its own seeds and takes over only how far they were used."""
        for i, variable in enumerate(self.network.weights):
            variable.assign(arrays[f"weight_{i}"])
        for i, variable in enumerate(self.optimizer.variables):
            variable.assign(arrays[f"optimizer_{i}"])
        for i, state in enumerate(self._seed_states()):
            state.assign(np.array([state.numpy()[0], arrays[f"draws_{i}"]]))

    def _seed_states(self) -> list[Any]:
        """`[seed, draws]` of every layer that draws at random; `.weights.h5` omits them."""
        generators = [getattr(layer, "seed_generator", None) for layer in self.network.layers]
        return [generator.state for generator in generators if generator is not None]

    def _update(self, arrays: dict[str, Any], rows: Any) -> Any:
        *gradients, sums = self._sums(arrays)
        sums = tf.concat([sums, [tf.cast(rows, sums.dtype)]], 0)
        # Sums, divided once by the weight of all ranks: unequal shares then equal one process.
        *summed, totals = self._over_ranks(gradients, sums)
        # A batch without weight, as of Cox without an event, teaches nothing.
        factor = tf.math.divide_no_nan(tf.constant(self._all_rows, totals.dtype), totals[1])
        averaged = [tf.cast(gradient, factor.dtype) * factor for gradient in summed]
        self.optimizer.apply(averaged, self.network.trainable_variables)
        return totals

    def _sums(self, arrays: dict[str, Any]) -> list[Any]:
        """Gradients of this rank's summed loss over `_all_rows`; last, the sums of loss and weight."""
        parts = self._settings.micro_batches
        found = [self._part_sums(part) for part in _split(arrays, parts)]
        return [tf.add_n(same) for same in zip(*found, strict=True)] if parts > 1 else found[0]

    def _part_sums(self, arrays: dict[str, Any]) -> list[Any]:
        variables = [variable.value for variable in self.network.trainable_variables]
        with tf.GradientTape() as tape:
            logits = self.network({name: arrays[name] for name in self.network.input}, training=True)
            loss, weight = (
                self._cox(logits, arrays) if self._settings.loss == "cox" else self._hazards(logits, arrays)
            )
            # Nearly a mean, since half-precision numbers end at 65,504.
            scaled = self.optimizer.scale_loss(loss / self._all_rows)
        own = loss / hvd.size() if self._settings.loss == "cox" else loss
        return [*tape.gradient(scaled, variables), tf.stack([own, weight])]

    def _hazards(self, logits: Any, arrays: dict[str, Any]) -> tuple[Any, Any]:
        """Loss and weight of this rank's people."""
        events, at_risk, weight = (tf.cast(arrays[name], logits.dtype) for name in ("events", "at_risk", "weight"))
        loss = nll_logistic_hazard(logits, events, at_risk, weight, self._positive_weight)
        return loss, tf.reduce_sum(weight)

    def _cox(self, logits: Any, arrays: dict[str, Any]) -> tuple[Any, Any]:
        """The loss of the people of all ranks, who are at risk together, and the weight of this rank's events.

        Each rank knows the whole loss, and follows its gradient through its own people alone: the ranks'
        gradients then add up to one process's.
        """
        names = ("time", "event", "weight")
        own = tf.stack([tf.cast(x, tf.float64) for x in (logits[:, 0], *(arrays[name] for name in names))], 1)
        everyone = hvd.allgather(tf.stop_gradient(own), name="risk_sets")
        start, stop = hvd.rank() * own.shape[0], (hvd.rank() + 1) * own.shape[0]
        log_hazard = tf.concat([everyone[:start, 0], own[:, 0], everyone[stop:, 0]], 0)
        loss = nll_cox(log_hazard, everyone[:, 1], everyone[:, 2], everyone[:, 3])
        return tf.cast(loss, logits.dtype), tf.cast(tf.reduce_sum(own[:, 2] * own[:, 3]), logits.dtype)

    def _over_ranks(self, gradients: list[Any], sums: Any) -> list[Any]:
        """Gradients and sums, each summed over the ranks."""
        if self._settings.gradient_compression == "none":
            return _summed([*gradients, sums])
        return [*_summed([tf.cast(gradient, tf.float16) for gradient in gradients]), *_summed([sums])]


def _compiled(function: Callable[..., Any], *signature: Any) -> Any:
    """Without autograph, which our functions do not need and whose temporary files a killed rank leaves behind."""
    return tf.function(function, input_signature=signature, autograph=False)


@contextmanager
def precision(name: str) -> Iterator[None]:
    """What layers made inside compute in."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _optimizer(settings: ModelSettings, all_rows: int, rows: int) -> keras.optimizers.Optimizer:
    rate = learning_rate(settings, all_rows, rows)
    common = {"weight_decay": settings.weight_decay, "global_clipnorm": settings.clip_norm}
    if settings.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=SGD_MOMENTUM, **common)
    else:
        optimizer = keras.optimizers.AdamW(rate, **common)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return keras.optimizers.LossScaleOptimizer(optimizer) if settings.precision == "mixed_float16" else optimizer


def learning_rate(settings: ModelSettings, all_rows: int, rows: int) -> Any:
    """The configured rate, in proportion to the batch, and reached after the warm-up's updates."""
    rate = settings.learning_rate * settings.batch_size / (settings.reference_batch_size or settings.batch_size)
    updates = round(settings.warmup_epochs * -(-rows // all_rows))
    if not updates:
        return rate
    schedules = keras.optimizers.schedules
    return schedules.PolynomialDecay(rate / (updates + 1), updates, end_learning_rate=rate, power=1.0)


def _summed(tensors: list[Any]) -> list[Any]:
    """Each tensor summed over the ranks; all are of one type."""
    found = []
    for number, buffer in enumerate(_buffers(tensors)):
        flat = tf.concat([tf.reshape(one, [-1]) for one in buffer], 0)
        summed = hvd.allreduce(flat, op=hvd.Sum, name=f"{flat.dtype.name}_sums_{number}")
        parts = tf.split(summed, [one.shape.num_elements() for one in buffer])
        found += [tf.reshape(part, one.shape) for part, one in zip(parts, buffer, strict=True)]
    return found


def _buffers(tensors: list[Any]) -> list[list[Any]]:
    """The tensors in their order, in runs that end when `BUFFER_BYTES` are reached."""
    found, room = list[list[Any]](), 0
    for one in tensors:
        if room <= 0:
            found.append([])
            room = BUFFER_BYTES
        found[-1].append(one)
        room -= one.shape.num_elements() * one.dtype.size
    return found


def _split(arrays: dict[str, Any], parts: int) -> Iterator[dict[str, Any]]:
    rows = next(iter(arrays.values())).shape[0]
    for i in range(parts):
        start, stop = i * rows // parts, (i + 1) * rows // parts
        yield {name: array[start:stop] for name, array in arrays.items()}


def _inputs(network: keras.Model, batch_rows: int) -> dict[str, Any]:
    """What a network takes; [batch_rows, ...]."""
    shapes = {name: tuple(given.shape[1:]) for name, given in network.input.items()}
    return {name: tf.TensorSpec([batch_rows, *shape], tf.float32) for name, shape in shapes.items()}


def _targets(batch_rows: int) -> dict[str, Any]:
    """What `feed.arrays.targets` gives, and the weights."""
    person = tf.TensorSpec([batch_rows], tf.float32)
    interval = tf.TensorSpec([batch_rows, None], tf.float32)
    days = tf.TensorSpec([batch_rows], tf.float64)
    return {"events": interval, "at_risk": interval, "event": person, "time": days, "weight": person}
