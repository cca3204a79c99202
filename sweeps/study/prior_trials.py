"""Trials of earlier sweeps in the study: they have no index, which tells them from trials of this sweep."""

from collections.abc import Iterable

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from analysis.measures import excesses
from sweeps.config import SweepConfig
from sweeps.samplers.history import CONSTRAINTS, CURVE, WARM
from sweeps.samplers.unit_cube import RecordingTrial
from sweeps.space.space import Space
from sweeps.study.warm_start import PriorTrial
from sweeps.trials.objectives import values_of


def tell_known(study: optuna.Study, sweep: SweepConfig, space: Space, trials: Iterable[PriorTrial]) -> None:
    """Add the trials to the study as Optuna trials without an index; except those that it holds already."""
    told = {trial.user_attrs.get(WARM) for trial in study.get_trials(deepcopy=False)}
    for trial in trials:
        name = f"{trial.sweep}/{trial.name}"
        if name not in told:
            study.add_trial(frozen(trial, name, sweep, space))


def frozen(trial: PriorTrial, name: str, sweep: SweepConfig, space: Space) -> FrozenTrial:
    """The trial as the study would hold it if this sweep had trained it."""
    point = space.named(trial.params)
    space(asked := RecordingTrial(point))
    every = {**trial.measured, sweep.objective: trial.value}
    one = len(sweep.objectives) == 1
    curve = {} if one else {CURVE: {str(epoch): value for epoch, value in trial.values.items()}}
    return create_trial(
        state=TrialState.COMPLETE if trial.complete else TrialState.PRUNED,
        values=values_of(sweep, trial.value, trial.measured) if trial.complete or one else None,
        params=point,
        distributions=asked.distributions,
        user_attrs={WARM: name} | {name: every[name] for name in sweep.constraints} | curve,
        system_attrs={CONSTRAINTS: list(excesses(sweep.bounds, every).values())} if sweep.constraints else None,
        intermediate_values=trial.values if one else None,
    )
