"""Conditional branches: a value is drawn where its conditions hold, and every part of a sweep knows that."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from mergenet.config.yaml12 import load_yaml
from mergenet.errors import ConfigError
from sweeps.config.loading import dump_sweep, parse_sweep
from sweeps.execution.resources import check_batches
from sweeps.planning.cost import space_size
from sweeps.samplers.compatibility import check_sampler, possible_trials
from sweeps.samplers.fixed import grid_points
from sweeps.space.conditions import needs, size
from sweeps.space.layer_choices import with_layers, with_limits
from sweeps.space.possible_values import reachable
from sweeps.space.space import Labels, Space
from sweeps.trials.jobs import Jobs
from sweeps.trials.recorded_source import plan_source
from tests.sweeps.base import CONV, HEAD, base_config, space_of, sweep_config
from tests.sweeps.spaces import CYCLE, GATE, HORIZON, KIND, METHODS, POINTS, RANK, RULE, TRANSFER, WEIGHT
from tests.sweeps.studies import branching_study

WHEN = f"search.{CYCLE}.when"


@pytest.fixture(autouse=True)
def _quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def draws(space: Space, number: int) -> list[Labels]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space(study.ask()) for _ in range(number)]


def points(drawn: list[Labels]) -> set[frozenset[Any]]:
    return {frozenset(labels.items()) for labels in drawn}


def test_what_is_drawn_is_what_the_branch_has() -> None:
    found = draws(space_of(METHODS), 200)
    by_method = {labels["method"]: set[frozenset[str]]() for labels in found}
    for labels in found:
        by_method[labels["method"]].add(frozenset(labels) - {"method"})
    assert by_method == {
        "mergenet": {frozenset({CYCLE, KIND, RANK}), frozenset({CYCLE, KIND})},
        "none": {frozenset()},
        "kd": {frozenset({WEIGHT})},
    }
    assert all(labels[KIND] == "lpka" for labels in found if RANK in labels), "a chain: the rank needs both"


def test_the_bases_value_stands_where_nothing_is_drawn() -> None:
    space = space_of(METHODS)
    config = space.config({"method": "kd", WEIGHT: 0.5})
    assert (config.method, config.transfer.t_cycle, config.distillation.weight) == ("kd", 2, 0.5)
    assert space.config({"method": "none"}).distillation.weight is None
    job = Jobs(Path(), space, None).trial(3, {"method": "none"})
    assert job["params"] == {"method": "none"}


def test_conditions_come_first_wherever_they_stand_in_the_file() -> None:
    backwards = dict(reversed(METHODS.items()))
    space = space_of(backwards)
    assert space.order == ["method", KIND, WEIGHT, RANK, CYCLE]
    assert points(draws(space, 200)) == points(draws(space_of(METHODS), 200))


def test_an_entry_without_conditions_is_drawn_as_ever() -> None:
    search = {CYCLE: {"int": [2, 4]}, GATE: {"float": [0.1, 0.5]}, KIND: {"choice": ["lpka"]}}
    assert space_of(search).order == [KIND, CYCLE, GATE]


@pytest.mark.parametrize("log", [True, False])
def test_whole_numbers_decide_too(log: bool) -> None:
    ranks: dict[str, Any] = {"int": [2, 9], "log": log}
    space = space_of({RANK: ranks, GATE: {"choice": [0.1, 0.2, 0.3], "when": {RANK: [3, 5]}}})
    for labels in draws(space, 60):
        assert (GATE in labels) == (labels[RANK] in (3, 5))
    assert size(space.entries) == (6 + 2 * 3, 0)
    with pytest.raises(ConfigError, match="got a condition at search"):
        check_sampler(sweep_config({RANK: ranks}, sampler="nsga2"), space)


@st.composite
def searches(draw: st.DrawFn) -> dict[str, Any]:
    """Choices and whole numbers with random conditions on those before them, in random order."""
    values: dict[str, list[Any]] = {
        "method": ["mergenet", "none", "kd"],
        RULE: ["delta", "gradient"],
        CYCLE: [2, 3, 4],
        RANK: [2, 3],
        "target.augment": [False, True],
    }
    search: dict[str, Any] = {}
    for path, listed in values.items():
        entry: dict[str, Any] = {"choice": listed}
        if path in (CYCLE, RANK):
            entry = {"int": [listed[0], listed[-1]]}
        parents = draw(st.lists(st.sampled_from(list(search)), unique=True, max_size=2)) if search else []
        when = {p: draw(st.lists(st.sampled_from(values[p]), min_size=1, unique=True)) for p in parents}
        search[path] = entry | {"when": when}
    order = draw(st.permutations(list(search)))
    return {path: search[path] for path in order}


def write_refusal(search: dict[str, Any]) -> str:
    try:
        space_of(search)
    except ConfigError as error:
        return str(error)
    return ""


@settings(max_examples=25, deadline=None)
@given(searches())
def test_the_grid_is_what_can_be_drawn_and_no_point_is_there_twice(search: dict[str, Any]) -> None:
    text = write_refusal(search)
    if text:
        assert "must be possible" in text
        return
    space = space_of(search)
    grid = list(grid_points(space))
    configs = {space.config(labels).model_dump_json() for labels in grid}
    assert len(grid) == len(points(grid)) == len(configs) == size(space.entries)[0]
    assert points(draws(space, 40)) <= points(grid)
    for labels in grid:
        assert space.locate(space.config(labels)) == labels


def test_the_size_of_a_space_with_branches() -> None:
    assert space_size(space_of(METHODS)) == {"combinations": POINTS, "continuous": 0, "conditional": 4}
    ranges = METHODS | {GATE: {"float": [0.1, 0.2], "when": TRANSFER}, WEIGHT: {"float": [0.1, 1], "when": TRANSFER}}
    ranges |= {"distillation.ce_weight": {"float": [0.1, 1], "when": {"method": "kd"}}}
    del ranges[WEIGHT]
    assert space_size(space_of(ranges)) == {"combinations": 3 * 3 + 1 + 1, "continuous": 1, "conditional": 5}


def test_the_grid_is_drawn_whole_and_the_first_trials_come_first() -> None:
    study = branching_study(METHODS, "grid", num_trials=POINTS)
    assert possible_trials(sweep_config(METHODS, sampler="grid", num_trials=POINTS + 1), study.space) == POINTS
    drawn = [study.draw(index).params for index in range(POINTS)]
    assert len(points(drawn)) == POINTS
    assert drawn[:2] == [{"method": "mergenet", KIND: "lpka", CYCLE: 2, RANK: 4}, {"method": "none"}]


def test_the_first_trials_are_the_defaults_and_no_transfer() -> None:
    space = space_of(METHODS)
    assert space.first_points() == [{"method": "mergenet", KIND: "lpka", CYCLE: 2, RANK: 4}, {"method": "none"}]
    beside = {"method": {"choice": ["none", "mergenet"]}, CYCLE: {"choice": [2, 4]}}
    assert space_of(beside).first_points()[1] == {"method": "none", CYCLE: 2}
    outside = METHODS | {CYCLE: {"choice": [4, 8], "when": TRANSFER}}  # the base has 2
    assert space_of(outside).first_points() == [{"method": "none"}]
    assert len(space_of({CYCLE: {"choice": [2, 4]}}).first_points()) == 1


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_samplers_that_draw_value_by_value(sampler: str) -> None:
    ranges = {GATE: {"float": [0.1, 0.2], "when": TRANSFER}, WEIGHT: {"float": [0.5, 1.0], "when": {"method": "kd"}}}
    search = METHODS | ranges  # so that there is always more of both
    study = branching_study(search, sampler, num_trials=60, seed=1)
    values = {"mergenet": 0.2, "none": 0.1, "kd": 0.9}
    drawn = [study.draw(index) for index in range(2)]
    for index in range(2, 60):
        drawn.append(study.draw(index))
        study.tell(drawn[-1], TrialState.COMPLETE, values[str(drawn[-1].params["method"])])
    late = [one.params["method"] for one in drawn[30:]]
    assert (late.count("kd") > 15) == (sampler == "tpe"), late
    again = branching_study(search, sampler, num_trials=60, seed=1)
    assert [again.draw(index).params for index in range(2)] == [one.params for one in drawn[:2]]


def test_top_k_draws_a_branch_again() -> None:
    study = branching_study(METHODS, "top_k", num_trials=12, top_k=2, scheduler="none")
    for index in range(10):
        drawn = study.draw(index)
        study.report(drawn, 1, 0.9 if drawn.params["method"] == "kd" else 0.1)
        study.tell(drawn, TrialState.PRUNED)
    assert [study.draw(index).params["method"] for index in (10, 11)] == ["kd", "kd"]


def test_no_transfer_takes_no_place_of_the_best_of_top_k() -> None:
    study = branching_study(METHODS, "top_k", num_trials=3, top_k=2, scheduler="none")
    study.tell(study.draw(0), TrialState.FAIL)
    assert [trial.system_attrs.get("fixed_params") for trial in study.study.trials] == [study.space.first_point()]


def test_a_sampler_that_needs_every_value_refuses() -> None:
    sampler = "nsga2"
    message = rf"^sampler {sampler} must draw every value in every trial, got a condition at search\.{RANK}\.when"
    with pytest.raises(ConfigError, match=message):
        check_sampler(sweep_config(METHODS, sampler=sampler), space_of(METHODS))
    always = {
        "method": {"choice": ["mergenet", "none"]},
        CYCLE: {"choice": [2], "when": {"method": ["none", "mergenet"]}},
    }
    check_sampler(sweep_config(always, sampler=sampler), space_of(always))


@pytest.mark.parametrize("sampler", ["cmaes", "qmc"])
def test_samplers_of_a_cube_refuse(sampler: str) -> None:
    search = {RANK: {"int": [2, 8]}, CYCLE: {"int": [2, 4]}, GATE: {"float": [0.1, 0.5], "when": {RANK: 4}}}
    with pytest.raises(ConfigError, match=rf"^sampler {sampler} must draw every .* condition at search\.{GATE}\.when"):
        check_sampler(sweep_config(search, sampler=sampler), space_of(search))


def test_ranks_are_limited_by_the_layers_of_their_branch() -> None:
    """Layers that a branch without transfer leaves at the base's do not limit it."""
    narrow = {"source": "conv1", "target": "features.0.0", "align": "none"}  # rank 3 at most
    search = {
        "method": {"choice": ["mergenet", "none"]},
        "transfer.pairs": {"choice": [[CONV], [HEAD], [narrow]], "when": TRANSFER},
        RANK: {"choice": [2, 16], "when": TRANSFER},
    }
    space = with_limits(with_layers(space_of(search)))
    conv, head, thin = space.options("transfer.pairs")
    assert space.limits.keys() == {(conv,), (head,), (thin,)}
    assert space.limits[(thin,)] == 3
    names = {frozenset(point) for point in grid_points(space)}
    assert frozenset({"method", "transfer.pairs", f"{RANK} (up to 2)"}) in names
    assert size(space.entries)[0] == 1 + 3 * 2
    with pytest.raises(ConfigError, match=rf"^search\.{RANK} must allow a rank of at most 3 \(with method=mergenet, "):
        with_limits(space_of(search | {RANK: {"choice": [4, 16], "when": TRANSFER}}))


