"""Extractive question answering: the span of a context that answers a question, or that none does."""

import json
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mergenet.config import NetworkConfig
from mergenet.config.spec import SPAN, TEXT, Spec
from mergenet.data.text.tokens import vocabulary_size
from mergenet.data.text.windows import SpanSplit, load_windows
from mergenet.tasks.squad_metrics import squad_metrics

MAX_ANSWER = 30  # tokens, as in BERT's release


class QuestionAnswering:
    """Rows are windows: a question beside a part of its context. "No answer in this window" is the span ([CLS], [CLS]).

    Batches hold "tokens" and "mask", int64 (N, L), "context", bool (N, L): which tokens an answer may be made of,
    and "span", int64 (N, 2): first and last token of the answer.
    """

    metric = "f1"

    def __init__(self, config: NetworkConfig) -> None:
        data = load_windows(config.data)
        self.tokenizer = data.tokenizer
        size, length = vocabulary_size(data.tokenizer), config.data.max_length
        self.spec = Spec(TEXT, SPAN, 2, vocab_size=size, max_length=length)
        self.data_hash = data.content_hash
        self._left_out = dict(data.left_out)
        self.label_smoothing = config.label_smoothing
        self.may_decline = any(not question.answers for question in data.train.questions)
        self._splits = {"train": data.train, "val": data.val, "test": data.test}
        self._on_device: dict[tuple[str, torch.device], dict[str, Tensor]] = {}

    @property
    def metadata(self) -> dict[str, str]:
        """The tokenizer, as the text of its tokenizer.json, and the bounds of an answer, as JSON values."""
        return {
            "tokenizer": self.tokenizer.to_str(),
            "max_answer_tokens": json.dumps(MAX_ANSWER),
            "may_decline": json.dumps(self.may_decline),
        }

    def contents(self) -> dict[str, Any]:
        return {name: _counts(split) for name, split in self._splits.items()} | {"left_out": self._left_out}

    def size(self, split: str) -> int:
        """Windows, at least as many as questions."""
        return len(self._splits[split].windows.question)

    def batch(self, split: str, index: Tensor, device: torch.device, augment: bool = False) -> dict[str, Tensor]:  # noqa: ARG002
        """There is no augmentation of texts."""
        chosen = {name: value[index.to(device)] for name, value in self._split(split, device).items()}
        return {
            "tokens": chosen["ids"].long(),
            "mask": chosen["mask"].long(),
            "context": chosen["part"] == 1,
            "span": chosen["span"],
        }

    def forward(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """float32 (N, L, 2): start and end logits; -inf where no answer can be (question, separators, padding)."""
        possible = batch["context"].clone()
        possible[:, 0] = True
        logits = model(batch["tokens"], batch["mask"]).float()
        return {"spans": logits.masked_fill(~possible[:, :, None], -torch.inf)}

    def loss(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        """Mean of the cross-entropies of start and end, with the configured label smoothing."""
        return span_loss(outputs["spans"], batch["span"], self.label_smoothing).mean()

    def score(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Each window's best span (first and last token), the sum of its two logits, and that of "no answer"."""
        logits = outputs["spans"]
        span, best = best_spans(logits, batch["context"])
        loss = span_loss(logits.double(), batch["span"])
        return {"loss": loss.detach(), "span": span, "best": best, "none": logits[:, 0].sum(1).detach()}

    def metrics(self, split: str, scores: dict[str, Tensor]) -> dict[str, float]:
        """Mean loss over windows; metrics of `squad_metrics` over questions.

        A question's answer is the best span of its windows; "no answer" has the lowest score that a window gives
        it [BERT's release]. It is never given if all training questions have answers (SQuAD v1.1).
        """
        part = self._splits[split]
        row, no_answer = over_windows(part.windows.question, scores["best"], scores["none"], len(part.questions))
        if not self.may_decline:
            no_answer = torch.full_like(no_answer, -torch.inf)
        answers = self._texts(part, row, scores["span"])
        golds = [[answer.text for answer in question.answers] for question in part.questions]
        return {"loss": scores["loss"].mean().item(), **squad_metrics(answers, golds, no_answer)}

    def _texts(self, split: SpanSplit, row: Tensor, span: Tensor) -> list[str]:
        """The answers' texts, one per question. row: int64, the window that each answer is taken from."""
        offsets, (first, last) = split.windows.tokens.offsets[row], span[row].unbind(1)
        number = torch.arange(len(row))
        begin, end = offsets[number, first, 0].tolist(), offsets[number, last, 1].tolist()
        return [q.context[b:e] for q, b, e in zip(split.questions, begin, end, strict=True)]

    def _split(self, split: str, device: torch.device) -> dict[str, Tensor]:
        """The split on that device, moved there once: a batch is then a gather without a copy from the host."""
        key = (split, device)
        if key not in self._on_device:
            windows = self._splits[split].windows
            tokens = windows.tokens
            stored = {"ids": tokens.ids, "mask": tokens.mask, "part": tokens.part, "span": windows.span}
            self._on_device[key] = {name: value.to(device) for name, value in stored.items()}
        return self._on_device[key]


def _counts(split: SpanSplit) -> dict[str, int]:
    """Questions and windows; questions whose answer no window holds whole, if there are any, learn to decline."""
    held = set(split.windows.question[split.windows.span.any(1)].tolist())
    torn = sum(bool(question.answers) and n not in held for n, question in enumerate(split.questions))
    counts = {"questions": len(split.questions), "windows": len(split.windows.question)}
    return counts | ({"with an answer that no window holds": torn} if torn else {})


def span_loss(logits: Tensor, span: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of start and of end, their mean, over the positions whose logits are finite.

    logits (N, L, 2), span int64 (N, 2) -> (N,). smoothing: share of the target spread evenly over those positions.
    """
    loss = cross_entropy(logits, span, reduction="none")
    if smoothing:
        possible = logits.isfinite()
        logs = logits.log_softmax(1).where(possible, 0)
        loss = (1 - smoothing) * loss - smoothing * logs.sum(1) / possible.sum(1)
    return loss.mean(1)


@torch.no_grad()
def best_spans(logits: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    """The span of at most MAX_ANSWER context tokens with the highest sum of start and end logit.

    logits (N, L, 2), context bool (N, L) -> first and last token, int64 (N, 2), and the sum, (N,).
    Without context tokens the span is ([CLS], [CLS]) and the sum -inf.
    """
    start, end = logits.masked_fill(~context[:, :, None], -torch.inf).unbind(2)
    padded = torch.nn.functional.pad(end, (0, MAX_ANSWER - 1), value=-torch.inf)
    best_end, length = padded.unfold(1, MAX_ANSWER, 1).max(2)  # (N, L): of spans that start there
    best, first = (start + best_end).max(1)
    last = first + length.gather(1, first[:, None])[:, 0]
    span = torch.stack([first, last], dim=1).where(best.isfinite()[:, None], 0)
    return span, best


def over_windows(question: Tensor, best: Tensor, none: Tensor, num_questions: int) -> tuple[Tensor, Tensor]:
    """Each question's window with the best span, int64 (Q,), and how much better "no answer" is, (Q,).

    question: int64 (N,), each window's question; every question has one.
    """
    best = best.where(~best.isnan(), -torch.inf)
    highest = best.new_full((num_questions,), -torch.inf).scatter_reduce(0, question, best, "amax")
    lowest = none.new_full((num_questions,), torch.inf).scatter_reduce(0, question, none, "amin")
    place = torch.where(best == highest[question], torch.arange(len(question)), len(question))
    row = place.new_full((num_questions,), len(question)).scatter_reduce(0, question, place, "amin")
    return row, lowest - highest
