"""Re-encoding: a layer's weight W (m x n) as W = B A + R, of which the adapter sees and writes A (R x n).

Four encodings with the same members, each bound to one layer:

* `Projected` [ours, default]: W stays full, B is an orthonormal basis fixed once, A = B^T W.
* `Followed` [ours]: the same for a layer that gives and learns, with B following its weight. It cannot be written.
* `FactorizedView` [paper]: the layer is B A from the first step on (see `factorize`), A is trained.
* `Whole` [release]: no factors; "A" is the whole matrix. For `adapter.kind: full_matrix`, and what `linear` writes.

Members:

* `factor_shape`: (rows, columns)
* `read()`: the factor, a detached fp32 copy
* `write_(factor)`: in place, so that the Parameter stays the one that optimizers and DDP know
* `grad()`: the loss's gradient with respect to the factor, from the last backward pass, or None
* `weight_parameter`: the Parameter whose optimizer state a write makes stale
* `read_from(weight)`: the factor of another weight of this layer, such as a recorded one
* `state_dict()`, `load_state_dict(state)`: what a checkpoint must hold

A receiver's basis is computed once and kept: (B, A) and (-B, -A) are the same weight but not the same input of an
adapter, so signs are fixed and no SVD runs again. What rows and columns of W are is the table in layers/matrices.py.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mergenet.config import AdapterConfig
from mergenet.config.choices import ENCODINGS, KINDS
from mergenet.errors import ConfigError
from mergenet.layers.current import current_weight, device_of
from mergenet.layers.matrices import (
    LAYERS,
    Columns,
    Layer,
    LayerInfo,
    layer_info,
    rows_per_rank,
    to_matrix,
    to_weight,
    unsuitable,
    weight_shape,
)
from mergenet.learner import distributed
from mergenet.transfer.subspace import follow, leading_basis, signed_svd


class View:
    """A layer's weight as a matrix (m x n) and back.

    words: int64 (n,), for each column its index in the layer's own matrix, -1 for a column of zeros; then there is no
    way back. None: all columns as they are.
    """

    def __init__(self, layer: Layer, columns: Columns = "kernel_rows", words: Tensor | None = None) -> None:
        self.layer, self.columns, self.words = layer, columns, words
        self.embedding = isinstance(layer, nn.Embedding)

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = layer_info("", self.layer).matrix_in(self.columns)
        return rows, columns if self.words is None else len(self.words)

    @property
    def weight_parameter(self) -> nn.Parameter:
        return self.layer.get_parameter("weight")

    def matrix(self, weight: Tensor, device: torch.device | None = None) -> Tensor:
        """A weight of this layer as an fp32 matrix, always a fresh contiguous copy.

        Products of equal numbers may differ in the last bit where strides or the alignment of memory differ; a
        copy has neither difference, so that a recorded weight gives bitwise the factor that the live one gave.
        """
        matrix = to_matrix(weight.detach(), self.columns, self.embedding)
        if self.words is not None:
            words = self.words.to(matrix.device)
            matrix = torch.where(words >= 0, matrix[:, words.clamp_min(0)], 0.0)
        return matrix.to(device or weight.device, torch.float32, copy=True, memory_format=torch.contiguous_format)

    def weight(self, matrix: Tensor) -> Tensor:
        assert self.words is None
        return to_weight(matrix, self.layer.weight.shape, self.columns, self.embedding)

    def grad(self) -> Tensor | None:
        """The loss's gradient with respect to the matrix."""
        gradient = self.layer.weight.grad
        return None if gradient is None else self.matrix(gradient)


@contextmanager
def padding_kept(layer: Layer) -> Iterator[None]:
    """The vector of an embedding's padding stays what it is: torch never trains it, and networks may count on 0."""
    index = layer.padding_idx if isinstance(layer, nn.Embedding) else None
    kept = None if index is None else layer.weight[index].clone()
    yield
    if index is not None and kept is not None:
        layer.weight[index] = kept


class Projected:
    """W = B A + R with B (m x R) orthonormal and fixed, A = B^T W, R = W - B A untouched by writes. [ours]

    R is the rank, with columns `kernel_rows` rank * kernel height.
    """

    def __init__(
        self,
        layer: Layer,
        rank: int,
        path: str = "layer",
        columns: Columns = "kernel_rows",
        words: Tensor | None = None,
    ) -> None:
        """Raises ConfigError if the layer's matrix is too small for the rank."""
        self.layer, self.view = layer, View(layer, columns, words)
        rows = check_rank(self.view, rank, path)
        matrix = self.view.matrix(current_weight(layer))
        self.basis = distributed.broadcast_(leading_basis(matrix, rows))  # an SVD on other hardware may differ
        self.factor_shape = rows, matrix.shape[1]

    @property
    def weight_parameter(self) -> nn.Parameter:
        return self.view.weight_parameter

    def read(self) -> Tensor:
        return self.read_from(current_weight(self.layer))

    @torch.no_grad()
    def read_from(self, weight: Tensor) -> Tensor:
        return self.factor(self.view.matrix(weight, self.basis.device))

    def factor(self, matrix: Tensor) -> Tensor:
        return self.basis.T @ matrix

    @torch.no_grad()
    def write_(self, factor: Tensor) -> None:
        """W <- W + B (A' - B^T W), but for padding: exactly the identity if A' is what `read` returned."""
        weight = self.layer.weight
        change = self.basis @ (factor.to(self.basis) - self.read())
        with padding_kept(self.layer):
            weight.add_(self.view.weight(change).to(weight))

    @torch.no_grad()
    def grad(self) -> Tensor | None:
        """dL/dA = B^T dL/dW."""
        gradient = self.layer.weight.grad
        return None if gradient is None else self.read_from(gradient)

    def state_dict(self) -> dict[str, Tensor]:
        return {"basis": self.basis}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        assert state["basis"].shape == self.basis.shape
        self.basis = state["basis"].to(self.basis, copy=True)


