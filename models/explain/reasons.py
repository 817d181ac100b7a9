"""Why this person: what moved the horizon risk of the network most, per person."""

from collections.abc import Callable
from typing import Any

import numpy as np

from features.contract.manifest import Manifest
from models.evaluate.metrics import Floats

SMALLEST_SHOWN = 0.005
Explained = tuple[Floats, Floats]
Explain = Callable[[dict[str, Any]], Any]


def explainer(network: Any, manifest: Manifest, modalities: list[str]) -> Explain:
    """A compiled function: network inputs -> (hazard logits [N, K], contributions [N, P]).

    The P columns are those of `reason_names`. A vector column contributes gradient x input on the
    logit of the horizon risk: inputs are standardised, so that is against the training mean (and a
    missing flag against a measured value). An image contributes the logit with it minus without it.
    """
    import tensorflow as tf

    vectors = [modality for modality in modalities if modality in manifest.vocabulary]

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def explain(inputs: dict[str, Any]) -> Any:
        watched = {name: inputs[name] for name in vectors}
        with tf.GradientTape() as tape:
            tape.watch(watched)
            hazards = network({**inputs, **watched}, training=False)
            risk_logit = _logit_of_risk(hazards)
        gradients = tape.gradient(risk_logit, watched, unconnected_gradients="zero")
        parts = [gradients[name] * watched[name] for name in vectors]
        if "imaging" in modalities:
            without = {**inputs, **{key: tf.zeros_like(inputs[key]) for key in ("imaging", "has_imaging")}}
            parts.append((risk_logit - _logit_of_risk(network(without, training=False)))[:, None])
        return hazards, tf.concat(parts, axis=1)

    explained: Explain = explain
    return explained


def reason_names(manifest: Manifest, modalities: list[str]) -> list[str]:
    """The name of each contribution: values, then missing flags, of each vector; then the image."""
    names = []
    for modality in modalities:
        if modality in manifest.vocabulary:
            columns = [f"{modality}:{column}" for column in manifest.vocabulary[modality]]
            names += [*columns, *(f"{column} missing" for column in columns)]
    return [*names, *(["imaging"] if "imaging" in modalities else [])]


def top_reasons(contributions: Floats, names: list[str], k: int) -> list[list[str]]:
    """The k strongest of each person, such as `clinical:hba1c_last (+0.82)`; negligible ones left out."""
    strongest = np.argsort(-np.abs(contributions), axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(contributions, strongest, axis=1)
    return [
        [
            f"{names[i]} ({value:+.2f})"
            for i, value in zip(row, of_row, strict=True)
            if abs(value) >= SMALLEST_SHOWN
        ]
        for row, of_row in zip(strongest, values, strict=True)
    ]


def _logit_of_risk(hazards: Any) -> Any:
    """As `models.evaluate.calibration.logit_of_risk`; a = sum(softplus) -> log(exp(a) - 1)."""
    import tensorflow as tf

    minus_log_survival = tf.reduce_sum(tf.nn.softplus(hazards), axis=1)
    return minus_log_survival + tf.math.log(-tf.math.expm1(-tf.maximum(minus_log_survival, 1e-30)))
