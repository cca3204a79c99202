"""Image-text retrieval: the text of an image among all texts, and the image of a text; recall at 1, 5 and 10."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from mergenet.config import DataConfig, NetworkConfig
from mergenet.config.choices import SHIPPED_CAPTIONS
from mergenet.config.registry import made, shipped
from mergenet.config.spec import EMBEDDING, IMAGE_TEXT, Spec
from mergenet.data.image_text.captions import CaptionData
from mergenet.data.image_text.image_text import ImageTexts
from mergenet.errors import ConfigError
from mergenet.tasks.image_classification import channel_statistics

DATASETS: dict[str, Callable[[DataConfig], CaptionData]] = shipped(SHIPPED_CAPTIONS)
EMBEDDING_SIZE = 256  # BLIP's
TEMPERATURE = 0.07  # where CLIP and BLIP start; fixed here, as networks give embeddings of norm 1 and no scale
RANKS = (1, 5, 10)
TIE = 1e-6  # cosines that float32 cannot tell apart
CHUNK = 1024  # rows of the similarity matrix that are looked at together


@cache
def load_captions(config: DataConfig) -> CaptionData:
    """The data set that `config` names. Raises ConfigError for an unknown name, DataError for missing files."""
    return made("data.name", config.name, DATASETS, CaptionData, config)


class ImageTextRetrieval:
    """Batches hold "images", "tokens", "mask" and "image", int64 (N,): the number of the image in its split.

    An example is a caption with its image, which comes once for each of its captions. Images are normalised by each
    channel's mean and standard deviation over the training images. Augmentation shifts them.
    """

    metric = "recall"

    def __init__(self, config: NetworkConfig) -> None:
        if config.label_smoothing:
            raise ConfigError(
                f"task image_text_retrieval has no labels, so label_smoothing must be 0, got {config.label_smoothing:g}"
            )
        data = load_captions(config.data)
        self.spec = Spec(
            IMAGE_TEXT, EMBEDDING, EMBEDDING_SIZE, config.data.image_size, data.vocab_size, config.data.max_length
        )
        self.data_hash = data.content_hash
        self.tokenizer = data.tokenizer
        self._left_out = dict(data.left_out)
        self._splits: dict[str, ImageTexts] = {"train": data.train, "val": data.val, "test": data.test}
        self.statistics = channel_statistics(data.train.images)

    @property
    def metadata(self) -> dict[str, str]:
        """Normalisation of the images and tokenizer of the texts, as JSON values."""
        mean, std = (json.dumps(value.flatten().tolist()) for value in self.statistics)
        return {"mean": mean, "std": std, "tokenizer": self.tokenizer}

    def contents(self) -> dict[str, Any]:
        counts = {name: {"captions": len(of.image), "images": len(of.images)} for name, of in self._splits.items()}
        return counts | {"left_out": self._left_out}

    def size(self, split: str) -> int:
        return len(self._splits[split].image)

    def batch(self, split: str, index: Tensor, device: torch.device, augment: bool = False) -> dict[str, Tensor]:
        texts = self._splits[split]
        inputs = texts.inputs(index, device, self.statistics, augment)
        return inputs | {"image": texts.image[index].to(device)}

    def forward(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        images, texts = model(batch["images"], batch["tokens"], batch["mask"])
        return {"images": images, "texts": texts}

    def loss(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        """Symmetric InfoNCE among the pairs of the batch (of this worker's share of it).

        With several captions of one image in the batch, each is right for all copies of the image: targets are
        uniform over them, as in ALBEF (Li et al., NeurIPS 2021).
        """
        similarity = outputs["texts"].float() @ outputs["images"].float().T / TEMPERATURE
        right = (batch["image"][:, None] == batch["image"]).float()
        targets = right / right.sum(dim=1, keepdim=True)  # symmetric: an image has as many rows as columns
        both = log_softmax(similarity, dim=1) + log_softmax(similarity, dim=0)
        return -(targets * both).sum(dim=1).mean() / 2

    def score(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        images, texts = (outputs[name].detach().float() for name in ("images", "texts"))
        return {"images": images, "texts": texts, "image": batch["image"]}

    def metrics(self, split: str, scores: dict[str, Tensor]) -> dict[str, float]:  # noqa: ARG002
        """Recalls at 1, 5 and 10 of text given image (i2t) and image given text (t2i), among the whole split.

        "recall" is the mean of the six, "chance" what a random order would reach, "loss" InfoNCE of the texts
        over all images of the split, which grows with the logarithm of their number.
        """
        image, texts = scores["image"], scores["texts"]
        known, owner = image.unique(return_inverse=True)
        first = torch.full((len(known),), len(image)).scatter_reduce(0, owner, torch.arange(len(image)), "amin")
        i2t, t2i, loss = ranks(scores["images"][first], texts, owner)
        recalls = {
            f"{way}_r{k}": (rank < k).double().mean().item()
            for way, rank in (("i2t", i2t), ("t2i", t2i))
            for k in RANKS
        }
        recall = sum(recalls.values()) / len(recalls)
        return {"loss": loss} | recalls | {"recall": recall, "chance": chance(owner.bincount())}


def ranks(images: Tensor, texts: Tensor, owner: Tensor) -> tuple[Tensor, Tensor, float]:
    """Wrong texts before the first right one of each image, and wrong images before the right one of each text.

    A wrong one that is as similar as the right one (to TIE) comes before it, so that a network that gives everything
    one embedding is never right. images: (I, D), texts: (N, D), owner: int64 (N,), the image of each text.
    Returns int64 (I,), int64 (N,) and the mean InfoNCE of the texts over the images.
    """
    parts = [torch.arange(n, min(n + CHUNK, len(texts))) for n in range(0, len(texts), CHUNK)]
    own = torch.cat([(texts[part] @ images.T).gather(1, owner[part, None])[:, 0] for part in parts])
    best = torch.full((len(images),), -torch.inf).scatter_reduce(0, owner, own, "amax")
    i2t, t2i, loss = torch.zeros(len(images), dtype=torch.int64), [], 0.0
    for part in parts:
        similarity, right = texts[part] @ images.T, owner[part, None]
        loss -= log_softmax(similarity.double() / TEMPERATURE, dim=1).gather(1, right).sum().item()
        similarity.scatter_(1, right, -torch.inf)
        t2i.append((~(similarity < own[part, None] - TIE)).sum(dim=1))  # not ">=": NaN is never right
        i2t += (~(similarity < best - TIE)).sum(dim=0)
    return i2t, torch.cat(t2i), loss / len(texts)


def chance(captions: Tensor) -> float:
    """Expected "recall" of random orders. captions: int64 (I,), texts of each image.

    An image's k nearest of N texts miss all its c with probability prod_{j < k} (N - c - j) / (N - j).
    """
    total, count = int(captions.sum()), len(captions)
    missed, recalls = torch.ones(count, dtype=torch.float64), []
    for k in range(1, max(RANKS) + 1):
        missed *= ((total - captions - k + 1) / max(total - k + 1, 1)).clamp(min=0)
        if k in RANKS:
            recalls += [1 - missed.mean().item(), min(k / count, 1.0)]
    return sum(recalls) / len(recalls)
