"""The search space: bad entries are refused when it is built, and every draw is a valid configuration."""

import json
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenet.errors import ConfigError
from sweeps.samplers.deduplicate import listed
from sweeps.samplers.fixed import Walker
from sweeps.space.adapter_size import adapter_sizes
from sweeps.space.layer_choices import rank_limit, with_layers, with_limits
from sweeps.space.space import RANK, Labels, Space, get_by_path, label_of
from sweeps.trials.recorded_source import plan_source
from tests.sweeps.base import CONV, HEAD, base_config, base_values, space_of

PAIRS = {"transfer.pairs": {"choice": [[CONV], [HEAD], [CONV, HEAD], [{"source": "conv1", "target": "features.0.0"}]]}}
AS_THEY_COME = base_values()["transfer"] | {"align": "none"}  # rows of a convolution are cut per kernel row


@pytest.fixture(autouse=True)
def _quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def study() -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))


def draw(space: Space, number: int) -> list[Labels]:
    trials = study()
    return [space(trials.ask()) for _ in range(number)]


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            {"transfer.t_cycel": {"choice": [1]}},
            "search.transfer.t_cycel must be a known setting, got an unknown name; did you mean transfer.t_cycle?",
        ),
        ({"learned_gate": {"choice": [True]}}, "did you mean transfer.adapter.learned_gate?"),
        ({"rank": {"int": [2, 8]}}, "search.rank must be a known setting, got an unknown name; did you mean transfer."),
        ({"rnak": {"int": [2, 8]}}, "did you mean transfer.adapter.rank?"),
        ({"adapter.rank": {"int": [2, 8]}}, "did you mean transfer.adapter.rank?"),
        ({"transfer.rank": {"int": [2, 8]}}, "did you mean transfer.adapter.rank?"),
        ({"transfer.adaptr.rank": {"int": [2, 8]}}, "did you mean transfer.adapter.rank?"),
        ({"transfer.adapter.rnak": {"int": [2, 8]}}, "did you mean transfer.adapter.rank?"),
        ({"t_cycles": {"int": [2, 8]}}, "did you mean transfer.t_cycle?"),
        ({"target.lr": {"float": [0.1, 1]}}, "did you mean target.optimizer.lr?"),
        ({"transfer.t_cycle": {"choice": [4, 0]}}, "search.transfer.t_cycle must be >= 1, got 0"),
        ({"transfer.t_cycle": {"float": [1, 8]}}, "must be a whole number"),
        ({"transfer.adapter.gate": {"float": [0.5, 2]}}, "transfer.adapter.gate must be <= 1.0, got 2.0"),
        ({"transfer.adapter.kind": {"choice": ["lpak"]}}, "must be one of full_matrix, linear, lpka, got 'lpak'; did"),
        ({"seed": {"choice": [1, 2]}}, "search.seed must not be searched, all trials share it; set it under set"),
        ({"method": {"choice": ["kd", "kid"]}}, "search.method must be one of dist, dkd, kd"),
        (
            {"transfer.pairs": {"choice": [[CONV], [CONV | {"direction": "to_target"}]]}},
            "search.transfer.pairs.choice must list each value once, got a list of 2",
        ),
        ({"transfer.pairs": {"choice": [[]]}}, "transfer.pairs must name at least one pair"),
        ({"transfer.pairs": {"choice": [[{"source": "fc"}]]}}, "transfer.pairs.0.target must be given"),
        ({"transfer.adapter.rank": {"choice": [4, "big"]}}, "rank.choice must be whole numbers, got [4, 'big']"),
        (
            {"transfer.adapter": {"choice": [{"depth": 1}, {"rank": 3}]}, "transfer.adapter.rank": {"int": [2, 8]}},
            "search.transfer.adapter.choice.1 must leave rank to search.transfer.adapter.rank, which would overwrite "
            "it, got 3",
        ),
        (
            {"transfer.pairs": {"choice": [[CONV | {"every": 4}]]}, "transfer.pairs.0.every": {"choice": [2, 4]}},
            "search.transfer.pairs.choice.0 must leave 0.every to search.transfer.pairs.0.every, which",
        ),
        (
            {
                "transfer.t_cycle": {"int": [2, 4]},
                "transfer.pairs": {"choice": [[CONV | {"every": 4}]]},
            },
            "transfer.pairs: every must be a multiple of every t_cycle that can be drawn (3 is one), got 4",
        ),
        (
            {
                "transfer.update.rule": {"choice": ["delta", "gradient"]},
                "transfer.update.horizon": {"choice": ["step", "cycle"]},
            },
            "valid combinations, but with transfer.update.rule=gradient, transfer.update.horizon=cycle",
        ),
    ],
)  # fmt: skip
def test_bad_searches_are_refused(search: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        space_of(search)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    path = next(iter(search))
    assert str(caught.value).count(path) <= 2  # named once, and perhaps in the way out


def test_a_bad_value_of_another_setting_is_named_with_the_path_that_was_drawn() -> None:
    with pytest.raises(ConfigError, match=r"^search\.source\.kind: source\.recording must name a folder"):
        space_of({"source.kind": {"choice": ["live", "recorded"]}})


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 16), st.integers(1, 40), st.booleans(), st.booleans())
def test_every_draw_is_valid(low: int, width: int, log: bool, searches_pairs: bool) -> None:
    """Ranks fit the layers of the drawn pairs, configurations parse; limits are the true ones of the networks."""
    search: dict[str, Any] = {"transfer.adapter.rank": {"int": [low, low + width], "log": log}}
    search |= {"transfer.t_cycle": {"choice": [2, 4]}, "transfer.adapter.gate": {"float": [0.01, 1.0]}}
    space = space_of(search | (PAIRS if searches_pairs else {}))
    smallest = min(rank_limit(space.config(labels)) for labels in space.combinations())
    if low > smallest:
        with pytest.raises(ConfigError, match=r"allow a rank of at most \d+ ?.*; lower it"):
            with_limits(space)
        return
    space = with_limits(space)
    for labels in draw(space, 20):
        config = space.config(labels)
        assert low <= config.transfer.adapter.rank <= rank_limit(config)


