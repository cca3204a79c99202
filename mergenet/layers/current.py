"""The weight of a layer as its parameters are now, also where it is computed from others. Reading has no effect. [ours]

Old weight norm, old spectral norm and pruning compute a weight in a hook before each forward pass: between two passes
`layer.weight` is that of the last one, and before the first what the layer started with. A parametrization computes it
whenever it is read, and may change meanwhile: in training spectral norm does a power iteration at each reading.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from mergenet.learner.rng import Stream

HOOKS = WeightNorm, SpectralNorm, BasePruningMethod


def current_weight(layer: nn.Module) -> Tensor:
    """The layer's weight: the parameter itself where it is one, else its values as the layer is now, detached.

    Of spectral norm W / sigma, with the singular vectors as they are. Neither the layer nor a random stream changes.
    """
    own = layer._parameters.get("weight")
    if own is not None:
        return own
    if parametrize.is_parametrized(layer, "weight"):
        return parametrized_weight(layer)
    hooks = weight_hooks(layer)
    weight = weight_after(layer, hooks) if hooks else layer.weight
    assert isinstance(weight, Tensor)
    return weight


def device_of(layer: nn.Module) -> torch.device:
    """Where the layer is, without computing its weight."""
    own = layer._parameters.get("weight")
    tensors = itertools.chain([] if own is None else [own], layer.parameters(), layer.buffers())
    return next(tensors).device


def is_unknown(layer: nn.Module) -> bool:
    """Whether the weight is a plain tensor that code of the user's sets, so that it may be old at any time.

    A view of a parameter is never old.
    """
    weight = layer.__dict__.get("weight")
    if not isinstance(weight, Tensor) or weight_hooks(layer):
        return False
    return not isinstance(weight._base, nn.Parameter)


@torch.no_grad()
def parametrized_weight(layer: nn.Module) -> Tensor:
    """What the parametrizations make the weight in evaluation mode; one that draws numbers draws the same each time."""
    parametrizations = layer.get_submodule("parametrizations.weight")
    with unchanged(parametrizations), Stream(0, "current_weight", device_of(layer)).active():
        weight = parametrizations()
    assert isinstance(weight, Tensor)
    return weight


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, with copies of the buffers; afterwards mode and buffers are what they were."""
    before = [(part, part.training, part._buffers) for part in module.modules()]
    try:
        for part, _, buffers in before:
            part.training, part._buffers = False, copies(buffers)
        yield
    finally:
        for part, training, buffers in before:
            part.training, part._buffers = training, buffers


def copies(buffers: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    return {name: None if buffer is None else buffer.clone() for name, buffer in buffers.items()}


def weight_hooks(layer: nn.Module) -> list[Any]:
    """torch's hooks that compute the weight before each pass, in their order. Empty if there are none."""
    hooks: list[Any] = [hook for hook in layer._forward_pre_hooks.values() if isinstance(hook, HOOKS)]
    names = [hook._tensor_name if isinstance(hook, BasePruningMethod) else hook.name for hook in hooks]
    return hooks if "weight" in names else []


@torch.no_grad()
def weight_after(layer: nn.Module, hooks: list[Any]) -> Tensor:
    """What the hooks make the weight, found with a stand-in that has the layer's parameters and copies of its buffers.

    The stand-in is in evaluation mode, in which spectral norm does no power iteration, but for vectors that had none.
    """
    double: Any = object.__new__(type(layer))
    double.__dict__ = layer.__dict__ | {"_buffers": copies(layer._buffers)}
    for hook in hooks:
        double.training = isinstance(hook, SpectralNorm) and not has_iterated(hook, layer)
        hook(double, ())
    weight = double.weight
    assert isinstance(weight, Tensor)
    return weight


def has_iterated(hook: SpectralNorm, layer: nn.Module) -> bool:
    """Whether u is about W v, as after each iteration. torch starts both at random: sigma = u W v has any sign then."""
    matrix = hook.reshape_weight_to_matrix(getattr(layer, f"{hook.name}_orig"))
    u, v = (getattr(layer, f"{hook.name}_{name}") for name in "uv")
    return cosine_similarity(u, matrix @ v, dim=0).item() > 0.5
