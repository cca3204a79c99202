"""Visual question answering: choosing among the frequent answers; the official soft accuracy."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from mergenet.config import DataConfig, NetworkConfig
from mergenet.config.choices import SHIPPED_IMAGE_QUESTIONS
from mergenet.config.registry import made, shipped
from mergenet.config.spec import CLASSES, IMAGE_TEXT, Spec
from mergenet.data.image_text.vqa import Questions, VqaData
from mergenet.errors import ConfigError
from mergenet.tasks.image_classification import channel_statistics, checked_logits, means

DATASETS: dict[str, Callable[[DataConfig], VqaData]] = shipped(SHIPPED_IMAGE_QUESTIONS)


@cache
def load_questions(config: DataConfig) -> VqaData:
    """The data set that `config` names. Raises ConfigError for an unknown name, DataError for missing files."""
    return made("data.name", config.name, DATASETS, VqaData, config)


class VisualQuestionAnswering:
    """Batches hold "images", "tokens", "mask", "targets" (float32 (N, answers), soft accuracy of every answer) and
    "question_only" (float32 (N,), see `metrics`).

    Images are normalised by each channel's mean and standard deviation over the training images. Augmentation
    shifts them.
    """

    metric = "accuracy"

    def __init__(self, config: NetworkConfig) -> None:
        if config.label_smoothing:
            raise ConfigError(
                f"task visual_question_answering has soft targets, so label_smoothing must be 0, "
                f"got {config.label_smoothing:g}"
            )
        data = load_questions(config.data)
        self.spec = Spec(
            IMAGE_TEXT, CLASSES, len(data.answers), config.data.image_size, data.vocab_size, config.data.max_length
        )
        self.data_hash = data.content_hash
        self._left_out = dict(data.left_out)
        self.answers, self.tokenizer = data.answers, data.tokenizer
        self._splits: dict[str, Questions] = {"train": data.train, "val": data.val, "test": data.test}
        self.statistics = channel_statistics(data.train.texts.images)

    @property
    def metadata(self) -> dict[str, str]:
        """Normalisation of the images, tokenizer of the questions and meaning of the outputs, as JSON values."""
        mean, std = (json.dumps(value.flatten().tolist()) for value in self.statistics)
        return {"mean": mean, "std": std, "tokenizer": self.tokenizer, "answers": json.dumps(self.answers)}

    def contents(self) -> dict[str, Any]:
        return {name: _counts(split) for name, split in self._splits.items()} | {"left_out": self._left_out}

    def size(self, split: str) -> int:
        return len(self._splits[split].texts.image)

    def batch(self, split: str, index: Tensor, device: torch.device, augment: bool = False) -> dict[str, Tensor]:
        questions = self._splits[split]
        return questions.texts.inputs(index, device, self.statistics, augment) | {
            "targets": questions.targets(index, len(self.answers)).to(device),
            "question_only": questions.question_only[index].to(device),
        }

    def forward(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        logits = model(batch["images"], batch["tokens"], batch["mask"])
        return {"logits": checked_logits(logits, len(batch["targets"]), self.spec)}

    def loss(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        """Binary cross-entropy of every answer with its soft accuracy: sum over answers, mean over questions.

        As in Teney et al., "Tips and Tricks for Visual Question Answering", CVPR 2018.
        """
        return _cross_entropy(outputs["logits"], batch["targets"]).mean()

    @torch.no_grad()
    def score(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        logits, targets = outputs["logits"], batch["targets"]
        return {
            "loss": _cross_entropy(logits.double(), targets.double()),
            "accuracy": targets.gather(1, logits.argmax(dim=1, keepdim=True))[:, 0].double(),
            "question_only": batch["question_only"].double(),
        }

    def metrics(self, split: str, scores: dict[str, Tensor]) -> dict[str, float]:  # noqa: ARG002
        """Loss, soft accuracy, and the soft accuracy of a guess without the image ("question_only").

        The guess is the answer that scores most over the training questions with the same text, or over all of
        them if there is none: a floor that depends on the data only, and so is the same after every epoch.
        """
        return means(scores)


def _counts(split: Questions) -> dict[str, int]:
    """Questions and their images; questions that no known answer scores for, if there are any."""
    unknown = int((split.scores.amax(1) == 0).sum())
    counts = {"questions": len(split.texts.image), "images": len(split.texts.images)}
    return counts | ({"without a frequent answer": unknown} if unknown else {})


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """(N, answers) each -> (N,)"""
    return binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1)
