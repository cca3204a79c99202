"""Samplers by name: draws do not depend on restarts, none is repeated, and what does not suit is said when planning."""

import itertools
import json
import math
from typing import Any

import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from mergenet.errors import ConfigError
from sweeps.samplers import registry
from sweeps.samplers.cmaes import GENERATION
from sweeps.samplers.compatibility import check_sampler
from sweeps.samplers.fixed import grid_points
from sweeps.samplers.history import by_index
from sweeps.samplers.registry import SAMPLERS, auto
from sweeps.study.study import SweepStudy
from tests.sweeps.base import CONV, HEAD, space_of, sweep_config
from tests.sweeps.spaces import CHOICES, DEPTH, GATE, RANGES, RANK

FIXED = {"top_k": {"scheduler": "none"}}
NUM_TRIALS = 24
LIMITS = {"adapter_parameters": {"max": 1e6}}


def opened(storage: BaseStorage, sampler: str, **changes: Any) -> SweepStudy:
    """As a driver opens it that has just started."""
    search = CHOICES if sampler == "grid" else RANGES
    changes = {"num_trials": NUM_TRIALS} | FIXED.get(sampler, {}) | changes
    sweep = sweep_config(search, sampler=sampler, **changes)
    return SweepStudy(sweep, space_of(search), "max", storage)


def train(study: SweepStudy, index: int) -> dict[str, Any]:
    """Draw, and end as a trial may: in full, early or in failure."""
    drawn = study.draw(index)
    value = float(drawn.params[GATE] or 0)
    study.report(drawn, 1, value)
    state = {0: TrialState.COMPLETE, 1: TrialState.PRUNED, 2: TrialState.COMPLETE}.get(index % 4, TrialState.FAIL)
    study.tell(drawn, state, value)
    return drawn.params


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_draws_do_not_depend_on_restarts(sampler: str) -> None:
    """One driver draws all trials; in the other study every trial has a driver of its own."""
    study, storage = opened(InMemoryStorage(), sampler, num_trials=14), InMemoryStorage()
    once = [train(study, index) for index in range(14)]
    often = [train(opened(storage, sampler, num_trials=14), index) for index in range(14)]
    assert once == often
    new = {"top_k": 11}.get(sampler, 14)  # the rest is again the best of them
    assert len({tuple(params.values()) for params in once[:new]}) == new, "no draw is repeated"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_draws_depend_on_the_seed_and_not_on_trials_that_still_run(sampler: str) -> None:
    """Four slots draw before anything has ended; the base's own point comes first whatever the seed."""
    drawn = []
    for seed in (0, 1):
        study = opened(InMemoryStorage(), sampler, seed=seed)
        drawn.append([tuple(study.draw(index).params.values()) for index in range(4)])
    assert all(len(set(points)) == 4 for points in drawn)
    first = (4, 0.1, 2) if sampler == "grid" else (4, 0.1)
    assert drawn[0][0] == drawn[1][0] == first
    assert not set(drawn[0][1:]) & set(drawn[1][1:]) or sampler == "grid"
    assert drawn[0] != drawn[1]


def test_the_grid_is_drawn_whole() -> None:
    study = opened(InMemoryStorage(), "grid")
    drawn = {tuple(study.draw(index).params.values()) for index in range(NUM_TRIALS)}
    assert drawn == set(itertools.product((2, 4, 6, 8), (0.05, 0.1, 0.3), (1, 2)))


def test_a_range_of_more_numbers_than_fit_into_memory_is_listed_one_by_one() -> None:
    space = space_of({"transfer.start_step": {"int": [8, 10**9]}, DEPTH: {"choice": [1, 2]}})
    first = [tuple(point.values()) for point in itertools.islice(grid_points(space), 4)]
    assert first == [(8, 1), (8, 2), (9, 1), (9, 2)]


def test_a_grid_is_walked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[object] = []
    monkeypatch.setattr(registry, "grid_points", lambda space: walks.append(space) or grid_points(space))
    study = opened(InMemoryStorage(), "grid")
    for index in (0, 2, 1, 3):  # a draw may be asked for again
        study.draw(index)
    assert len(walks) == 1


def test_a_grid_holds_only_ranks_that_fit() -> None:
    space = space_of({"transfer.pairs": {"choice": [[CONV], [HEAD]]}, RANK: {"choice": [2, 64]}})
    conv, head = (labels["transfer.pairs"] for labels in space.combinations())
    limited = type(space)(space.base, space.entries, {(conv,): 64, (head,): 8})
    points = list(grid_points(limited))
    assert points == [
        {"transfer.pairs": conv, RANK: 2},
        {"transfer.pairs": conv, RANK: 64},
        {"transfer.pairs": head, f"{RANK} (up to 2)": 2},
    ]