def test_the_bases_rank_must_fit_where_none_is_drawn() -> None:
    narrow = {"source": "conv1", "target": "features.0.0", "align": "none"}
    search = {
        RULE: {"choice": ["delta", "gradient"]},
        "transfer.pairs": {"choice": [[CONV], [narrow]]},
        RANK: {"choice": [2, 3], "when": {RULE: "delta"}},
    }
    with pytest.raises(ConfigError, match=rf"^{RANK} must allow a rank of at most 3 \(with .*conv1.*gradient"):
        with_limits(space_of(search))


def test_a_branch_without_transfer_may_have_networks_without_the_pairs() -> None:
    """Its ranks, if they are drawn, are not limited either: no layer uses them."""
    search: dict[str, Any] = {
        "method": {"choice": ["mergenet", "none"]},
        "target.model.name": {"choice": ["resnet_small"], "when": {"method": "none"}},
        RANK: {"int": [2, 500]},
    }
    space = with_limits(space_of(search))
    assert {labels["method"] for labels in draws(space, 30)} == {"mergenet", "none"}
    assert max(int(labels[RANK] or 0) for labels in draws(space, 30) if labels["method"] == "none") > 100
    assert max(int(labels[RANK] or 0) for labels in draws(space, 30) if labels["method"] == "mergenet") <= 64
    search["target.model.name"]["choice"] = ["resnet_smal"]
    with pytest.raises(ConfigError, match=r"^target\.model\.name must be one of "):
        with_limits(space_of(search))


