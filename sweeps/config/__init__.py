"""The sweep file: schema, loading, and the base training configuration."""

from sweeps.config.schema import Limits, SweepConfig, WandbConfig

__all__ = ["Limits", "SweepConfig", "WandbConfig"]
