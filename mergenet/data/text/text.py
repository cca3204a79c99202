"""Texts in classes, in memory as token numbers."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from torch import Tensor

from mergenet.config import DataConfig
from mergenet.config.choices import SHIPPED_TEXTS
from mergenet.config.registry import kind_of, made, shipped
from mergenet.data.class_names import plain_names
from mergenet.data.splits import stratified_order
from mergenet.data.text.labelled import Raw, Texts
from mergenet.data.text.tokens import encode, tokenizer_for, vocabulary_size
from mergenet.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MIN_COUNT = 2  # words that training says once are unknown there too, or the unknown word would never be learnt

TEXT_DATASETS: dict[str, Callable[[DataConfig], Raw]] = shipped(SHIPPED_TEXTS)


@dataclass(frozen=True)
class TextSplit:
    tokens: Tensor  # int32 (N, L)
    mask: Tensor  # uint8 (N, L): 1 for tokens, 0 for padding
    labels: Tensor  # int64 (N,)


@dataclass(frozen=True)
class TextData:
    train: TextSplit
    val: TextSplit
    test: TextSplit
    class_names: tuple[str, ...]
    vocab_size: int  # tokens are below it
    tokenizer: str  # tokenizer.json, which cuts and pads to the length of these
    content_hash: str  # sha256, hex, of tokens, mask and labels of all splits
    left_out: Mapping[str, int] = field(default_factory=dict)  # what was not read -> how many


@cache
def load_text(config: DataConfig) -> TextData:
    """The data set that `config` names. Raises ConfigError for an unknown name, DataError for missing files.

    `train_fraction` is a stratified share of the training split; the vocabulary is of that share.
    """
    found = made("data.name", config.name, TEXT_DATASETS, Sequence, config)
    if len(found) != 4 or not all(isinstance(split, Texts) for split in found[:3]):
        got = ", ".join(map(kind_of, found))
        raise ConfigError(f"data.name: {config.name} must return three Texts and the class names, got {got}")
    train, val, test, names = found
    try:
        class_names = plain_names(names)
    except DataError as error:
        raise DataError(f"data.name: {config.name}: {error}") from None
    left_out = dict(sum((Counter(part.left_out) for part in (train, val, test)), Counter()))
    if config.train_fraction < 1:
        count = max(1, round(config.train_fraction * len(train.labels)))
        train = train.take(stratified_order(train.labels, config.split_seed)[:count].sort().values)
    tokenizer = tokenizer_for(config, train.texts, MIN_COUNT)
    splits = [_encoded(tokenizer, part, config.max_length) for part in (train, val, test)]
    return TextData(
        train=splits[0],
        val=splits[1],
        test=splits[2],
        class_names=class_names,
        vocab_size=vocabulary_size(tokenizer),
        tokenizer=tokenizer.to_str(),
        content_hash=content_hash(splits),
        left_out=left_out,
    )


def _encoded(tokenizer: "Tokenizer", part: Texts, max_length: int) -> TextSplit:
    tokens, _ = encode(tokenizer, part.texts, None, max_length)
    return TextSplit(tokens.ids, tokens.mask, part.labels)


def content_hash(splits: Sequence[TextSplit]) -> str:
    """sha256 of shapes, tokens, masks and labels, in order: equal if and only if the data are."""
    digest = hashlib.sha256()
    for split in splits:
        for tensor in (split.tokens, split.mask, split.labels):
            digest.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
            digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
