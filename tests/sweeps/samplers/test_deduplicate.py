"""No draw trains what a trial has trained, or has an adapter known to be too large, as long as there are others."""

from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from sweeps.ablation.variants import training_key as ablation_key
from sweeps.samplers.compatibility import possible_trials
from sweeps.samplers.deduplicate import ask_sampler, listed, num_trainings, training_key
from sweeps.samplers.fixed import Walker
from sweeps.samplers.registry import tpe_with
from sweeps.space.adapter_size import adapter_parameters
from sweeps.space.layer_choices import with_limits
from sweeps.study.study import SweepStudy
from tests.sweeps.base import base_values, space_of, sweep_config
from tests.sweeps.spaces import CYCLE, GATE, KIND, METHODS, POINTS, RANK, TRANSFER, WEIGHT
from tests.sweeps.studies import branching_study

DRAWING = ("auto", "gp", "tpe", "random")


# more points than are looked through, and the first of them all train without transfer
LARGE: dict[str, Any] = {"method": {"choice": ["none", "mergenet"]}, CYCLE: {"int": [1, 250]}, RANK: {"int": [1, 64]}}
LARGE |= {"transfer.adapter.depth": {"int": [1, 8]}}


def draw_all(study: SweepStudy, number: int) -> list[str]:
    """What each draw trains; all reach the same value, so that nothing is better than what is known."""
    found = []
    for index in range(number):
        drawn = study.draw(index)
        study.tell(drawn, TrialState.COMPLETE, 0.5)
        found.append(training_key(study.space, drawn.params))
    return found


@pytest.mark.parametrize("sampler", DRAWING)
def test_a_small_space_is_drawn_whole_before_anything_is_repeated(sampler: str) -> None:
    found = draw_all(branching_study(METHODS, sampler, num_trials=POINTS), POINTS)
    assert len(set(found)) == POINTS


@pytest.mark.parametrize("sampler", DRAWING)
def test_what_still_trains_is_not_drawn_again(sampler: str) -> None:
    study = branching_study(METHODS, sampler, num_trials=POINTS)
    found = [training_key(study.space, study.draw(index).params) for index in range(POINTS)]
    assert len(set(found)) == POINTS


@pytest.mark.parametrize("sampler", ["auto", "random", "tpe", "grid"])
def test_a_base_without_transfer_is_drawn_once(sampler: str) -> None:
    """It is the first trial, and so no transfer is not tried once more beside it."""
    search = {"method": {"choice": ["none", "mergenet"]}, CYCLE: {"choice": [2, 4, 8], "when": TRANSFER}}
    sweep, space = sweep_config(search, sampler=sampler), space_of(search, method="none")
    study = SweepStudy(sweep, space, "max", InMemoryStorage())
    drawn = [study.draw(index).params for index in range(4)]
    assert drawn[0] == {"method": "none"}
    assert sorted(int(params[CYCLE] or 0) for params in drawn[1:]) == [2, 4, 8]


def test_a_draw_after_the_last_repeats_one() -> None:
    """As in a sweep that an earlier version began with more trials than its space holds."""
    found = draw_all(branching_study(METHODS, "tpe", num_trials=POINTS + 2), POINTS + 2)
    assert len(set(found)) == POINTS


def test_settings_that_a_method_does_not_use_make_no_other_training() -> None:
    """Without conditions: 2 cycles with transfer, 2 weights of distillation, and nothing."""
    search: dict[str, Any] = {"method": {"choice": ["mergenet", "none", "kd"]}}
    search |= {CYCLE: {"choice": [2, 4]}, WEIGHT: {"choice": [0.5, 1.0]}}
    assert num_trainings(space_of(search), 100) == 5
    assert num_trainings(space_of(search), 3) == 3
    for sampler in (*DRAWING, "grid"):
        assert len(set(draw_all(branching_study(search, sampler, num_trials=5), 5))) == 5, sampler


@pytest.mark.parametrize(
    ("kinds", "outside", "trainings"),
    [
        (({"kind": "lpka", "depth": 1}, {"kind": "linear"}), "full_matrix", 6),
        (({"kind": "full_matrix"}, {"kind": "lpka"}), "lpka", 1 + 3),
        (({"depth": 1}, {"depth": 2}), "full_matrix", 2),
    ],
)
def test_a_rank_counts_where_the_mapping_that_was_drawn_uses_one(
    kinds: tuple[dict[str, Any], ...], outside: str, trainings: int
) -> None:
    """The base's kind does not count where a mapping names another."""
    base = {"transfer": base_values()["transfer"] | {"adapter": {"rank": 4, "kind": outside}}}
    space = space_of({"transfer.adapter": {"choice": list(kinds)}, RANK: {"choice": [2, 4, 8]}}, **base)
    assert num_trainings(space, 100) == trainings
    assert len({ablation_key(space.config(space(Walker(point)))) for point in listed(space)}) == trainings


