"""Draws of the Gaussian process: valid whatever the conditions, new, and the same from the same study."""

import random
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from sweeps.samplers.coordinates import Coordinates, from_unit, unit
from sweeps.samplers.gp import MODELLED, Mutant, gp_point, some_of
from sweeps.samplers.gp_targets import Target
from sweeps.samplers.history import by_index
from sweeps.space.space import Labels, Space
from sweeps.study.study import SweepStudy
from tests.sweeps.base import CONV, HEAD, space_of, sweep_config
from tests.sweeps.spaces import GATE, RANK

PAIRS = [f"{CONV}>{HEAD}", f"{HEAD}>{CONV}", f"{HEAD}>{HEAD}"]
SEARCH: dict[str, Any] = {
    "method": {"choice": ["mergenet", "none"]},
    GATE: {"float": [0.05, 0.5], "log": True, "when": {"method": "mergenet"}},
    "transfer.t_cycle": {"int": [2, 20], "when": {"method": "mergenet"}},
    RANK: {"choice": [2, 4, 8], "when": {"method": "mergenet"}},
}


def test_numbers_lie_between_0_and_1_and_labels_at_distance_1() -> None:
    space = space_of(SEARCH)
    coordinates = Coordinates(space)
    whole = {"method": "mergenet", GATE: 0.05, "transfer.t_cycle": 20, RANK: 4}
    rows = coordinates.rows([whole, whole | {"method": "none"}, {"method": "none"}])
    assert coordinates.groups.tolist() == [0, 0, 1, 2, 3]
    assert rows[0, 2:].tolist() == [0.0, 1.0, 0.5]
    assert ((rows[0] - rows[1]) ** 2).sum() == pytest.approx(1.0)
    assert rows[2, 2:].tolist() == [0.5, 0.5, 0.5], "what a draw does not have lies in the middle"


def test_layer_pairs_that_share_a_layer_are_nearer_than_others() -> None:
    space = Space({}, sweep_config({"transfer.pairs": {"choice": ["a>x", "a>y", "b>y"]}}).search)
    a, b, c = Coordinates(space).rows([{"transfer.pairs": label} for label in ("a>x", "a>y", "b>y")])
    assert ((a - b) ** 2).sum() == pytest.approx(0.5)
    assert ((a - c) ** 2).sum() == pytest.approx(1.0)


@pytest.mark.parametrize(("low", "high", "log"), [(0.1, 10.0, True), (-3.0, 5.0, False), (2.0, 2.0, False)])
def test_unit_coordinates_lead_back(low: float, high: float, log: bool) -> None:
    for x in (0.0, 0.3, 1.0):
        value = from_unit(x, low, high, log)
        assert low <= value <= high
        assert high == low or unit(value, low, high, log) == pytest.approx(x)


def test_mutants_are_draws_of_the_space_whatever_their_parent() -> None:
    space, generator = space_of(SEARCH), random.Random(0)
    parent: Labels | None = None
    kinds = set()
    for _ in range(300):
        labels = space(mutant := Mutant(generator, parent, width=0.3))
        assert space.can_draw(labels)
        assert space.named(labels) == mutant.point
        parent = mutant.point
        kinds.add(labels["method"])
    assert kinds == {"mergenet", "none"}, "a mutant may lie on the other branch"


def test_a_narrow_mutant_stays_near_its_parent() -> None:
    space, generator = space_of(SEARCH), random.Random(0)
    parent = {"method": "mergenet", GATE: 0.2, "transfer.t_cycle": 10, RANK: 4}
    mutants = [space(Mutant(generator, parent, width=0.01)) for _ in range(50)]
    gates = [float(labels[GATE] or 0) for labels in mutants if labels["method"] == "mergenet"]
    assert len(gates) > 45, "labels change as seldom"
    assert all(0.17 < gate < 0.24 for gate in gates)
    assert 10 < sum(gate == 0.2 for gate in gates) < 40


def studied(search: dict[str, Any], value: Any, count: int = 20, **changes: Any) -> SweepStudy:
    sweep = sweep_config(search, sampler="gp", num_trials=count, **changes)
    study = SweepStudy(sweep, space_of(search), "max", InMemoryStorage())
    for index in range(count):
        drawn = study.draw(index)
        study.tell(drawn, TrialState.COMPLETE, value(drawn.params))
    return study


def test_it_finds_the_best_branch_and_the_best_place_in_it() -> None:
    def value(params: Labels) -> float:
        gate = params.get(GATE)
        return 0.2 if gate is None else 1 - abs(np.log(float(gate) / 0.1)) - 0.02 * abs(float(params[RANK] or 0) - 4)

    last = [trial.params for trial in by_index(studied(SEARCH, value).study)][10:]
    assert sum(params["method"] == "mergenet" for params in last) >= 8
    assert sum(0.07 < params.get(GATE, 0) < 0.14 for params in last) >= 6, last


