"""Training steps as one writes them by hand in PyTorch, one function for each kind of data, for plain_loop.

Each takes the indices of a batch and gives the batch's loss. Nothing of the trainer is used, only the loaded data.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mergenet.config import NetworkConfig, OptimizerConfig
from mergenet.data import load_data
from mergenet.data.augment import shift_and_flip
from mergenet.data.text.text import load_text
from mergenet.data.text.windows import load_windows
from mergenet.learner.rng import stream_seed
from mergenet.tasks.image_classification import channel_statistics
from mergenet.tasks.image_text_retrieval import load_captions
from mergenet.tasks.visual_question_answering import load_questions

Loss = Callable[[Tensor], Tensor]


class PlainLoop:
    """A network with its optimizer, stepped as in PyTorch's tutorials.

    rates: the learning rate of each step. The random numbers are those of a Learner with the same seed: order of
    the batches and shifts of the images from own generators, dropout from torch's global one, which this loop owns.
    """

    def __init__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, config: NetworkConfig, seed: int, rates: list[float]
    ) -> None:
        self.network, self.optimizer, self.rates = network, optimizer, rates
        self.clip_norm = config.optimizer.clip_norm
        self.shuffling, self.shifting = (
            torch.Generator().manual_seed(stream_seed(seed, f"target/{name}")) for name in ("data", "augment")
        )
        torch.manual_seed(stream_seed(seed, "target/forward"))
        self.size, self.loss = LOSSES[config.task](network, config, self.shifting)
        self.batch_size = min(config.batch_size, self.size)
        self.order: Iterator[Tensor] = iter(())
        self.total = torch.zeros(())
        network.train()

    def step(self, number: int) -> None:
        try:
            index = next(self.order)
        except StopIteration:
            whole = self.size - self.size % self.batch_size
            self.order = iter(torch.randperm(self.size, generator=self.shuffling)[:whole].split(self.batch_size))
            index = next(self.order)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rates[number]
        self.optimizer.zero_grad()
        loss = self.loss(index)
        loss.backward()
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
        self.optimizer.step()
        self.total += loss.detach()


def plain_optimizer(config: OptimizerConfig, parameters: Iterable[nn.Parameter], **how: Any) -> torch.optim.Optimizer:
    """With torch's defaults for all that the configuration does not name. how: foreach or fused."""
    decay = config.weight_decay
    if config.name == "sgd":
        return torch.optim.SGD(
            parameters, config.lr, config.momentum, nesterov=config.nesterov, weight_decay=decay, **how
        )
    return torch.optim.AdamW(parameters, config.lr, weight_decay=decay, **how)


def classify_images(network: nn.Module, config: NetworkConfig, _: torch.Generator) -> tuple[int, Loss]:
    assert not config.augment, "no embedded preset shifts images of classes"
    images, labels = load_data(config.data).train.images, load_data(config.data).train.labels
    mean, std = channel_statistics(images)

    def loss(index: Tensor) -> Tensor:
        inputs = ((images[index] - mean) / std).contiguous(memory_format=torch.channels_last)
        return F.cross_entropy(network(inputs), labels[index], label_smoothing=config.label_smoothing)

    return len(labels), loss


def classify_texts(network: nn.Module, config: NetworkConfig, _: torch.Generator) -> tuple[int, Loss]:
    data = load_text(config.data).train

    def loss(index: Tensor) -> Tensor:
        logits = network(data.tokens[index].long(), data.mask[index].long())
        return F.cross_entropy(logits, data.labels[index], label_smoothing=config.label_smoothing)

    return len(data.labels), loss


def answer_questions(network: nn.Module, config: NetworkConfig, _: torch.Generator) -> tuple[int, Loss]:
    windows = load_windows(config.data).train.windows
    tokens, span = windows.tokens, windows.span

    def loss(index: Tensor) -> Tensor:
        possible = tokens.part[index] == 1
        possible[:, 0] = True
        logits = network(tokens.ids[index].long(), tokens.mask[index].long())
        logits = logits.masked_fill(~possible[:, :, None], -torch.inf)
        return F.cross_entropy(logits, span[index], reduction="none").mean(1).mean()

    return len(span), loss


def answer_about_images(network: nn.Module, config: NetworkConfig, _: torch.Generator) -> tuple[int, Loss]:
    assert not config.augment, "the embedded preset does not shift its images"
    data = load_questions(config.data)
    texts, answers, scores = data.train.texts, data.train.answers, data.train.scores
    mean, std = channel_statistics(texts.images)

    def loss(index: Tensor) -> Tensor:
        images = (texts.images[texts.image[index]] - mean) / std
        logits = network(images, texts.tokens[index].long(), texts.mask[index].long())
        targets = torch.zeros(len(index), len(data.answers)).scatter_add_(1, answers[index], scores[index])
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()

    return len(texts.image), loss


def match_images(network: nn.Module, config: NetworkConfig, shifting: torch.Generator) -> tuple[int, Loss]:
    assert config.augment, "the embedded preset shifts its images"
    texts = load_captions(config.data).train
    (mean, std), reach = channel_statistics(texts.images), config.data.image_size // 8
    as_is = torch.zeros(config.batch_size, dtype=torch.bool)

    def loss(index: Tensor) -> Tensor:
        image = texts.image[index]
        moves = [torch.randint(-reach, reach + 1, (len(index),), generator=shifting) for _ in range(2)]
        shifted = shift_and_flip(texts.images[image], moves[0], moves[1], as_is, texts.outside)
        images, captions = network((shifted - mean) / std, texts.tokens[index].long(), texts.mask[index].long())
        similarity = captions @ images.T / 0.07
        right = (image[:, None] == image).float()
        both = F.log_softmax(similarity, dim=1) + F.log_softmax(similarity, dim=0)
        return -(right / right.sum(1, keepdim=True) * both).sum(1).mean() / 2

    return len(texts.image), loss


LOSSES = {
    "image_classification": classify_images,
    "text_classification": classify_texts,
    "question_answering": answer_questions,
    "visual_question_answering": answer_about_images,
    "image_text_retrieval": match_images,
}
