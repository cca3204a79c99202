"""Trials of earlier sweeps in the study: they have no index, so that nobody takes them for trials of this sweep."""

from collections.abc import Iterable

import optuna
from optuna.trial import TrialState, create_trial

from sweeps.cube import Asked
from sweeps.space import Space
from sweeps.studied import WARM
from sweeps.warmstart import Known


def tell_known(study: optuna.Study, space: Space, trials: Iterable[Known]) -> None:
    """Add the trials to the study as Optuna trials without an index; those that it holds already are not added."""
    told = {trial.user_attrs.get(WARM) for trial in study.get_trials(deepcopy=False)}
    for trial in trials:
        name = f"{trial.sweep}/{trial.name}"
        if name in told:
            continue
        point = space.named(trial.params)
        space(asked := Asked(point))
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if trial.complete else TrialState.PRUNED,
                value=trial.values[max(trial.values)],
                params=point,
                distributions=asked.distributions,
                user_attrs={WARM: name},
                intermediate_values=trial.values,
            )
        )
