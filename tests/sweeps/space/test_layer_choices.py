"""Pairs of a sweep: patterns, `auto` and `layers` are written out when it is planned; ranks follow the layers."""

from pathlib import Path
from typing import Any

import optuna
import pytest

from mergenet.config.loading import dump_yaml, load_config, parse_config
from mergenet.errors import ConfigError
from mergenet.layers.candidates import architecture, real_architecture
from mergenet.records.provenance import config_hash
from mergenet.training.trainer import Trainer
from sweeps.config import SweepConfig
from sweeps.config.base import load_base
from sweeps.config.loading import dump_sweep, load_sweep
from sweeps.planning.checks import plan_sweep
from sweeps.space.layer_choices import lowest_rank, rank_limit, with_layers, with_limits
from sweeps.space.space import Space
from sweeps.trials.jobs import Jobs
from tests.sweeps.base import CONV, base_config, base_values, space_of, sweep_config, write_base

STAGES = {"source": "layer*.conv2", "target": "*.conv.2"}
EXPANDED = "layer1.0.conv2>features.1.conv.2 + layer2.0.conv2>features.3.conv.2 + layer3.0.conv2>features.5.conv.2"
DEEP = {"source": "layer3.*", "target": "features.5.conv.?*"}  # three layers and two
RANKS = {"transfer.adapter.rank": {"int": [2, 40]}}
CYCLES = {"transfer.t_cycle": {"choice": [2, 4]}}


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(write_base(tmp_path))


def drawn(pair: dict[str, Any]) -> dict[str, Any]:
    return {"transfer.pairs": {"layers": pair}}


def labels(space: Space) -> list[Any]:
    return list(space.options("transfer.pairs"))


def refused(sweep: SweepConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        plan_sweep(sweep)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_layers_stand_for_each_source_with_each_target_layer_that_matches(base: str) -> None:
    plan = plan_sweep(sweep_config(drawn(DEEP) | RANKS, base=base))
    assert labels(plan.space) == [
        f"layer3.0.{source}>features.5.conv.{target}"
        for source in ("conv1", "conv2", "downsample.0")
        for target in ("0.0", "2")
    ]
    assert plan.source.layers == ("layer3.0.conv1", "layer3.0.conv2", "layer3.0.downsample.0")
    assert plan.space.first_point() == {
        "transfer.pairs": "layer3.0.conv2>features.5.conv.2",
        "transfer.adapter.rank": 4,
    }


def test_every_draw_of_layers_is_a_configuration_whose_rank_fits(base: str) -> None:
    space = plan_sweep(sweep_config(drawn({"source": "*", "target": "*"}) | RANKS, base=base)).space
    assert len(labels(space)) == 10 * 13
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study, seen = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)), set()
    for number in range(40):
        drawing = space(study.ask())
        config = space.config(drawing)
        [pair] = config.transfer.written_pairs
        seen.add(pair)
        assert 2 <= config.transfer.adapter.rank <= rank_limit(config)
        job = Jobs(Path(), space, None).trial(number, drawing)
        assert job["params"]["transfer.pairs"] == [{"source": pair.source, "target": pair.target}]
        assert job["config"]["transfer"]["pairs"][0]["source"] == pair.source
    assert len(seen) > 30


def test_layers_keep_direction_and_cycle_which_may_be_searched_beside_them(base: str) -> None:
    pair = DEEP | {"direction": "both", "every": 4}
    space = with_layers(space_of(drawn(pair) | CYCLES))
    assert all(one.direction == "both" and one.every == 4 for one in pairs_of(space))
    beside = drawn(DEEP) | {"transfer.pairs.0.every": {"choice": [2, 4]}}
    space = plan_sweep(sweep_config(beside, base=base)).space
    assert {one.every for one in pairs_of(space, {"transfer.pairs.0.every": 4})} == {4}
    assert len(labels(space)) == 6  # nothing that was drawn is left in the choices


def pairs_of(space: Space, more: dict[str, Any] | None = None) -> list[Any]:
    configs = [space.config({"transfer.pairs": label} | (more or {})) for label in labels(space)]
    return [pair for config in configs for pair in config.transfer.written_pairs]


def test_a_network_of_its_own_draws_no_layer_with_itself() -> None:
    values = base_values()
    space = space_of(drawn({"source": "*.conv.2", "target": "*.conv.2"}), source=values["source"] | {"kind": "self"})
    found = pairs_of(with_layers(space))
    assert len(found) == 5 * 4
    assert all(pair.source != pair.target for pair in found)


