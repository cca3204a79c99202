"""What a name of a network stands for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from mergenet.config import ModelConfig
from mergenet.config.spec import CLASSES, IMAGE, Spec


@dataclass(frozen=True)
class Architecture:
    """build: the network for a specification, initialised from torch's global generator.

    inputs, outputs: the specifications that it can meet.
    reads_folders: `build` itself loads `config.weights` where that is a folder, as save_pretrained writes it.
    sized_by_folder: such a folder gives the sizes, too.
    packaged: starting weights that a pip package brings, by their name in `config.weights` -> file or folder.
    renamed: maps the names of a published file's entries to those of this network.
    """

    build: Callable[[ModelConfig, Spec], nn.Module]
    inputs: str = IMAGE
    outputs: tuple[str, ...] = (CLASSES,)
    reads_folders: bool = False
    sized_by_folder: bool = False
    packaged: Mapping[str, Callable[[], Path]] = field(default_factory=dict)
    renamed: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict

    def fits(self, spec: Spec) -> bool:
        return spec.inputs == self.inputs and spec.outputs in self.outputs


def image_classifier(build: Callable[[int, str], nn.Module]) -> Architecture:
    """build: (number of classes, stem) -> network."""
    return Architecture(lambda config, spec: build(spec.num_outputs, config.stem))
