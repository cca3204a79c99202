"""torchvision, also beside a torch build that its compiled operators do not fit.

torchvision's wheels from PyPI hold operators for the CUDA build of torch. Beside a CPU-only torch the library
cannot be loaded, and `import torchvision` then stops at "operator torchvision::nms does not exist", because
it describes that operator's shapes without asking whether it is there. No model here uses these operators,
so their signatures are declared, without a kernel, and the import is tried again. Where torchvision
imports normally, nothing is declared. All of mergenet imports torchvision through this module, and only once a
network of it is built: the import takes more than a second.
"""

import importlib
import re
import sys
from types import ModuleType
from typing import Any

import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_MISSING = re.compile(r"operator torchvision::(q?nms) does not exist")
_declared: list[torch.library.Library] = []  # an operator lives as long as the library that declared it


def torchvision_module(name: str) -> ModuleType:
    """Import `name`, e.g. "torchvision.models.resnet", declaring the operators whose absence stops it.

    Raises whatever the import raises for any other reason.
    """
    while True:
        try:
            return importlib.import_module(name)
        except RuntimeError as error:
            missing = _MISSING.fullmatch(str(error))
            # once declared an operator does exist, so the same message twice would be another fault
            if missing is None or hasattr(torch.ops.torchvision, missing[1]):
                raise
            _declare(missing[1])


class Later:
    """Stands for a module of torchvision's, which is imported once something of it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what pickle, copy and inspect look for is not the module's
            raise AttributeError(name)
        return getattr(torchvision_module(self._name), name)


def _declare(operator: str) -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define(operator + _SIGNATURE)
    _declared.append(library)
    for module in [m for m in sys.modules if m == "torchvision" or m.startswith("torchvision.")]:
        del sys.modules[module]  # half imported
