"""A training's configuration: schema, loading, rules, messages, and the registry of names.

Its classes are imported on first use, so that help does not load pydantic.
"""

from typing import TYPE_CHECKING

from mergenet.lazy import attach

if TYPE_CHECKING:
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

_HOMES = dict.fromkeys(__all__, "mergenet.config.sections") | {"Config": "mergenet.config.schema"}

__getattr__, __dir__ = attach(__name__, _HOMES)
