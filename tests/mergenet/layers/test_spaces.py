"""Which layers share a space as they are, by looking at real networks; embeddings that meet by word."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mergenet.config import Config
from mergenet.errors import ConfigError
from mergenet.layers import spaces
from mergenet.layers.spaces import shared_space, sharing_pairs, sight, vocabulary, words_of_target
from mergenet.models import MODELS, image_classifier
from mergenet.training.trainer import Trainer
from tests.mergenet.runs import WORDS, texts
from tests.tiny import tiny_config

pytestmark = pytest.mark.usefixtures("tiny")

DIGITS = {"name": "digits", "image_size": 8, "train_fraction": 0.085, "val_fraction": 0.05}


def images(changes: dict[str, Any] | None = None) -> Config:
    """mlp (fc1, fc2, fc3) -> mlp_small (fc1, fc2), both on digits."""
    networks = {"source.model.name": "mlp", "target.model.name": "mlp_small"}
    return tiny_config({**networks, "transfer.pairs": [{"source": "fc1", "target": "fc1"}], **(changes or {})})


def convolution(kernel: int, **more: Any) -> Any:
    """Layers: 0, a convolution of so large a kernel; 4, the classifier."""

    def build(outputs: int, _stem: str) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 5, kernel, **more), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, outputs)
        )

    return image_classifier(build)


class Twice(nn.Module):
    """Its first layer is called with the images, and again."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(192, 192), nn.Linear(192, outputs)

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(self.first(images.flatten(1)))
        return self.last(x) + 0 * self.last(-x)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, built in {
        "conv3": convolution(3),
        "conv3_strided": convolution(3, stride=2, padding=1),
        "conv3_dilated": convolution(3, dilation=2),
        "conv5": convolution(5),
        "twice": image_classifier(lambda outputs, _: Twice(outputs)),
    }.items():
        monkeypatch.setitem(MODELS, name, built)


# ---------------------------------------------------------------- inputs


@pytest.mark.parametrize(
    ("source", "target", "space"),
    [
        ("fc1", "fc1", "inputs"),
        ("fc3", "fc2", "outputs"),
        ("fc1", "fc2", "none"),
        ("fc2", "fc1", "none"),
        ("fc2", "fc2", "none"),
        ("fc9", "fc1", "none"),
        ("fc1", "", "none"),
    ],
)
def test_first_layers_share_the_pixels_and_last_ones_the_classes(source: str, target: str, space: str) -> None:
    assert shared_space(images(), source, target) == space


def test_all_pairs_that_share_a_space_are_listed_in_network_order() -> None:
    found = [(source.name, target.name, space) for source, target, space in sharing_pairs(images())]
    assert found == [("fc1", "fc1", "inputs"), ("fc3", "fc2", "outputs")]


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("source", "target", "space"),
    [
        (("conv3", "0"), ("conv3_strided", "0"), "inputs"),  # patches of one size, wherever they are taken
        (("conv3", "0"), ("conv3_dilated", "0"), "none"),  # nine pixels each, but others
        (("conv3_dilated", "0"), ("conv3_dilated", "0"), "inputs"),
        (("conv3", "0"), ("conv5", "0"), "none"),
        (("conv3", "4"), ("conv5", "4"), "outputs"),
        (("conv3", "0"), ("tiny_mlp", "1"), "none"),  # images and images in a row
        (("conv3", "4"), ("tiny_mlp", "5"), "outputs"),
    ],
)
def test_convolutions_share_patches_where_their_kernels_are_equally_large(
    source: tuple[str, str], target: tuple[str, str], space: str
) -> None:
    config = images({"source.model.name": source[0], "target.model.name": target[0]})
    assert shared_space(config, source[1], target[1]) == space


@pytest.mark.usefixtures("own")
def test_of_a_layer_that_is_called_twice_nothing_is_known() -> None:
    config = images({"source.model.name": "twice", "target.model.name": "twice"})
    assert [(s.name, t.name) for s, t, _ in sharing_pairs(config)] == []
    once = images({"source.model.name": "tiny_mlp", "target.model.name": "twice"})
    assert shared_space(once, "1", "first") == shared_space(once, "5", "last") == "none"


def test_images_of_other_sizes_are_other_inputs() -> None:
    config = images({"source.data": {**DIGITS, "image_size": 9}})
    for source, target in (("fc1", "fc1"), ("fc3", "fc2")):
        assert shared_space(config, source, target) == "none"


def test_classes_of_other_data_are_other_outputs_though_pixels_stay_pixels() -> None:
    config = images({"source.data": {"name": "mnist5k", "image_size": 8}})
    assert shared_space(config, "fc1", "fc1") == "inputs"
    assert shared_space(config, "fc3", "fc2") == "none"


def test_the_split_and_the_share_of_the_data_do_not_matter() -> None:
    config = images({"source.data": {**DIGITS, "train_fraction": 0.5, "split_seed": 7}})
    assert shared_space(config, "fc3", "fc2") == "outputs"


def test_a_network_that_is_its_own_source_shares_what_its_layers_share() -> None:
    config = images({"source.kind": "self", "transfer.pairs": [{"source": "fc2", "target": "fc1"}]})
    assert shared_space(config, "fc1", "fc1") == "inputs"
    assert shared_space(config, "fc2", "fc1") == "none"


