import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from analysis.importance.ablation_path import ablation_path, differing, endpoints
from analysis.importance.search import Search, load_search
from analysis.importance.space import Parameter
from analysis.importance.surrogate import Surrogate, codes, fit_surrogate, marginal_curves
from tests.analysis.importance.sweeps import BASE, GATE, METHOD, RANK, SEARCH, WEIGHT, drawn, write_sweep


@pytest.fixture(scope="module")
def surrogate(tmp_path_factory: pytest.TempPathFactory) -> Surrogate:
    """60 trials of a value to which the gate gives up to 0.1, the rank up to 0.03: the base has none of either."""

    def value(params: dict[str, float]) -> float:
        return 0.5 + 0.1 * math.log(params[GATE] / 0.02) / math.log(25) + 0.03 * (params[RANK] - 2) / 14

    folder = write_sweep(tmp_path_factory.mktemp("path") / "sweep", drawn(60), value)
    return fit_surrogate(load_search(folder), resamples=20)


def test_steps_are_taken_in_the_order_of_what_they_are_worth(surrogate: Surrogate) -> None:
    path = ablation_path(surrogate)
    best = surrogate.search.best
    assert path["parameter"].to_list() == ["", GATE, RANK]
    assert path["before"].to_list() == [None, 0.02, 2]
    assert path["after"].to_list() == [None, best[GATE], best[RANK]]
    assert path["worth"].iloc[1] > 2 * path["worth"].iloc[2] > 0
    assert path["predicted"].iloc[0] + path["worth"].sum() == pytest.approx(path["predicted"].iloc[-1])
    assert path["low"].iloc[1] < path["worth"].iloc[1] < path["high"].iloc[1]
    assert path["low"].iloc[1] > 0.05, "over resampled trials too"
    assert path.attrs == {"best": best["trial"], "value": best["value"], "held": []}
    assert surrogate.r2 > 0.8


def test_of_a_loss_the_worth_is_what_it_falls_by_with_its_sign(surrogate: Surrogate) -> None:
    search = surrogate.search
    trials = search.trials.assign(value=1 - search.trials["value"])
    loss = dataclasses.replace(search, metric="target_val_loss", trials=trials)
    path = ablation_path(fit_surrogate(loss, resamples=2))
    assert path["parameter"].to_list() == ["", GATE, RANK]
    assert (path["worth"].iloc[1:] < 0).all()


def test_where_the_best_has_the_bases_values_there_is_no_step(surrogate: Surrogate) -> None:
    best = surrogate.search.best
    base = {"transfer": {"adapter": {"gate": best[GATE], "rank": best[RANK]}}}
    same = dataclasses.replace(surrogate.search, base=base)
    assert len(ablation_path(dataclasses.replace(surrogate, search=same))) == 1


def test_a_base_value_that_is_not_searched_is_held_at_the_bests(surrogate: Surrogate) -> None:
    foreign = dataclasses.replace(surrogate.search, base={"transfer": {"adapter": {"gate": "auto", "rank": 2}}})
    path = ablation_path(dataclasses.replace(surrogate, search=foreign))
    assert path["parameter"].to_list() == ["", RANK]
    assert path.attrs["held"] == [GATE]


def test_a_conditional_parameter_is_changed_after_what_it_depends_on(tmp_path: Path) -> None:
    search = {METHOD: {"choice": ["mergenet", "kd"]}, WEIGHT: {"float": [0.1, 2.0], "when": {METHOD: ["kd"]}}}
    rng = np.random.default_rng(0)
    points = [{METHOD: "mergenet"}] * 12 + [{METHOD: "kd", WEIGHT: float(w)} for w in rng.uniform(0.1, 2.0, 12)]
    base = BASE | {"distillation": {"weight": 0.1}}
    folder = write_sweep(tmp_path / "s", points, lambda p: 0.5 + 0.1 * p.get(WEIGHT, 0.0), search=search, base=base)
    known = load_search(folder)
    start, best, held = endpoints(known)
    assert start == {METHOD: "mergenet", WEIGHT: 0.1} and held == []
    assert differing(known, start, best) == [METHOD], "the weight means nothing before"
    path = ablation_path(fit_surrogate(known, resamples=2))
    assert path["parameter"].to_list() == ["", METHOD, WEIGHT]
    assert path["worth"].iloc[2] > 0.1


def test_a_forest_that_learned_nothing_says_so(tmp_path: Path) -> None:
    noise = iter(np.random.default_rng(3).normal(0.5, 0.01, 30))
    search = load_search(write_sweep(tmp_path / "s", drawn(30), lambda _: float(next(noise))))
    assert fit_surrogate(search, resamples=1).r2 < 0.2


@pytest.mark.parametrize("unit", [1e-9, 1e12])
def test_the_unit_of_a_loss_does_not_matter(folder: Path, unit: float) -> None:
    search = load_search(folder)
    other = dataclasses.replace(search, trials=search.trials.assign(value=unit * search.trials["value"]))
    one, two = (fit_surrogate(s, resamples=2) for s in (search, other))
    points = codes(search, search.used)
    assert two.r2 == pytest.approx(one.r2) and one.r2 > 0.5
    assert two.predictions(points) == pytest.approx(unit * one.predictions(points))


def test_marginal_curves_follow_the_truth(surrogate: Surrogate) -> None:
    curves = marginal_curves(surrogate).set_index("parameter")
    gate, rank = curves.loc[GATE], curves.loc[RANK]
    assert len(gate) == 20 and rank["value"].to_list() == list(range(2, 17))
    assert gate["mean"].iloc[-1] - gate["mean"].iloc[0] == pytest.approx(0.1, abs=0.03)
    assert rank["mean"].iloc[-1] - rank["mean"].iloc[0] == pytest.approx(0.03, abs=0.015)
    assert (gate["low"] <= gate["high"]).all() and set(gate["n"]) == {60}


def test_a_search_is_of_its_parameters(search: Search) -> None:
    assert search.parameters == {
        GATE: Parameter(GATE, (), 0.02, 0.5, log=True),
        RANK: Parameter(RANK, (), 2, 16, whole=True),
    }
    assert list(SEARCH) == search.varied
