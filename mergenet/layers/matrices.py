"""The layers of a network that can send or receive: finding them by name, and their weights as matrices."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from mergenet.errors import ConfigError, unknown_name
from mergenet.layers.current import is_unknown

Layer = nn.Linear | nn.Conv2d | nn.Embedding
LAYERS = nn.Linear, nn.Conv2d, nn.Embedding

Columns = Literal["kernel_rows", "inputs", "outputs"]  # what a column of the matrix stands for


class LayerError(ConfigError):
    """A layer that was named does not exist or cannot take part in a transfer."""


@dataclass(frozen=True)
class LayerInfo:
    name: str  # as `model.named_modules()` gives it, and as configurations name it
    kind: str  # "linear", "conv" or "embedding"
    shape: tuple[int, ...]  # of the weight: (m, n), (o, i, kh, kw) or (words, width)
    matrix: tuple[int, int]  # of the weight as a matrix: (m, n), (o * kh, i * kw) or (width, words)
    parameters: int  # entries of the weight, without the bias
    computed_from: tuple[str, ...] = ()  # what the weight is computed from at each pass; such a layer cannot receive

    @property
    def largest_rank(self) -> int:
        """The largest rank of a re-encoding; per kernel row for convolutions."""
        return self.largest_rank_in("kernel_rows")

    def largest_rank_in(self, columns: Columns) -> int:
        """Of a re-encoding of the matrix with these columns; of `kernel_rows` per kernel row."""
        return min(self.matrix_in(columns)) // rows_per_rank(self.shape, columns)

    def matrix_in(self, columns: Columns) -> tuple[int, int]:
        return matrix_shape(self.shape, columns, self.kind == "embedding")


def find_layer(model: nn.Module, name: str, path: str = "layer") -> Layer:
    """The layer of `model` called `name`, one of its names; `path` is where the configuration says so.

    Raises LayerError if there is no such layer (the nearest names are listed) or if it has no weight matrix.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    if name not in modules:
        choice = (
            "; target.model.name chooses the network" if re.fullmatch(r"transfer\.pairs\.\d+\.target", path) else ""
        )
        known = unknown_name(path, name, [layer.name for layer in list_layers(model)])
        raise LayerError(f"{known} (layers of {type(model).__name__}{choice})")
    layer = modules[name]
    reason = unsuitable(layer)
    if reason:
        must = "a Linear, an Embedding or an ungrouped Conv2d layer"
        raise LayerError(f"{path} must be {must}, got {name!r}, which {reason}")
    assert isinstance(layer, LAYERS)
    return layer


def list_layers(model: nn.Module) -> list[LayerInfo]:
    """The layers that can take part in a transfer, in module order."""
    infos = []
    for name, layer in model.named_modules():
        if isinstance(layer, LAYERS) and not unsuitable(layer):
            infos.append(layer_info(name, layer))
    return infos


def layer_info(name: str, layer: Layer) -> LayerInfo:
    shape, kind = weight_shape(layer), kind_of_layer(layer)
    matrix = matrix_shape(shape, embedding=kind == "embedding")
    return LayerInfo(name, kind, shape, matrix, math.prod(shape), computed_from(layer))


def computed_from(layer: nn.Module) -> tuple[str, ...]:
    """Of a weight that is computed from others at each pass, their names: weight norm, spectral norm, pruning.

    What is written into such a weight would be gone with the next pass. Empty where the weight is trained itself.
    """
    if isinstance(layer._parameters.get("weight"), nn.Parameter):
        return ()
    if parametrize.is_parametrized(layer, "weight"):
        first = layer.get_submodule("parametrizations.weight.0")
        if getattr(first, "factors_are_written", False):  # of transfer/encodings.py, which may not be imported here
            return ()
    names = [name for name, _ in [*layer.named_parameters(), *layer.named_buffers()] if name != "bias"]
    return tuple(name for name in names if "weight" in name) or ("a hook",)


def check_receives(model: nn.Module, name: str, path: str) -> None:
    """Raises LayerError if the weight of this layer is computed from others, so that it can only give."""
    if found := computed_from(model.get_submodule(name)):
        others = [layer.name for layer in list_layers(model) if not layer.computed_from]
        raise LayerError(
            f"{path} must be a layer whose weight is trained itself, got {name!r}, whose weight is computed from "
            f"{', '.join(found)} at each pass, so that what is written into it would be lost; take "
            f"{' or '.join(others[:8]) if others else 'another network: this one has no other layer'}, or let it only "
            "give"
        )


