"""What a study's trials are known by: user attributes, order and values."""

import optuna
from optuna.trial import FrozenTrial

INDEX, PARAMS, TRIAL_ID = "index", "params", "trial_id"  # user attributes


def by_index(study: optuna.Study) -> list[FrozenTrial]:
    """All trials that were drawn whole, in the order in which they were drawn."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if INDEX in trial.user_attrs]
    return sorted(trials, key=lambda trial: int(trial.user_attrs[INDEX]))


def first_value(trial: FrozenTrial) -> float | None:
    """The value after the first epoch; None if it was never heard of."""
    return trial.intermediate_values.get(1)
