"""The compiled steps: one averaged update over all ranks, and one evaluation."""

from collections.abc import Mapping
from typing import Any

import horovod.tensorflow as hvd
import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from features.contract.settings import ModelSettings
from models.feed.batches import Batch
from models.train.losses import nll_logistic_hazard

CLIP_NORM = 5.0


class Steps:
    """A bare network with its optimizer and its two compiled steps."""

    def __init__(self, network: keras.Model, settings: ModelSettings, specification: dict[str, Any]) -> None:
        self.network = network
        self.optimizer = keras.optimizers.AdamW(
            settings.learning_rate, weight_decay=settings.weight_decay, global_clipnorm=CLIP_NORM
        )
        self.optimizer.exclude_from_weight_decay(var_names=["bias"])
        self.optimizer.build(network.trainable_variables)
        signature = [specification, tf.TensorSpec([], tf.float32)]
        self._train = tf.function(self._train_step, input_signature=signature)
        self._evaluate = tf.function(self._evaluate_step, input_signature=[specification])

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

    def train(self, batch: Batch) -> npt.NDArray[np.float64]:
        """One update. Loss sum, weight sum and people over all ranks; float64 [3]."""
        return np.asarray(self._train(batch.arrays, np.float32(batch.rows)), np.float64)

    def evaluate(self, batch: Batch) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """Logits [rows, K] of this rank's people, and their loss sum, weight sum and number [3]."""
        logits, loss, weight = self._evaluate(batch.arrays)
        sums = np.array([float(loss), float(weight), batch.rows], np.float64)
        return logits.numpy()[: batch.rows], sums

    def _train_step(self, arrays: dict[str, Any], rows: Any) -> Any:
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            loss = self._loss(self._logits(arrays, training=True), arrays)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        sums = tf.stack([loss, tf.reduce_sum(arrays["weight"]), rows])
        # Sums, divided once by the weight of all ranks: unequal shares then equal one process.
        *summed, totals = hvd.grouped_allreduce([*gradients, sums], op=hvd.Sum)
        weight = tf.maximum(totals[1], np.finfo(np.float32).tiny)
        self.optimizer.apply([gradient / weight for gradient in summed], variables)
        return totals

    def _evaluate_step(self, arrays: dict[str, Any]) -> Any:
        logits = self._logits(arrays, training=False)
        return logits, self._loss(logits, arrays), tf.reduce_sum(arrays["weight"])

    def _logits(self, arrays: dict[str, Any], training: bool) -> Any:
        return self.network({name: arrays[name] for name in self.network.input}, training=training)

    def _loss(self, logits: Any, arrays: dict[str, Any]) -> Any:
        return nll_logistic_hazard(logits, arrays["events"], arrays["at_risk"], arrays["weight"])


def specification(network: keras.Model, batch_rows: int) -> dict[str, Any]:
    """The fixed shapes of a batch's arrays; [batch_rows, ...]."""
    shapes = {name: tuple(tensor.shape[1:]) for name, tensor in network.input.items()}
    intervals = (network.output.shape[1],)
    shapes |= {"events": intervals, "at_risk": intervals, "weight": ()}
    return {name: tf.TensorSpec([batch_rows, *shape], tf.float32) for name, shape in shapes.items()}
