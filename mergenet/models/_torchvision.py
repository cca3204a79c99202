"""torchvision, also beside a torch build that its compiled operators do not fit; imported once it is needed.

torchvision's wheels from PyPI hold operators for the CUDA build of torch. Beside a CPU-only torch the library
cannot be loaded, and `import torchvision` then stops at "operator torchvision::nms does not exist", because
it describes that operator's shapes without asking whether it is there. No model here uses these operators,
so their signatures are declared, without a kernel, and the import is tried again. Where torchvision
imports normally, nothing is declared.

That is done for the first import of torchvision whoever makes it, so also for transformers and for the user's modules,
from the moment in which this module is imported. The import takes more than a second: `Later` puts it off.
"""

import importlib
import re
import sys
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_MISSING = re.compile(r"operator torchvision::(q?nms) does not exist")
_declared: list[torch.library.Library] = []  # an operator lives as long as the library that declared it


class _Helped(Loader):
    """Runs torchvision's own module, declaring the operators whose absence stops it."""

    def __init__(self, theirs: Loader) -> None:
        self.theirs = theirs

    def __getattr__(self, name: str) -> Any:
        return getattr(self.theirs, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.theirs.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Raises whatever the import raises for any other reason."""
        while True:
            try:
                return self.theirs.exec_module(module)
            except RuntimeError as error:
                missing = _MISSING.fullmatch(str(error))
                # once declared an operator does exist, so the same message twice would be another fault
                if missing is None or hasattr(torch.ops.torchvision, missing[1]):
                    raise
                _declare(missing[1])


class _Finder:
    """Finds torchvision where Python does."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "torchvision":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Helped(spec.loader)
        return spec


def _declare(operator: str) -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define(operator + _SIGNATURE)
    _declared.append(library)
    for module in [m for m in sys.modules if m.startswith("torchvision.")]:
        del sys.modules[module]  # half imported


class Later:
    """Stands for a module of torchvision's, which is imported once something of it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what pickle, copy and inspect look for is not the module's
            raise AttributeError(name)
        return getattr(importlib.import_module(self._name), name)


sys.meta_path.insert(0, _Finder)
