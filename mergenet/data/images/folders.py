"""Any folder of images: <root>/train/<class>/*.png, and if there are, <root>/val and <root>/test likewise."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mergenet.config import DataConfig
from mergenet.data.images.images import ImageData, Split, image_data
from mergenet.data.splits import TEST_FRACTION, hold_out, subsample
from mergenet.errors import ConfigError, DataError

SUFFIXES = (".png", ".jpg", ".jpeg")


def load_folder(config: DataConfig) -> ImageData:
    """Classes are the sub-folders of train, in alphabetical order.

    A missing test folder is made up for by 15 % of train, a missing val folder by `val_fraction` of what is
    left, both stratified and by seed. Images are resized to squares, whatever their shape.
    """
    if config.root is None:
        raise ConfigError("data.root must name the folder with train/<class>/*.png, got None")
    root = Path(config.root)
    classes = _classes(root)
    train = _read(root / "train", classes, config.image_size)
    held_out = {}
    for name, fraction in (("test", TEST_FRACTION), ("val", config.val_fraction)):
        if (root / name).is_dir():
            held_out[name] = _read(root / name, classes, config.image_size)
        else:
            held, kept = hold_out(train.labels, fraction, config.split_seed)
            held_out[name], train = train.take(held), train.take(kept)
    train = subsample(train, config.train_fraction, config.split_seed)
    return image_data(train, held_out["val"], held_out["test"], classes)


def _classes(root: Path) -> list[str]:
    if not (root / "train").is_dir():
        raise DataError(f"data.root must hold train/<class>/*.png or *.jpg, got {str(root)!r} without a folder train")
    classes = sorted(folder.name for folder in (root / "train").iterdir() if folder.is_dir())
    if len(classes) < 2:
        raise DataError(f"{root / 'train'} must hold at least 2 folders, one a class, got {len(classes)}")
    return classes


def _read(folder: Path, classes: list[str], size: int) -> Split:
    """One split. Raises DataError for a class that train does not have, an empty split and unreadable images."""
    files = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in SUFFIXES)
    for path in files:
        if path.parent.name not in classes:
            raise DataError(f"{path.parent} must be a class of train, got {path.parent.name!r}; train has {classes}")
    if len(files) < 3:
        raise DataError(f"{folder} must hold at least 3 images, <class>/*.png or *.jpg, got {len(files)}")
    images = np.stack([_image(path, size) for path in files])
    labels = torch.tensor([classes.index(path.parent.name) for path in files])
    return Split(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels)


def _image(path: Path, size: int) -> np.ndarray:
    """uint8 (size, size, 3)"""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from None
