"""A map between the spaces of two layers that share none, estimated from activations on the target's examples. [ours]

Both networks see the same N training examples of the target, unaugmented, in evaluation mode, at the first transfer of
each epoch; no label is used, no random stream is touched. With the layers' inputs x_s, x_t (outputs y_s, y_t):

    inputs    a row w of the source's matrix is a function of x_s; in the target's coordinates it is the u for which
              u.x_t is nearest to w.x_s:    A_t = A_s C_st (C_tt + c I)^-1    ridge regression of x_s on x_t
    outputs   a row v is a direction of y_s; in the target's coordinates it is where y_t goes when y_s goes along v:
                                            A_t = A_s (C_ss + c I)^-1 C_st    ridge regression of y_t on y_s

with covariances C over examples and positions, c = RIDGE * mean diagonal. Activations of convolutions are patches
(channel, kernel row, kernel column) for `inputs` and channels for `outputs`; grids and sequences are averaged onto the
coarser of the two, at most GRID x GRID. R^2 is that of the second half of the examples under the map of the first.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, pad, unfold

from mergenet.errors import ConfigError
from mergenet.layers.matrices import Columns, Layer, layer_info
from mergenet.learner import distributed
from mergenet.learner.learner import Learner
from mergenet.learner.rng import Stream

EXAMPLES, BATCH = 512, 128
GRID = 4
RIDGE = 1e-2


class Estimated:
    """The map from the giving to the receiving layer's columns, (m, n), estimated again once per epoch."""

    def __init__(
        self,
        giver: tuple[nn.Module, Layer],
        receiver: tuple[nn.Module, Layer],
        columns: Columns,
        target: Learner,
        steps_per_epoch: int,
    ) -> None:
        """giver, receiver: each a network and its layer. target: the network whose examples both are shown."""
        assert columns != "kernel_rows"
        self.giver, self.receiver, self.columns, self.target = giver, receiver, columns, target
        self.steps_per_epoch = steps_per_epoch
        self.width = layer_info("", receiver[1]).matrix_in(columns)[1]
        self.epoch, self.found, self.r2 = -1, torch.empty(0), float("nan")

    def matrix(self, step: int) -> Tensor:
        """For the transfer before optimizer step `step`."""
        epoch = step // self.steps_per_epoch
        if epoch != self.epoch:
            source, target = self._activations()
            found, self.r2 = estimate(source, target, self.columns)
            self.found, self.epoch = distributed.broadcast_(found), epoch
        return self.found

    @torch.no_grad()
    def _activations(self) -> tuple[Tensor, Tensor]:
        """Of giver and receiver, each (examples * positions, width), rows of one example together."""
        task = self.target.task
        size = task.size("train")
        with Stream(0, "align").active():
            index = torch.randperm(size)[:EXAMPLES]
        parts = []
        with Stream(0, "align/forward", self.target.device).active():  # for networks that draw in evaluation mode, too
            for chunk in index.split(BATCH):
                batch = task.batch("train", chunk, self.target.device)
                arguments = tuple(batch[name] for name in task.spec.argument_names)
                grids = [activations(*side, arguments, self.columns) for side in (self.giver, self.receiver)]
                parts.append(on_one_grid(*grids))
        first, second = zip(*parts, strict=True)
        return torch.cat(first), torch.cat(second)

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "found": self.found, "r2": self.r2}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.r2 = state["epoch"], state["r2"]
        self.found = state["found"].to(self.target.device)


def activations(network: nn.Module, layer: Layer, arguments: tuple[Tensor, ...], columns: Columns) -> Tensor:
    """What the layer receives (`inputs`) or returns, (N, width, height, width of the grid), in evaluation mode.

    Of a layer that is called several times, at the first. Raises ConfigError if it is not called.
    """
    seen: list[Tensor] = []

    def note(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        seen.extend(inputs[:1] if columns == "inputs" else [output])

    training, hook = network.training, layer.register_forward_hook(note)
    try:
        network.eval()
        network(*arguments)
    finally:
        hook.remove()
        network.train(training)
    if not seen:
        name = next(name for name, module in network.named_modules() if module is layer)
        raise ConfigError(
            f"transfer.align must be none for {name}, got {columns!r}; its network does not call it with a tensor "
            "(torch's attention uses such weights directly), so that there are no activations to estimate a map from"
        )
    return grid_of(seen[0].float(), layer, columns)


def grid_of(seen: Tensor, layer: Layer, columns: Columns) -> Tensor:
    if isinstance(layer, nn.Conv2d):
        if columns == "outputs":
            return seen
        return patches_of(seen, layer)
    if seen.dim() == 2:
        return seen[:, :, None, None]
    return seen.flatten(1, -2).transpose(1, 2).unsqueeze(3)  # (N, positions, width) -> (N, width, positions, 1)


def patches_of(images: Tensor, layer: nn.Conv2d) -> Tensor:
    """What each output of a convolution is computed from: (N, i kh kw, output rows, output columns)."""
    left, right, top, bottom = layer._reversed_padding_repeated_twice
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = pad(images, (left, right, top, bottom), mode)
    patches = unfold(padded, layer.kernel_size, layer.dilation, 0, layer.stride)
    reach = layer.dilation[0] * (layer.kernel_size[0] - 1) + 1
    rows = (padded.shape[2] - reach) // layer.stride[0] + 1
    return patches.unflatten(2, (rows, -1))


def on_one_grid(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Two grids of N examples, averaged onto the coarser: (N * positions, width) each."""
    high, wide = (min(GRID, source.shape[axis], target.shape[axis]) for axis in (2, 3))

    def rows(grid: Tensor) -> Tensor:
        return adaptive_avg_pool2d(grid, (high, wide)).flatten(2).transpose(1, 2).flatten(0, 1)

    return rows(source), rows(target)


def estimate(source: Tensor, target: Tensor, columns: Columns) -> tuple[Tensor, float]:
    """The map (m, n) from the columns of the source's matrix to the target's, and its R^2 on examples held out.

    source (rows, m), target (rows, n): activations. R^2 is of x_s for `inputs`, of y_t for `outputs`; with fewer than
    four rows it is nan.
    """
    half = len(source) // 2
    regressors, answers = (target, source) if columns == "inputs" else (source, target)
    r2 = float("nan")
    if half > 1:
        r2 = r_squared(regressors, answers, half)
    found = ridge(regressors, answers)[0]
    return (found.T if columns == "inputs" else found).contiguous(), r2


def ridge(regressors: Tensor, answers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients (p, q) of answers (rows, q) on regressors (rows, p), and the means of both."""
    means = regressors.mean(dim=0), answers.mean(dim=0)
    x, y = (regressors - means[0]).double(), (answers - means[1]).double()
    covariance = x.T @ x / len(x)
    level = RIDGE * covariance.diagonal().mean().clamp_min(1e-12)
    covariance.diagonal().add_(level)
    return torch.linalg.solve(covariance, x.T @ y / len(x)).float(), *means


def r_squared(regressors: Tensor, answers: Tensor, half: int) -> float:
    """1 - |y - predicted|^2 / |y - mean|^2 over rows from `half` on, fitted on those before; may be below 0."""
    found, x_mean, y_mean = ridge(regressors[:half], answers[:half])
    rest = answers[half:] - y_mean
    left = rest - (regressors[half:] - x_mean) @ found
    return 1 - (left.square().sum() / rest.square().sum().clamp_min(1e-12)).item()
