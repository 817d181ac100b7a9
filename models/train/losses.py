"""Losses over all people of a batch, and risk from hazard logits. A binary outcome has one interval."""

from typing import Any

import numpy as np
import numpy.typing as npt


def nll_logistic_hazard(logits: Any, events: Any, at_risk: Any, weight: Any, positive_weight: float = 1.0) -> Any:
    """The weighted sum over people of the negative log likelihood; a scalar tensor.

    logits, events and at_risk [B, K], weight [B]. In each interval at risk the event is a Bernoulli
    draw with probability sigmoid(logit) (Gensheimer & Narasimhan 2019, PeerJ 7:e6257). A sum and not
    a mean, so that ranks with unequal weights add up to one process. An event counts `positive_weight`
    times, which multiplies the odds that are learned.
    """
    # Here, because whoever needs only the risk should not wait for TensorFlow.
    import tensorflow as tf

    each = tf.nn.weighted_cross_entropy_with_logits(labels=events, logits=logits, pos_weight=positive_weight)
    return tf.reduce_sum(weight * tf.reduce_sum(at_risk * each, axis=1))


def nll_cox(log_hazard: Any, time: Any, event: Any, weight: Any) -> Any:
    """Minus Cox's log partial likelihood, ties by Efron (1977, JASA 72:557); a float64 scalar tensor.

    All [B]; a row of weight 0 is in no risk set. At each time with d events the l-th of them (l from 0) is
    compared with those at risk less the share l / d of the tied; tied events take their mean weight. In
    float64, as the sums over risk sets span many orders of magnitude.
    """
    import tensorflow as tf

    latest_first = tf.argsort(-tf.cast(time, tf.float64), stable=True)

    def ordered(values: Any) -> Any:
        return tf.gather(tf.cast(values, tf.float64), latest_first)

    day, weights = -ordered(time), ordered(weight)
    died = ordered(event) * tf.cast(weights > 0, tf.float64)
    eta = ordered(log_hazard)
    eta -= tf.stop_gradient(tf.reduce_max(eta))
    relative = weights * tf.exp(eta)
    first, end = tf.searchsorted(day, day, side="left"), tf.searchsorted(day, day, side="right")

    def before(values: Any, place: Any) -> Any:
        return tf.gather(tf.concat([[np.float64(0)], tf.cumsum(values)], 0), place)

    def tied(values: Any) -> Any:
        return before(values, end) - before(values, first)

    deaths = tf.maximum(tied(died), 1)
    earlier = tf.cumsum(died, exclusive=True) - before(died, first)
    compared = before(relative, end) - earlier / deaths * tied(relative * died)
    # Only the rows of those who died count; the others must not give log 0 a gradient.
    compared = tf.where(died > 0, compared, 1)
    return tf.reduce_sum(died * (tied(weights * died) / deaths * tf.math.log(compared) - weights * eta))


def risk_from_logits(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Probability of the event by the last interval's end: 1 - prod(1 - sigmoid); [N, K] to [N]."""
    cumulative_hazard = np.logaddexp(0.0, np.asarray(logits, np.float64)).sum(axis=1)
    return np.asarray(-np.expm1(-cumulative_hazard))