def test_patterns_keep_their_conditions() -> None:
    pairs = {"layers": {"source": "layer3.0.conv?", "target": "features.5.conv.2"}, "when": TRANSFER}
    search = {"method": {"choice": ["none", "mergenet"]}, "transfer.pairs": pairs}
    space = with_limits(with_layers(space_of(search)))
    assert len(space.options("transfer.pairs")) == 2
    assert size(space.entries)[0] == 1 + 2
    assert plan_source(space).layers == ("layer3.0.conv1", "layer3.0.conv2")


def test_a_source_is_recorded_for_what_the_trials_with_transfer_draw() -> None:
    """Not at the base's interval, which only trials without transfer have."""
    search = {"method": {"choice": ["none", "mergenet"]}, CYCLE: {"choice": [4, 8], "when": TRANSFER}}
    space = space_of(search, transfer={"t_cycle": 3, "pairs": [CONV | {"every": 24}], "adapter": {"rank": 4}})
    assert list(reachable(space, CYCLE)) == [3, 4, 8]
    assert list(reachable(space, CYCLE, transferring=True)) == [4, 8]
    assert plan_source(space).every == 4


def test_cycles_are_compared_within_a_branch() -> None:
    search: dict[str, Any] = {
        RULE: {"choice": ["delta", "gradient"]},
        CYCLE: {"choice": [4, 6], "when": {RULE: "gradient"}},
        "transfer.pairs.0.every": {"choice": [2], "when": {RULE: "delta"}},
    }
    assert space_of(search)
    search["transfer.pairs.0.every"]["when"] = {RULE: "gradient"}
    with pytest.raises(ConfigError, match="every must be a multiple"):
        space_of(search)


