"""CIFAR-10 and CIFAR-100 from a folder, in the binary layout or in the pickled one that torchvision downloads.

The pickled batches are read by an unpickler that knows numpy arrays and nothing else: a file that asks for
any other name is refused before anything of it runs.
"""

import pickle
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from mergenet.config import DataConfig
from mergenet.data.images.images import ImageData, Split, image_data, resize
from mergenet.data.splits import hold_out, subsample
from mergenet.errors import ConfigError, DataError

PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Layout:
    """Where a data set's files lie below `data.root`, and how its labels are stored."""

    binary: str  # folder
    pickled: str
    train: tuple[str, ...]  # files, without the binary layout's ".bin"
    test: tuple[str, ...]
    names: tuple[str, str]  # file of class names: binary (text), pickled
    names_key: str
    label_bytes: int  # before each image of the binary layout; the last one counts
    labels_key: str
    num_classes: int
    archive: str


CIFAR10 = Layout(
    binary="cifar-10-batches-bin",
    pickled="cifar-10-batches-py",
    train=tuple(f"data_batch_{i}" for i in range(1, 6)),
    test=("test_batch",),
    names=("batches.meta.txt", "batches.meta"),
    names_key="label_names",
    label_bytes=1,
    labels_key="labels",
    num_classes=10,
    archive="cifar-10-binary.tar.gz",
)
CIFAR100 = Layout(
    binary="cifar-100-binary",
    pickled="cifar-100-python",
    train=("train",),
    test=("test",),
    names=("fine_label_names.txt", "meta"),
    names_key="fine_label_names",
    label_bytes=2,  # coarse, fine
    labels_key="fine_labels",
    num_classes=100,
    archive="cifar-100-binary.tar.gz",
)


def load_cifar10(config: DataConfig) -> ImageData:
    return _load(config, CIFAR10)


def load_cifar100(config: DataConfig) -> ImageData:
    return _load(config, CIFAR100)


def _load(config: DataConfig, layout: Layout) -> ImageData:
    """The official test split; the official training split less `val_fraction`, stratified, for validation."""
    folder = _folder(config, layout)
    binary = folder.name == layout.binary
    read: Callable[[Path, Layout], Split] = _read_binary if binary else _read_pickled
    suffix = ".bin" if binary else ""
    whole, test = (
        _join([read(folder / f"{name}{suffix}", layout) for name in names], config.image_size)
        for names in (layout.train, layout.test)
    )
    val, train = hold_out(whole.labels, config.val_fraction, config.split_seed)
    small = subsample(whole.take(train), config.train_fraction, config.split_seed)
    return image_data(small, whole.take(val), test, _class_names(folder, layout, binary))


def _folder(config: DataConfig, layout: Layout) -> Path:
    place = shlex.quote(config.root or "FOLDER")
    url = f"https://www.cs.toronto.edu/~kriz/{layout.archive}"
    fill = f"mkdir -p {place} && curl -fL {url} | tar -xz -C {place}"
    if config.root is None:
        raise ConfigError(f"data.root must name the folder of {config.name}, got None; fill one with: {fill}")
    for name in (layout.binary, layout.pickled):
        if (folder := Path(config.root) / name).is_dir():
            return folder
    raise DataError(
        f"data.root must hold {layout.binary} or {layout.pickled}, got {config.root!r} without; fill it with: {fill}"
    )


def _join(parts: list[Split], size: int) -> Split:
    images = resize(torch.cat([part.images for part in parts]), size)
    return Split(images, torch.cat([part.labels for part in parts]))


def _read_binary(path: Path, layout: Layout) -> Split:
    """Records of label bytes and 3072 pixel bytes (channel, row, column)."""
    stored = np.frombuffer(_bytes(path), dtype=np.uint8)
    record = layout.label_bytes + PIXELS
    if not len(stored) or len(stored) % record:
        raise DataError(f"{path} must hold whole records of {record} bytes, got {len(stored)} bytes; fetch it again")
    records = torch.from_numpy(stored.reshape(-1, record).copy())
    images = records[:, layout.label_bytes :].reshape(-1, 3, 32, 32).contiguous()
    return Split(images, _labels(records[:, layout.label_bytes - 1].long(), path, layout))


def _read_pickled(path: Path, layout: Layout) -> Split:
    batch = _unpickle(path)
    data, labels = batch.get("data"), batch.get(layout.labels_key)
    if (
        not isinstance(data, np.ndarray)
        or not isinstance(labels, list)
        or data.dtype != np.uint8
        or data.shape != (len(labels), PIXELS)
    ):
        raise DataError(
            f"{path} must hold 'data', uint8 (N, {PIXELS}), and '{layout.labels_key}', a list of N; fetch it again"
        )
    images = torch.from_numpy(data.reshape(-1, 3, 32, 32).copy())
    return Split(images, _labels(torch.tensor(labels, dtype=torch.int64), path, layout))


def _labels(labels: Tensor, path: Path, layout: Layout) -> Tensor:
    if labels.min() < 0 or labels.max() >= layout.num_classes:
        worst = labels.max().item() if labels.max() >= layout.num_classes else labels.min().item()
        raise DataError(f"{path}: labels must be 0 to {layout.num_classes - 1}, got {worst}; fetch the file again")
    return labels


def _class_names(folder: Path, layout: Layout, binary: bool) -> list[str]:
    path = folder / layout.names[0 if binary else 1]
    names = _bytes(path).decode().split() if binary else _unpickle(path).get(layout.names_key, [])
    if len(names) != layout.num_classes:
        raise DataError(f"{path} must hold {layout.num_classes} class names, got {len(names)}; fetch it again")
    return list(names)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; fetch the data set again") from None


class _ArraysOnly(pickle.Unpickler):
    """Lists, dicts, numbers and strings need no name looked up; of all names only those of arrays are let in."""

    allowed = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),  # how Python 3 stores bytes in the old protocols
        }
    )

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")  # the originals were written by Python 2

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _unpickle(path: Path) -> dict[str, Any]:
    _bytes(path)  # for its error message
    try:
        with path.open("rb") as file:
            batch = _ArraysOnly(file).load()
    # a damaged pickle fails in whatever way its bytes lead to
    except Exception as error:
        raise DataError(f"{path} cannot be read: {error}; fetch the data set again") from None
    if not isinstance(batch, dict):
        raise DataError(f"{path} must hold a dict, got {type(batch).__name__}; fetch the data set again")
    return batch
