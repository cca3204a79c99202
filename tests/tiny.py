"""Networks and configurations small enough to train in milliseconds, for tests that need the real thing.

`register` puts the networks into MODELS, which is how any project adds a network of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mergenet.config import Config
from mergenet.models import MODELS, image_classifier
from mergenet.records.checkpoint import pack, unpack

PIXELS = 3 * 8 * 8


def tiny_mlp(num_outputs: int, _stem: str) -> nn.Module:
    """Linear layers only, no BatchNorm and no dropout. Layers: 1, 3, 5."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(PIXELS, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, num_outputs)
    )


def tiny_cnn(num_outputs: int, _stem: str) -> nn.Module:
    """Convolutions with BatchNorm, and dropout. Layers: 0, 3, 9."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(8, num_outputs),
    )


def tiny_plain_cnn(num_outputs: int, _stem: str) -> nn.Module:
    """Convolutions without BatchNorm or dropout: what two workers compute equals what one does. Layers: 0, 2, 6."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, num_outputs),
    )


def register() -> None:
    for build in (tiny_mlp, tiny_cnn, tiny_plain_cnn):
        MODELS[build.__name__] = image_classifier(build)


@contextmanager
def set_up() -> Iterator[None]:
    """The networks registered, one thread; afterwards MODELS and torch's global settings are as they were."""
    models, threads = dict(MODELS), torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    register()
    yield
    MODELS.clear()
    MODELS.update(models)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def tiny_config(changes: dict[str, Any] | None = None) -> Config:
    """tiny_mlp -> tiny_cnn on 110 digits of 8x8, 6 steps an epoch, a transfer every 2; dotted paths change it."""
    data = {"name": "digits", "image_size": 8, "train_fraction": 0.085, "val_fraction": 0.05}
    values: dict[str, Any] = {
        "epochs": 2,
        "threads": 1,
        "device": "cpu",
        "target": {"model": {"name": "tiny_cnn"}, "data": data, "batch_size": 16},
        "source": {"model": {"name": "tiny_mlp"}, "data": data, "batch_size": 16},
        "transfer": {"t_cycle": 2, "pairs": [{"source": "3", "target": "9"}], "adapter": {"rank": 4, "depth": 1}},
    }
    values["target"]["optimizer"] = {"lr": 0.05}
    values["source"]["optimizer"] = {"lr": 0.05}
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        node = values
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = value
    return Config.model_validate(values)


def copies(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Bitwise the same names and tensors."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def without_times(metrics: dict[str, Any]) -> dict[str, Any]:
    """All that must be reproducible in an epoch's metrics or row."""
    return {name: value for name, value in metrics.items() if not str(name).startswith("seconds_")}


def snapshot(state: dict[str, Any]) -> dict[str, Any]:
    """A state as it comes back from a checkpoint: without a tensor that the living shares."""
    return unpack(*pack(state))


def equal(a: Any, b: Any) -> bool:
    """Bitwise equality of nested states, in which nan is nan; times in them do not count."""
    if isinstance(a, Tensor):
        return (
            isinstance(b, Tensor)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and bool(((a == b) | (a != a) & (b != b)).all())
        )
    if isinstance(a, dict):
        a, b = without_times(a), without_times(b)
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)
