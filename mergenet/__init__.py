"""MergeNet: knowledge transfer between two networks by mapping parameters of one onto parameters of the other.

Public names are imported on first use, so that `import mergenet` does not load torch.
"""

from typing import TYPE_CHECKING

from mergenet.lazy import attach

if TYPE_CHECKING:
    from mergenet.config import Config
    from mergenet.config.loading import load_config
    from mergenet.config.spec import Spec
    from mergenet.data.images.images import ImageData, Split, image_data
    from mergenet.export.formats import export_run
    from mergenet.layers.matrices import list_layers
    from mergenet.models import Architecture, build_model
    from mergenet.records.run_record import EpochResult
    from mergenet.tasks import build_task
    from mergenet.training.run import train_run
    from mergenet.training.trainer import Trainer, train
    from mergenet.transfer.adapter import Adapter

__version__ = "0.2.0"
__distribution__ = "mergenet"

_HOMES = {
    "Adapter": "mergenet.transfer.adapter",
    "Architecture": "mergenet.models",
    "Config": "mergenet.config",
    "EpochResult": "mergenet.records.run_record",
    "ImageData": "mergenet.data.images.images",
    "Spec": "mergenet.config.spec",
    "Split": "mergenet.data.images.images",
    "Trainer": "mergenet.training.trainer",
    "build_model": "mergenet.models",
    "build_task": "mergenet.tasks",
    "export_run": "mergenet.export.formats",
    "image_data": "mergenet.data.images.images",
    "list_layers": "mergenet.layers.matrices",
    "load_config": "mergenet.config.loading",
    "train": "mergenet.training.trainer",
    "train_run": "mergenet.training.run",
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

__getattr__, __dir__ = attach(__name__, _HOMES)