def test_a_network_that_cannot_be_shown_the_examples_shares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = image_classifier(lambda outputs, _: nn.Sequential(nn.Flatten(), nn.Linear(7, outputs)))
    monkeypatch.setitem(MODELS, "broken", broken)
    assert shared_space(images({"source.model.name": "broken"}), "1", "fc1") == "none"


def test_looking_draws_nothing_and_leaves_the_settings() -> None:
    sight.cache_clear()
    torch.manual_seed(3)
    state, settings = torch.get_rng_state(), (torch.is_grad_enabled(), torch.get_num_threads(), torch.initial_seed())
    sharing_pairs(images())
    assert torch.equal(torch.get_rng_state(), state)
    assert (torch.is_grad_enabled(), torch.get_num_threads(), torch.initial_seed()) == settings


def test_weights_do_not_count() -> None:
    """Nothing is read from a file of weights; here there is none."""
    config = images({"source.model.weights": "nowhere.pth"})
    assert shared_space(config, "fc1", "fc1") == "inputs"


# ---------------------------------------------------------------- words

PLACES = "backbone.embeddings.position_embeddings"


def test_embeddings_of_the_same_words_share_them() -> None:
    config = texts({"target.data": {"name": "emoji_names", "max_length": 12}})
    assert words_of_target(config) is None, "both number them alike"
    assert shared_space(config, WORDS, WORDS) == shared_space(config, PLACES, PLACES) == "inputs"
    assert shared_space(config, WORDS, PLACES) == shared_space(config, PLACES, WORDS) == "none"


def test_embeddings_of_other_vocabularies_meet_by_word() -> None:
    config = texts()
    assert shared_space(config, WORDS, WORDS) == "inputs"
    ours, theirs = vocabulary(config.target), vocabulary(config.source)
    assert ours is not None
    assert theirs is not None
    assert len(ours) < len(theirs)
    numbers = words_of_target(config)
    assert numbers is not None
    assert {word: int(numbers[number]) for word, number in ours.items()} == {w: theirs.get(w, -1) for w in ours}


def test_positions_meet_where_there_are_equally_many() -> None:
    longer = texts({"source.data": {"name": "emoji_names", "max_length": 16}})
    assert shared_space(longer, PLACES, PLACES) == "none"
    assert shared_space(longer, WORDS, WORDS) == "inputs"


@pytest.mark.parametrize("direction", ["to_target", "to_source"])
def test_columns_of_what_is_shown_stand_at_the_receivers_words(direction: str) -> None:
    config = texts({"transfer.pairs": [{"source": WORDS, "target": WORDS, "direction": direction}]})
    trainer = Trainer(config)
    (link,) = trainer.transfer.links
    sides = [config.source, config.target]
    networks = [trainer.learners[1].network, trainer.learners[0].network]
    if direction == "to_source":
        sides, networks = sides[::-1], networks[::-1]
    theirs, ours = vocabulary(sides[0]), vocabulary(sides[1])
    assert theirs is not None
    assert ours is not None
    shown = link.giver.shown(0)
    assert shown.shape == (4, len(ours)) == link.giver.shape
    basis = link.giver.state_dict()["encoding"]["basis"]
    embedding = networks[0].get_parameter(f"{WORDS}.weight").detach()
    for word, number in ours.items():
        if word in theirs:
            torch.testing.assert_close(shown[:, number], basis.T @ embedding[theirs[word]], atol=1e-5, rtol=1e-4)
        else:
            assert not shown[:, number].any(), word
    unknown = [word for word in ours if word not in theirs]
    assert bool(unknown) == (direction == "to_source"), "or else the test looks at no such word"
    assert len(ours) - len(unknown) > 50


def test_positions_meet_by_number_whatever_the_vocabularies() -> None:
    config = texts({"transfer.pairs": [{"source": PLACES, "target": PLACES}]})
    assert words_of_target(config) is not None
    assert shared_space(config, PLACES, PLACES) == "inputs"
    trainer = Trainer(config)
    (link,) = trainer.transfer.links
    shown, basis = link.giver.shown(0), link.giver.state_dict()["encoding"]["basis"]
    positions = trainer.learners[1].network.get_parameter(f"{PLACES}.weight").detach()
    torch.testing.assert_close(shown, basis.T @ positions.T)


def test_a_layer_that_is_no_embedding_does_not_meet_one() -> None:
    config = texts({"transfer.pairs": [{"source": WORDS, "target": "classifier"}]})
    spec = spaces.description_of(config.target).spec
    for layer in sight(spaces.network_key(config.target), spec, "target").layers:
        if "embeddings" not in layer:
            assert shared_space(config, WORDS, layer) == "none"


def test_the_factorized_encoding_refuses_an_embedding() -> None:
    with pytest.raises(ConfigError) as caught:
        Trainer(texts({"transfer.adapter.encoding": "factorized"}))
    start = "transfer.adapter.encoding must be projected where an Embedding takes part, got 'factorized' and transfer."
    assert str(caught.value).startswith(start)
