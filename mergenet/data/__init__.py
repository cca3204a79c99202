"""Data sets by name, loaded once per process."""

from collections.abc import Callable
from functools import cache

from mergenet.config import DataConfig
from mergenet.config.choices import SHIPPED_IMAGES
from mergenet.config.registry import made, shipped
from mergenet.data.images.images import ImageData, Split

__all__ = ["DATASETS", "ImageData", "Split", "load_data"]

DATASETS: dict[str, Callable[[DataConfig], ImageData]] = shipped(SHIPPED_IMAGES)


@cache
def load_data(config: DataConfig) -> ImageData:
    """The data set that `config` names. Raises ConfigError for an unknown name, DataError for missing files."""
    return made("data.name", config.name, DATASETS, ImageData, config)
