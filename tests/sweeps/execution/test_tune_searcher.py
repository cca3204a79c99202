"""The searcher that Tune asks: what it suggests, and in which states trials end."""

import math
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from sweeps.execution.tune_searcher import MAX_STARTING, StudySearch
from sweeps.study.study import SweepStudy
from sweeps.trials.messages import FAILURE, OBJECTIVE
from tests.sweeps.base import space_of, sweep_config
from tests.sweeps.spaces import SEARCH
from tests.sweeps.studies import opened, trials


class Driver:
    """What the driver would answer."""

    closed = paused = False

    def search(self, study: SweepStudy, num_trials: int = 6) -> StudySearch:
        return StudySearch(study, "max", num_trials, lambda: self.closed, lambda: self.paused)


def result(epoch: int, value: float | None, epochs: int = 6) -> dict[str, Any]:
    return {"epoch": epoch, "epochs": epochs, "training_iteration": 1} | ({} if value is None else {OBJECTIVE: value})


@pytest.mark.parametrize(
    ("last", "state", "value"),
    [
        (result(6, 0.5), TrialState.COMPLETE, 0.5),
        (result(2, 0.3), TrialState.PRUNED, 0.3),
        (result(6, math.nan), TrialState.FAIL, None),
        (result(6, None), TrialState.FAIL, None),
        (result(2, 0.3) | {FAILURE: "out of memory"}, TrialState.FAIL, None),
        ({FAILURE: "out of memory"}, TrialState.FAIL, None),
        (None, TrialState.FAIL, None),
        ({}, TrialState.FAIL, None),
    ],
)
def test_states(tmp_path: Path, last: Any, state: Any, value: Any) -> None:
    search = Driver().search(opened(tmp_path))
    search.suggest("a")
    search.on_trial_result("a", result(1, 0.1))
    search.on_trial_complete("a", last)  # as Tune: the last epoch is not told before, if it stops there
    search.on_trial_complete("a", result(6, 0.9))  # Tune says it twice
    search.on_trial_result("never seen", result(6, 0.9))
    search.on_trial_complete("never seen", result(6, 0.9))
    trial = trials(tmp_path)[0]
    assert (trial.state, trial.value) == (state, value)
    expected = {1: 0.1} if value is None else {1: 0.1, last["epoch"]: value}
    assert trial.intermediate_values == expected


def test_a_trial_that_lost_its_relay_keeps_its_state(tmp_path: Path) -> None:
    """What a trial fails of is in its result; an error is the relay's own."""
    said: list[str] = []
    search = StudySearch(opened(tmp_path), "max", 6, lambda: False, lambda: False, lost=said.append)
    search.suggest("a")
    search.on_trial_result("a", result(1, 0.1))
    search.on_trial_complete("a", error=True)
    assert said == ["trial-000 has lost its relay, the process that passes its epochs on"]
    assert [(trial.state, trial.intermediate_values) for trial in trials(tmp_path)] == [(TrialState.RUNNING, {1: 0.1})]


def test_few_relays_start_at_once_and_a_free_one_is_taken_at_once(tmp_path: Path) -> None:
    search = Driver().search(opened(tmp_path, num_trials=60), 60)
    names = [str(i) for i in range(MAX_STARTING)]
    assert all(isinstance(search.suggest(name), dict) for name in names)
    assert search.suggest("more") is None
    search.on_trial_start("0")
    assert isinstance(search.suggest("more"), dict)
    assert search.suggest("another") is None
    search.on_trial_complete("0", result(2, 0.3))  # its relay is free
    assert isinstance(search.suggest("another"), dict)
    assert search.suggest("third") is None
    search.on_trial_complete("1", result(2, 0.3))  # had none yet
    assert isinstance(search.suggest("third"), dict)
    assert search.suggest("fourth") is None


def test_known_trials_come_first_and_no_more_than_there_should_be(tmp_path: Path) -> None:
    first = Driver().search(opened(tmp_path), 3)
    drawn = [first.suggest("a"), first.suggest("b")]
    again = Driver().search(opened(tmp_path), 3)
    suggestions = [again.suggest(name) for name in "cdef"]
    assert suggestions[:2] == drawn
    assert [s["number"] for s in suggestions[:3] if isinstance(s, dict)] == [0, 1, 2]
    assert suggestions[3] == Searcher.FINISHED


def test_a_pause_leaves_trials_as_they_are(tmp_path: Path) -> None:
    driver = Driver()
    search = driver.search(opened(tmp_path))
    for name in "abcd":
        search.suggest(name)
    search.on_trial_result("a", result(2, 0.3))
    driver.paused = True  # the queue knows first
    search.on_trial_complete("a", result(2, 0.3))  # paused, not stopped
    driver.closed = True
    assert search.suggest("e") == Searcher.FINISHED
    search.on_trial_complete("b", result(6, 0.5))  # was in its last epoch
    search.on_trial_complete("c", result(2, 0.3))  # would have been stopped just then
    assert [trial.state for trial in trials(tmp_path)] == [
        TrialState.RUNNING,
        TrialState.COMPLETE,
        TrialState.RUNNING,
        TrialState.RUNNING,
    ]


def test_the_queue_is_not_asked_of_a_trial_that_the_scheduler_stops(tmp_path: Path) -> None:
    """With hundreds of slots that would keep all others waiting for the answer."""

    def asked() -> bool:
        raise AssertionError

    search = StudySearch(opened(tmp_path), "max", 6, lambda: False, asked)
    search.suggest("a")
    search.on_trial_result("a", result(1, 0.1))
    search.on_trial_complete("a", result(2, 0.3))
    assert trials(tmp_path)[0].state == TrialState.PRUNED


def test_equal_seeds_draw_equally(tmp_path: Path) -> None:
    drawn = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        search = Driver().search(SweepStudy(sweep_config(SEARCH, seed=3), space_of(SEARCH), "max", folder))
        drawn.append([search.suggest(str(i)) for i in range(5)])
    assert drawn[0] == drawn[1]