@pytest.mark.parametrize("harm", [0.0, 1e3, 1e9])
def test_a_loss_out_of_all_bounds_does_not_hide_the_others(harm: float) -> None:
    def loss(params: Labels) -> float:
        gate = float(params[GATE] or 0)
        return abs(np.log(gate / 0.1)) + (harm if gate > 0.4 else 0.0)

    search = {GATE: {"float": [0.01, 0.5], "log": True}, RANK: {"choice": [2, 4, 8]}}
    sweep = sweep_config(search, sampler="gp", num_trials=20, metric="target_val_loss")
    study = SweepStudy(sweep, space_of(search), "min", InMemoryStorage())
    for index in range(20):
        drawn = study.draw(index)
        study.tell(drawn, TrialState.COMPLETE, loss(drawn.params))
    last = [trial.params[GATE] for trial in by_index(study.study)][12:]
    assert sum(0.08 < gate < 0.125 for gate in last) >= 4, last


def test_constraints_are_learnt_from() -> None:
    """The best gate of all breaks the constraint; with several objectives or constraints the process is Optuna's."""
    search = {GATE: {"float": [0.001, 1.0]}}
    sweep = sweep_config(search, sampler="gp", num_trials=24, constraints={"adapter_parameters": {"max": 500}})
    study = SweepStudy(sweep, space_of(search), "max", InMemoryStorage())
    for index in range(20):
        drawn = study.draw(index)
        gate = float(drawn.params[GATE] or 0)
        study.tell(drawn, TrialState.COMPLETE, gate, {"adapter_parameters": 1000 * gate})
    last = [trial.params[GATE] for trial in by_index(study.study)][14:]
    assert sum(0.4 < gate < 0.51 for gate in last) >= 4, last


@pytest.mark.parametrize("mode", ["max", "min"])
def test_values_of_any_size_are_drawn_from(mode: str) -> None:
    sweep = sweep_config({GATE: {"float": [0.001, 1.0]}}, sampler="gp", num_trials=24)
    study = SweepStudy(sweep, space_of({GATE: {"float": [0.001, 1.0]}}), mode, InMemoryStorage())
    for index in range(16):
        drawn = study.draw(index)
        for epoch in (1, 2, 3):
            study.report(drawn, epoch, (1.0, 1e308, -1e308)[(index + epoch) % 3])
        if index % 4:
            study.tell(drawn, (TrialState.COMPLETE, TrialState.PRUNED)[index % 2], (1.0, 1e308, -1e308)[index % 3])


def test_in_a_small_space_it_draws_every_point_once() -> None:
    search = {"target.batch_size": {"choice": [4, 8, 16, 32]}, "transfer.t_cycle": {"choice": [2, 4, 8]}}
    study = studied(search, lambda params: float(params["transfer.t_cycle"]), count=12)
    assert len({tuple(trial.params.values()) for trial in by_index(study.study)}) == 12


def test_before_three_trials_have_a_value_it_does_not_tell() -> None:
    study = studied(SEARCH, lambda _: 0.5, count=2)
    assert gp_point(study.space, study.study, 0) is None


def test_trials_without_a_report_are_not_drawn_again() -> None:
    """Eight slots ask in turn while nothing ends: each gets a training of its own, though all would like the best."""
    study = studied({"transfer.t_cycle": {"int": [2, 60]}}, lambda params: -abs(float(params["transfer.t_cycle"]) - 30))
    drawn = [study.draw(20 + i).params["transfer.t_cycle"] for i in range(8)]
    assert len(set(drawn)) == 8
    assert sum(15 <= float(cycle or 0) <= 45 for cycle in drawn) >= 6, drawn


@pytest.mark.parametrize("direction", [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE])
def test_of_many_trials_the_better_ones_and_a_sample_are_learnt_from(direction: StudyDirection) -> None:
    trial = optuna.trial.create_trial(value=0.0)
    known = [Target(trial, float(i)) for i in range(3 * MODELLED)]
    some = [float(one.value or 0) for one in some_of(known, direction, random.Random(0))]
    assert len(some) == MODELLED
    assert some == sorted(some), "in the same order"
    best = (
        range(MODELLED // 2)
        if direction == StudyDirection.MINIMIZE
        else range(3 * MODELLED - MODELLED // 2, 3 * MODELLED)
    )
    assert set(best) <= set(some)
    assert some_of(known[:MODELLED], direction, random.Random(0)) == known[:MODELLED]
