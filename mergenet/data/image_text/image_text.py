"""Texts about images in memory, and their batches: what question answering and retrieval share.

Every image is decoded and resized once, into uint8 memory, by threads, and only if a text of the splits is about it:
3 S^2 bytes each, S = `data.image_size`. The 123,287 images of COCO's train2014 and val2014 take 1.5 GB at 64 x 64 and
55 GB at 384 x 384. They stay in the host's memory; a batch of them is copied to the device as bytes.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mergenet.data.augment import shift_and_flip
from mergenet.data.listing import entries, hidden
from mergenet.data.splits import hold_out_groups
from mergenet.data.text.tokens import encode

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class ImageTexts:
    """N texts, each about one of I images; several texts may be about the same."""

    images: Tensor  # uint8 (I, 3, S, S)
    image: Tensor  # int64 (N,): the text's image
    tokens: Tensor  # int32 (N, L)
    mask: Tensor  # uint8 (N, L): 1 for tokens, 0 for padding
    outside: int = 0  # what lies around an image that is shifted: 255 for pictures on white

    def __post_init__(self) -> None:
        n = len(self.image)
        assert self.images.dtype == torch.uint8 and self.images.ndim == 4, self.images.shape
        assert len(self.tokens) == len(self.mask) == n, (n, self.tokens.shape, self.mask.shape)
        assert n and self.image.min() >= 0 and self.image.max() < len(self.images), n

    def inputs(
        self, index: Tensor, device: torch.device, statistics: tuple[Tensor, Tensor], augment: bool
    ) -> dict[str, Tensor]:
        """images float32 (N, 3, S, S), normalised, and tokens, mask int64 (N, L) of the texts `index`.

        statistics: mean and standard deviation of each channel, (3, 1, 1). augment: shift the images at random, as
        `augment` does, but never mirror them: "left", and the arrow in a picture, would become wrong.
        """
        images = self.images[self.image[index]]
        if augment:
            images = shifted(images, self.outside)
        mean, std = (value.to(device) for value in statistics)
        return {
            "images": (images.to(device) - mean) / std,
            "tokens": self.tokens[index].to(device, torch.int64),
            "mask": self.mask[index].to(device, torch.int64),
        }


def image_texts(
    images: Tensor, image: Tensor, texts: Sequence[str], tokenizer: "Tokenizer", max_length: int, outside: int = 0
) -> ImageTexts:
    tokens, _ = encode(tokenizer, texts, None, max_length)
    return ImageTexts(images, image, tokens.ids, tokens.mask, outside)


def shifted(images: Tensor, outside: int) -> Tensor:
    """Each image moved by up to 1/8 of its side both ways. Two draws a batch, global generator."""
    n, reach = len(images), images.shape[2] // 8
    down, right = (torch.randint(-reach, reach + 1, (n,)) for _ in range(2))
    return shift_and_flip(images, down, right, torch.zeros(n, dtype=torch.bool), outside)


def coco_image(root: Path, folder: str, image_id: int) -> Path:
    """COCO's own name of an image, e.g. train2014/COCO_train2014_000000000123.jpg."""
    return root / folder / f"COCO_{folder}_{image_id:012d}.jpg"


def unused_files(folders: Iterable[Path], used: Collection[Path]) -> dict[str, int]:
    """How many files of the folders no text is about, for `left_out`."""
    unused = sum(path not in used and not hidden(path) for folder in folders for path in entries(folder))
    return {"files that no text is about": unused} if unused else {}


def share_of_images(image: Tensor, fraction: float, seed: int) -> Tensor:
    """Sorted indices of all texts of a random `fraction` of the images; the smaller fraction is in the larger.

    image: int64 (N,), the image of each text.
    """
    if fraction == 1 or len(image.unique()) == 1:
        return torch.arange(len(image))
    return hold_out_groups(image, fraction, seed)[0]


def content_hash(tensors: Iterable[Tensor], texts: Iterable[str]) -> str:
    """sha256, hex, of shapes, tensors and texts, in order: equal if and only if the data are."""
    digest = hashlib.sha256(repr(tuple(texts)).encode())
    for tensor in tensors:
        digest.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