def test_cmaes_moves_towards_what_was_good() -> None:
    study = opened(InMemoryStorage(), "cmaes", num_trials=48)
    gates = []
    for index in range(48):
        drawn = study.draw(index)
        gates.append(float(drawn.params[GATE] or 0))
        study.tell(drawn, TrialState.COMPLETE, gates[-1])
    generations = [trial.user_attrs[GENERATION] for trial in by_index(study.study)]
    assert generations == [index // 6 for index in range(48)], "4 + 3 ln 2 is a population of 6"
    assert sum(gates[-6:]) > 1.5 * sum(gates[:6])


def test_a_trial_that_is_tried_again_changes_no_generation_of_cmaes() -> None:
    """The one that failed stays where it was; what is tried again is of none."""
    studies = [opened(InMemoryStorage(), "cmaes", num_trials=24) for _ in range(2)]
    for study in studies:
        for index in range(12):
            drawn = study.draw(index)
            state = TrialState.FAIL if index == 4 else TrialState.COMPLETE
            study.tell(drawn, state, float(drawn.params[GATE] or 0))
    never, retried = studies
    retried.retry({4})
    assert [one.index for one in retried.known()] == list(range(12))
    assert retried.draw(12).params == never.draw(12).params
    last = by_index(retried.study)[-1]
    assert last.user_attrs[GENERATION] == 2


def test_gp_learns_from_trials_that_were_stopped_early() -> None:
    """The gate should be 0.3; only every fifth trial trains in full, which is too few for a model of them alone."""
    study = opened(InMemoryStorage(), "gp")
    for index in range(NUM_TRIALS):
        drawn = study.draw(index)
        value = 1 - math.log(float(drawn.params[GATE] or 0) / 0.3) ** 2
        study.report(drawn, 1, value / 2)
        whole = index % 5 == 0
        study.tell(drawn, TrialState.COMPLETE if whole else TrialState.PRUNED, value if whole else value / 2)
    gates = [trial.params[GATE] for trial in by_index(study.study)]
    assert sum(0.25 < gate < 0.36 for gate in gates[12:]) >= 8, gates


def test_gp_draws_no_more_where_trials_fail() -> None:
    """The metric grows with the gate until, above 0.4, training diverges."""
    study = opened(InMemoryStorage(), "gp")
    for index in range(NUM_TRIALS):
        drawn = study.draw(index)
        gate = float(drawn.params[GATE] or 0)
        study.tell(drawn, TrialState.FAIL if gate > 0.4 else TrialState.COMPLETE, gate)
    gates = [trial.params[GATE] for trial in by_index(study.study)]
    assert any(gate > 0.4 for gate in gates), "it has met the edge"
    assert sum(gate > 0.4 for gate in gates[12:]) <= 3, gates
    assert max(gate for gate in gates if gate <= 0.4) > 0.33


def test_gp_with_constraints_draws_on_after_trials_of_which_nothing_was_measured() -> None:
    study = opened(InMemoryStorage(), "gp", num_trials=9, constraints=LIMITS)
    for index in range(7):
        drawn = study.draw(index)
        study.report(drawn, 1, value := float(drawn.params[GATE] or 0))
        state = {1: TrialState.FAIL, 4: TrialState.PRUNED}.get(index, TrialState.COMPLETE)
        study.tell(drawn, state, value, {"adapter_parameters": None if index == 4 else 100.0 * index})
    assert [trial.state for trial in by_index(study.study)].count(TrialState.COMPLETE) == 5


def test_gp_models_what_only_some_trials_draw() -> None:
    space = {"method": {"choice": ["mergenet", "none"]}, GATE: RANGES[GATE] | {"when": {"method": "mergenet"}}}
    sweep = sweep_config(space, sampler="gp", num_trials=20)
    check_sampler(sweep, space_of(space))
    study = SweepStudy(sweep, space_of(space), "max", InMemoryStorage())
    for index in range(20):
        drawn = study.draw(index)
        gate = drawn.params.get(GATE)
        study.tell(drawn, TrialState.COMPLETE, 0.2 if gate is None else float(gate))
    methods = [trial.params["method"] for trial in by_index(study.study)]
    assert methods[10:].count("mergenet") >= 7


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "RandomSampler"),  # as the Gaussian process begins
        ({"minimize": ["adapter_parameters"]}, "TPESampler"),
        ({"constraints": LIMITS}, "TPESampler"),
    ],
)
def test_auto_is_gp_where_it_was_measured_and_tpe_elsewhere(changes: dict[str, Any], name: str) -> None:
    study = opened(InMemoryStorage(), "auto", **changes)
    assert type(auto(study.sweep, study.space, study.study, 0)).__name__ == name


def test_qmc_fills_the_range_evenly() -> None:
    search = {GATE: {"float": [0.2, 0.6]}}  # the base's 0.1 lies outside
    study = SweepStudy(sweep_config(search, sampler="qmc"), space_of(search), "max", InMemoryStorage())
    values = [float(study.draw(index).params[GATE] or 0) for index in range(16)]
    assert sorted(int((value - 0.2) / 0.4 * 16) for value in values) == list(range(16)), "one in each sixteenth"


