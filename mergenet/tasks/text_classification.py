"""Text classification: cross-entropy, accuracy."""

import json
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mergenet.config import NetworkConfig
from mergenet.config.spec import CLASSES, TEXT, Spec
from mergenet.data.text.text import TextSplit, load_text
from mergenet.tasks.contents import class_counts
from mergenet.tasks.image_classification import checked_logits, means


class TextClassification:
    """Batches hold "tokens" and "mask", int64 (N, L), and "labels", int64 (N,). There is no augmentation."""

    metric = "accuracy"

    def __init__(self, config: NetworkConfig) -> None:
        data = load_text(config.data)
        length = config.data.max_length
        self.spec = Spec(TEXT, CLASSES, len(data.class_names), vocab_size=data.vocab_size, max_length=length)
        self.class_names = data.class_names
        self.tokenizer = data.tokenizer
        self.data_hash = data.content_hash
        self._left_out = dict(data.left_out)
        self.label_smoothing = config.label_smoothing
        self._splits = {"train": data.train, "val": data.val, "test": data.test}
        self._on_device: dict[tuple[str, torch.device], TextSplit] = {}

    @property
    def metadata(self) -> dict[str, str]:
        """Meaning of the outputs, and the tokenizer.json that turns a text into the network's input."""
        return {"class_names": json.dumps(self.class_names), "tokenizer": self.tokenizer}

    def contents(self) -> dict[str, Any]:
        labels = {name: split.labels for name, split in self._splits.items()}
        return class_counts("texts", labels, len(self.class_names)) | {"left_out": self._left_out}

    def size(self, split: str) -> int:
        return len(self._splits[split].labels)

    def batch(self, split: str, index: Tensor, device: torch.device, augment: bool = False) -> dict[str, Tensor]:  # noqa: ARG002
        data, chosen = self._split(split, device), index.to(device)
        return {
            "tokens": data.tokens[chosen].long(),
            "mask": data.mask[chosen].long(),
            "labels": data.labels[chosen],
        }

    def forward(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"logits": checked_logits(model(batch["tokens"], batch["mask"]), len(batch["labels"]), self.spec)}

    def loss(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        """Mean cross-entropy, with the configured label smoothing."""
        return cross_entropy(outputs["logits"], batch["labels"], label_smoothing=self.label_smoothing)

    @torch.no_grad()
    def score(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        logits, labels = outputs["logits"], batch["labels"]
        return {
            "loss": cross_entropy(logits.double(), labels, reduction="none"),
            "accuracy": (logits.argmax(dim=1) == labels).double(),
        }

    def metrics(self, split: str, scores: dict[str, Tensor]) -> dict[str, float]:  # noqa: ARG002
        """Cross-entropy (without smoothing) and accuracy."""
        return means(scores)

    def _split(self, split: str, device: torch.device) -> TextSplit:
        """The split on that device, moved there once."""
        key = (split, device)
        if key not in self._on_device:
            data = self._splits[split]
            self._on_device[key] = TextSplit(data.tokens.to(device), data.mask.to(device), data.labels.to(device))
        return self._on_device[key]