def test_the_base_is_written_out_and_its_hash_is_of_what_was_written(base: str) -> None:
    for pairs, label in (("auto", "conv1>features.0.0"), ([STAGES], EXPANDED)):
        sweep = sweep_config(CYCLES, base=base, set={"transfer.pairs": pairs})
        plan = plan_sweep(sweep)
        written = [f"{pair['source']}>{pair['target']}" for pair in plan.space.base["transfer"]["pairs"]]
        assert " + ".join(written) == label
        assert plan.base_hash == config_hash(load_base(sweep))
        assert plan.source.record


def test_choices_are_written_out_and_what_means_the_same_is_one(base: str) -> None:
    search = {"transfer.pairs": {"choice": ["auto", [STAGES], [CONV]]}} | RANKS
    space = plan_sweep(sweep_config(search, base=base, set={"transfer.align": "none"})).space
    assert labels(space) == ["layer3.0.conv2>features.5.conv.2", EXPANDED]
    assert set(space.limits.values()) == {64, 24}


def test_auto_is_chosen_for_the_smallest_rank_that_can_be_drawn() -> None:
    space = space_of(
        RANKS | {"transfer.pairs": {"choice": ["auto"]}}, transfer={"pairs": "auto", "adapter": {"rank": 65}}
    )
    assert lowest_rank(space, space.config({})) == 2
    assert labels(with_limits(with_layers(space))) == ["conv1>features.0.0"], (
        "a space of 27 dimensions, of 2 that are shown"
    )


@pytest.mark.parametrize(
    ("transfer", "limit"),
    [
        ({"align": "none"}, 3),  # of 3 channels a kernel row
        ({"align": "auto"}, 16),  # of the 27 numbers of a patch both see; 16 channels
        ({"align": "inputs"}, 16),
        ({"align": "none", "adapter": {"kind": "linear"}}, 3),
        ({"align": "none", "adapter": {"kind": "full_matrix"}}, 2**31 - 1),
    ],
)
def test_the_largest_rank_is_that_of_the_space_in_which_layers_meet(transfer: dict[str, Any], limit: int) -> None:
    pairs = [{"source": "conv1", "target": "features.0.0"}]
    assert rank_limit(base_config(transfer={"pairs": pairs} | transfer)) == limit


def test_a_linear_adapter_cuts_what_gives_alone() -> None:
    """layer3.0.conv2 has 96 channels, classifier.1 ten rows: what receives is written whole, whatever the rank."""
    pairs = [{"source": "layer3.0.conv2", "target": "classifier.1"}]
    assert rank_limit(base_config(transfer={"pairs": pairs, "align": "none"})) == 10
    linear = {"pairs": pairs, "align": "none", "adapter": {"kind": "linear"}}
    assert rank_limit(base_config(transfer=linear)) == 96
    back = linear | {"pairs": [pairs[0] | {"direction": "both"}]}
    assert rank_limit(base_config(transfer=back)) == 10


@pytest.mark.parametrize(
    ("transfer", "search", "limits"),
    [
        ({"align": "auto"}, {"transfer.adapter.encoding": {"choice": ["projected", "factorized"]}}, {16, 3}),
        (
            {"align": "none", "adapter": {"kind": "linear"}, "pairs": [{"source": "fc", "target": "features.0.0"}]},
            {"transfer.pairs.0.direction": {"choice": ["to_target", "both"]}},
            {10, 3},
        ),
    ],
)
def test_ranks_are_limited_by_all_that_decides_what_is_cut(
    transfer: dict[str, Any], search: dict[str, Any], limits: set[int]
) -> None:
    pairs = [{"source": "conv1", "target": "features.0.0"}]
    space = with_limits(space_of(search | RANKS, transfer={"pairs": pairs} | transfer))
    assert set(space.limits.values()) == limits


@pytest.mark.parametrize(
    ("changes", "search", "limits"),
    [
        ({"method": "kd"}, {}, set()),
        ({"method": "dkd", "transfer": {"pairs": "auto", "adapter": {"rank": 4000}}}, {}, set()),
        ({}, {"method": {"choice": ["kd", "dkd"]}}, set()),
        ({"method": "kd"}, {"method": {"choice": ["kd", "mergenet"]}} | RANKS, {64}),
    ],
)
def test_pairs_count_only_where_a_method_that_may_be_drawn_transfers(
    changes: dict[str, Any], search: dict[str, Any], limits: set[int]
) -> None:
    changes = {"transfer": {"pairs": [CONV], "align": "auto"}} | changes
    space = with_limits(with_layers(space_of({"target.optimizer.lr": {"choice": [0.1]}} | search, **changes)))
    assert set(space.limits.values()) == limits
    auto = changes["transfer"]["pairs"] == "auto"
    assert [pair["source"] for pair in space.base["transfer"]["pairs"]] == ([] if auto else [CONV["source"]])


