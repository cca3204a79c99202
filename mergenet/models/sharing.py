"""Tensors of a network that share memory: tied weights, one module under two names, a buffer that is a weight."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


def named_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers under all their names, as in the state dict; without what has no memory yet."""
    parameters = network.named_parameters(remove_duplicate=False)
    found = dict(parameters) | dict(network.named_buffers(remove_duplicate=False))
    return {name: value for name, value in found.items() if not is_lazy(value) and value.numel() and not value.is_meta}


def same_tensors(network: nn.Module) -> list[list[str]]:
    """Groups of two and more names of one tensor, in network order."""
    groups: dict[object, list[str]] = {}
    for name, value in named_tensors(network).items():
        if value.layout == torch.strided:
            key = value.data_ptr(), value.shape, value.stride(), value.dtype
            groups.setdefault(key, []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def sharing(network: nn.Module, name: str) -> list[str]:
    """Names of the other tensors that lie, wholly or in part, in the memory of this one."""
    tensors = named_tensors(network)
    if name not in tensors:
        return []
    first, last = _extent(tensors[name])
    extents = {other: _extent(value) for other, value in tensors.items() if other != name}
    return [other for other, (start, end) in extents.items() if start < last and first < end]


def share_memory(one: Tensor, other: Tensor) -> bool:
    (first, last), (start, end) = _extent(one), _extent(other)
    return start < last and first < end


def _extent(value: Tensor) -> tuple[int, int]:
    """First address of a tensor, and the one behind its last; a tensor without strides has none."""
    if value.layout != torch.strided:
        return 0, 0
    reach = sum((size - 1) * step for size, step in zip(value.shape, value.stride(), strict=True)) + 1
    return value.data_ptr(), value.data_ptr() + reach * value.element_size()


@contextmanager
def kept_shared(network: nn.Module) -> Iterator[None]:
    """What is one tensor stays one while the network is moved; torch keeps one Parameter, and copies all else twice."""
    groups = same_tensors(network)
    yield
    tensors = named_tensors(network)
    for first, *others in groups:
        for name in others:
            path, _, own = name.rpartition(".")
            module, tensor = network.get_submodule(path), tensors[first]
            if tensors[name] is tensor:
                continue
            if own in module._buffers:
                module._buffers[own] = tensor.detach() if isinstance(tensor, nn.Parameter) else tensor
            else:
                tensors[name].data = tensor.detach()