class Followed:
    """A = B^T W of a layer that gives, with B the leading left singular vectors of W as it is at each reading. [ours]

    Each reading moves the basis on (subspace.py), so it is part of a run's state. Nothing can be written.
    """

    def __init__(
        self,
        layer: Layer,
        rank: int,
        path: str = "layer",
        columns: Columns = "kernel_rows",
        words: Tensor | None = None,
    ) -> None:
        """Raises ConfigError if the layer's matrix is too small for the rank."""
        self.layer, self.view = layer, View(layer, columns, words)
        self.factor_shape = check_rank(self.view, rank, path), self.view.shape[1]
        self.basis: Tensor | None = None  # before the first reading

    def read(self) -> Tensor:
        return self.read_from(current_weight(self.layer))

    @torch.no_grad()
    def read_from(self, weight: Tensor) -> Tensor:
        return self.factor(self.view.matrix(weight, device_of(self.layer)))

    def factor(self, matrix: Tensor) -> Tensor:
        """Of the layer's weight, as a matrix, after the basis has moved on to it."""
        found = leading_basis(matrix, self.factor_shape[0]) if self.basis is None else follow(self.basis, matrix)
        self.basis = distributed.broadcast_(found)
        return self.basis.T @ matrix

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self.basis is None else {"basis": self.basis}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.basis = state["basis"].to(device_of(self.layer), copy=True) if state else None


class Whole:
    """The whole matrix in place of a factor. [release]"""

    def __init__(self, layer: Layer, columns: Columns = "kernel_rows", words: Tensor | None = None) -> None:
        self.layer, self.view = layer, View(layer, columns, words)
        self.factor_shape = self.view.shape

    @property
    def weight_parameter(self) -> nn.Parameter:
        return self.view.weight_parameter

    def read(self) -> Tensor:
        return self.read_from(current_weight(self.layer))

    def read_from(self, weight: Tensor) -> Tensor:
        return self.view.matrix(weight, device_of(self.layer))

    @torch.no_grad()
    def write_(self, factor: Tensor) -> None:
        with padding_kept(self.layer):
            self.layer.weight.copy_(self.view.weight(factor))

    def grad(self) -> Tensor | None:
        return self.view.grad()

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        assert not state