def test_layer_names_are_left_alone_and_no_network_is_built() -> None:
    space = space_of(CYCLES, target=base_values()["target"] | {"data": {"name": "nothing"}})
    assert with_layers(space) is space


def test_a_search_that_leaves_the_layers_as_they_are_may_change_the_data(base: str) -> None:
    data = {"source.data.train_fraction": {"choice": [0.1, 0.2]}}
    assert plan_sweep(sweep_config(data, base=base, set={"transfer.pairs": "auto"}))


@pytest.mark.parametrize(
    ("search", "changes", "message"),
    [
        (drawn({"source": "layr*", "target": "features.*"}), {},
         "search.transfer.pairs.layers.source must match at least one of conv1, fc, layer1.0.conv1, "),
        (drawn({"source": "fc", "target": "*"}), {},
         "transfer.adapter.rank must allow a rank of at most 3 (with transfer.pairs=fc>features.0.0), got 4; "),
        (drawn({"source": "layer3.0.conv7", "target": "classifier.1"}), {},
         "transfer.pairs.0.source (with transfer.pairs=layer3.0.conv7>classifier.1) must be one of "),
        (drawn({"source": "*", "target": "*"}),
         {"source.model.name": "resnet50", "target.model.name": "mobilenetv2"},
         "search.transfer.pairs.layers must stand for at most 512 pairs, got 1944 (54 source and 36 target layers); "
         "narrow the patterns"),
        (drawn(DEEP) | {"source.model.name": {"choice": ["resnet_small", "resnet18"]}}, {},
         "search.transfer.pairs.layers must stand for the same layers in all networks of the search, but with "
         "source.model.name=resnet18 it stands for others; name the layers"),
        (CYCLES | {"source.model.name": {"choice": ["resnet_small", "resnet18"]}},
         {"transfer.pairs": "auto", "transfer.align": "none"},
         "transfer.pairs must stand for the same layers in all networks of the search, but with "),
        (CYCLES, {"transfer.pairs": [{"source": "layr*", "target": "fc"}]}, "transfer.pairs.0.source must match at "),
        ({"transfer.pairs": {"choice": [[CONV], [{"source": "layr*", "target": "fc"}]]}}, {},
         "search.transfer.pairs.0.source must match at least one of "),
        ({"transfer.pairs.0.source": {"choice": ["layer*", "fc"]}}, {},
         "search.transfer.pairs.0.source.choice must be names of layers, got a pattern; draw from patterns with "),
        ({"transfer.pairs.0.every": {"choice": [2, 4]}}, {"transfer.pairs": [STAGES]},
         "search.transfer.pairs.0.every must not be searched beside patterns in transfer.pairs; name the layers"),
        ({"transfer.pairs.0.every": {"choice": [2, 4]}}, {"transfer.pairs": "auto"},
         "search.transfer.pairs.0.every: transfer.pairs must be a list to set a value inside, got 'auto'"),
        ({"transfer.t_cycle": {"layers": DEEP}}, {},
         "search.transfer.t_cycle.layers must be used for transfer.pairs only, got "),
        (drawn(DEEP | {"every": 3}) | CYCLES, {},
         "search.transfer.pairs.0.every must be a multiple of t_cycle (2), got 3"),
    ],
)  # fmt: skip
def test_what_is_refused(base: str, search: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    assert refused(sweep_config(search, base=base, set=changes)).startswith(message)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"layers": {"source": "a*"}}, "search.transfer.pairs.layers.target must be given, got nothing"),
        ({"layers": "auto"}, "search.transfer.pairs.layers must be a mapping of settings, got 'auto'"),
        ({"layers": DEEP | {"evry": 2}},
         "search.transfer.pairs.layers.evry must be one of align, direction, every, source, "),
        ({"layers": DEEP, "choice": [[CONV]]},
         "search.transfer.pairs must be exactly one of choice, int, float and layers, got 2"),
        ({"layers": DEEP, "log": True}, "search.transfer.pairs must have neither log nor step with layers, got 'one'"),
    ],
)  # fmt: skip
def test_malformed_layers(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sweep_config({"transfer.pairs": entry})
    assert str(caught.value).startswith(message)


def test_a_sweep_file_with_layers_is_written_and_read_back(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(dump_yaml(load_config("digits")))
    sweep = sweep_config(drawn(DEEP), base=str(tmp_path / "base.yaml"))
    (tmp_path / "s.yaml").write_text(dump_sweep(sweep))
    assert load_sweep(str(tmp_path / "s.yaml")) == sweep


def with_computed(tmp_path: Path, role: str, pair: dict[str, Any], way: str = "weight_norm") -> str:
    """A base whose `role` computes the weight of its layer b from others; the other network has the same, plain."""
    values = base_values(transfer={"t_cycle": 2, "pairs": [pair], "align": "none", "adapter": {"rank": 2}})
    data = values["source"]["data"] | {"image_size": 8}
    for side in ("source", "target"):
        own = way if side == role else "mlp"
        values[side] = values[side] | {"data": data, "model": {"name": f"tests.own_networks:{own}"}}
    (tmp_path / "own.yaml").write_text(dump_yaml(parse_config(values, "it")))
    return str(tmp_path / "own.yaml")


@pytest.mark.parametrize("way", ["weight_norm", "spectral_norm", "pruned"])
def test_layers_whose_weight_is_computed_are_drawn_only_to_give(tmp_path: Path, way: str) -> None:
    plain = {"source": "a", "target": "a"}
    base = with_computed(tmp_path, "target", plain, way)
    space = plan_sweep(sweep_config(drawn({"source": "*", "target": "*"}), base=base)).space
    assert labels(space) == [f"{source}>{target}" for source in ("a", "b", "fc") for target in ("a", "fc")]
    base = with_computed(tmp_path, "source", plain, way)
    space = plan_sweep(sweep_config(drawn({"source": "*", "target": "*"}), base=base)).space
    assert {pair.source for pair in pairs_of(space)} == {"a", "b", "fc"}
    for direction in ("both", "to_source"):  # the source receives as well
        pair = {"source": "*", "target": "b", "direction": direction}
        space = plan_sweep(sweep_config(drawn(pair), base=base)).space
        assert [pair.source for pair in pairs_of(space)] == ["a", "fc"]
        written = plan_sweep(sweep_config(CYCLES, base=base, set={"transfer.pairs": [pair | {"target": "*"}]})).space
        assert [pair["source"] for pair in written.base["transfer"]["pairs"]] == ["a", "fc"]
    for label in labels(space):  # every draw trains
        Trainer(space.config({"transfer.pairs": label}))


@pytest.mark.parametrize("role", ["target", "source"])
def test_a_network_that_is_not_new_at_each_call_is_refused_before_a_sweep_begins(role: str) -> None:
    network = base_values()[role] | {"model": {"name": "tests.own_networks:the_same"}}
    space = space_of({"target.optimizer.lr": {"choice": [0.1]}}, **{"method": "kd", role: network})
    told = rf"^{role}\.model\.name: tests\.own_networks:the_same must make a new network at each call"
    with pytest.raises(ConfigError, match=told):
        with_limits(space)


def test_what_a_users_module_makes_once_has_its_numbers() -> None:
    target = base_values()["target"] | {"model": {"name": "tests.own_networks:sharing_statistics"}}
    config = base_config(target=target, transfer={"pairs": "auto", "adapter": {"rank": 1}})
    assert not any(value.is_meta for value in architecture(config.target).state_dict().values())
    assert not any(value.is_meta for value in real_architecture(config.target).state_dict().values())


def test_a_computed_layer_that_is_named_to_receive_is_refused_in_a_plan(tmp_path: Path) -> None:
    base = with_computed(tmp_path, "target", {"source": "a", "target": "a"})
    must = "must be a layer whose weight is trained itself, got 'b', whose weight is computed from "
    named = {"transfer.pairs": {"choice": [[{"source": "a", "target": "a"}], [{"source": "a", "target": "b"}]]}}
    text = refused(sweep_config(named, base=base))
    assert text.startswith(f"transfer.pairs.0.target (with transfer.pairs=a>b) {must}")
    assert text.endswith("; take a or fc, or let it only give")
    assert refused(sweep_config(drawn({"source": "*", "target": "b"}), base=base)).startswith("transfer.pairs.0.target")
    one = {"transfer.pairs.0.target": {"choice": ["fc", "b"]}}
    assert must in refused(sweep_config(one, base=base))
    turned = {"transfer.pairs.0.direction": {"choice": ["to_target", "to_source", "both"]}}
    assert must in refused(sweep_config(turned, base=base, set={"transfer.pairs": [{"source": "a", "target": "b"}]}))
    gives = {"transfer.pairs": [{"source": "a", "target": "b", "direction": "to_source"}]}
    assert plan_sweep(sweep_config(CYCLES, base=base, set=gives))
