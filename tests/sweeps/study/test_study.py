"""The sweep's study on real sqlite: truthful states, draws that do not depend on how often the driver started."""

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from mergenet.errors import UserError
from sweeps.execution.tune_searcher import StudySearch
from sweeps.samplers.history import INDEX
from sweeps.samplers.registry import tpe
from sweeps.study.study import StudyTrial, SweepStudy
from sweeps.trials.files import STUDY_FILE
from sweeps.trials.objectives import Outcome
from tests.sweeps.base import space_of, sweep_config
from tests.sweeps.spaces import GATE, RANK, WEIGHT
from tests.sweeps.studies import opened, outsider, trials


def test_the_first_trial_is_the_base(tmp_path: Path) -> None:
    drawn = opened(tmp_path).draw(0)
    assert (drawn.index, drawn.params) == (0, {RANK: 4, GATE: 0.1})
    attributes = trials(tmp_path)[0].user_attrs
    assert (attributes["trial_id"], attributes[INDEX]) == ("trial-000", 0)


@pytest.mark.parametrize(
    ("state", "value", "found"),
    [
        (TrialState.COMPLETE, 0.5, (TrialState.COMPLETE, 0.5)),
        (TrialState.PRUNED, 0.5, (TrialState.PRUNED, 0.3)),  # its last intermediate value is what the study keeps
        (TrialState.COMPLETE, math.nan, (TrialState.FAIL, None)),
        (TrialState.COMPLETE, math.inf, (TrialState.FAIL, None)),
        (TrialState.COMPLETE, None, (TrialState.FAIL, None)),
        (TrialState.FAIL, 0.5, (TrialState.FAIL, None)),
    ],
)
def test_states(tmp_path: Path, state: TrialState, value: float | None, found: Any) -> None:
    study = opened(tmp_path)
    drawn = study.draw(0)
    study.report(drawn, 1, 0.1)
    study.report(drawn, 2, 0.3)
    study.report(drawn, 3, math.nan)
    study.tell(drawn, state, value)
    study.report(drawn, 4, 0.9)  # too late
    study.tell(drawn, TrialState.COMPLETE, 0.9)
    trial = trials(tmp_path)[0]
    assert (trial.state, trial.value) == found
    assert trial.intermediate_values == {1: 0.1, 2: 0.3}


def test_what_a_killed_driver_leaves_is_put_right(tmp_path: Path) -> None:
    """Trial 0 ended unheard, trial 1 still trains and was heard of once, trial 2 was being drawn by an old version."""
    study = opened(tmp_path)
    study.draw(0)
    study.report(study.draw(1), 1, 0.2)
    outsider(tmp_path).ask()
    again = opened(tmp_path)
    rows = [{"epoch": 1, "value": 0.2}, {"epoch": 2, "value": 0.4}]

    def outcome(drawn: StudyTrial) -> Any:
        return Outcome("running" if drawn.index else "complete", rows, None if drawn.index else 0.4)

    again.reconcile(outcome)
    states = [trial.state for trial in trials(tmp_path)]
    assert states == [TrialState.COMPLETE, TrialState.RUNNING, TrialState.FAIL]
    assert [trial.intermediate_values for trial in trials(tmp_path)[:2]] == [{1: 0.2, 2: 0.4}] * 2
    assert [drawn.index for drawn in again.known()] == [0, 1]
    assert again.draw(2).index == 2, "the trial that was lost in drawing is drawn again"


def test_a_first_trial_that_was_lost_in_drawing_is_drawn_again(tmp_path: Path) -> None:
    opened(tmp_path)
    outsider(tmp_path).ask()
    again = opened(tmp_path)
    again.reconcile(lambda _: None)
    assert again.draw(0).params == {RANK: 4, GATE: 0.1}
    assert opened(tmp_path).draw(1).params != {RANK: 4, GATE: 0.1}, "but not once more"


def end(study: SweepStudy, drawn: StudyTrial) -> None:
    study.report(drawn, 1, 0.1 * drawn.index)
    study.tell(drawn, (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)[drawn.index % 3], 0.1 * drawn.index)


@pytest.mark.parametrize("sampler", ["tpe", "auto", "random"])
def test_a_study_that_was_lost_is_made_again_from_what_was_drawn(tmp_path: Path, sampler: str) -> None:
    """Told the same, it draws on as the other would have; the first points are not drawn again."""
    study, again = (opened(tmp_path / name, num_trials=20, sampler=sampler) for name in ("first", "second"))
    for index in range(8):
        end(study, study.draw(index))
    again.restore({one.index: one.params for one in study.known()})
    assert [(one.index, one.params) for one in again.known()] == [(one.index, one.params) for one in study.known()]
    for drawn in again.known():
        end(again, drawn)
    assert again.draw(8).params == study.draw(8).params


def test_whole_numbers_of_a_float_setting_that_were_lost_are_not_drawn_again() -> None:
    search = {WEIGHT: {"int": [1, 8]}}
    sweep, space = sweep_config(search, sampler="random", num_trials=8), space_of(search, method="kd")
    study, again = (SweepStudy(sweep, space, "max", InMemoryStorage()) for _ in range(2))
    for index in range(5):
        study.draw(index)
    again.restore({one.index: space.locate(space.config(one.params)) or {} for one in study.known()})
    for index in range(5, 8):
        again.draw(index)
    assert sorted(float(one.params[WEIGHT] or 0) for one in again.known()) == list(range(1, 9))


def test_a_trial_without_a_record_is_drawn_once_the_others_are_known(tmp_path: Path) -> None:
    """In its own place, by what the others have reached."""
    study, again = (opened(tmp_path / name, num_trials=20, sampler="tpe") for name in ("first", "second"))
    for index in range(12):
        end(study, study.draw(index))
    again.restore({one.index: one.params for one in study.known() if one.index != 5})
    for drawn in again.known():
        end(again, drawn)
    search = StudySearch(again, "max", 14, lambda: False, lambda: False)
    order = [search.suggest(str(number)) for number in range(14)]
    assert [found["number"] for found in order if isinstance(found, dict)] == [*range(5), *range(6, 12), 5, 12, 13]
    assert len({str(one.params) for one in again.known()}) == 14


def test_a_file_that_is_no_study(tmp_path: Path) -> None:
    (tmp_path / STUDY_FILE).write_text("no database")
    with pytest.raises(UserError, match=r"study\.db must be the Optuna study of this sweep, and cannot be opened: "):
        opened(tmp_path)


def test_the_sampler(tmp_path: Path) -> None:
    study = opened(tmp_path, num_trials=12, sampler="tpe")
    sampler = tpe(study.sweep, study.space, study.study, 0)
    assert isinstance(sampler, optuna.samplers.TPESampler)
    assert (sampler._multivariate, sampler._constant_liar, sampler._n_startup_trials) == (False, False, 4)