def test_rank_choices_are_cut_to_the_drawn_pair() -> None:
    """Optuna refuses a categorical whose choices change: the cut one has a name of its own, but is the same path."""
    space = with_limits(space_of(PAIRS | {"transfer.adapter.rank": {"choice": [2, 3, 8]}}, transfer=AS_THEY_COME))
    drawn = draw(space, 60)
    by_pair: dict[Any, set[Any]] = {}
    for labels in drawn:
        by_pair.setdefault(labels["transfer.pairs"], set()).add(labels["transfer.adapter.rank"])
    assert by_pair["fc>classifier.1"] == {2, 3, 8}
    assert by_pair["conv1>features.0.0"] == {2, 3}  # 9 columns, 3 kernel rows: rank 3 at most


def test_misspelt_layer_is_refused_with_the_nearest_names() -> None:
    space = space_of({"transfer.pairs": {"choice": [[CONV], [{"source": "layer3.0.conv7", "target": "fc"}]]}})
    with pytest.raises(ConfigError, match=r"transfer\.pairs\.0\.source .*got 'layer3.0.conv7'; did you mean .*layer3"):
        with_limits(space)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"direction": "backward"}, "direction must be one of both, to_source, to_target, got 'backward'"),
        ({"direction": None}, "direction must be one of "),
        ({"direction": ["both"]}, "direction must be one of "),
        ({"every": 0}, "every must be >= 1, got 0"),
    ],
)
def test_a_bad_setting_of_a_pair_is_refused_by_its_name(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_limits(space_of({"transfer.pairs": {"choice": [[CONV], [CONV | setting]]}}))
    assert f"transfer.pairs.0.{message}" in str(caught.value)


def test_labels_stay_what_studies_hold() -> None:
    """A sweep is resumed by them, so they are not changed for looks."""
    assert label_of([CONV, HEAD]) == f"{CONV['source']}>{CONV['target']} + fc>classifier.1"
    assert label_of([CONV | {"direction": "both"}]).startswith('[{"source": ')
    assert label_of([CONV | {"every": 8}]).startswith('[{"source": ')
    assert [label_of(value) for value in (2, 0.5, "relu", None)] == [2, 0.5, "relu", None]


def test_fixed_rank_must_fit_every_pair() -> None:
    space = space_of(PAIRS, transfer=AS_THEY_COME)
    with pytest.raises(ConfigError, match=r"transfer.adapter.rank must allow a rank of at most 3 \(with .*conv1"):
        with_limits(space)
    assert min(with_limits(space_of(PAIRS)).limits.values()) == 10, "of fc; the patches that conv1 sees allow more"


def test_values_are_what_the_file_says() -> None:
    space = space_of(PAIRS)
    assert space.values({"transfer.pairs": "fc>classifier.1"}) == {"transfer.pairs": [HEAD]}
    config = space.config({"transfer.pairs": "layer3.0.conv2>features.5.conv.2 + fc>classifier.1"})
    assert [pair.source for pair in config.transfer.pairs] == ["layer3.0.conv2", "fc"]


def test_drawing_inside_a_chosen_pair_leaves_the_choices_as_they_are() -> None:
    space = space_of(PAIRS | {"transfer.pairs.0.every": {"choice": [2, 4]}})
    before = space.options("transfer.pairs").keys()
    config = space.config({"transfer.pairs": "fc>classifier.1", "transfer.pairs.0.every": 4})
    assert [(pair.source, pair.every) for pair in config.transfer.written_pairs] == [("fc", 4)]
    assert space.options("transfer.pairs").keys() == before
    assert space.values({"transfer.pairs": "fc>classifier.1"}) == {"transfer.pairs": [HEAD]}


def test_first_point_is_the_base_if_it_lies_in_the_space() -> None:
    inside = PAIRS | {"transfer.adapter.rank": {"int": [2, 8]}, "transfer.adapter.gate": {"float": [0.05, 0.5]}}
    assert space_of(inside).first_point() == {
        "transfer.pairs": "layer3.0.conv2>features.5.conv.2",
        "transfer.adapter.rank": 4,
        "transfer.adapter.gate": 0.1,
    }
    assert space_of({"transfer.adapter.rank": {"int": [5, 8]}}).first_point() is None
    assert space_of({"transfer.adapter.rank": {"int": [1, 9], "step": 2}}).first_point() is None
    assert space_of({"transfer.t_cycle": {"choice": [4, 8]}}).first_point() is None


@pytest.mark.parametrize(
    "entry", [{"int": [1, 8]}, {"int": [1, 8], "log": True}, {"float": [1, 8]}, {"choice": [1, 2]}]
)
def test_what_is_located_is_of_the_kind_that_is_drawn(entry: dict[str, Any]) -> None:
    """Whole numbers too, which a float setting holds as floats."""
    space = space_of({"distillation.weight": entry}, method="kd")
    for labels in draw(space, 5):
        assert json.dumps(space.locate(space.config(labels))) == json.dumps(labels)


def test_first_point_is_what_optuna_draws_first() -> None:
    space = with_limits(space_of({"transfer.adapter.rank": {"choice": [2, 4, 90]}}))  # 90 fits no layer of the pair
    trials = study()
    first = space.first_point()
    assert first is not None
    trials.enqueue_trial(first)
    assert space(trials.ask()) == {"transfer.adapter.rank": 4}


def test_baselines_can_be_searched_beside_mergenet() -> None:
    methods = {"method": {"choice": ["none", "kd", "mergenet"]}}
    space = with_limits(space_of(methods | {"transfer.t_cycle": {"int": [2, 4]}}))
    assert {space.config(labels).method for labels in draw(space, 30)} == {"none", "kd", "mergenet"}
    assert space.first_point() == {"method": "mergenet", "transfer.t_cycle": 2}
    with pytest.raises(ConfigError, match=r"^search\.method: source\.kind must be live or frozen for method kd"):
        space_of({"method": {"choice": ["kd", "mergenet"]}}, source={"kind": "self"})
    with pytest.raises(ConfigError, match=r"but with method=rkd, distillation\.temperature=4: .*must be null"):
        space_of({"method": {"choice": ["kd", "rkd"]}, "distillation.temperature": {"choice": [4]}}, method="kd")


def test_a_choice_of_mappings_changes_what_they_name() -> None:
    """The rest of the section is the base's, here a learning rate that is not the default."""
    space = space_of({"target.optimizer": {"choice": [{"momentum": 0.5}, {"momentum": 0.8}]}})
    drawn = space.config({"target.optimizer": '{"momentum": 0.5}'}).target.optimizer
    assert (drawn.momentum, drawn.lr) == (0.5, 0.05)
    assert space.locate(space.config({"target.optimizer": '{"momentum": 0.8}'})) == {
        "target.optimizer": '{"momentum": 0.8}'
    }


KINDS: dict[str, Any] = {"transfer.adapter": {"choice": [{"kind": "lpka"}, {"kind": "linear"}]}}
INNER_RANK: dict[str, Any] = {RANK: {"choice": [2, 4, 8]}}
CYCLE_4 = {"transfer.t_cycle": 4}


@pytest.mark.parametrize(
    ("search", "points"),
    [
        (KINDS | INNER_RANK, 6),
        (PAIRS | {"transfer.pairs.0.every": {"choice": [2, 4]}}, 8),
        (KINDS | {"transfer.t_cycle": {"choice": [2, 4]}, RANK: {"choice": [3, 5, 8], "when": CYCLE_4}}, 2 + 6),
        ({"transfer": {"choice": [{"t_cycle": 2}, {"t_cycle": 4, "pairs": [HEAD]}]}} | INNER_RANK, 6),
    ],
)
def test_what_is_drawn_inside_a_choice_is_located_too(search: dict[str, Any], points: int) -> None:
    """A lost study is rebuilt from where the configurations of its trials lie."""
    space = space_of(search)
    drawn = [space(Walker(point)) for point in listed(space)]
    assert len(drawn) == points
    assert [space.locate(space.config(labels)) for labels in drawn] == drawn


def mapped(path: str, *values: dict[str, Any], **changes: Any) -> Space:
    """A planned space that draws mappings."""
    return with_limits(with_layers(space_of({path: {"choice": list(values)}, **changes})))


@pytest.mark.parametrize("path", ["source", "target"])
def test_a_source_that_a_mapping_changes_is_not_recorded(path: str) -> None:
    plan = plan_source(mapped(path, {"batch_size": 32}, {"batch_size": 16}))
    assert plan.reason == f"trains beside every trial, because {path}.batch_size is searched"


def test_what_a_mapping_gives_away_is_recorded_as_often_as_it_is_needed() -> None:
    plan = plan_source(mapped("transfer", {"t_cycle": 9}, {"t_cycle": 6, "pairs": [HEAD]}))
    assert (plan.layers, plan.every) == (("layer3.0.conv2", "fc"), 3)  # the base's cycle, 2, is never drawn
    assert plan_source(mapped("transfer", {"t_cycle": 9}, {"pairs": [HEAD]})).every == 1  # of 9 and 2


def test_ranks_are_limited_by_the_layers_and_ranks_of_mappings() -> None:
    space = mapped("transfer", {"pairs": [CONV]}, {"pairs": [HEAD]}, **{RANK: {"int": [2, 40]}})
    assert sorted(space.limits.values()) == [10, 64]
    with pytest.raises(ConfigError, match=r'at most 64 \(with transfer.adapter={"rank": 500}\), got 500'):
        mapped("transfer.adapter", {"rank": 4}, {"rank": 500})
    with pytest.raises(
        ConfigError, match=r"^search\.transfer must name the layers of its pairs; only search\.transfer\.p"
    ):
        mapped("transfer", {"pairs": "auto"}, {"pairs": [HEAD]})


def test_the_size_of_adapters_is_looked_for_in_mappings_too() -> None:
    sizes = adapter_sizes(mapped("transfer.adapter", {"depth": 1}, {"depth": 3}))
    assert sizes is not None and len(sizes) == 2


def test_get_by_path() -> None:
    config = base_config()
    assert get_by_path(config, "transfer.pairs.0.source") == "layer3.0.conv2"
    assert get_by_path(config, "transfer.pairs.1.source") is None
    assert get_by_path(config, "target.model.name") == "mobilenetv2_small"