def test_batches_of_all_branches_are_shared_evenly() -> None:
    search = {RULE: {"choice": ["delta", "gradient"]}, "target.batch_size": {"choice": [4], "when": {RULE: "delta"}}}
    space = space_of(search)
    assert list(reachable(space, "target.batch_size")) == [4, base_config().target.batch_size]
    with pytest.raises(ConfigError, match=r"target\.batch_size must be divisible"):
        check_batches(sweep_config(search, workers_per_trial=3), space)


def test_a_condition_makes_a_combination_valid() -> None:
    search: dict[str, Any] = {RULE: {"choice": ["delta", "gradient"]}, HORIZON: {"choice": ["step", "cycle"]}}
    with pytest.raises(ConfigError, match="valid combinations"):
        space_of(search)
    search[HORIZON]["when"] = {RULE: "delta"}
    assert size(space_of(search).entries)[0] == 3


def test_a_value_may_need_what_its_branch_draws() -> None:
    """rkd takes no temperature: the base's would not do, and the branch draws null."""
    search: dict[str, Any] = {
        "method": {"choice": ["kd", "rkd"]},
        "distillation.temperature": {"choice": [None], "when": {"method": "rkd"}},
    }
    space = space_of(search, method="kd", distillation={"temperature": 2.0})
    assert {space.config(labels).distillation.temperature for labels in draws(space, 20)} == {2.0, None}
    assert space.first_point() == {"method": "kd"}
    del search["distillation.temperature"]
    with pytest.raises(ConfigError, match=r"^search\.method: distillation\.temperature must be null"):
        space_of(search, method="kd", distillation={"temperature": 2.0})


def test_a_bad_value_of_a_branch_is_named() -> None:
    search = METHODS | {WEIGHT: {"float": [-1, 2], "when": {"method": "kd"}}}
    with pytest.raises(ConfigError, match=r"^search\.distillation\.weight must be >= 0"):
        space_of(search)


