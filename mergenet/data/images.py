"""Image data in memory: uint8 images, integer labels, three splits, a hash of it all."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate


@dataclass(frozen=True)
class Split:
    images: Tensor  # uint8 (N, 3, H, W)
    labels: Tensor  # int64 (N,)

    def __post_init__(self) -> None:
        n = len(self.labels)
        assert self.images.dtype == torch.uint8 and self.images.shape[:2] == (n, 3), self.images.shape
        assert self.labels.dtype == torch.int64 and self.labels.shape == (n,), self.labels.shape

    def take(self, index: Tensor) -> "Split":
        return Split(self.images[index], self.labels[index])


@dataclass(frozen=True)
class ImageData:
    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]
    content_hash: str  # sha256, hex, of images and labels of all splits
    outside: int = 0  # pixel value beyond an image's border, where a random crop reaches: 0 is black


def image_data(train: Split, val: Split, test: Split, class_names: Sequence[str], outside: int = 0) -> ImageData:
    return ImageData(train, val, test, tuple(class_names), content_hash((train, val, test)), outside)


def content_hash(splits: Sequence[Split]) -> str:
    """sha256 of shapes, images and labels, in order: equal if and only if the data are."""
    digest = hashlib.sha256()
    for split in splits:
        for tensor in (split.images, split.labels):
            digest.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
            digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def resize(images: Tensor, size: int, chunk: int = 1000) -> Tensor:
    """uint8 (N, C, H, W) -> uint8 (N, C, size, size), bilinear, antialiased when it shrinks."""
    if images.shape[2:] == (size, size):
        return images
    parts = [
        interpolate(part.float(), (size, size), mode="bilinear", antialias=True).round().clamp(0, 255).byte()
        for part in images.split(chunk)
    ]
    return torch.cat(parts)
