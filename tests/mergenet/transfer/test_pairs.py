"""Patterns and `auto` as transfer pairs: which layers they stand for, messages, and runs that start with them."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mergenet.config import Config, ModelConfig, PairConfig
from mergenet.config.loading import load_config
from mergenet.config.spec import CLASSES, TEXT, Spec
from mergenet.errors import CheckpointError, ConfigError
from mergenet.layers.candidates import architecture, both_candidates
from mergenet.layers.matrices import LayerError, LayerInfo, list_layers
from mergenet.models import MODELS, build_model, image_classifier
from mergenet.records.run_record import read_run
from mergenet.training.run import train_run
from mergenet.training.trainer import Trainer
from mergenet.transfer.pairs import align, choose, resolve_pairs, write_pairs
from mergenet.transfer.source import record_source
from tests.records import replace_in_record
from tests.tiny import same, tiny_config

names = st.lists(st.integers(0, 99).map(str), unique=True, min_size=1, max_size=70)


def digits(pairs: Any, *settings: str) -> Config:
    """ResNet -> MobileNetV2, both small."""
    return load_config("digits", [f"transfer.pairs={yaml.safe_dump(pairs, default_flow_style=True)}", *settings])


def resolved(pairs: Any, *settings: str) -> list[tuple[str, str]]:
    config = resolve_pairs(digits(pairs, *settings))
    return [(pair.source, pair.target) for pair in config.transfer.written_pairs]


def refused(pairs: Any, *settings: str) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve_pairs(digits(pairs, *settings))
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# ---------------------------------------------------------------- the alignment rule


@given(names, names)
def test_each_layer_is_in_one_pair_at_most_in_order_and_at_its_depth(sources: list[str], targets: list[str]) -> None:
    pairs = align(sources, targets)
    assert len(pairs) == min(len(sources), len(targets))
    for layers, side in ((sources, 0), (targets, 1)):
        places = [layers.index(pair[side]) for pair in pairs]
        assert places == sorted(set(places))
        for i, place in enumerate(places):  # relative depth: within one layer of (i + 1) / k
            assert (place + 1) * len(pairs) <= (i + 1) * len(layers) < (place + 2) * len(pairs)
    assert pairs[-1] == (sources[-1], targets[-1])


@given(names)
def test_as_many_layers_meet_one_to_one(layers: list[str]) -> None:
    assert align(layers, layers[::-1]) == list(zip(layers, layers[::-1], strict=True))


def test_the_rule_as_its_documentation_says() -> None:
    assert align("abc", "123456") == [("a", "2"), ("b", "4"), ("c", "6")]
    assert align("abcde", "12") == [("b", "1"), ("e", "2")]


# ---------------------------------------------------------------- patterns


def test_patterns_on_both_sides_are_aligned_among_candidates_in_network_order() -> None:
    assert resolved([{"source": "layer*.conv2", "target": "*.conv.2"}]) == [
        ("layer1.0.conv2", "features.1.conv.2"),
        ("layer2.0.conv2", "features.3.conv.2"),
        ("layer3.0.conv2", "features.5.conv.2"),
    ]


def test_a_pair_keeps_its_direction_and_cycle_and_its_place_among_others() -> None:
    wide = {"source": "layer[23].0.conv2", "target": "features.?.conv.2", "direction": "both", "every": 8}
    config = resolve_pairs(digits([{"source": "fc", "target": "classifier.1"}, wide]))
    first, *others = config.transfer.written_pairs
    assert (first.source, first.target, first.direction) == ("fc", "classifier.1", "to_target")
    assert [(pair.source, pair.direction, pair.every) for pair in others] == [
        ("layer2.0.conv2", "both", 8),
        ("layer3.0.conv2", "both", 8),
    ]


def test_a_named_layer_gives_to_every_match() -> None:
    targets = [f"features.{i}.conv.2" for i in range(1, 6)]
    assert resolved([{"source": "fc", "target": "*.conv.2"}]) == [("fc", target) for target in targets]
    back = {"source": "layer*.conv2", "target": "classifier.1", "direction": "to_source"}
    assert resolved([back]) == [(f"layer{i}.0.conv2", "classifier.1") for i in (1, 2, 3)]


def test_a_layer_of_its_own_source_gives_nothing_to_itself() -> None:
    own = "source.kind=self"
    pairs = resolved([{"source": "features.3.conv.2", "target": "*.conv.2"}], own)
    assert [target for _, target in pairs] == [f"features.{i}.conv.2" for i in (1, 2, 4, 5)]


@given(st.lists(st.tuples(st.text("abc.0123", min_size=1), st.text("abc.0123", min_size=1)), min_size=1))
def test_layer_names_pass_unchanged_and_unseen(chosen: list[tuple[str, str]]) -> None:
    """Nothing is built for them: the data set of this configuration does not exist."""
    pairs = tuple(PairConfig(source=source, target=f"{i}{target}") for i, (source, target) in enumerate(chosen))
    config = tiny_config({"transfer.pairs": pairs, "target.data.name": "nothing", "transfer.align": "none"})
    assert [(p.source, p.target) for p in resolve_pairs(config).transfer.written_pairs] == [
        (pair.source, pair.target) for pair in pairs
    ]
    assert write_pairs(config) is config


def test_resolving_twice_is_as_once_and_draws_nothing() -> None:
    config = digits([{"source": "layer*.conv2", "target": "*.conv.2"}])
    both_candidates.__globals__["_candidates"].cache_clear()
    state = torch.get_rng_state()
    once = resolve_pairs(config)
    assert torch.equal(torch.get_rng_state(), state)
    assert resolve_pairs(once) is once
    assert resolve_pairs(config) == once


@pytest.mark.parametrize("method", ["none", "kd"])
def test_a_method_without_transfer_looks_for_no_layers(method: str) -> None:
    config = digits("auto", f"method={method}", "target.model.name=nothing")
    assert resolve_pairs(config).transfer.written_pairs == ()


@pytest.mark.parametrize(
    ("pairs", "settings", "message"),
    [
        ([{"source": "layr3.*", "target": "fc"}], [],
         "transfer.pairs.0.source must match at least one of conv1, fc, layer1.0.conv1, "),
        ([{"source": "layr3.0.conv*", "target": "fc"}], [],
         "got 'layr3.0.conv*'; did you mean layer3.0.conv2 or layer3.0.conv1"),
        ([{"source": "fc", "target": "classifier.0*"}], [], "transfer.pairs.0.target must match at least one of class"),
        ([{"source": "layer*", "target": "classifier.1"}], [],
         "transfer.pairs.0.source must match one layer where classifier.1 receives, got 'layer*', which matches 8; "
         "name one of them, or give a pattern on both sides"),
        ([{"source": "fc", "target": "*.conv.2", "direction": "both"}], [],
         "transfer.pairs.0.target must match one layer where fc receives, got '*.conv.2', which matches 5; "),
        ([{"source": "layer*", "target": "*"}], [],
         "transfer.pairs.0.target must match layers that allow rank 8, got '*', which matches features.0.0 "
         "(largest rank 3); narrow it or lower transfer.adapter.rank"),
        ([{"source": "fc", "target": "features.3.conv.2"}, {"source": "layer3*", "target": "*.3.conv.2"}], [],
         "transfer.pairs.1.target must be written by one pair only, got 'features.3.conv.2'"),
        ([{"source": "*.conv.2", "target": "feat*.conv.2"}], ["source.kind=self"],
         "transfer.pairs.0.source must differ from the pair's target for source kind self, got 'features.1.conv.2'"),
        ([{"source": "*", "target": "fc"}], ["source.model.name=resnet_smal"], "source.model.name must be one of "),
        ("auto", ["transfer.adapter.rank=500"],
         "transfer.pairs must name the layers, got 'auto', which finds no source layer that allows rank 500; "
         "lower transfer.adapter.rank, or see `mergenet layers`"),
    ],
)  # fmt: skip
def test_what_is_refused(pairs: Any, settings: list[str], message: str) -> None:
    assert message in refused(pairs, *settings)


def test_a_pattern_may_stand_for_64_pairs_at_most() -> None:
    deep = ["source.model.name=resnet50", "target.model.name=resnet50", "transfer.adapter.rank=1"]
    assert len(resolved([{"source": "*", "target": "*"}], *deep)) == 54
    fans = [{"source": "fc", "target": "*"}]
    message = refused(fans, *deep[::2], "target.model.name=torchvision/densenet121", "target.data.image_size=32")
    assert message == (
        "transfer.pairs.0 must stand for at most 64 pairs, got 121 from 'fc' and '*'; narrow the patterns"
    )


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("atuo", "transfer.pairs must be one of auto, got 'atuo'; did you mean auto?"),
        (3, "transfer.pairs must be a list, got 3; to train without transfer set method: none"),
        ([{"source": "fc"}], "transfer.pairs.0.target must be given, got nothing"),
        ([{"source": "fc", "target": "fc", "evry": 3}],
         "transfer.pairs.0.evry must be a known setting, got an unknown name; did you mean transfer.pairs.0.every?"),
    ],
)  # fmt: skip
def test_malformed_pairs_are_named_by_their_plain_path(pairs: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        digits(pairs)
    assert str(caught.value) == f"{message} (in preset digits with --set)"


# ---------------------------------------------------------------- auto


def layer(name: str, size: int, rank: int = 8) -> LayerInfo:
    shape = rank, 100 + size
    return LayerInfo(name, "linear", shape, shape, rank * size)


def test_auto_takes_the_largest_layer_of_the_last_third_without_the_head_the_deepest_of_equals() -> None:
    sizes = [99, 90, 9, 9, 10, 11, 12, 5, 7, 7, 99]  # inner layers: 1 to 9, their last third: 7 to 9
    layers = [layer(str(i), size) for i, size in enumerate(sizes)]
    chosen, middle = choose(layers, 8), choose(layers, 8, third=1)
    assert chosen is layers[9]
    assert middle is layers[6]


def test_auto_looks_further_where_the_last_third_does_not_allow_the_rank() -> None:
    layers = [layer("0", 99), layer("1", 9), layer("2", 9, rank=4), layer("3", 9, rank=4), layer("4", 99, rank=16)]
    assert choose(layers, 8) is layers[1]
    assert choose(layers, 9) is layers[4]
    assert choose(layers, 17) is None
    assert choose([], 1) is None


def test_auto_on_small_networks_of_both_kinds() -> None:
    assert resolved("auto") == [("layer3.0.conv2", "features.5.conv.2")]
    assert resolved("auto", "source.kind=self", "target.model.name=resnet_small") == [
        ("layer3.0.conv2", "layer2.0.conv2")
    ]
    whole = "transfer.adapter.kind=full_matrix", "transfer.adapter.rank=500"
    assert resolved("auto", *whole, "transfer.align=none") == [("layer3.0.conv2", "features.5.conv.2")]
    assert resolved("auto", *whole) == [("conv1", "features.0.0")], "whole matrices have no rank, and inputs they share"


def test_auto_takes_the_largest_layers_that_share_a_space_of_four_dimensions_for_each_of_the_rank() -> None:
    """conv1 and features.0.0 see the same 27 numbers a patch; fc and classifier.1 give the same ten classes."""
    assert resolved("auto", "transfer.adapter.rank=3") == [("conv1", "features.0.0")]
    assert resolved("auto", "transfer.adapter.rank=7") == [("layer3.0.conv2", "features.5.conv.2")]
    other = "target.model.name=mlp", "source.model.name=resnet_small"  # pixels in a row share nothing with patches
    assert resolved("auto", *other, "transfer.adapter.rank=2") == [("fc", "fc3")]


@pytest.mark.parametrize("setting", ["transfer.align=none", "transfer.adapter.encoding=factorized"])
def test_auto_looks_for_no_space_where_rows_are_taken_as_they_come(setting: str) -> None:
    assert resolved("auto", "transfer.adapter.rank=3", setting) == [("layer3.0.conv2", "features.5.conv.2")]


def test_auto_names_no_embedding_where_factors_are_trained() -> None:
    """Two text networks share their words, which the factorized encoding cannot cut."""
    settings = ["transfer.pairs=auto", "target.model.name=bert_small", "transfer.adapter.rank=4"]
    words = resolve_pairs(load_config("cross-task", settings)).transfer.written_pairs
    assert "embed" in words[0].source
    plain = resolve_pairs(load_config("cross-task", [*settings, "transfer.adapter.encoding=factorized"]))
    assert "embed" not in plain.transfer.written_pairs[0].source


def test_auto_alignment_is_the_space_that_a_pair_shares_and_none_for_trained_factors() -> None:
    pairs = [{"source": "conv1", "target": "features.0.0"}, {"source": "layer3.0.conv2", "target": "features.5.conv.2"}]
    pairs.append({"source": "fc", "target": "classifier.1"})

    def found(*settings: str) -> list[str | None]:
        config = digits(pairs, "transfer.adapter.rank=2", *settings)
        return [pair.align for pair in resolve_pairs(config).transfer.written_pairs]

    assert found() == ["inputs", "none", "outputs"]
    assert found("transfer.adapter.encoding=factorized") == ["none"] * 3
    assert found("transfer.align=outputs") == ["outputs"] * 3
    assert found("transfer.pairs.1.align=inputs", "transfer.align=none") == ["none", "inputs", "none"]


class TwoTowers(torch.nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.vision_model = torch.nn.Sequential(*(torch.nn.Linear(16, width) for width in (9, 10, 12)))
        self.text_model = torch.nn.Sequential(*(torch.nn.Linear(16, width) for width in (19, 20, 22)))
        self.head = torch.nn.Linear(42, outputs)


@pytest.mark.usefixtures("tiny")
def test_auto_pairs_the_vision_part_with_the_text_part_of_one_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "two_towers", image_classifier(lambda outputs, _: TwoTowers(outputs)))
    changes = {"target.model.name": "two_towers", "source.kind": "self", "transfer.pairs": "auto"}
    [pair] = resolve_pairs(tiny_config(changes)).transfer.written_pairs
    assert (pair.source, pair.target) == ("vision_model.1", "text_model.1")


# ---------------------------------------------------------------- the architecture alone


@pytest.mark.parametrize("name", ["resnet_small", "mobilenetv2_small", "efficientnet_lite0"])
def test_images_networks_are_looked_at_without_memory_for_weights(name: str) -> None:
    network = load_config("digits", [f"target.model.name={name}", "target.model.weights=nowhere.pth"]).target
    model = architecture(network)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    real = build_model(ModelConfig(name=name), Spec("image", CLASSES, 10, image_size=16))
    assert list_layers(model) == list_layers(real)


@pytest.mark.parametrize("name", ["bert_small", "distilbert_small"])
def test_encoders_of_texts_can_be_built_on_the_meta_device(name: str) -> None:
    spec = Spec(TEXT, CLASSES, 5, vocab_size=50, max_length=16)
    with torch.device("meta"):
        model = build_model(ModelConfig(name=name), spec)
    assert list_layers(model) == list_layers(build_model(ModelConfig(name=name), spec))


def stubborn(outputs: int, _stem: str) -> torch.nn.Module:
    """Computes with its starting weights, which the meta device does not have."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 9), torch.nn.Linear(9, outputs))
    model[1].weight.data /= model[1].weight.abs().max().item()
    return model


