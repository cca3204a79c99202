"""Which layer of a network gives its outputs, found in a trial pass: networks register their layers in any order."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Call:
    """Of a layer in a pass."""

    name: str
    layer: nn.Module
    given: Tensor
    output: Tensor


def find_head(network: nn.Module, inputs: tuple[Tensor, ...], kinds: tuple[type[nn.Module], ...]) -> Call | None:
    """The call of the layer of these kinds whose output is what the network returns; else the last one of all.

    None if no such layer is called. Modes and torch's random generator stay as they are.
    """
    calls: list[Call] = []
    hooks = [
        layer.register_forward_hook(
            lambda layer, args, kwargs, output, name=name: calls.append(
                Call(name, layer, first_input(args, kwargs), output)
            ),
            with_kwargs=True,
        )
        for name, layer in network.named_modules()
        if isinstance(layer, kinds)
    ]
    training = network.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            returned = network.eval()(*inputs)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    same = [call for call in calls if call.output is returned]
    equal = [call for call in calls if isinstance(returned, Tensor) and _equal(call.output, returned)]
    return [None, *calls, *equal, *same][-1]


def first_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a layer of one input is given, by position or by name."""
    return next(iter((*args, *kwargs.values())))


def _equal(one: Tensor, other: Tensor) -> bool:
    """Also behind a change of shape or type."""
    return one.numel() == other.numel() and torch.equal(one.reshape(other.shape).to(other.dtype), other)
