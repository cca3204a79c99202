"""Two networks of one architecture share what they would share with any other: what no weight comes before."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from mergenet.config import ModelConfig
from mergenet.layers.spaces import network_key, sharing_pairs, sight, vocabulary
from mergenet.models import MODELS, Architecture, image_classifier
from mergenet.tasks import description_of
from mergenet.training.diagnose import diagnose
from mergenet.transfer.pairs import resolve_pairs
from tests.mergenet.runs import WORDS, texts
from tests.tiny import PIXELS, copies, same, tiny_config

pytestmark = pytest.mark.usefixtures("tiny")


class Normalised(nn.Module):
    """Of images in a row; the mean and the deviation are constants of the data."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((PIXELS,), 0.3))

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) - self.mean) / 0.4


class Constant(nn.Module):
    """What it returns is one number, whatever it is shown."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.value)


class AlwaysDrops(nn.Module):
    """Dropout in evaluation mode, too."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, 0.3)


class Log(nn.Module):
    """Of a parameter that must be above 0."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.full((16,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.value.log()


class StartsAtZero(nn.Linear):
    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


def own(patch: pytest.MonkeyPatch, name: str, *first: Any, width: int = 12, last: Any = nn.Linear) -> None:
    """A network of the parts `first`, which give 16 numbers, then ReLU, a layer of that width, ReLU, and the head."""

    def build(outputs: int, _stem: str) -> nn.Module:
        made = [part() for part in first]
        return nn.Sequential(*made, nn.ReLU(), nn.Linear(16, width), nn.ReLU(), last(width, outputs))

    patch.setitem(MODELS, name, image_classifier(build))


def first() -> nn.Module:
    return nn.Linear(PIXELS, 16)


def shared(source: str, target: str) -> list[tuple[str, str, str]]:
    config = tiny_config({"source.model.name": source, "target.model.name": target})
    return [(one.name, other.name, space) for one, other, space in sharing_pairs(config)]


@pytest.mark.parametrize(
    ("name", "begin", "head"),
    [("tiny_mlp", "1", "5"), ("tiny_cnn", "0", "9"), ("mlp", "fc1", "fc3"), ("resnet_small", "conv1", "fc")],
)
def test_only_first_layers_and_heads(name: str, begin: str, head: str) -> None:
    assert shared(name, name) == [(begin, begin, "inputs"), (head, head, "outputs")]


def test_auto_takes_no_layer_within() -> None:
    same = {"source.model.name": "tiny_plain_cnn", "target.model.name": "tiny_plain_cnn"}
    settings = {"transfer.pairs": "auto", "transfer.adapter.rank": 2}
    (pair,) = resolve_pairs(tiny_config(same | settings)).transfer.written_pairs
    assert (pair.source, pair.target, pair.align) == ("0", "0", "inputs")


def test_networks_that_begin_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    own(monkeypatch, "narrow", nn.Flatten, first)
    own(monkeypatch, "wide", nn.Flatten, first, width=24)
    assert shared("wide", "narrow") == [("1", "1", "inputs"), ("5", "5", "outputs")]
    settings = {"transfer.pairs": [{"source": "3", "target": "3"}], "transfer.adapter.kind": "linear"}
    found = diagnose(tiny_config({"source.model.name": "wide", "target.model.name": "narrow"} | settings))
    assert found["links"][0]["align"]["how"] == "numbers only"
    assert "no_meaning" in [finding["rule"] for finding in found["findings"]]


def test_weights_of_one_folder_do_not_count(tmp_path: Path) -> None:
    numbers = vocabulary(texts().source)
    assert numbers is not None
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    words = {"vocab_size": 1 + max(numbers.values()), "max_position_embeddings": 20}
    transformers.BertModel(transformers.BertConfig(**sizes, **words)).save_pretrained(tmp_path)
    both: dict[str, Any] = {"target.data": {"name": "emoji_names", "max_length": 12}}
    both |= {f"{side}.model": {"name": "bert", "weights": str(tmp_path)} for side in ("source", "target")}
    found = [(one.name, other.name, space) for one, other, space in sharing_pairs(texts(both))]
    assert (WORDS, WORDS, "inputs") in found
    assert all("embeddings" in name for name, _, space in found if space == "inputs")
    assert all(name == "classifier" for name, _, space in found if space == "outputs")


@pytest.mark.parametrize("before", [Normalised, nn.Flatten])
def test_what_comes_before_without_weights_does_not_matter(monkeypatch: pytest.MonkeyPatch, before: Any) -> None:
    own(monkeypatch, "one", before, first)
    own(monkeypatch, "other", before, first, width=24)
    for source, target in (("one", "one"), ("one", "other")):
        assert shared(source, target) == [("1", "1", "inputs"), ("5", "5", "outputs")]


@pytest.mark.parametrize("affine", [True, False])
def test_what_a_norm_has_learned_of_the_data_counts(monkeypatch: pytest.MonkeyPatch, affine: bool) -> None:
    own(monkeypatch, "norm", lambda: nn.BatchNorm2d(3, affine=affine), nn.Flatten, first)
    assert shared("norm", "norm") == [("6", "6", "outputs")]


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan"), float("inf")])
def test_one_number_throughout_says_nothing(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    own(monkeypatch, "constant", nn.Flatten, first, lambda: Constant(value))
    assert [pair for pair in shared("constant", "constant") if pair[2] == "inputs"] == [("1", "1", "inputs")]


def test_layers_that_start_at_zero_are_as_others(monkeypatch: pytest.MonkeyPatch) -> None:
    own(monkeypatch, "zero", nn.Flatten, lambda: StartsAtZero(PIXELS, 16), last=StartsAtZero)
    for target in ("zero", "tiny_mlp"):
        assert shared("zero", target) == [("1", "1", "inputs"), ("5", "5", "outputs")]


def test_parameters_that_must_be_positive_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    own(monkeypatch, "log", nn.Flatten, first, Log)
    target = tiny_config({"target.model.name": "log"}).target
    found = sight(network_key(target), description_of(target).spec, "target")
    assert all(found.received.values()), "no layer receives NaN"


def test_a_network_that_draws_in_evaluation_mode_says_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    own(monkeypatch, "drops", nn.Flatten, first, AlwaysDrops)
    for seed in (1, 2):
        sight.cache_clear()
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        assert shared("drops", "drops") == [("1", "1", "inputs"), ("6", "6", "outputs")]
        assert torch.equal(torch.get_rng_state(), state)


def test_one_network_shares_what_its_own_layers_share() -> None:
    itself = {"source.kind": "self", "target.model.name": "tiny_mlp"}
    config = tiny_config(itself | {"transfer.pairs": [{"source": "1", "target": "3"}]})
    found = [(one.name, other.name) for one, other, space in sharing_pairs(config) if space == "inputs"]
    assert found == [(name, name) for name in ("1", "3", "5")]


def test_looking_leaves_a_network_that_is_made_once_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    own(monkeypatch, "once", lambda: nn.BatchNorm2d(3), nn.Flatten, first)
    made = MODELS["once"].build(ModelConfig(name="once"), description_of(tiny_config().target).spec)
    monkeypatch.setitem(MODELS, "once", Architecture(lambda *_: made))
    before = copies(made.state_dict())
    assert shared("once", "tiny_mlp") == [("6", "5", "outputs")]
    assert same(made.state_dict(), before)
