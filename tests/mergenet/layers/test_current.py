"""The weight of a layer as it is now, where it is computed from others; reading it changes nothing."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from mergenet.config.spec import Spec
from mergenet.layers.current import current_weight, device_of
from mergenet.layers.matrices import LayerError, find_layer, list_layers
from tests.own_networks import WAYS, wrapped
from tests.tiny import copies, same


def layer_of(way: str) -> Any:
    """A layer in training, three forward passes and then a change of its parameters after it was made."""
    layer = wrapped(Spec("image", "classes", 10, image_size=8), way).b.train()
    for _ in range(3):
        layer(torch.randn(2, 12))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return layer


def used(layer: nn.Module) -> Tensor:
    """The weight of an evaluation."""
    state = copies(layer.state_dict())
    layer.eval()(torch.randn(2, 12))
    weight = layer.weight
    assert same(layer.state_dict(), state)
    layer.train()
    assert isinstance(weight, Tensor)
    return weight.detach()


@pytest.mark.parametrize("way", WAYS)
def test_it_is_what_an_evaluation_would_use(way: str) -> None:
    layer = layer_of(way)
    old = layer.__dict__.get("weight")
    found = current_weight(layer)
    assert not found.requires_grad
    assert old is None or not torch.equal(found, old)
    assert torch.equal(found, used(layer))


@pytest.mark.parametrize("way", WAYS)
def test_reading_changes_nothing(way: str) -> None:
    layer = layer_of(way)
    state, numbers, weight = copies(layer.state_dict()), torch.get_rng_state(), layer.__dict__.get("weight")
    tensors = [id(x) for module in layer.modules() for x in (*module._buffers.values(), *module._parameters.values())]
    first, second = current_weight(layer), current_weight(layer)
    assert torch.equal(first, second)
    assert same(layer.state_dict(), state)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert layer.__dict__.get("weight") is weight
    assert tensors == [
        id(x) for module in layer.modules() for x in (*module._buffers.values(), *module._parameters.values())
    ]
    assert all(module.training for module in layer.modules())


def test_a_parameter_is_returned_itself() -> None:
    for layer in (nn.Linear(3, 4), nn.Conv2d(3, 4, 3), nn.Embedding(3, 4)):
        assert current_weight(layer) is layer.weight
        assert device_of(layer) == layer.weight.device


def test_old_spectral_norm_that_has_not_run_yet_is_that_of_its_first_pass() -> None:
    """torch starts u and v at random: u W v is small then, and as often negative as positive."""
    for seed in range(8):
        torch.manual_seed(seed)
        layer = nn.utils.spectral_norm(nn.Linear(12, 12))
        state = copies(layer.state_dict())
        found = current_weight(layer)
        assert same(layer.state_dict(), state)
        layer.train()(torch.randn(2, 12))
        assert torch.equal(found, layer.weight.detach())


class Noise(nn.Module):
    """Adds noise, in evaluation too, and counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, weight: Tensor) -> Tensor:
        self.passes += 1
        return weight + torch.randn_like(weight)


def test_a_parametrization_of_the_users_that_draws_and_counts() -> None:
    layer: Any = nn.Linear(4, 4)
    parametrize.register_parametrization(layer, "weight", Noise())
    parametrize.register_parametrization(layer, "weight", nn.Dropout(0.5))
    numbers, passes = torch.get_rng_state(), layer.parametrizations.weight[0].passes.clone()
    first, second = current_weight(layer), current_weight(layer)
    assert torch.equal(first, second)
    assert first.count_nonzero() == first.numel(), "no dropout"
    assert torch.equal(torch.get_rng_state(), numbers)
    assert torch.equal(layer.parametrizations.weight[0].passes, passes)
    assert not first.requires_grad
    assert layer.weight.requires_grad


def test_a_parametrization_that_fails_leaves_mode_and_buffers() -> None:
    layer = layer_of("spectral_norm")
    layer.parametrizations.weight[0].register_forward_hook(lambda *_: 1 / 0)
    state = copies(layer.state_dict())
    with pytest.raises(ZeroDivisionError):
        current_weight(layer)
    assert same(layer.state_dict(), state)
    assert all(module.training for module in layer.modules())


def test_prunings_on_top_of_each_other() -> None:
    layer: Any = nn.Linear(12, 12)
    prune.random_unstructured(layer, "weight", 0.2)
    prune.l1_unstructured(layer, "weight", 0.5)
    prune.l1_unstructured(layer, "bias", 0.5)
    with torch.no_grad():
        layer.weight_orig.mul_(2)
    assert torch.equal(current_weight(layer), (layer.weight_orig * layer.weight_mask).detach())


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)


def test_a_weight_that_is_set_by_code_of_the_users_is_refused() -> None:
    net: Any = Net()
    theta = nn.Parameter(net.b.weight.detach().clone())
    del net.b.weight
    net.b.register_parameter("theta", theta)
    net.b.register_forward_pre_hook(lambda layer, _: setattr(layer, "weight", torch.tanh(layer.theta)))
    net.b(torch.zeros(1, 4))
    assert [layer.name for layer in list_layers(net)] == ["a"]
    message = (
        r"^source must be a Linear, an Embedding or an ungrouped Conv2d layer, got 'b', which has a plain tensor as "
        r"its weight, which may be old between two passes; compute it with torch\.nn\.utils\.parametrize, or name "
        "another layer$"
    )
    with pytest.raises(LayerError, match=message):
        find_layer(net, "b", "source")


def test_a_view_of_a_parameter_is_never_old() -> None:
    net: Any = Net()
    del net.b.weight
    net.b.weight = net.a.weight.T
    assert [layer.name for layer in list_layers(net)] == ["a", "b"]
    with torch.no_grad():
        net.a.weight.mul_(2)
    assert torch.equal(current_weight(find_layer(net, "b")), net.a.weight.T)


def test_a_weight_that_is_a_buffer_is_read_as_it_is() -> None:
    layer: Any = nn.Linear(4, 4, bias=False)
    weight = layer.weight.detach()
    del layer.weight
    layer.register_buffer("weight", weight)
    assert current_weight(layer) is layer.weight
    assert device_of(copy.deepcopy(layer)) == weight.device