def test_a_condition_needs_something_else_that_is_searched() -> None:
    with pytest.raises(ConfigError, match=rf"^{WHEN} must name another searched path, got 'method', which is not sea"):
        sweep_config({CYCLE: {"choice": [4, 8], "when": {"method": "mergenet"}}})


def test_needs_go_up_the_chain() -> None:
    entries = sweep_config(METHODS).search
    assert needs(entries, RANK) == {"method": ["mergenet"], KIND: ["lpka"]}
    assert needs(entries, "method") == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({CYCLE: {"metod": "none"}}, f"{WHEN} must be one of method, {KIND}, {RANK}, got 'metod'; did you mean"),
        ({CYCLE: {"kind": "lpka"}}, f"{WHEN} must be one of method, {KIND}, {RANK}, got 'kind'; did you mean {KIND}?"),
        ({CYCLE: {"method": "kid"}}, f"{WHEN}.method must be one of kd, mergenet, none, got 'kid'; did you mean kd"),
        ({CYCLE: {"method": 3}}, f"search.{CYCLE}.when.method must be one of mergenet, none, kd, got 3"),
        ({CYCLE: {RANK: 5}}, f"search.{CYCLE}.when.{RANK} must be one of 2, 4, 6, got 5"),
        (
            {CYCLE: {GATE: 0.2}},
            f"{WHEN} must name paths with a choice of plain values or an int, got '{GATE}'; that one is a range",
        ),
        ({CYCLE: {"transfer.pairs": "auto"}}, "that one is a choice of lists or mappings"),
        ({CYCLE: {"target.augment": 1}}, f"{WHEN}.target.augment must be one of False, True, got 1"),
        ({CYCLE: {"method": []}}, f"{WHEN}.method must be a plain value or a list of them, got []"),
        ({CYCLE: "method"}, f"{WHEN} must be a mapping of searched paths to values, got 'method'; for example"),
        ({CYCLE: {CYCLE: 4}}, f"{WHEN} must not lead back to {CYCLE}, got {CYCLE} -> {CYCLE}; drop one"),
        (
            {KIND: {CYCLE: 4}, CYCLE: {"method": "kd"}, "method": {KIND: "lpka"}},
            f"search.method.when must not lead back to method, got method -> {KIND} -> {CYCLE} -> method",
        ),
        (
            {KIND: {"method": "kd"}, CYCLE: {KIND: "lpka", "method": "none"}},
            f"{WHEN} must be possible, but {KIND} needs method to be kd and {CYCLE} needs method to be none; drop one",
        ),
    ],
)  # fmt: skip
def test_bad_conditions_are_refused_when_the_file_is_loaded(changes: dict[str, Any], message: str) -> None:
    search: dict[str, Any] = {
        "method": {"choice": ["mergenet", "none", "kd"]},
        CYCLE: {"choice": [2, 4]},
        KIND: {"choice": ["lpka", "full_matrix"]},
        RANK: {"int": [2, 6], "step": 2},
    }
    more = {
        GATE: {"float": [0.1, 0.5]},
        "transfer.pairs": {"choice": [[CONV]]},
        "target.augment": {"choice": [False, True]},
    }
    search |= {path: entry for path, entry in more.items() if any(path in when for when in changes.values())}
    for path, when in changes.items():
        search[path]["when"] = when
    with pytest.raises(ConfigError) as caught:
        parse_sweep({"name": "s", "base": "digits", "search": search}, "s.yaml")
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).endswith("(in s.yaml)")


def test_layers_cannot_wait_for_the_rank() -> None:
    search = {RANK: {"choice": [2, 4]}, "transfer.pairs": {"choice": [[CONV], [HEAD]], "when": {RANK: 2}}}
    with pytest.raises(
        ConfigError, match=rf"^search\.transfer\.pairs\.when must not depend on {RANK}, which the layers"
    ):
        space_of(search)


def test_conditions_read_back() -> None:
    sweep = sweep_config(METHODS)
    assert sweep.search[WEIGHT].when == {"method": ("kd",)}
    assert "when: {}" not in dump_sweep(sweep)
    assert parse_sweep(load_yaml(dump_sweep(sweep), "dump"), "dump") == sweep
