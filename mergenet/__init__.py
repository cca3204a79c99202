"""MergeNet: knowledge moves between two networks by mapping parameters of one onto parameters of the other.

The public names load their modules when they are first used, so that `import mergenet` stays free of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mergenet.adapter import Adapter
    from mergenet.config import Config
    from mergenet.configfile import load_config
    from mergenet.export import export_run
    from mergenet.layers import list_layers
    from mergenet.models import build_model
    from mergenet.record import EpochResult
    from mergenet.tasks import build_task
    from mergenet.trainer import Trainer, train

__version__ = "0.1.0"

_HOMES = {
    "Adapter": "mergenet.adapter",
    "Config": "mergenet.config",
    "EpochResult": "mergenet.record",
    "Trainer": "mergenet.trainer",
    "build_model": "mergenet.models",
    "build_task": "mergenet.tasks",
    "export_run": "mergenet.export",
    "list_layers": "mergenet.layers",
    "load_config": "mergenet.configfile",
    "train": "mergenet.trainer",
}

__all__ = [
    "Adapter",
    "Config",
    "EpochResult",
    "Trainer",
    "__version__",
    "build_model",
    "build_task",
    "export_run",
    "list_layers",
    "load_config",
    "train",
]


def __getattr__(name: str) -> object:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mergenet' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
