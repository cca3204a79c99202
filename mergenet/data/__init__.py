"""Data sets by name, loaded once per process."""

from collections.abc import Callable
from functools import cache

from mergenet.config import DataConfig
from mergenet.config.registry import made
from mergenet.data.images.cifar import load_cifar10, load_cifar100
from mergenet.data.images.digits import load_digits, load_mnist5k
from mergenet.data.images.folders import load_folder
from mergenet.data.images.images import ImageData, Split
from mergenet.data.images.openmoji import load_openmoji

__all__ = ["DATASETS", "ImageData", "Split", "load_data"]

DATASETS: dict[str, Callable[[DataConfig], ImageData]] = {
    "openmoji": load_openmoji,
    "digits": load_digits,
    "mnist5k": load_mnist5k,
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "folder": load_folder,
}


@cache
def load_data(config: DataConfig) -> ImageData:
    """The data set that `config` names. Raises ConfigError for an unknown name, DataError for missing files."""
    return made("data.name", config.name, DATASETS, ImageData, config)
