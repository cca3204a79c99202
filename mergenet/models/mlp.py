"""Multi-layer perceptrons for small images: the smallest networks whose first layers see the same inputs. [ours]"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mergenet.config import ModelConfig
from mergenet.config.spec import Spec
from mergenet.models.architecture import Architecture


class GreyMLP(nn.Module):
    """Images (N, 3, S, S), the mean of their channels, through linear layers fc1, fc2, ... with ReLU between them."""

    def __init__(self, image_size: int, hidden: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        sizes = (image_size**2, *hidden, num_outputs)
        self.names = [f"fc{number + 1}" for number in range(len(sizes) - 1)]
        for name, width, next_width in zip(self.names, sizes, sizes[1:], strict=False):
            self.add_module(name, nn.Linear(width, next_width))

    def forward(self, images: Tensor) -> Tensor:
        values = images.mean(dim=1).flatten(1)
        for name in self.names[:-1]:
            values = torch.relu(self.get_submodule(name)(values))
        return self.get_submodule(self.names[-1])(values)


def grey_mlp(*hidden: int) -> Callable[[ModelConfig, Spec], nn.Module]:
    """hidden: widths of the hidden layers."""
    return lambda _, spec: GreyMLP(spec.image_size, hidden, spec.num_outputs)


mlp = Architecture(grey_mlp(256, 128))
mlp_small = Architecture(grey_mlp(16))
