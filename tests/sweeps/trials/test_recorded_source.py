"""When the source is recorded once for all trials, and what of it."""

from typing import Any

import pytest

from analysis.names import portable_config
from mergenet.config.loading import parse_config
from sweeps.trials.recorded_source import pin_source, plan_source, replay
from tests.sweeps.base import CONV, HEAD, base_config, space_of

CYCLES = {"transfer.t_cycle": {"choice": [4, 6, 8]}}


def test_union_of_layers_and_gcd_of_cycles() -> None:
    pairs = {"transfer.pairs": {"choice": [[CONV], [HEAD], [CONV, HEAD | {"every": 24}]]}}
    plan = plan_source(space_of(CYCLES | pairs))
    assert plan.record
    assert set(plan.layers) == {"layer3.0.conv2", "fc"}
    assert plan.every == 2


def test_fixed_cycle_and_pairs() -> None:
    plan = plan_source(space_of({"transfer.adapter.rank": {"int": [1, 8]}}))
    assert (plan.layers, plan.every) == (("layer3.0.conv2",), 2)


@pytest.mark.parametrize(
    ("search", "changes", "reason"),
    [
        ({"source.optimizer.lr": {"float": [0.01, 0.1]}}, {}, "source.optimizer.lr is searched"),
        ({"target.batch_size": {"choice": [32, 64]}}, {}, "target.batch_size is searched"),
        ({"target.data.train_fraction": {"choice": [0.1, 0.2]}}, {}, "target.data.train_fraction is searched"),
        ({"transfer.adapter.encoding": {"choice": ["projected", "factorized"]}}, {}, "factorized encoding"),
        ({"transfer.pairs.0.direction": {"choice": ["to_target", "both"]}}, {}, "also gives to the source"),
        ({"transfer.pairs": {"choice": [[CONV], [HEAD | {"direction": "to_source"}]]}}, {}, "also gives to the source"),
        ({"method": {"choice": ["none", "kd", "mergenet"]}}, {}, "because method kd learns from its outputs"),
        ({"distillation.weight": {"float": [0, 1]}}, {"method": "rkd"}, "because method rkd learns from its outputs"),
        (CYCLES, {"source": {"kind": "self"}}, "does not train (source.kind: self)"),
        (CYCLES, {"source": {"kind": "frozen"}}, "does not train (source.kind: frozen)"),
        (CYCLES, {"source": {"kind": "recorded", "recording": "there"}}, "is recorded already"),
    ],
)  # fmt: skip
def test_spaces_that_cannot_replay(search: dict[str, Any], changes: dict[str, Any], reason: str) -> None:
    plan = plan_source(space_of(search, **changes))
    assert not plan.record
    assert reason in plan.reason


def test_weights_that_are_shown_for_longer_are_recorded_less_often() -> None:
    source = base_config().model_dump(mode="json")["source"]
    assert plan_source(space_of(CYCLES, source=source | {"record_every": 16})).every == 16


def test_a_search_without_distillation_still_replays() -> None:
    assert plan_source(space_of({"method": {"choice": ["none", "mergenet"]}})).record


def test_replay_and_back() -> None:
    values = base_config().model_dump(mode="json")
    recorded = replay(values, "/somewhere")
    assert parse_config(recorded, "test").source.kind == "recorded"
    assert portable_config(recorded) == values
    for method in ("none", "kd"):
        assert replay(values | {"method": method}, "/somewhere")["source"]["kind"] == "live"
    assert replay(values, None) == values


def test_the_sources_seed_stays_when_the_runs_seed_changes() -> None:
    values = base_config(seed=7).model_dump(mode="json")
    assert pin_source(values)["source"]["seed"] == 7
    assert pin_source(pin_source(values) | {"seed": 8})["source"]["seed"] == 7
