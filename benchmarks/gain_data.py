"""Disjoint data for benchmarks.gains: the digits of MNIST in two halves."""

from mergenet.config import DataConfig
from mergenet.data import ImageData
from mergenet.data.images.digits import load_mnist5k
from mergenet.data.images.images import Split, image_data


def low_digits(config: DataConfig) -> ImageData:
    """0 to 4."""
    return _some(config, range(5))


def high_digits(config: DataConfig) -> ImageData:
    """5 to 9."""
    return _some(config, range(5, 10))


def _some(config: DataConfig, digits: range) -> ImageData:
    """The images of these digits in each split of mnist5k; their share of the training split is as it is there."""
    whole = load_mnist5k(config)

    def chosen(split: Split) -> Split:
        kept = split.take(((split.labels >= digits.start) & (split.labels < digits.stop)).nonzero().flatten())
        return Split(kept.images, kept.labels - digits.start)

    names = [str(digit) for digit in digits]
    return image_data(chosen(whole.train), chosen(whole.val), chosen(whole.test), names)
