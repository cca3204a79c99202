"""Image classification: cross-entropy, top-1 and top-5 accuracy."""

import json
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mergenet.config import DataConfig, NetworkConfig
from mergenet.config.registry import kind_of
from mergenet.config.spec import CLASSES, IMAGE, Spec
from mergenet.data import ImageData, Split, load_data
from mergenet.data.augment import augment as augment_images
from mergenet.errors import ConfigError, DataError
from mergenet.tasks.contents import class_counts

READY = 4 * 2**20  # pixel values of a split that is kept normalised, 4 bytes each


class ImageClassification:
    """Batches hold "images", float32 (N, 3, H, W), and "labels", int64 (N,).

    Images are normalised by each channel's mean and standard deviation over the training split.
    """

    metric = "top1"

    def __init__(self, config: NetworkConfig) -> None:
        data = load_data(config.data)
        check_images(data, config.data)
        self.spec = Spec(IMAGE, CLASSES, len(data.class_names), image_size=config.data.image_size)
        self.class_names = data.class_names
        self.data_hash = data.content_hash
        self._outside, self._left_out = data.outside, dict(data.left_out)
        self._num_classes = len(data.class_names)
        self.label_smoothing = config.label_smoothing
        self._splits = {"train": data.train, "val": data.val, "test": data.test}
        self._on_device: dict[tuple[str, torch.device], Split] = {}
        self._ready: dict[tuple[str, torch.device], Tensor] = {}
        self.mean, self.std = channel_statistics(data.train.images)

    @property
    def metadata(self) -> dict[str, str]:
        """Normalisation of the images and meaning of the outputs, as JSON values."""
        return {
            "mean": json.dumps(self.mean.flatten().tolist()),
            "std": json.dumps(self.std.flatten().tolist()),
            "class_names": json.dumps(self.class_names),
        }

    def contents(self) -> dict[str, Any]:
        labels = {name: split.labels for name, split in self._splits.items()}
        return class_counts("images", labels, self._num_classes) | {"left_out": self._left_out}

    def size(self, split: str) -> int:
        return len(self._splits[split].labels)

    def batch(self, split: str, index: Tensor, device: torch.device, augment: bool = False) -> dict[str, Tensor]:
        whole, chosen = self._split(split, device), index.to(device)
        if augment:
            images = self._normalised(augment_images(whole.images[chosen], self._outside))
        elif whole.images.numel() <= READY:
            images = self._all_normalised(split, device)[chosen].contiguous(memory_format=torch.channels_last)
        else:
            images = self._normalised(whole.images[chosen])
        return {"images": images, "labels": whole.labels[chosen]}

    def _normalised(self, images: Tensor) -> Tensor:
        mean, std = self.mean.to(images.device), self.std.to(images.device)
        return ((images - mean) / std).contiguous(memory_format=torch.channels_last)

    def _all_normalised(self, split: str, device: torch.device) -> Tensor:
        """Of a small split: the numbers of `_normalised`, without its arithmetic at each batch."""
        key = (split, device)
        if key not in self._ready:
            self._ready[key] = self._normalised(self._split(split, device).images)
        return self._ready[key]

    def forward(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"logits": checked_logits(model(batch["images"]), len(batch["labels"]), self.spec)}

    def loss(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        """Mean cross-entropy, with the configured label smoothing."""
        return cross_entropy(outputs["logits"], batch["labels"], label_smoothing=self.label_smoothing)

    def score(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return classification_scores(outputs["logits"], batch["labels"])

    def metrics(self, split: str, scores: dict[str, Tensor]) -> dict[str, float]:  # noqa: ARG002
        """Cross-entropy (without smoothing), top-1 and top-5 accuracy."""
        return means(scores)

    def _split(self, split: str, device: torch.device) -> Split:
        """The split on that device, moved there once: a batch is then a gather without a copy from the host."""
        key = (split, device)
        if key not in self._on_device:
            stored = self._splits[split]
            self._on_device[key] = Split(stored.images.to(device), stored.labels.to(device))
        return self._on_device[key]


def check_images(data: ImageData, config: DataConfig) -> None:
    """Raises DataError if the images are not of the size that the network is built for."""
    for split in (data.train, data.val, data.test):
        if split.images.shape[2:] != (config.image_size, config.image_size):
            got = " x ".join(str(size) for size in split.images.shape[2:])
            raise DataError(
                f"data.name: images of {config.name} must be of data.image_size {config.image_size}, got {got}"
            )


def checked_logits(logits: Any, number: int, spec: Spec) -> Tensor:
    """The logits that a network, perhaps a user's own, returned: (N, num_outputs), or ConfigError."""
    shape = (number, spec.num_outputs)
    if isinstance(logits, Tensor) and logits.shape == shape:
        return logits
    got = str(tuple(logits.shape)) if isinstance(logits, Tensor) else kind_of(logits)
    raise ConfigError(f"model.name: the network must give logits of shape {shape} for this batch, got {got}")


@torch.no_grad()
def classification_scores(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """logits (N, C), labels int64 (N,) -> float64 (N,) each. With fewer than 5 classes top-5 is always a hit."""
    ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices
    hits = ranked == labels[:, None]
    return {
        "loss": cross_entropy(logits.double(), labels, reduction="none"),
        "top1": hits[:, 0].double(),
        "top5": hits.any(dim=1).double(),
    }


def means(scores: dict[str, Tensor]) -> dict[str, float]:
    """For metrics that are means over examples."""
    return {name: value.mean().item() for name, value in scores.items()}


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, each float32 (3, 1, 1), from uint8 (N, 3, H, W).

    Of exact integer counts, so they do not depend on the order of the images. A constant channel gets 1.
    """
    counts = torch.stack([torch.bincount(images[:, c].flatten(), minlength=256) for c in range(3)]).double()
    values, total = torch.arange(256, dtype=torch.float64), counts.sum(dim=1)
    mean = (counts * values).sum(dim=1) / total
    variance = (counts * (values - mean[:, None]) ** 2).sum(dim=1) / total
    std = torch.where(variance > 0, variance, 1.0).sqrt()
    return mean.float()[:, None, None], std.float()[:, None, None]
