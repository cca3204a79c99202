"""The sweep file: its schema, how it is read, the training configuration that it starts from."""

from sweeps.config.schema import Limits, SweepConfig, WandbConfig

__all__ = ["Limits", "SweepConfig", "WandbConfig"]
