"""The trials of a study as a Gaussian process sees them: every trial that has ended gets a value.

A trial that was stopped early after epoch e gets the value that it would be expected to reach: its value then, and the
median of what complete trials gained from epoch e to their end, but no better than the best of them. A failed trial
gets the worst value of all, or the model would go on drawing near it.
"""

import statistics
from collections.abc import Iterable

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeps.samplers.history import WARM, by_index


def estimated(study: optuna.Study) -> list[FrozenTrial]:
    """The trials of this sweep and of earlier ones; unchanged if the study has several objectives."""
    own = {trial.number for trial in by_index(study)}
    whole = [t for t in study.get_trials(deepcopy=False) if t.number in own or WARM in t.user_attrs]
    if len(study.directions) > 1:
        return whole
    complete = [trial for trial in whole if trial.state == TrialState.COMPLETE]
    worse, better = (min, max) if study.direction == StudyDirection.MAXIMIZE else (max, min)
    values = {trial.number: value for trial in whole if (value := expected(trial, complete)) is not None}
    if not values:
        return whole
    if complete:
        best = better(values[trial.number] for trial in complete)
        values = {number: worse(value, best) for number, value in values.items()}
    worst = worse(values.values())
    return [
        ended_with(trial, values.get(trial.number, worst))
        if trial.state in (TrialState.PRUNED, TrialState.FAIL)
        else trial
        for trial in whole
    ]


def expected(trial: FrozenTrial, complete: Iterable[FrozenTrial]) -> float | None:
    """The value of a complete trial, or the value that one stopped early is expected to reach; None for any other."""
    if trial.state == TrialState.COMPLETE:
        return trial.value
    if trial.state != TrialState.PRUNED or not trial.intermediate_values:
        return None
    epoch, value = max(trial.intermediate_values.items())
    gains = [
        one.value - one.intermediate_values[epoch]
        for one in complete
        if one.value is not None and epoch in one.intermediate_values
    ]
    return value + (statistics.median(gains) if gains else 0.0)


def ended_with(trial: FrozenTrial, value: float) -> FrozenTrial:
    return create_trial(
        params=trial.params,
        distributions=trial.distributions,
        value=value,
        intermediate_values=trial.intermediate_values,
        user_attrs=trial.user_attrs,
        system_attrs=trial.system_attrs,
    )
