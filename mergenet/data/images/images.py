"""Image data in memory: uint8 images, integer labels, three splits, a hash of it all."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mergenet.config.registry import kind_of
from mergenet.data.class_names import plain_names
from mergenet.errors import DataError

SHAPES = {"images": "uint8 (N, 3, H, W)", "labels": "int64 (N,)"}


@dataclass(frozen=True)
class Split:
    images: Tensor  # uint8 (N, 3, H, W)
    labels: Tensor  # int64 (N,)

    def __post_init__(self) -> None:
        """Raises DataError for another shape or type."""
        for name, tensor, dtype, dims in (
            ("images", self.images, torch.uint8, 4),
            ("labels", self.labels, torch.int64, 1),
        ):
            if not isinstance(tensor, Tensor):
                got = f"{kind_of(tensor)}; torch.as_tensor makes one of an array"
                raise DataError(f"{name} of a split must be a torch tensor, {SHAPES[name]}, got {got}")
            if tensor.dtype != dtype or tensor.dim() != dims:
                raise DataError(f"{name} of a split must be {SHAPES[name]}, got {described(tensor)}")
        if self.images.shape[:2] != (len(self.labels), 3):
            raise DataError(
                f"a split must hold as many labels as images, and images of 3 channels, "
                f"got {described(self.images)} and {len(self.labels)} labels"
            )

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
    left_out: Mapping[str, int] = field(default_factory=dict)  # what lies beside the data and was not read -> how many

    def __post_init__(self) -> None:
        """Raises DataError for fewer than two classes, and for a label without a class."""
        object.__setattr__(self, "class_names", plain_names(self.class_names))
        for split in (self.train, self.val, self.test):
            wrong = split.labels[(split.labels < 0) | (split.labels >= len(self.class_names))]
            if len(wrong):
                most = len(self.class_names) - 1
                raise DataError(f"labels must be from 0 to {most}, the number of the class, got {int(wrong[0])}")


def image_data(
    train: Split,
    val: Split,
    test: Split,
    class_names: Sequence[str],
    outside: int = 0,
    left_out: Mapping[str, int] | None = None,
) -> ImageData:
    names, digest = tuple(class_names), content_hash((train, val, test))
    return ImageData(train, val, test, names, digest, outside, dict(left_out or {}))


def described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


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
