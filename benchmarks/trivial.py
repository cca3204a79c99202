"""The lightest possible trial: a network of two layers on the 8 x 8 digits, one epoch of four steps.

It trains for milliseconds, so that the rest is the cost of the sweep itself.
"""

from pathlib import Path
from typing import Any

from torch import nn

from mergenet.config import ModelConfig
from mergenet.config.spec import Spec
from mergenet.config.yaml12 import dump_yaml_values
from mergenet.models import Architecture

WIDTH = 16


def build(config: ModelConfig, spec: Spec) -> nn.Module:
    del config
    inputs = 3 * spec.image_size**2
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, spec.num_outputs))


network = Architecture(build)

SEARCH = {
    "transfer.t_cycle": {"choice": [1, 2, 4]},
    "transfer.adapter.rank": {"int": [1, 8], "log": True},
    "transfer.adapter.gate": {"float": [0.02, 0.5], "log": True},
    "target.optimizer.lr": {"float": [0.01, 0.1], "log": True},
}


def base_values(epochs: int = 1) -> dict[str, Any]:
    """The training configuration, as plain values."""
    side = {
        "model": {"name": "benchmarks.trivial:network"},
        "data": {"name": "digits", "image_size": 8, "train_fraction": 0.2},
        "augment": False,
    }
    return {
        "name": "trivial",
        "epochs": epochs,
        "threads": 1,
        "device": "cpu",
        "source": side,
        "target": side,
        "transfer": {"t_cycle": 2, "pairs": [{"source": "1", "target": "1"}], "adapter": {"rank": 2}},
    }


def sweep_values(base: str, num_trials: int, **changes: Any) -> dict[str, Any]:
    """A sweep over it. base: the file that holds the configuration. Uses the cheapest sampler and no early stopping."""
    fixed = {"name": "trivial", "base": base, "search": SEARCH, "num_trials": num_trials, "confirm_seeds": 0}
    return fixed | {"sampler": "random", "scheduler": "none"} | changes


def write_sweep(folder: Path, num_trials: int, epochs: int = 1, **changes: Any) -> Path:
    """Writes the file of such a sweep, with its base beside it."""
    folder.mkdir(parents=True)
    base = folder / "base.yaml"
    base.write_text(dump_yaml_values(base_values(epochs)), encoding="utf-8")  # no defaults, so earlier commits read it
    sweep = folder / "sweep.yaml"
    values = sweep_values(str(base), num_trials, **changes)
    sweep.write_text(dump_yaml_values(values), encoding="utf-8")
    return sweep
