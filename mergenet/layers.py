"""The layers of a network that can send or receive: finding them by name, and their weights as matrices."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from mergenet.errors import ConfigError, unknown_name

Layer = nn.Linear | nn.Conv2d


class LayerError(ConfigError):
    """A layer that was named does not exist or cannot take part in a transfer."""


@dataclass(frozen=True)
class LayerInfo:
    name: str  # as `model.named_modules()` gives it, and as configurations name it
    kind: str  # "linear" or "conv"
    shape: tuple[int, ...]  # of the weight: (m, n) or (o, i, kh, kw)
    matrix: tuple[int, int]  # of the weight as a matrix: (m, n) or (o * kh, i * kw)
    parameters: int  # entries of the weight, without the bias

    @property
    def largest_rank(self) -> int:
        """Of a re-encoding; per kernel row for convolutions."""
        return min(self.matrix) // (self.shape[2] if self.kind == "conv" else 1)


def find_layer(model: nn.Module, name: str, path: str = "layer") -> Layer:
    """The layer of `model` called `name`; `path` is where the configuration says so.

    Raises LayerError if there is no such layer (the nearest names are listed) or if it has no weight matrix.
    """
    modules = dict(model.named_modules())
    if name not in modules:
        raise LayerError(unknown_name(path, name, [layer.name for layer in list_layers(model)]))
    layer = modules[name]
    reason = unsuitable(layer)
    if reason:
        raise LayerError(f"{path} must be a Linear or an ungrouped Conv2d layer, got {name!r}, which {reason}")
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    return layer


def list_layers(model: nn.Module) -> list[LayerInfo]:
    """The layers that can take part in a transfer, in module order."""
    infos = []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and not unsuitable(layer):
            shape = weight_shape(layer)
            kind = "conv" if isinstance(layer, nn.Conv2d) else "linear"
            infos.append(LayerInfo(name, kind, shape, matrix_shape(shape), math.prod(shape)))
    return infos


@torch.no_grad()
def layer_flops(model: nn.Module, forward: Callable[[], object]) -> tuple[int, dict[str, int]]:
    """FLOPs of `forward`, which calls `model`: all of them, and those of each candidate layer that was called.

    torch's counter: 2 for a multiplication and an addition, of matrix products, convolutions and attention only.
    """
    from torch.utils.flop_counter import FlopCounterMode  # slow to import

    with FlopCounterMode(display=False) as counter:
        forward()
    counts, root = counter.get_flop_counts(), type(model).__name__
    by_name = {layer.name: counts.get(f"{root}.{layer.name}") for layer in list_layers(model)}
    return counter.get_total_flops(), {name: sum(found.values()) for name, found in by_name.items() if found}


def unsuitable(layer: nn.Module) -> str:
    """Why a module cannot take part in a transfer; empty if it can."""
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        return f"is a {type(layer).__name__}"
    if isinstance(layer, LazyModuleMixin):
        return "has no weight before the first forward pass"
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        kind = "depthwise" if layer.groups == layer.in_channels else "grouped"
        return f"is a {kind} convolution ({layer.groups} groups): its weight is not one matrix"
    return ""


def weight_shape(layer: Layer) -> tuple[int, ...]:
    """Shape of the weight, without computing it where the layer is factorized."""
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    return layer.out_channels, layer.in_channels, *layer.kernel_size


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """(m, n) -> (m, n); (o, i, kh, kw) -> (o * kh, i * kw)."""
    if len(shape) == 2:
        return shape[0], shape[1]
    out_channels, in_channels, height, width = shape
    return out_channels * height, in_channels * width


def to_matrix(weight: Tensor) -> Tensor:
    """A weight as a matrix: (m, n) as it is; (o, i, kh, kw) -> (o * kh, i * kw).

    The size is the [release]'s (and LoRA's): rank r gives factors (o k x r k) and (r k x i k). [ours]: a row
    belongs to one output channel and kernel row, a column to one input channel and kernel column.
    """
    if weight.ndim == 2:
        return weight
    return weight.permute(0, 2, 1, 3).reshape(matrix_shape(weight.shape))


def to_weight(matrix: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of `to_matrix` for a weight of the given shape."""
    if len(shape) == 2:
        return matrix.reshape(*shape)
    out_channels, in_channels, height, width = shape
    return matrix.reshape(out_channels, height, in_channels, width).permute(0, 2, 1, 3)