def kind_of_layer(layer: Layer) -> str:
    kinds = {"conv": nn.Conv2d, "embedding": nn.Embedding}
    return next((kind for kind, of in kinds.items() if isinstance(layer, of)), "linear")


@torch.no_grad()
def layer_flops(model: nn.Module, forward: Callable[[], object]) -> tuple[int, dict[str, int]]:
    """FLOPs of `forward`, which calls `model`: in total, and of each candidate layer that was called.

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
    if not isinstance(layer, LAYERS):
        return f"is a {type(layer).__name__}"
    if isinstance(layer, LazyModuleMixin):
        return "has no weight before the first forward pass"
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        kind = "depthwise" if layer.groups == layer.in_channels else "grouped"
        return f"is a {kind} convolution ({layer.groups} groups): its weight is not one matrix"
    if isinstance(layer, nn.Embedding) and layer.sparse:
        return "has sparse gradients"
    if is_unknown(layer):
        return (
            "has a plain tensor as its weight, which may be old between two passes; compute it with "
            "torch.nn.utils.parametrize, or name another layer"
        )
    return ""


def weight_shape(layer: Layer) -> tuple[int, ...]:
    """Shape of the weight, without computing it where the layer is factorized."""
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    if isinstance(layer, nn.Embedding):
        return layer.num_embeddings, layer.embedding_dim
    return layer.out_channels, layer.in_channels, *layer.kernel_size


# ---------------------------------------------------------------- weights as matrices
#
# What the columns of a layer's matrix W stand for, and with them those of its factor A (W = B A):
#
#   columns        linear (m, n)    conv (o, i, kh, kw)        embedding (words, width)
#   kernel_rows    m x n            (o kh) x (i kw)            width x words       the [release]'s layout, LoRA's
#   inputs         m x n            o x (i kh kw)              width x words       columns: coordinates of the input
#   outputs        n x m            (i kh kw) x o              words x width       columns: coordinates of the output
#
# An embedding is the linear layer that its words, as one-hot vectors, go through. [ours, but for kernel_rows]


def matrix_shape(shape: Sequence[int], columns: Columns = "kernel_rows", embedding: bool = False) -> tuple[int, int]:
    """(rows, columns) of a weight of that shape as a matrix, by the table above."""
    if len(shape) == 2:
        rows, width = (shape[1], shape[0]) if embedding else (shape[0], shape[1])
    elif columns == "kernel_rows":
        rows, width = shape[0] * shape[2], shape[1] * shape[3]
    else:
        rows, width = shape[0], math.prod(shape[1:])
    return (width, rows) if columns == "outputs" else (rows, width)


def rows_per_rank(shape: Sequence[int], columns: Columns = "kernel_rows") -> int:
    """Rows of a factor for each unit of rank: 1, with `kernel_rows` the height of a convolution's kernel."""
    return shape[2] if len(shape) == 4 and columns == "kernel_rows" else 1


def to_matrix(weight: Tensor, columns: Columns = "kernel_rows", embedding: bool = False) -> Tensor:
    """A weight as a matrix, by the table above; no copy where none is needed.

    `kernel_rows`, of convolutions: rank r gives factors (o k x r k) and (r k x i k). [ours]: a row belongs to one
    output channel and kernel row, a column to one input channel and kernel column.
    """
    if weight.ndim == 2:
        matrix = weight.T if embedding else weight
    elif columns == "kernel_rows":
        matrix = weight.permute(0, 2, 1, 3).reshape(matrix_shape(weight.shape))
    else:
        matrix = weight.flatten(1)
    return matrix.T if columns == "outputs" else matrix


def to_weight(
    matrix: Tensor, shape: Sequence[int], columns: Columns = "kernel_rows", embedding: bool = False
) -> Tensor:
    """The inverse of `to_matrix` for a weight of the given shape."""
    if columns == "outputs":
        matrix = matrix.T
    if len(shape) == 2:
        return (matrix.T if embedding else matrix).reshape(*shape)
    if columns != "kernel_rows":
        return matrix.reshape(*shape)
    out_channels, in_channels, height, width = shape
    return matrix.reshape(out_channels, height, in_channels, width).permute(0, 2, 1, 3)
