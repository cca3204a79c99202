"""Re-encoding: a layer's weight W (m x n) as W = B A + R, of which the adapter sees and writes A (R x n).

Three encodings with the same members, each bound to one layer:

* `Projected` [ours, default]: W stays full, B is an orthonormal basis fixed once, A = B^T W.
* `FactorizedView` [paper]: the layer is B A from the first step on (see `factorize`), A is trained.
* `Whole` [release]: no factors; "A" is the whole matrix. For `adapter.kind: full_matrix`.

Members:

* `factor_shape`: (rows, columns)
* `read()`: the factor, a detached fp32 copy
* `write_(factor)`: in place, so that the Parameter stays the one that optimizers and DDP know
* `grad()`: the loss's gradient with respect to the factor, from the last backward pass, or None
* `weight_parameter`: the Parameter whose optimizer state a write makes stale
* `read_from(weight)`: the factor of another weight of this layer, such as a recorded one
* `state_dict()`, `load_state_dict(state)`: what a checkpoint must carry

A basis is computed once and kept: (B, A) and (-B, -A) are the same weight but not the same input of an
adapter, so signs are fixed and no SVD runs again.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mergenet import distributed
from mergenet.config import AdapterConfig
from mergenet.errors import ConfigError
from mergenet.layers import Layer, matrix_shape, to_matrix, to_weight, unsuitable, weight_shape


class Projected:
    """W = B A + R with B (m x R) orthonormal and fixed, A = B^T W, R = W - B A untouched by writes. [ours]

    R is the rank, for convolutions rank * kernel height.
    """

    def __init__(self, layer: Layer, rank: int, path: str = "layer") -> None:
        """Raises ConfigError if the layer's matrix is too small for the rank."""
        rows = check_rank(layer, rank, path)
        left, _, _ = signed_svd(_matrix(layer.weight), rows)
        self.layer = layer
        basis = left.to(device=layer.weight.device, dtype=torch.float32).contiguous()
        self.basis = distributed.broadcast_(basis)  # an SVD on other hardware may differ
        self.factor_shape = rows, matrix_shape(weight_shape(layer))[1]

    @property
    def weight_parameter(self) -> nn.Parameter:
        return self.layer.get_parameter("weight")

    def read(self) -> Tensor:
        return self.read_from(self.layer.weight)

    @torch.no_grad()
    def read_from(self, weight: Tensor) -> Tensor:
        return self.basis.T @ _matrix(weight, self.basis.device)

    @torch.no_grad()
    def write_(self, factor: Tensor) -> None:
        """W <- W + B (A' - B^T W): exactly the identity if A' is what `read` returned."""
        weight = self.layer.weight
        change = self.basis @ (factor.to(self.basis) - self.read())
        weight.add_(to_weight(change, weight.shape).to(weight))

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


class Whole:
    """The whole matrix in place of a factor. [release]"""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.factor_shape = matrix_shape(weight_shape(layer))

    @property
    def weight_parameter(self) -> nn.Parameter:
        return self.layer.get_parameter("weight")

    def read(self) -> Tensor:
        return self.read_from(self.layer.weight)

    @torch.no_grad()
    def read_from(self, weight: Tensor) -> Tensor:
        return _matrix(weight, self.layer.weight.device)

    @torch.no_grad()
    def write_(self, factor: Tensor) -> None:
        self.layer.weight.copy_(to_weight(factor, self.layer.weight.shape))

    @torch.no_grad()
    def grad(self) -> Tensor | None:
        gradient = self.layer.weight.grad
        return None if gradient is None else self.read_from(gradient)

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        assert not state


class Factorized(nn.Module):
    """The parametrization weight = B A with B (m x R) and A (R x n) trained. [paper]"""

    def __init__(self, shape: tuple[int, ...], rows: int) -> None:
        super().__init__()
        self.shape, self.rows = shape, rows

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return to_weight(left @ right, self.shape)

    @torch.no_grad()
    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Balanced factors of the best approximation: B = U sqrt(S), A = sqrt(S) V^T."""
        left, scales, right = signed_svd(_matrix(weight), self.rows)
        root = scales.sqrt()
        return (left * root).to(weight).contiguous(), (root[:, None] * right).to(weight).contiguous()


def factorize(layer: nn.Module, rank: int, path: str = "layer") -> None:
    """Make the layer B A, starting from the best rank-R part of its weight. Twice is as once.

    To be called before optimizers and DDP collect parameters: two new ones take the place of the weight.
    `torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")` gives the plain layer back.
    Raises ConfigError if the layer's matrix is too small for the rank.
    """
    assert isinstance(layer, nn.Linear | nn.Conv2d), f"{path} {unsuitable(layer)}"
    if not is_factorized(layer):
        rows = check_rank(layer, rank, path)
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


Encoding = Projected | FactorizedView | Whole


def encode(layer: nn.Module, path: str, config: AdapterConfig) -> Encoding:
    """The encoding that the configuration asks for; `path` names the layer in messages.

    Raises ConfigError if the layer's matrix is too small for the rank.
    """
    assert isinstance(layer, nn.Linear | nn.Conv2d), f"{path} {unsuitable(layer)}"
    if config.kind == "full_matrix":
        return Whole(layer)
    if config.encoding == "factorized":
        return FactorizedView(layer)
    return Projected(layer, config.rank, path)


def check_rank(layer: Layer, rank: int, path: str) -> int:
    """Rows R of the factor: rank, for convolutions rank * kernel height.

    Raises ConfigError if that exceeds the smaller side of the layer's matrix.
    """
    shape = weight_shape(layer)
    height = shape[2] if len(shape) == 4 else 1
    m, n = matrix_shape(shape)
    limit = min(m, n) // height
    if not 1 <= rank <= limit:
        kernel = f", {height} kernel rows" if height > 1 else ""
        raise ConfigError(
            f"transfer.adapter.rank must be from 1 to {limit} for {path} (matrix {m} x {n}{kernel}), "
            f"got {rank}; set another rank or name another layer"
        )
    return rank * height


def signed_svd(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """U (m x R), S (R), V^T (R x n) of the R largest singular values, float64 on the CPU.

    Signs are fixed so that the entry of largest magnitude of each column of U is positive.
    """
    left, scales, right = torch.linalg.svd(matrix.detach().double().cpu(), full_matrices=False)
    left, scales, right = left[:, :rank], scales[:rank], right[:rank]
    peaks = left.gather(0, left.abs().argmax(dim=0, keepdim=True))
    signs = torch.where(peaks < 0, -1.0, 1.0).to(left)
    return left * signs, scales, right * signs.T


def _matrix(weight: Tensor, device: torch.device | None = None) -> Tensor:
    """The weight as an fp32 matrix, always a fresh contiguous copy.

    Products of equal numbers may differ in the last bit where strides or the alignment of memory differ; a
    copy has neither difference, so that a recorded weight gives bitwise the factor that the live one gave.
    """
    matrix = to_matrix(weight.detach())
    return matrix.to(device or weight.device, torch.float32, copy=True, memory_format=torch.contiguous_format)