def test_top_k_trains_the_best_of_the_first_epoch_again() -> None:
    study = opened(InMemoryStorage(), "top_k")
    drawn = []
    for index in range(21):
        assert study.may_draw(index)
        drawn.append(study.draw(index))
        study.report(drawn[-1], 1, float(drawn[-1].params[GATE] or 0))
    for one in drawn[:-1]:
        study.tell(one, TrialState.PRUNED)
    assert not study.may_draw(21), "a short trial still trains"
    study.tell(drawn[-1], TrialState.PRUNED)
    best = sorted((one.params for one in drawn), key=lambda params: -float(params[GATE] or 0))[:3]
    assert study.may_draw(21)
    again = []
    for index in range(21, 24):
        assert study.may_draw(index), "those in full do not wait for each other"
        again.append(study.draw(index).params)
    assert again == best


def test_draws_that_fill_top_k_up_are_new() -> None:
    """Of nine configurations six are drawn, and but one of these finishes its first epoch."""
    search = {RANK: {"int": [2, 4]}, GATE: {"choice": [0.1, 0.2, 0.3]}}
    sweep = sweep_config(search, sampler="top_k", scheduler="none", num_trials=10, top_k=4)
    study = SweepStudy(sweep, space_of(search), "max", InMemoryStorage())
    short = [study.draw(index) for index in range(6)]
    study.report(short[2], 1, 0.5)
    for one in short:
        study.tell(one, TrialState.PRUNED if one is short[2] else TrialState.FAIL)
    whole = [study.draw(index).params for index in range(6, 10)]
    assert whole[0] == short[2].params
    assert len({json.dumps(params) for params in [*(one.params for one in short), *whole[1:]]}) == 9


@pytest.mark.parametrize(("num_trials", "top_k"), [(20, 3), (12, 3), (14, 6), (17, 5)])
def test_a_longer_top_k_trains_no_configuration_in_full_again(num_trials: int, top_k: int) -> None:
    """A sweep of ten trials, of which three train in full, is resumed with more."""
    storage, full = InMemoryStorage(), list[dict[str, Any]]()
    for count, whole, first in ((10, 3, 0), (num_trials, top_k, 10)):
        study = opened(storage, "top_k", num_trials=count, top_k=whole)
        for index in range(first, count):
            assert study.may_draw(index)
            drawn = study.draw(index)
            study.report(drawn, 1, value := float(drawn.params[GATE] or 0))
            if index < study.sweep.num_short:
                study.tell(drawn, TrialState.PRUNED)
                continue
            study.report(drawn, 2, value)
            study.tell(drawn, TrialState.COMPLETE, value)
            full.append(drawn.params)
    gates = [trial.params[GATE] for trial in by_index(study.study)]
    assert [params[GATE] for params in full[:3]] == sorted(gates[:7], reverse=True)[:3]
    best = sorted({*gates} - {params[GATE] for params in full[:3]}, reverse=True)
    assert [params[GATE] for params in full[3:]] == best[: len(full) - 3], "the best of those that had not"


@pytest.mark.parametrize(
    ("search", "changes", "message"),
    [
        (
            CHOICES,
            {"sampler": "cmaes"},
            f"sampler cmaes must draw numbers from ranges only, got a choice at search.{GATE}",
        ),
        (CHOICES, {"sampler": "qmc"}, f"sampler qmc must draw numbers from ranges only, got a choice at search.{GATE}"),
        ({RANK: RANGES[RANK]}, {"sampler": "cmaes"}, "sampler cmaes must have at least two values to draw, got 1"),
        (
            RANGES,
            {"sampler": "grid"},
            f"sampler grid must have no range of numbers, got one at search.{GATE}; list them",
        ),
        (
            RANGES,
            {"sampler": "top_k"},
            "scheduler must be none with sampler top_k, which stops trials itself, got 'racing'",
        ),
        (
            RANGES,
            {"sampler": "top_k", "scheduler": "none", "num_trials": 3},
            "top_k must be less than num_trials (3), got 3",
        ),
    ],
)
def test_what_does_not_suit(search: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_sampler(sweep_config(search, **changes), space_of(search))
    assert str(caught.value).startswith(message)
    assert len(str(caught.value).splitlines()) == 1


def test_bounds_that_depend_on_a_choice() -> None:
    sampler = "nsga2"
    search = {"transfer.pairs": {"choice": [[CONV], [HEAD]]}, RANK: {"int": [2, 64]}}
    space = space_of(search)
    conv, head = (labels["transfer.pairs"] for labels in space.combinations())
    limited = type(space)(space.base, space.entries, {(conv,): 64, (head,): 8})
    sweep = sweep_config(search, sampler=sampler)
    check_sampler(sweep, space)
    check_sampler(sweep_config(search, sampler="tpe"), limited)
    with pytest.raises(
        ConfigError, match=rf"^sampler {sampler} must draw every value .* from the same bounds, got other"
    ):
        check_sampler(sweep, limited)
