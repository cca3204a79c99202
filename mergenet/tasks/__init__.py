"""What a network learns: its data as batches, its loss, its metrics. Tasks by name."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mergenet.config import NetworkConfig
from mergenet.config.choices import SHIPPED_TASKS
from mergenet.config.registry import made, shipped
from mergenet.config.spec import Spec
from mergenet.errors import ConfigError, DataError
from mergenet.tasks.contents import SPLITS

Batch = dict[str, Tensor]
Outputs = dict[str, Tensor]
Scores = dict[str, Tensor]


class Task(Protocol):
    spec: Spec  # of the network
    data_hash: str  # sha256, hex, of all splits
    metric: str  # the metric that selects; higher is better

    @property
    def metadata(self) -> dict[str, str]:
        """What a user of the exported network needs beside its specification, stored with its weights."""

    def size(self, split: str) -> int:
        """Examples in "train", "val" or "test"."""

    def batch(self, split: str, index: Tensor, device: torch.device, augment: bool = False) -> Batch:
        """The examples `index` (int64, (N,)) of a split, ready for the network.

        Augmentation draws from torch's global CPU generator.
        """

    def forward(self, model: nn.Module, batch: Batch) -> Outputs:
        """The network's outputs for a batch; tasks with classes name their logits "logits"."""

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Mean loss over the batch: a scalar with its graph."""

    def score(self, outputs: Outputs, batch: Batch) -> Scores:
        """All that `metrics` needs of each example: numeric tensors (N, ...) without a graph."""

    def metrics(self, split: str, scores: Scores) -> dict[str, float]:
        """From the scores of a whole split, in order (on the CPU): "loss", a mean, and metrics from 0 to 1."""

    # A task may also count what it learns from: contents() -> as mergenet.tasks.contents has it, but for the name


MEMBERS = ("spec", "data_hash", "metric", "metadata", "size", "batch", "forward", "loss", "score", "metrics")

TASKS: dict[str, Callable[[NetworkConfig], Task]] = shipped(SHIPPED_TASKS)


@dataclass(frozen=True)
class Description:
    """What layers, spaces and words follow from, and what a recording keeps of its source's task."""

    spec: Spec
    metadata: Mapping[str, str]


@dataclass
class Known:
    """What is known of networks within a `built_once`."""

    tasks: list[tuple[NetworkConfig, Task]] = field(default_factory=list)
    described: list[tuple[NetworkConfig, Description]] = field(default_factory=list)


_known: ContextVar[Known | None] = ContextVar("known", default=None)


@contextmanager
def built_once() -> Iterator[None]:
    """In the block each network's task, which reads its data, is built once: asked for again, it is the same one."""
    if _known.get() is not None:
        yield
        return
    token = _known.set(Known())
    try:
        yield
    finally:
        _known.reset(token)


def build_task(config: NetworkConfig) -> Task:
    """The task that a network's configuration names, with its data.

    Raises ConfigError for an unknown name, and for a user's own that lacks something; DataError for an empty split.
    """
    known = _known.get() or Known()
    for other, task in known.tasks:
        if other == config:
            return task
    task = _build(config)
    known.tasks.append((config, task))
    return task


def similar_task(config: NetworkConfig) -> Task:
    """A task for what settings of the training do not change: its specification, metadata, sizes and metric."""
    for other, task in (_known.get() or Known()).tasks:
        if _alike(other, config):
            return task
    return build_task(config)


def describe(config: NetworkConfig, description: Description) -> None:
    """Within a `built_once`: what is known of a network whose data need not be there."""
    if (known := _known.get()) is not None:
        known.described.append((config, description))


def description_of(config: NetworkConfig) -> Description:
    """Of a network that `describe` has told of; else of its task, which reads the data."""
    for other, description in (_known.get() or Known()).described:
        if _alike(other, config):
            return description
    task = similar_task(config)
    return Description(task.spec, task.metadata)


def _alike(one: NetworkConfig, other: NetworkConfig) -> bool:
    return (one.task, one.model, one.data) == (other.task, other.model, other.data)


def _build(config: NetworkConfig) -> Task:
    task = made("task", config.task, TASKS, object, config)
    lacking = [name for name in MEMBERS if not hasattr(task, name)]
    if lacking:
        raise ConfigError(f"task: {config.task} must have {', '.join(MEMBERS)}, and lacks {', '.join(lacking)}")
    for split in SPLITS:
        if not isinstance(size := task.size(split), int):
            got = f"{size!r} ({type(size).__name__})"
            raise ConfigError(f"task: size({split!r}) of {config.task} must be an int, got {got}")
        if size < 1:
            raise DataError(f"data.name: the split {split} of {config.data.name} must hold examples, got none")
    return task


def contents(task: Task, config: NetworkConfig) -> dict[str, Any]:
    """What the task of a network learns from, as `mergenet.tasks.contents` has it."""
    plain = {split: {"examples": task.size(split)} for split in SPLITS} | {"left_out": {}}
    counted = getattr(task, "contents", None)  # which a task of the user's own may lack
    return {"name": config.data.name} | (plain if counted is None else counted())
