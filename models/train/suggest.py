"""What to try next: Optuna's TPE (Bergstra et al. 2011), told of the trials so far."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from features.contract.training_settings import ModelSettings, Range, SearchSettings
from models.train.trials import Trial


def suggest(search: SearchSettings, model: ModelSettings, trials: Sequence[Trial]) -> dict[str, Any]:
    """What the next trial sets: at first what is configured, then what Optuna's TPE draws from `space`.

    It depends on the seed and the trials so far and on nothing else, so that a search goes on after a kill
    as it would have gone on without.
    """
    space = search.space.wanted()
    if not trials:
        return {key: getattr(model, key) for key in space}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = np.random.SeedSequence([search.seed, len(trials)]).generate_state(1)[0]
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=int(seed)))
    distributions = {key: _distribution(values) for key, values in space.items()}
    for trial in trials:
        if all(_holds(values, trial.settings[key]) for key, values in space.items()):
            study.add_trial(_told(trial, space, distributions))
    drawn = study.ask(distributions).params
    return {key: drawn[key] if isinstance(of, Range) else of[drawn[key]] for key, of in space.items()}


def _distribution(values: Any) -> Any:
    """Of choices their places in the list, since Optuna keeps numbers and text only."""
    if not isinstance(values, Range):
        return CategoricalDistribution(range(len(values)))
    kind = IntDistribution if isinstance(values.low, int) else FloatDistribution
    return kind(values.low, values.high, log=values.log)


def _holds(values: Any, value: Any) -> bool:
    """What is configured may lie outside of what is searched."""
    return bool(values.low <= value <= values.high if isinstance(values, Range) else value in values)


def _told(trial: Trial, space: dict[str, Any], distributions: dict[str, Any]) -> Any:
    """A trial for Optuna; one without a score counts as worse than all others."""
    settings = trial.settings
    return create_trial(
        params={
            key: settings[key] if isinstance(of, Range) else of.index(settings[key]) for key, of in space.items()
        },
        distributions=distributions,
        value=trial.score,
        state=TrialState.PRUNED if trial.score is None else TrialState.COMPLETE,
    )
