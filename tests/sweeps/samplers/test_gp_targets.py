"""What trials that did not train to their end count as, where a model learns from all."""

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from sweeps.samplers.gp_targets import estimated, targets
from sweeps.samplers.history import CONSTRAINTS, INDEX, WARM

SPACE = {"x": FloatDistribution(0.0, 1.0)}


def study_of(direction: str, *trials: tuple[str, dict[int, float]], attribute: str = INDEX) -> optuna.Study:
    study = optuna.create_study(direction=direction)
    for index, (state, curve) in enumerate(trials):
        value = curve[max(curve)] if state == "COMPLETE" else None
        study.add_trial(
            create_trial(
                state=TrialState[state],
                value=value,
                params={"x": 0.5},
                distributions=dict(SPACE),
                intermediate_values=curve,
                user_attrs={attribute: index},
            )
        )
    return study


def values(study: optuna.Study) -> list[Any]:
    return [one.value for one in targets(study)]


CURVES = [
    ("COMPLETE", {1: 0.2, 2: 0.4, 3: 0.8}),
    ("COMPLETE", {1: 0.3, 2: 0.4, 3: 0.5}),
    ("COMPLETE", {1: 0.1, 2: 0.4, 3: 0.6}),
    ("PRUNED", {1: 0.2}),
    ("PRUNED", {1: 0.1, 2: 0.2}),
]


def test_a_trial_that_was_stopped_gains_what_others_gained_from_there() -> None:
    """From epoch 1 to 2, where one was stopped, the median of 0.2, 0.1, 0.3 and 0.1; from 2 to 3 of 0.4, 0.1, 0.2."""
    assert values(study_of("maximize", *CURVES)) == pytest.approx([0.8, 0.5, 0.6, 0.2 + 0.15 + 0.2, 0.2 + 0.2])


def test_the_value_of_a_complete_trial_is_what_it_has_gained_in_the_end() -> None:
    """With several seeds its curve is the first one's, its value their mean."""
    study = study_of("maximize", ("COMPLETE", {1: 0.2, 2: 0.4}), ("PRUNED", {1: 0.1}))
    trial = study.get_trials(deepcopy=False)[0]
    seeds = optuna.create_study(direction="maximize")
    for one in (create_trial(**_fields(trial) | {"value": 0.7}), study.get_trials()[1]):
        seeds.add_trial(one)
    assert values(seeds) == pytest.approx([0.7, 0.1 + 0.5])


def _fields(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    names = ("params", "distributions", "intermediate_values", "user_attrs", "state")
    return {name: getattr(trial, name) for name in names}


def test_before_any_trial_is_complete_the_estimate_goes_as_far_as_others_got() -> None:
    study = study_of(
        "maximize", ("PRUNED", {1: 0.1}), ("PRUNED", {1: 0.2, 2: 0.5}), ("RUNNING", {1: 0.3, 2: 0.4, 3: 0.6})
    )
    assert values(study) == pytest.approx([0.1 + 0.2, 0.5, 0.6])


def test_a_trial_that_was_stopped_is_never_the_best() -> None:
    assert values(study_of("maximize", *CURVES, ("PRUNED", {1: 0.5})))[5] == 0.8
    assert values(study_of("minimize", *CURVES, ("PRUNED", {2: 0.1})))[5] == 0.5


@pytest.mark.parametrize(("direction", "worst"), [("maximize", 0.4), ("minimize", 0.8)])
def test_a_failure_counts_as_the_worst(direction: str, worst: float) -> None:
    study = study_of(direction, *CURVES, ("FAIL", {1: 0.9}), ("PRUNED", {}))
    assert values(study)[5:] == pytest.approx([worst, worst])


def test_before_anything_is_complete_a_value_stands_as_it_is() -> None:
    assert values(study_of("maximize", ("PRUNED", {1: 0.2}), ("FAIL", {}))) == [0.2, 0.2]
    assert values(study_of("maximize", ("FAIL", {}))) == [None], "nothing has a value yet"


def test_a_trial_that_runs_counts_by_what_it_has_reported_and_half_drawn_ones_are_left_out() -> None:
    study = study_of("maximize", *CURVES, ("RUNNING", {1: 0.2}))
    study.ask(SPACE).set_user_attr(INDEX, 6)
    study.ask(SPACE)
    assert values(study)[5:] == [pytest.approx(0.2 + 0.15 + 0.2), None]


def test_what_a_trial_has_not_trained_for_is_its_gain() -> None:
    """Also where its value is that of the best complete trial, because it would be better."""
    higher = [one.gain for one in targets(study_of("maximize", *CURVES, ("RUNNING", {1: 0.7})))]
    assert higher[:3] == [0, 0, 0]
    assert higher[3:] == pytest.approx([0.15 + 0.2, 0.2, 0.15 + 0.2])
    falling = [(state, {epoch: -value for epoch, value in curve.items()}) for state, curve in CURVES]
    assert [one.gain for one in targets(study_of("minimize", *falling))] == pytest.approx(higher[:5])


def test_the_variance_is_that_of_what_others_gained() -> None:
    found = [one.variance for one in targets(study_of("maximize", *CURVES))]
    assert found[:3] == [0, 0, 0]
    assert found[3:] == pytest.approx([np.var([0.2, 0.1, 0.3, 0.1]) + np.var([0.4, 0.1, 0.2]), np.var([0.4, 0.1, 0.2])])
    assert targets(study_of("maximize", *CURVES[1:]))[3].variance == 0, "two are too few to tell"


def test_trials_of_earlier_sweeps_count() -> None:
    assert values(study_of("maximize", *CURVES, attribute=WARM))[3] == pytest.approx(0.55)


def test_with_constraints_what_was_not_measured_breaks_each_as_far_as_any() -> None:
    """Optuna's process wants as many constraints of every trial."""
    study = optuna.create_study(direction="maximize")
    for index, (state, excesses) in enumerate(
        [("COMPLETE", [0.5, -1.0]), ("PRUNED", [-0.2, -0.5]), ("FAIL", None), ("PRUNED", None)]
    ):
        study.add_trial(
            create_trial(
                state=TrialState[state],
                value=0.3 if state == "COMPLETE" else None,
                params={"x": 0.5},
                distributions=dict(SPACE),
                intermediate_values={1: 0.2},
                user_attrs={INDEX: index},
                system_attrs={} if excesses is None else {CONSTRAINTS: excesses},
            )
        )
    found = estimated(study)
    assert [trial.state for trial in found] == 4 * [TrialState.COMPLETE]
    assert [trial.system_attrs[CONSTRAINTS] for trial in found] == [[0.5, -1.0], [-0.2, -0.5], [0.5, -0.5], [0.5, -0.5]]
    assert CONSTRAINTS not in study.trials[2].system_attrs
    free = study_of("maximize", *CURVES, ("FAIL", {1: 0.9}))
    assert not any(CONSTRAINTS in trial.system_attrs for trial in estimated(free))