def test_methods_that_were_drawn_leave_their_ranges_to_be_drawn() -> None:
    """`none` trains once, however good; the rest has a range."""
    search = {"method": {"choice": ["mergenet", "none"]}, GATE: {"float": [0.1, 0.5], "when": TRANSFER}}
    study = branching_study(search, "tpe", num_trials=20)
    for index in range(20):
        drawn = study.draw(index)
        study.tell(drawn, TrialState.COMPLETE, 0.9 if drawn.params["method"] == "none" else 0.1)
    methods = [trial.params["method"] for trial in study.study.get_trials()]
    assert methods.count("none") == 1


@pytest.mark.parametrize(
    ("search", "changes", "trials"),
    [
        (METHODS, {}, POINTS),
        (METHODS, {"num_trials": 5}, 5),
        (METHODS, {"sampler": "grid"}, POINTS),
        (METHODS, {"sampler": "nsga2"}, 20),
        (METHODS, {"sampler": "top_k", "top_k": 2}, POINTS + 2),
        (METHODS, {"sampler": "top_k", "top_k": 2, "num_trials": 6}, 6),
        (METHODS | {GATE: {"float": [0.1, 0.5]}}, {}, 20),
        (LARGE, {}, 20),
        ({KIND: {"choice": ["full_matrix"]}, RANK: {"int": [2, 8]}}, {}, 1),
        ({"method": {"choice": ["none", "mergenet"]}, "source.optimizer.lr": {"choice": [0.1, 0.2]}}, {}, 3),
    ],
)
def test_as_many_trials_as_there_are_trainings(search: dict[str, Any], changes: dict[str, Any], trials: int) -> None:
    assert possible_trials(sweep_config(search, **changes), space_of(search)) == trials


@pytest.mark.parametrize("sampler", DRAWING)
def test_adapters_known_to_be_too_large_are_not_drawn(sampler: str) -> None:
    """Of ranks 2 to 40 those up to 4 keep the constraint."""
    search = {RANK: {"int": [2, 40]}, GATE: {"float": [0.1, 0.5]}}
    space = with_limits(space_of(search))
    most = adapter_parameters(space.config({RANK: 4, GATE: 0.1}))
    sweep = sweep_config(search, sampler=sampler, num_trials=12, constraints={"adapter_parameters": {"max": most}})
    study = SweepStudy(sweep, space, "max", InMemoryStorage())
    ranks = {study.draw(index).params[RANK] for index in range(12)}
    assert ranks == {2, 3, 4}


def test_a_draw_before_its_trial_is_the_one_that_the_trial_would_draw() -> None:
    search = METHODS | {GATE: {"float": [0.05, 0.5], "log": True, "when": TRANSFER}}
    study = branching_study(search, "tpe", num_trials=30)
    for index in range(15):
        drawn = study.draw(index)
        study.tell(drawn, TrialState.COMPLETE, float(drawn.params.get(GATE) or 0.2))
    for seed in range(5):
        before = ask_sampler(study.space, study.study, tpe_with(study.sweep, seed))
        again = optuna.load_study(study_name="tiny", storage=study.study._storage, sampler=tpe_with(study.sweep, seed))
        study.space(trial := again.ask())
        again.tell(trial, state=TrialState.FAIL)
        assert trial.params == before


def test_one_value_alone_takes_no_sampler() -> None:
    """As in a trial of Optuna: a sampler's random numbers are those of the values that it draws."""
    space = space_of({CYCLE: {"choice": [2]}, RANK: {"int": [2, 3]}})
    names: list[str] = []

    class Noting(optuna.samplers.RandomSampler):
        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            names.append(param_name)
            return super().sample_independent(study, trial, param_name, param_distribution)

    assert ask_sampler(space, optuna.create_study(), Noting(seed=0)).keys() == {CYCLE, RANK}
    assert names == [RANK]


def test_what_a_rare_constraint_allows_is_found_among_all_points() -> None:
    """Of 12,000 points 100 keep it: rank 1, depth 1."""
    search: dict[str, Any] = {RANK: {"int": [1, 40]}, CYCLE: {"int": [1, 100]}}
    search |= {"transfer.adapter.depth": {"int": [1, 3]}}
    space = with_limits(space_of(search))
    most = adapter_parameters(space.config({RANK: 1, "transfer.adapter.depth": 1, CYCLE: 2}))
    sweep = sweep_config(search, sampler="tpe", num_trials=12, constraints={"adapter_parameters": {"max": most}})
    study = SweepStudy(sweep, space, "max", InMemoryStorage())
    drawn = [study.draw(index).params for index in range(4)]
    assert all((one[RANK], one["transfer.adapter.depth"]) == (1, 1) for one in drawn[1:]), "after the base"
    assert len({one[CYCLE] for one in drawn[1:]}) == 3
