"""Several objectives and constraints in a study: truthful states, samplers that know of both, restarts, the front."""

import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from mergenet.errors import ConfigError
from sweeps.execution.tune_searcher import StudySearch
from sweeps.samplers.compatibility import check_sampler
from sweeps.samplers.history import CONSTRAINTS, by_index
from sweeps.schedulers.early_stopping import build_scheduler
from sweeps.study.study import StudyTrial, SweepStudy
from sweeps.trials.objectives import Outcome, infeasible, infeasible_text, pareto_front
from tests.sweeps.base import space_of, sweep_config
from tests.sweeps.spaces import GATE, RANGES, RANK
from tests.sweeps.studies import BOTH, METRIC, SIZE, STEP, measured, outsider, study_of_several

SEVERAL = ("tpe", "nsga2", "qmc", "random", "grid")


def train(study: SweepStudy, index: int) -> dict[str, Any]:
    """Draw, and end as a trial may: in full, early or in failure; a rank from 6 on breaks a constraint."""
    drawn = study.draw(index)
    value, size = float(drawn.params[GATE] or 0), 100.0 * float(drawn.params[RANK] or 0)
    study.report(drawn, 1, value)
    state = {1: TrialState.PRUNED, 3: TrialState.FAIL}.get(index % 4, TrialState.COMPLETE)
    study.tell(drawn, state, value, measured(size, 0.01 * index))
    return drawn.params


def test_a_study_of_several_objectives_is_read_by_others(tmp_path: Path) -> None:
    study = study_of_several(tmp_path)
    for value, size in ((0.3, 200), (0.6, 400), (0.5, 450), (0.9, 600)):
        drawn = study.draw(len(study.known()))
        study.report(drawn, 1, value)
        study.tell(drawn, TrialState.COMPLETE, value, measured(size))
    found = outsider(tmp_path)
    assert found.metric_names == [METRIC, SIZE, STEP]
    assert [direction.name for direction in found.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    assert found.trials[1].values == [0.6, 400, 0.5]
    assert [trial.number for trial in found.best_trials] == [0, 1], "trial 2 is beaten, trial 3 is too large"
    assert found.trials[3].user_attrs[SIZE] == 600
    assert list(found.trials[3].constraints.values()) == pytest.approx([0.2, -8.0]), "in parts of the bound"


@pytest.mark.parametrize(
    ("state", "value", "more", "found"),
    [
        (TrialState.COMPLETE, 0.5, measured(10), (TrialState.COMPLETE, [0.5, 10, 0.5])),
        (TrialState.PRUNED, 0.5, measured(10), (TrialState.PRUNED, None)),
        (TrialState.COMPLETE, math.nan, measured(10), (TrialState.FAIL, None)),
        (TrialState.COMPLETE, 0.5, measured(math.nan), (TrialState.FAIL, None)),
        (TrialState.COMPLETE, 0.5, {SIZE: 10.0, STEP: None}, (TrialState.FAIL, None)),
        (TrialState.COMPLETE, 0.5, {}, (TrialState.FAIL, None)),
        (TrialState.FAIL, 0.5, measured(10), (TrialState.FAIL, None)),
    ],
)
def test_states(tmp_path: Path, state: TrialState, value: float, more: Any, found: Any) -> None:
    study = study_of_several(tmp_path)
    drawn = study.draw(0)
    study.report(drawn, 1, 0.25)
    study.report(drawn, 2, 0.5)
    study.tell(drawn, state, value, more)
    study.tell(drawn, TrialState.COMPLETE, 0.9, measured(1))  # only the first time counts
    trial = outsider(tmp_path).trials[0]
    assert (trial.state, trial.values) == found
    assert (CONSTRAINTS in trial.system_attrs) == (trial.state != TrialState.FAIL)
    assert study_of_several(tmp_path).curves() == (
        {0: {1: 0.25, 2: 0.5}},
        {0: 2 if state == TrialState.PRUNED else None},
    )


@pytest.mark.parametrize("sampler", [*SEVERAL, pytest.param("gp", marks=[pytest.mark.slow, pytest.mark.long])])
def test_draws_do_not_depend_on_restarts(sampler: str) -> None:
    """Among the trials are complete, pruned, failed and infeasible ones: each sampler gets past them."""
    study, storage = study_of_several(InMemoryStorage(), sampler=sampler), InMemoryStorage()
    once = [train(study, index) for index in range(16)]
    often = [train(study_of_several(storage, sampler=sampler), index) for index in range(16)]
    assert once == often
    states = {trial.state for trial in by_index(study.study)}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}


