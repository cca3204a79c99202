"""What a study's trials are known by: user attributes, order and values."""

from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

INDEX, PARAMS, TRIAL_ID = "index", "params", "trial_id"  # user attributes
WARM = "warm_start"  # user attribute of a trial of an earlier sweep, which has none of the others: its folder


def by_index(study: optuna.Study) -> list[FrozenTrial]:
    """All trials that were drawn whole, in the order in which they were drawn."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if INDEX in trial.user_attrs]
    return sorted(trials, key=lambda trial: int(trial.user_attrs[INDEX]))


def known_points(study: optuna.Study) -> list[dict[str, Any] | None]:
    """The points that were put into the study for its first trials, but for those that a kill left half drawn."""
    trials = study.get_trials(deepcopy=False)
    kept = [trial for trial in trials if trial.state == TrialState.WAITING or INDEX in trial.user_attrs]
    return [trial.system_attrs.get("fixed_params") for trial in kept]


def first_value(trial: FrozenTrial) -> float | None:
    """The value after the first epoch; None if it was never heard of."""
    return trial.intermediate_values.get(1)
