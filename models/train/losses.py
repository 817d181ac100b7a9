"""The discrete-time survival loss, and risk from its logits. A binary outcome has one interval."""

from typing import Any

import numpy as np
import numpy.typing as npt


def nll_logistic_hazard(logits: Any, events: Any, at_risk: Any, weight: Any) -> Any:
    """The weighted sum over people of the negative log likelihood; a scalar tensor.

    logits, events and at_risk [B, K], weight [B]. In each interval at risk the event is a Bernoulli
    draw with probability sigmoid(logit) (Gensheimer & Narasimhan 2019, PeerJ 7:e6257). A sum and not
    a mean, so that ranks with unequal weights add up to one process.
    """
    # Here, because whoever needs only the risk should not wait for TensorFlow.
    import tensorflow as tf

    each = tf.nn.sigmoid_cross_entropy_with_logits(labels=events, logits=logits)
    return tf.reduce_sum(weight * tf.reduce_sum(at_risk * each, axis=1))


def risk_from_logits(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Probability of the event by the last interval's end: 1 - prod(1 - sigmoid); [N, K] to [N]."""
    cumulative_hazard = np.logaddexp(0.0, np.asarray(logits, np.float64)).sum(axis=1)
    return np.asarray(-np.expm1(-cumulative_hazard))
