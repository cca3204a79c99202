"""What trials that did not train to their end count as, where a model learns from all."""

from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from sweeps.samplers.gp_targets import estimated
from sweeps.samplers.history import INDEX, WARM

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
    return [trial.value for trial in estimated(study)]


CURVES = [
    ("COMPLETE", {1: 0.2, 2: 0.4, 3: 0.8}),
    ("COMPLETE", {1: 0.3, 2: 0.4, 3: 0.5}),
    ("COMPLETE", {1: 0.1, 2: 0.4, 3: 0.6}),
    ("PRUNED", {1: 0.2}),
    ("PRUNED", {1: 0.1, 2: 0.2}),
]


def test_a_trial_that_was_stopped_gains_what_complete_ones_gained_from_there() -> None:
    assert values(study_of("maximize", *CURVES)) == pytest.approx([0.8, 0.5, 0.6, 0.2 + 0.5, 0.2 + 0.2])


def test_a_trial_that_was_stopped_is_never_the_best() -> None:
    assert values(study_of("maximize", *CURVES, ("PRUNED", {1: 0.4})))[5] == 0.8
    assert values(study_of("minimize", *CURVES, ("PRUNED", {2: 0.1})))[5] == 0.5


@pytest.mark.parametrize(("direction", "worst"), [("maximize", 0.4), ("minimize", 0.8)])
def test_a_failure_counts_as_the_worst(direction: str, worst: float) -> None:
    study = study_of(direction, *CURVES, ("FAIL", {1: 0.9}), ("PRUNED", {}))
    assert values(study)[5:] == pytest.approx([worst, worst])


def test_before_anything_is_complete_a_value_stands_as_it_is() -> None:
    assert values(study_of("maximize", ("PRUNED", {1: 0.2}), ("FAIL", {}))) == [0.2, 0.2]
    assert [trial.state for trial in estimated(study_of("maximize", ("FAIL", {})))] == [TrialState.FAIL]


def test_running_trials_stay_running_and_half_drawn_ones_are_left_out() -> None:
    study = study_of("maximize", *CURVES)
    study.ask(SPACE).set_user_attr(INDEX, 5)
    study.ask(SPACE)
    assert [trial.state.name for trial in estimated(study)] == ["COMPLETE"] * 5 + ["RUNNING"]


def test_trials_of_earlier_sweeps_count() -> None:
    assert values(study_of("maximize", *CURVES, attribute=WARM))[3] == pytest.approx(0.7)


def test_of_several_objectives_nothing_is_estimated() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.ask(SPACE).set_user_attr(INDEX, 0)
    study.tell(0, state=TrialState.PRUNED)
    assert [trial.state for trial in estimated(study)] == [TrialState.PRUNED]
