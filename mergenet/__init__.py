"""MergeNet: knowledge moves between two networks by mapping parameters of one onto parameters of the other.

The public names load their modules when they are first used, so that `import mergenet` stays free of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mergenet.adapter import Adapter
    from mergenet.config import Config
    from mergenet.configfile import load_config
    from mergenet.data.images import ImageData, Split, image_data
    from mergenet.export import export_run
    from mergenet.layers import list_layers
    from mergenet.models import Architecture, build_model
    from mergenet.record import EpochResult
    from mergenet.run import train_run
    from mergenet.spec import Spec
    from mergenet.tasks import build_task
    from mergenet.trainer import Trainer, train

__version__ = "0.2.0"

_HOMES = {
    "Adapter": "mergenet.adapter",
    "Architecture": "mergenet.models",
    "Config": "mergenet.config",
    "EpochResult": "mergenet.record",
    "ImageData": "mergenet.data.images",
    "Spec": "mergenet.spec",
    "Split": "mergenet.data.images",
    "Trainer": "mergenet.trainer",
    "build_model": "mergenet.models",
    "build_task": "mergenet.tasks",
    "export_run": "mergenet.export",
    "image_data": "mergenet.data.images",
    "list_layers": "mergenet.layers",
    "load_config": "mergenet.configfile",
    "train": "mergenet.trainer",
    "train_run": "mergenet.run",
}

__all__ = [
    "Adapter",
    "Architecture",
    "Config",
    "EpochResult",
    "ImageData",
    "Spec",
    "Split",
    "Trainer",
    "__version__",
    "build_model",
    "build_task",
    "export_run",
    "image_data",
    "list_layers",
    "load_config",
    "train",
    "train_run",
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
