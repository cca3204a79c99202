"""The training configuration that the tests of sweeps vary: digits, seconds an epoch; what a probe of it could find."""

from pathlib import Path
from typing import Any

from mergenet.config import Config
from mergenet.config.loading import dump_yaml, parse_config
from sweeps.config import SweepConfig
from sweeps.config.loading import parse_sweep
from sweeps.planning.probe import Measured
from sweeps.space.checks import build_space
from sweeps.space.space import Space

CONV = {"source": "layer3.0.conv2", "target": "features.5.conv.2"}
HEAD = {"source": "fc", "target": "classifier.1"}
MEASURED = Measured(  # what a probe of it could find
    device="cpu",
    steps=16,
    steps_per_epoch=10,
    setup=1.0,
    target=0.1,
    source=0.2,
    transfer=0.05,
    validate_target=2.0,
    validate_source=3.0,
    target_bytes=1000,
    source_bytes=5000,
    adapter_bytes=100,
    network_bytes=400,
    trained_adapter_bytes=30,
    layers_bytes=64,
    memory_bytes=10**9,
    gpu_memory_bytes=0,
)


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