class Factorized(nn.Module):
    """The parametrization weight = B A with B (m x R) and A (R x n) trained. [paper]"""

    factors_are_written = True  # a transfer writes A, so that such a layer receives although its weight is computed

    def __init__(self, shape: tuple[int, ...], rows: int) -> None:
        super().__init__()
        self.shape, self.rows = shape, rows

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return to_weight(left @ right, self.shape)

    @torch.no_grad()
    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Balanced factors of the best approximation: B = U sqrt(S), A = sqrt(S) V^T."""
        left, scales, right = signed_svd(to_matrix(weight.float()), self.rows)
        root = scales.sqrt()
        return (left * root).to(weight).contiguous(), (root[:, None] * right).to(weight).contiguous()


def factorize(layer: nn.Module, rank: int, path: str = "layer") -> None:
    """Make the layer B A, starting from the best rank-R part of its weight. A second call changes nothing.

    To be called before optimizers and DDP collect parameters: two new ones take the place of the weight.
    `torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")` gives the plain layer back.
    Raises ConfigError if the layer's matrix is too small for the rank, and for an embedding.
    """
    assert isinstance(layer, LAYERS), f"{path} {unsuitable(layer)}"
    if isinstance(layer, nn.Embedding):
        must = "transfer.adapter.encoding must be projected where an Embedding takes part"
        raise ConfigError(f"{must}, got 'factorized' and {path}; it looks rows up, and has no product to factorize")
    if not is_factorized(layer):
        rows = check_rank(View(layer), rank, path)
        parametrize.register_parametrization(layer, "weight", Factorized(weight_shape(layer), rows))


def is_factorized(layer: nn.Module) -> bool:
    if not parametrize.is_parametrized(layer, "weight"):
        return False
    return isinstance(layer.get_submodule("parametrizations.weight.0"), Factorized)


class FactorizedView:
    """A of a layer that `factorize` has made B A."""

    def __init__(self, layer: Layer) -> None:
        assert is_factorized(layer), "call factorize(layer, rank) before optimizers and DDP are built"
        self.weight_parameter: nn.Parameter = layer.get_parameter("parametrizations.weight.original1")
        rows, columns = self.weight_parameter.shape
        self.factor_shape = rows, columns

    def read(self) -> Tensor:
        return self.weight_parameter.detach().float().clone()

    def read_from(self, weight: Tensor) -> Tensor:
        raise AssertionError(f"a factorized layer has no factor of another weight, shape {tuple(weight.shape)}")

    @torch.no_grad()
    def write_(self, factor: Tensor) -> None:
        self.weight_parameter.copy_(factor)

    def grad(self) -> Tensor | None:
        gradient = self.weight_parameter.grad
        return None if gradient is None else gradient.detach().float().clone()

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        assert not state


Receiving = Projected | FactorizedView | Whole
Encoding = Receiving | Followed


@dataclass(frozen=True)
class Encoder:
    """How an encoding is bound to a layer; the second argument is its path in messages.

    receives: for a layer that is written. gives: for one that is shown; learns: its weight changes while the run goes
    on; words: as of a View. Both raise ConfigError if the layer's matrix is too small for the rank.
    """

    receives: Callable[[Layer, str, AdapterConfig, Columns], Receiving]
    gives: Callable[[Layer, str, AdapterConfig, Columns, bool, Tensor | None], Encoding]


def projected(layer: Layer, path: str, config: AdapterConfig, columns: Columns) -> Receiving:
    return Projected(layer, config.rank, path, columns)


def shown_projected(
    layer: Layer, path: str, config: AdapterConfig, columns: Columns, learns: bool, words: Tensor | None
) -> Encoding:
    following = learns and config.source_basis == "current"
    return (Followed if following else Projected)(layer, config.rank, path, columns, words)


ENCODERS: dict[str, Encoder] = {  # the names are those of config/choices.py
    "projected": Encoder(projected, shown_projected),
    "factorized": Encoder(lambda layer, *_: FactorizedView(layer), lambda layer, *_: FactorizedView(layer)),
}


def encode(layer: nn.Module, path: str, config: AdapterConfig, columns: Columns = "kernel_rows") -> Receiving:
    """The encoding of a layer that receives; `path` names the layer in messages.

    Raises ConfigError if the layer's matrix is too small for the rank.
    """
    assert isinstance(layer, LAYERS), f"{path} {unsuitable(layer)}"
    if writes_all(config):
        return Whole(layer, columns)
    return ENCODERS[config.encoding].receives(layer, path, config, columns)


def encode_giver(
    layer: nn.Module,
    path: str,
    config: AdapterConfig,
    columns: Columns = "kernel_rows",
    learns: bool = True,
    words: Tensor | None = None,
) -> Encoding:
    """The encoding of a layer that gives. learns: its weight changes while the run goes on. words: as of a View.

    Raises ConfigError if the layer's matrix is too small for the rank.
    """
    assert isinstance(layer, LAYERS), f"{path} {unsuitable(layer)}"
    if KINDS[config.kind].shows_whole and not ENCODINGS[config.encoding].trains_factors:
        return Whole(layer, columns, words)
    return ENCODERS[config.encoding].gives(layer, path, config, columns, learns, words)


def writes_all(config: AdapterConfig) -> bool:
    """Whether a receiver's whole matrix is written: there are no factors, or `linear`, which takes rows by themselves.

    A linear adapter maps each row of the matrix alike, so a basis that combines rows would only leave rows out.
    """
    return KINDS[config.kind].writes_whole and not ENCODINGS[config.encoding].trains_factors


def has_rank(config: AdapterConfig, gives: bool) -> bool:
    """Whether a layer that gives, or only receives, is cut to the rank."""
    return not KINDS[config.kind].shows_whole if gives else not writes_all(config)


def giver_shape(layer: LayerInfo, config: AdapterConfig, columns: Columns) -> tuple[int, int]:
    """Of what an adapter is shown of a layer."""
    matrix = layer.matrix_in(columns)
    if KINDS[config.kind].shows_whole:
        return matrix
    return config.rank * rows_per_rank(layer.shape, columns), matrix[1]


def receiver_shape(layer: LayerInfo, config: AdapterConfig, columns: Columns) -> tuple[int, int]:
    """Of what an adapter writes of a layer."""
    return layer.matrix_in(columns) if writes_all(config) else giver_shape(layer, config, columns)


def check_rank(view: View, rank: int, path: str) -> int:
    """Rows R of the factor: rank, with columns `kernel_rows` rank * kernel height.

    Raises ConfigError if that exceeds the smaller side of the layer's matrix.
    """
    m, n = view.shape
    height = rows_per_rank(weight_shape(view.layer), view.columns)
    limit = min(m, n) // height
    if not 1 <= rank <= limit:
        kernel = f", {height} kernel rows" if height > 1 else ""
        raise ConfigError(
            f"transfer.adapter.rank must be from 1 to {limit} for {path} (matrix {m} x {n}{kernel}), "
            f"got {rank}; set another rank or name another layer"
        )
    return rank * height
