"""The training configuration that the tests of sweeps vary: digits, seconds an epoch."""

from pathlib import Path
from typing import Any

from mergenet.config import Config
from mergenet.config.loading import dump_yaml, parse_config
from sweeps.config import SweepConfig
from sweeps.config.loading import parse_sweep
from sweeps.space.checks import build_space
from sweeps.space.space import Space

CONV = {"source": "layer3.0.conv2", "target": "features.5.conv.2"}
HEAD = {"source": "fc", "target": "classifier.1"}


def base_values(**changes: Any) -> dict[str, Any]:
    network = {
        "data": {"name": "digits", "image_size": 16, "train_fraction": 0.2},
        "optimizer": {"lr": 0.05},
        "augment": False,
    }
    return {
        "name": "tiny",
        "epochs": 2,
        "threads": 1,
        "device": "cpu",
        "source": network | {"model": {"name": "resnet_small"}},
        "target": network | {"model": {"name": "mobilenetv2_small"}},
        "transfer": {"t_cycle": 2, "pairs": [CONV], "adapter": {"rank": 4}},
    } | changes


def base_config(**changes: Any) -> Config:
    return parse_config(base_values(**changes), "the test's base")


def write_base(folder: Path) -> Path:
    path = folder / "base.yaml"
    path.write_text(dump_yaml(base_config()))
    return path


def sweep_config(search: dict[str, Any], **changes: Any) -> SweepConfig:
    fixed = {"name": "tiny", "base": "base.yaml", "search": search, "metric": "target_val_top1"}
    return parse_sweep(fixed | changes, "the test's sweep")


def space_of(search: dict[str, Any], **changes: Any) -> Space:
    return build_space(base_config(**changes), sweep_config(search).search)