@pytest.mark.usefixtures("tiny")
def test_a_network_that_cannot_be_built_without_weights_is_built_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "stubborn", image_classifier(stubborn))
    state = torch.get_rng_state()
    model = architecture(tiny_config({"target.model.name": "stubborn"}).target)
    assert [layer.name for layer in list_layers(model)] == ["1", "2"]
    assert torch.equal(torch.get_rng_state(), state)


# ---------------------------------------------------------------- runs

WIDE: dict[str, Any] = {
    "transfer.pairs": [{"source": "?", "target": "[39]"}],  # tiny_mlp's 1, 3, 5; tiny_cnn's 3, 9
    "transfer.adapter.rank": 2,
}
NAMED = WIDE | {"transfer.pairs": [{"source": "1", "target": "3"}, {"source": "5", "target": "9"}]}


def drain(config: Config, folder: Path, epochs: int = 99) -> None:
    results = train_run(config, folder)
    for result in results:
        if result.epoch == epochs:
            results.close()


@pytest.mark.parametrize("encoding", ["projected", "factorized"])
@pytest.mark.usefixtures("tiny")
def test_a_run_with_patterns_is_the_run_with_the_names(tmp_path: Path, encoding: str) -> None:
    changes = {"transfer.adapter.encoding": encoding}
    drain(tiny_config(WIDE | changes), tmp_path / "wide")
    drain(tiny_config(NAMED | changes), tmp_path / "named")
    wide, named = read_run(tmp_path / "wide"), read_run(tmp_path / "named")
    assert wide.result == named.result
    assert wide.epochs[-1]["num_transfers"] > 0
    assert wide.config["transfer"]["pairs"][0]["source"] == "?"  # as the user wrote it
    spaces = ["none", "outputs" if encoding == "projected" else "none"]  # 5 and 9 give the logits of the same classes
    written = [pair | {"align": space} for pair, space in zip(named.config["transfer"]["pairs"], spaces, strict=True)]
    assert wide.provenance["pairs"] == named.provenance["pairs"] == written


