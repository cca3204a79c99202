"""What samplers read from a study's trials: user attributes, order, values, and violations of the constraints.

Optuna's private interfaces are used here, in study/write_through.py and in unit_cube.py (its transform of a space to
the unit cube) only. Here it is a trial's id and the study's storage, by which a trial can be written to that another
process has begun, and read in its current state. Two things are stored where Optuna's samplers and optuna-dashboard
expect them, each behind a function here:

* the metric by epoch: as intermediate values, but with several objectives as an attribute, because there TPE fails
  on a pruned trial with intermediate values (it asks for the one direction, and there are several);
* the constraints: as a list, where 0 and below means satisfied, in the system attribute that both read.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial

INDEX, PARAMS, TRIAL_ID = "index", "params", "trial_id"  # user attributes
WARM = "warm_start"  # user attribute of a trial of an earlier sweep, which has none of the others: its folder
CURVE = "metric_by_epoch"  # user attribute, with several objectives
CONSTRAINTS = "constraints"  # Optuna's system attribute


def trial_key(trial: FrozenTrial | Trial) -> int:
    """The trial's id in the study's storage, which the functions below take."""
    return trial._trial_id


def is_finished(study: optuna.Study, key: int) -> bool:
    return bool(study._storage.get_trial(key).state.is_finished())


def note(study: optuna.Study, key: int, name: str, value: Any) -> None:
    """Sets a user attribute of a trial."""
    study._storage.set_trial_user_attr(key, name, value)


def reopened(study: optuna.Study) -> optuna.Study:
    """The same study, reloaded so that no trial is an old copy."""
    return optuna.load_study(study_name=study.study_name, storage=study._storage)


def by_index(study: optuna.Study) -> list[FrozenTrial]:
    """All trials that were drawn completely, in the order of their draws; of a retried trial the last attempt."""
    trials = {t.user_attrs[INDEX]: t for t in study.get_trials(deepcopy=False) if INDEX in t.user_attrs}
    return [trials[index] for index in sorted(trials)]


def first_value(trial: FrozenTrial) -> float | None:
    """The value after the first epoch; None if none was reported."""
    return reported(trial).get(1)


def reported(trial: FrozenTrial) -> dict[int, float]:
    """The metric by epoch."""
    return {int(epoch): value for epoch, value in trial.user_attrs.get(CURVE, trial.intermediate_values).items()}


def report(study: optuna.Study, key: int, epoch: int, value: float) -> None:
    """Add the metric of an epoch to a trial, by its id."""
    if len(study.directions) == 1:
        study._storage.set_trial_intermediate_value(key, epoch, value)
        return
    curve = reported(study._storage.get_trial(key)) | {epoch: value}
    note(study, key, CURVE, {str(epoch): value for epoch, value in curve.items()})


def constrain(study: optuna.Study, key: int, excesses: Mapping[str, float]) -> None:
    """Store how far a trial exceeds each constraint (0 and below: not at all). To be called before it ends."""
    study._storage.set_trial_system_attr(key, CONSTRAINTS, list(excesses.values()))


def violation(trial: FrozenTrial) -> float:
    """By how much a trial exceeds its constraints in total; 0 if it satisfies them, or if nothing is known."""
    excesses: Sequence[float] = trial.system_attrs.get(CONSTRAINTS, ())
    return sum(max(0.0, excess) for excess in excesses)
