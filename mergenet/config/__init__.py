"""A training's configuration: its schema, how it is read, its rules and messages; names that resolve to code."""

from mergenet.config.schema import Config
from mergenet.config.sections import (
    AdapterConfig,
    DataConfig,
    DistillationConfig,
    ModelConfig,
    NetworkConfig,
    OptimizerConfig,
    PairConfig,
    Seed,
    Strict,
    TransferConfig,
)

__all__ = [
    "AdapterConfig",
    "Config",
    "DataConfig",
    "DistillationConfig",
    "ModelConfig",
    "NetworkConfig",
    "OptimizerConfig",
    "PairConfig",
    "Seed",
    "Strict",
    "TransferConfig",
]
