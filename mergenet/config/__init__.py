"""A training's configuration: schema, loading, rules, messages, and the registry of names.

Its classes are imported on first use, so that help does not load pydantic.
"""

from importlib import import_module
from typing import TYPE_CHECKING

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


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{'schema' if name == 'Config' else 'sections'}"), name)
    globals()[name] = value
    return value