@pytest.mark.parametrize(
    ("sampler", "trials"),
    [("tpe", 40), ("nsga2", 60), ("cmaes", 60), pytest.param("gp", 20, marks=[pytest.mark.slow, pytest.mark.long])],
)
def test_samplers_are_told_of_a_constraint(sampler: str, trials: int) -> None:
    """The larger the rank the better, but not beyond 4: without the constraint all of them go for 8."""
    drawn = {}
    for constraints in ({}, {SIZE: {"max": 400}}):
        changes = {"sampler": sampler, "num_trials": trials, "minimize": [], "constraints": constraints}
        study = study_of_several(InMemoryStorage(), **changes)
        ranks = []
        for index in range(trials):
            one = study.draw(index)
            ranks.append(float(one.params[RANK] or 0))
            study.tell(one, TrialState.COMPLETE, ranks[-1], measured(100 * ranks[-1]))
        half = ranks[trials // 2 :]
        drawn[bool(constraints)] = sum(rank <= 4 for rank in half) / len(half)
    assert drawn[True] > drawn[False] + 0.3, drawn


def test_top_k_takes_again_what_keeps_the_constraints() -> None:
    study = study_of_several(InMemoryStorage(), sampler="top_k", scheduler="none", minimize=[], num_trials=10, top_k=2)
    short = []
    for index in range(8):
        short.append(study.draw(index))
        study.report(short[-1], 1, 0.1 * (index + 1))
        study.tell(short[-1], TrialState.PRUNED, 0.1 * (index + 1), measured(600 if index in (5, 7) else 400))
    assert [study.draw(index).params for index in (8, 9)] == [short[6].params, short[4].params]


def test_what_a_killed_driver_leaves_is_told_from_the_records(tmp_path: Path) -> None:
    """Both trials ended unheard; of the second the driver had just noted the constraints when it was killed."""
    study = study_of_several(tmp_path)
    _, second = study.draw(0), study.draw(1)
    study._note(second, measured(600) | {METRIC: 0.6})
    again = study_of_several(tmp_path)
    rows = [{"epoch": 1, "value": 0.2}, {"epoch": 2, "value": 0.6}]

    def outcome(drawn: StudyTrial) -> Outcome:
        return Outcome("pruned" if drawn.index else "complete", rows, 0.6, measured(600 if drawn.index else 300))

    again.reconcile(outcome)
    trials = outsider(tmp_path).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert trials[0].values == [0.6, 300, 0.5]
    assert [max(trial.constraints.values()) > 0 for trial in trials] == [False, True]
    assert again.curves()[0] == {0: {1: 0.2, 2: 0.6}, 1: {1: 0.2, 2: 0.6}}
    assert again.draw(2).index == 2


def test_early_stopping_and_grace_look_at_the_metric_alone(tmp_path: Path) -> None:
    """Five trials in full measure the grace; the scheduler of the next driver knows their curves."""
    search = StudySearch(study_of_several(tmp_path, grace_epochs="auto"), "max", 8, lambda: False, lambda: False)
    for index in range(5):
        search.suggest(str(index))
        for epoch in (1, 2, 3):
            result = {"epoch": epoch, "epochs": 3, "objective": 0.1 * (index + 1) + 0.01 * epoch} | measured(1000)
            search.on_trial_result(str(index), result)
        search.on_trial_complete(str(index), result)
    said: list[str] = []
    scheduler = build_scheduler(study_of_several(tmp_path, grace_epochs="auto"), 3, said.append)
    late = SimpleNamespace(config={"number": 5})
    result = {"epoch": 1, "objective": 0.01} | measured(1)
    assert scheduler.on_trial_result(None, late, result) == "STOP", "behind by the metric, however small"
    assert "from epoch 1 on" in said[0]
    assert [trial.state for trial in outsider(tmp_path).trials] == [TrialState.COMPLETE] * 5


@pytest.mark.parametrize("sampler", ["cmaes", "top_k"])
def test_samplers_of_one_objective_say_so(sampler: str) -> None:
    sweep = sweep_config(RANGES, sampler=sampler, scheduler="none", minimize=[SIZE])
    with pytest.raises(ConfigError, match=rf"^sampler {sampler} must have one objective, got minimize: \['adapter_par"):
        check_sampler(sweep, space_of(RANGES))
    check_sampler(
        sweep_config(RANGES, sampler=sampler, scheduler="none", constraints=BOTH["constraints"]), space_of(RANGES)
    )


def trial(number: int, value: float, size: float, step: float = 0.5, **more: Any) -> dict[str, Any]:
    found = {"trial_id": f"t{number}", "number": number, "value": value, "finished": True, "broken": []}
    return found | {"measured": measured(size, step)} | more


def test_the_front() -> None:
    trials = [
        trial(0, 0.5, 100),
        trial(1, 0.6, 200),
        trial(2, 0.6, 200),  # as good: neither beats the other
        trial(3, 0.6, 200, 0.6),  # slower
        trial(4, 0.4, 100),
        trial(5, 0.9, 50, finished=False),
        trial(6, 0.9, 50, broken=["adapter_parameters <= 10"]),
        trial(7, 0.3, 400, 0.1),
        trial(8, 0.95, math.nan),
    ]
    front = pareto_front(sweep_config(RANGES, **BOTH), trials)
    assert [point["trial_id"] for point in front] == ["t1", "t2", "t0", "t7"], "best metric first"
    assert front[0]["values"] == {METRIC: 0.6, SIZE: 200, STEP: 0.5}
    assert pareto_front(sweep_config(RANGES, **BOTH), []) == []


def test_the_front_is_optunas() -> None:
    """Optuna's own, of the same numbers, with the constraints that it was told."""
    study, trials = study_of_several(InMemoryStorage(), sampler="random", constraints={SIZE: {"max": 500}}), []
    rng = random.Random(0)
    for index in range(30):
        value, size, step = round(rng.random(), 1), rng.randint(1, 7) * 100, round(rng.random(), 1)
        study.tell(study.draw(index), TrialState.COMPLETE, value, measured(size, step))
        trials.append(trial(index, value, size, step, broken=["too large"] if size > 500 else []))
    ours = {point["trial_id"] for point in pareto_front(study.sweep, trials)}
    assert ours == {f"t{found.number}" for found in study.study.best_trials}


def test_what_is_infeasible_is_counted_by_rule() -> None:
    trials = [
        trial(0, 0.5, 100),
        trial(1, 0.5, 900, broken=["a <= 1", "b >= 2"]),
        trial(2, 0.5, 900, broken=["a <= 1"]),
        trial(3, 0.5, 900, finished=False, broken=["a <= 1"]),
    ]
    found = infeasible(trials)
    assert found == {"complete": 3, "infeasible": 2, "rules": {"a <= 1": 2, "b >= 2": 1}}
    assert infeasible_text(found) == "2 of 3 complete trials break a constraint (a <= 1: 2; b >= 2: 1)"