@pytest.mark.parametrize("pairs", ["auto", WIDE["transfer.pairs"]])
@pytest.mark.usefixtures("tiny")
def test_a_stopped_run_with_patterns_goes_on_as_if_never_stopped(tmp_path: Path, pairs: Any) -> None:
    config = tiny_config(WIDE | {"transfer.pairs": pairs})
    drain(config, tmp_path / "whole")
    drain(config, tmp_path / "stopped", epochs=1)
    stopped = Trainer(config)
    drain(config, tmp_path / "stopped")
    assert read_run(tmp_path / "stopped").result == read_run(tmp_path / "whole").result
    assert same(stopped.target.network.state_dict(), Trainer(resolve_pairs(config)).target.network.state_dict())


@pytest.mark.usefixtures("tiny")
def test_a_run_does_not_go_on_with_other_layers(tmp_path: Path) -> None:
    drain(tiny_config(WIDE), tmp_path / "run", epochs=1)
    replace_in_record(tmp_path / "run" / "provenance.json", '"source": "1"', '"source": "3"')
    with pytest.raises(CheckpointError, match=r"was started with other layers for transfer.pairs \(provenance.json "):
        drain(tiny_config(WIDE), tmp_path / "run")


@pytest.mark.usefixtures("tiny")
def test_a_recording_must_hold_what_a_pattern_stands_for(tmp_path: Path) -> None:
    for _ in record_source(tiny_config(WIDE), tmp_path, ["1"], every=2):
        pass
    replayed = WIDE | {"source.kind": "recorded", "source.recording": str(tmp_path)}
    with pytest.raises(ConfigError, match=r"^transfer\.pairs\.1\.source must be one of 1, got '5'"):
        Trainer(tiny_config(replayed))
    one = replayed | {"transfer.pairs": [{"source": "[1]", "target": "[9]"}]}
    assert len(Trainer(tiny_config(one)).transfer.links) == 1


def test_errors_of_patterns_are_layer_errors() -> None:
    with pytest.raises(LayerError):
        resolve_pairs(digits([{"source": "x*", "target": "y*"}]))
