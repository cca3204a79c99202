"""Any folder of images: <root>/train/<class>/*.png, and if there are, <root>/val and <root>/test likewise."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch

from mergenet.config import DataConfig
from mergenet.data.images.images import ImageData, Split, image_data
from mergenet.data.images.pictures import read_images, suffixes
from mergenet.data.listing import LeftOut, composed, entries, files_below, hidden, in_words, split_places
from mergenet.data.splits import TEST_FRACTION, hold_out, subsample
from mergenet.errors import ConfigError, DataError


def load_folder(config: DataConfig) -> ImageData:
    """Classes are the sub-folders of train that are not hidden, ordered by their names (`mergenet.data.listing`).

    So two networks on one folder number them alike. val and test may have the names in another Unicode form. Images
    of a class may lie in folders of its own. All suffixes that Pillow opens are read; what is not read is counted
    (`left_out`). A missing test folder is made up for by 15 % of train, a missing val folder by `val_fraction` of what
    is left, both stratified and by seed. Images are resized to squares, whatever their shape.
    Raises ConfigError without data.root, DataError naming folder or file.
    """
    if config.root is None:
        raise ConfigError("data.root must name the folder with train/<class>/*.png, got None")
    left_out: LeftOut = Counter()
    places = split_places(Path(config.root), "", "train/<class>/*.png", left_out)
    files = {split: _files(place, left_out) for split, place in places.items()}
    written = {composed(name): name for name in files["train"]}
    for split, found in files.items():
        files[split] = {written.get(composed(name), name): images for name, images in found.items()}
    classes = list(files["train"])
    _check(places, files, left_out)
    train = _read(files["train"], classes, config.image_size, left_out)
    held_out = {}
    for name, fraction in (("test", TEST_FRACTION), ("val", config.val_fraction)):
        if name in files:
            held_out[name] = _read(files[name], classes, config.image_size, left_out)
        else:
            held, kept = hold_out(train.labels, fraction, config.split_seed)
            held_out[name], train = train.take(held), train.take(kept)
    train = subsample(train, config.train_fraction, config.split_seed)
    return image_data(train, held_out["val"], held_out["test"], classes, left_out=left_out)


def _files(folder: Path, left_out: LeftOut) -> dict[str, list[Path]]:
    """The images of each class folder, in order. Raises DataError for two names that differ in Unicode form alone."""
    found: dict[str, list[Path]] = {}
    names: dict[str, str] = {}
    for path in entries(folder):
        if hidden(path):
            left_out["hidden"] += 1
        elif path.is_dir():
            if (other := names.setdefault(composed(path.name), path.name)) != path.name:
                raise DataError(
                    f"{folder} must hold one folder a class, got {other!a} and {path.name!a}, which read alike; "
                    "merge them, or rename one"
                )
            found[path.name] = files_below(path, suffixes(), left_out)
        else:
            left_out["beside the class folders"] += 1
    return found


def _check(places: dict[str, Path], files: dict[str, dict[str, list[Path]]], left_out: LeftOut) -> None:
    """Raises DataError for fewer than two classes, an empty split or class, and a class that train does not have."""
    classes = list(files["train"])
    rest = f" ({in_words(left_out)} not read)" if left_out else ""
    if len(classes) < 2:
        raise DataError(f"{places['train']} must hold at least 2 folders, one a class, got {len(classes)}{rest}")
    for split, found in files.items():
        place = places[split]
        if unknown := [name for name in found if name not in classes]:
            raise DataError(f"{place / unknown[0]} must be a class of train, got {unknown[0]!r}; train has {classes}")
        if (count := sum(map(len, found.values()))) < 3:
            raise DataError(f"{place} must hold at least 3 images, <class>/*.png or the like, got {count}{rest}")
    if empty := [name for name, found in files["train"].items() if not found]:
        raise DataError(
            f"{places['train'] / empty[0]} must hold at least one image to be a class, got none{rest}; "
            "fill it or remove it"
        )


def _read(files: Mapping[str, list[Path]], classes: list[str], size: int, left_out: LeftOut) -> Split:
    """One split, class after class."""
    labels = [classes.index(name) for name, found in files.items() for _ in found]
    images = read_images([path for found in files.values() for path in found], size, left_out)
    return Split(images, torch.tensor(labels))
