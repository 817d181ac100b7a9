"""How good the network is on the tuning people of all ranks: exact, not a mean of the ranks' means.

Each rank sends what its people had and were given, `K + 3` float64 a person, to all others; all then compute
the same from the same rows, the measures by the code that also judges the finished model.
"""

from collections.abc import Iterable

import horovod.tensorflow as hvd
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.contract.manifest import Manifest
from models.evaluate import metrics
from models.evaluate.calibration import logit_of_risk
from models.evaluate.summary import Outcomes
from models.feed.arrays import binary_targets, survival_targets
from models.feed.batches import Batch
from models.train.losses import nll_cox, nll_logistic_hazard, risk_from_logits

Floats = npt.NDArray[np.float64]
BEFORE_LOGITS = ("time", "event", "weight")


def gather(scored: Iterable[tuple[Batch, npt.NDArray[np.float64]]], outputs: int) -> Floats:
    """Time, event, weight and logits of all ranks' people, [N, 3 + outputs]."""
    own = [np.empty((0, len(BEFORE_LOGITS) + outputs))]
    for batch, logits in scored:
        known = [batch.arrays[name][: batch.rows, None] for name in BEFORE_LOGITS]
        own.append(np.concatenate([*known, logits], axis=1, dtype=np.float64))
    return np.asarray(hvd.allgather(np.concatenate(own), name="tuning_people").numpy(), np.float64)


def loss_sums(people: Floats, manifest: Manifest, cox: bool) -> Floats:
    """Sum of the loss, the weight that it is divided by, and people; [3]. `people` as `gather` gives them.

    Cox: one risk set of all tuning people, by the weight of the events.
    """
    time, event, weight, logits = *people[:, :3].T, people[:, 3:]
    if cox:
        return np.array([float(nll_cox(logits[:, 0], time, event, weight)), (event * weight).sum(), len(people)])
    targets = (
        binary_targets(event) if manifest.kind == "binary" else survival_targets(time, event > 0, _edges(manifest))
    )
    events, at_risk = (targets[name].astype(np.float64) for name in ("events", "at_risk"))
    return np.array([float(nll_logistic_hazard(logits, events, at_risk, weight)), weight.sum(), len(people)])


def measures(people: Floats, manifest: Manifest, cox: bool) -> dict[str, float]:
    """AUROC, AUPRC, Brier (not for Cox, which gives no probability) and, for survival, c-index.

    At the horizon, with censored people weighed as in the final judgement; NaN left out.
    """
    outcomes, logits = _outcomes(people, manifest), people[:, 3:]
    score = logits[:, 0] if cox else logit_of_risk(logits)
    found = {
        "auroc": metrics.auroc(outcomes.case, score, outcomes.weights),
        "auprc": metrics.auprc(outcomes.case, score, outcomes.weights),
    }
    if not cox:
        found["brier"] = metrics.brier(outcomes.case, risk_from_logits(logits), outcomes.weights)
    if outcomes.times is not None:
        found["c_index"] = metrics.concordance(outcomes.times, outcomes.events, score)
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _outcomes(people: Floats, manifest: Manifest) -> Outcomes:
    name, (time, event) = f"y_{manifest.outcome}", people[:, :2].T
    labels = {name: event} if manifest.kind == "binary" else {f"{name}_time": time, f"{name}_event": event}
    return Outcomes.of(pa.table(labels), manifest)


def _edges(manifest: Manifest) -> Floats:
    return np.asarray(manifest.edges, np.float64)
