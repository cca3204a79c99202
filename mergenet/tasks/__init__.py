"""What a network learns: its data as batches, its loss, its metrics. Tasks by name."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from mergenet.config import NetworkConfig
from mergenet.errors import ConfigError, unknown_name
from mergenet.tasks.image_classification import ImageClassification

Batch = dict[str, Tensor]


class Task(Protocol):
    num_outputs: int  # of the network
    data_hash: str  # sha256, hex, of all splits
    metric: str  # the metric that selects; higher is better

    @property
    def metadata(self) -> dict[str, str]:
        """What a user of the exported network must know, stored beside its weights."""

    def size(self, split: str) -> int:
        """Examples in "train", "val" or "test"."""

    def batch(self, split: str, index: Tensor, device: torch.device, augment: bool = False) -> Batch:
        """The examples `index` (int64, (N,)) of a split, ready for the network.

        Augmentation draws from torch's global CPU generator.
        """

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss over the batch: a scalar with its graph."""

    def measure(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Sum over the batch of each metric and of "loss": float64 scalars without a graph."""


TASKS: dict[str, Callable[[NetworkConfig], Task]] = {"image_classification": ImageClassification}


def build_task(config: NetworkConfig) -> Task:
    """The task that a network's configuration names, with its data. Raises ConfigError for an unknown name."""
    if config.task not in TASKS:
        raise ConfigError(unknown_name("task", config.task, TASKS))
    return TASKS[config.task](config)
