"""A training's configuration: schema, loading, rules, messages, and the registry of names."""

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
