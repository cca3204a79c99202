"""SafeOptunaSearch on a real sqlite study: each trial ends in the state that its training ended in."""

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from sweeps.jobs import OBJECTIVE
from sweeps.search import SafeOptunaSearch, build_sampler, build_scheduler, build_search
from tests.sweeps.base import space_of, sweep_config

RANK = "transfer.adapter.rank"
SEARCH = {RANK: {"int": [2, 8]}, "transfer.adapter.gate": {"float": [0.05, 0.5]}}


@pytest.fixture
def search(tmp_path: Path) -> SafeOptunaSearch:
    return build_search(sweep_config(SEARCH), space_of(SEARCH), tmp_path)


def study(folder: Path) -> optuna.Study:
    """The study as somebody else opens it afterwards."""
    return optuna.load_study(study_name="tiny", storage=f"sqlite:///{folder / 'study.db'}")


def result(epoch: int, value: float | None, epochs: int = 6) -> dict[str, Any]:
    return {"epoch": epoch, "epochs": epochs, "training_iteration": 1} | ({} if value is None else {OBJECTIVE: value})


def test_the_first_trial_is_the_base(search: SafeOptunaSearch, tmp_path: Path) -> None:
    drawn = search.suggest("a")
    assert drawn == {"number": 0, "params": {RANK: 4, "transfer.adapter.gate": 0.1}}
    attributes = study(tmp_path).trials[0].user_attrs
    assert attributes == {"trial_id": "trial-000", "tune_trial_id": "a"}


@pytest.mark.parametrize(
    ("last", "error", "state", "value"),
    [
        (result(6, 0.5), False, TrialState.COMPLETE, 0.5),
        (result(2, 0.3), False, TrialState.PRUNED, 0.3),  # its last value is what the study keeps
        (result(6, math.nan), False, TrialState.FAIL, None),
        (result(6, math.inf), False, TrialState.FAIL, None),
        (result(6, None), False, TrialState.FAIL, None),
        (result(2, 0.3), True, TrialState.FAIL, None),
        (None, True, TrialState.FAIL, None),
        (None, False, TrialState.FAIL, None),
    ],
)
def test_states(search: SafeOptunaSearch, tmp_path: Path, last: Any, error: bool, state: Any, value: Any) -> None:
    search.suggest("a")
    search.on_trial_result("a", result(1, 0.1))
    if last is not None:
        search.on_trial_result("a", last)
    search.on_trial_complete("a", last, error=error)
    trial = study(tmp_path).trials[0]
    assert (trial.state, trial.value) == (state, value)
    assert trial.intermediate_values[1] == 0.1


def test_late_reports_are_ignored(search: SafeOptunaSearch, tmp_path: Path) -> None:
    search.suggest("a")
    search.on_trial_complete("a", result(6, 0.5))
    search.on_trial_result("a", result(7, 0.9))
    search.on_trial_complete("a", result(7, 0.9))
    search.on_trial_complete("never seen", result(6, 0.5))
    trial = study(tmp_path).trials[0]
    assert trial.value == 0.5
    assert 7 not in trial.intermediate_values


def test_the_search_goes_on_after_failures_and_survives_saving(search: SafeOptunaSearch, tmp_path: Path) -> None:
    for number in range(6):
        assert search.suggest(str(number))["number"] == number
        search.on_trial_complete(str(number), result(6, 0.1 * number), error=number % 2 == 0)
        search.save(str(tmp_path / "searcher.pkl"))
    states = [trial.state for trial in study(tmp_path).trials]
    assert states == [TrialState.FAIL, TrialState.COMPLETE] * 3
    assert study(tmp_path).best_value == pytest.approx(0.5)


def test_equal_seeds_draw_equally(tmp_path: Path) -> None:
    drawn = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        search = build_search(sweep_config(SEARCH, seed=3), space_of(SEARCH), folder)
        drawn.append([search.suggest(str(i))["params"] for i in range(5)])
    assert drawn[0] == drawn[1]


def test_sampler_and_scheduler() -> None:
    sampler = build_sampler(sweep_config(SEARCH, num_trials=12))
    assert isinstance(sampler, optuna.samplers.TPESampler)
    assert (sampler._multivariate, sampler._constant_liar, sampler._n_startup_trials) == (False, False, 4)
    assert isinstance(build_sampler(sweep_config(SEARCH, sampler="random")), optuna.samplers.RandomSampler)
    assert isinstance(build_scheduler(sweep_config(SEARCH), 6), ASHAScheduler)
    assert isinstance(build_scheduler(sweep_config(SEARCH, scheduler="none"), 6), FIFOScheduler)
    assert isinstance(build_scheduler(sweep_config(SEARCH, grace_epochs=6), 6), FIFOScheduler)
