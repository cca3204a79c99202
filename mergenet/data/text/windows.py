"""Questions beside their contexts as tokens: long contexts become several windows, which overlap."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mergenet.config import DataConfig
from mergenet.config.choices import SHIPPED_QUESTIONS
from mergenet.config.registry import made, shipped
from mergenet.data.text.squad import Question, QuestionSets
from mergenet.data.text.tokens import Tokens, encode, tokenizer_for
from mergenet.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHUNK = 1000  # questions encoded at a time: the library's records of a token are 20 times as large as ours
WORD = re.compile(r"\w+|[^\w\s]")
MIN_ARTICLES = 2  # that have a word, for it to be known
MIN_LENGTH = 16  # tokens; below it two windows of one context need not overlap

QUESTION_SETS: dict[str, Callable[[DataConfig], QuestionSets]] = shipped(SHIPPED_QUESTIONS)


@dataclass(frozen=True)
class Windows:
    tokens: Tokens  # N rows: [CLS] question [SEP] part of the context [SEP]
    question: Tensor  # int64 (N,): number of the question, ascending
    span: Tensor  # int64 (N, 2): first and last token of the first answer; (0, 0), [CLS], if the row lacks it


@dataclass(frozen=True)
class SpanSplit:
    questions: tuple[Question, ...]
    windows: Windows


@dataclass(frozen=True)
class SpanData:
    train: SpanSplit
    val: SpanSplit
    test: SpanSplit
    tokenizer: "Tokenizer"
    content_hash: str  # sha256, hex, of questions, contexts, answers and token numbers of all splits
    left_out: Mapping[str, int] = field(default_factory=dict)  # what was not read -> how many


@cache
def load_windows(config: DataConfig) -> SpanData:
    """The question set that `config` names. Raises ConfigError for an unknown name, DataError for missing files."""
    if config.max_length < MIN_LENGTH:
        raise ConfigError(
            f"data.max_length must be at least {MIN_LENGTH} for questions beside their contexts, "
            f"got {config.max_length}; 384 is usual for SQuAD, 96 fits facts"
        )
    sets = made("data.name", config.name, QUESTION_SETS, QuestionSets, config)
    tokenizer = tokenizer_for(config, article_words(sets.train), MIN_ARTICLES)
    train, val, test = (
        SpanSplit(questions, windows_of(tokenizer, questions, config.max_length))
        for questions in (sets.train, sets.val, sets.test)
    )
    return SpanData(train, val, test, tokenizer, content_hash((train, val, test)), sets.left_out)


def windows_of(tokenizer: "Tokenizer", questions: Sequence[Question], max_length: int) -> Windows:
    """Windows of one context overlap by a third of `max_length`; a question is cut off at as much.

    (128 of 384 tokens, the usual overlap for SQuAD.)
    """
    parts = [
        _windows_of(tokenizer, questions[first : first + CHUNK], max_length, first)
        for first in range(0, len(questions), CHUNK)
    ]
    tokens = Tokens(*(torch.cat([getattr(p.tokens, f.name) for p in parts]) for f in fields(Tokens)))
    return Windows(tokens, torch.cat([p.question for p in parts]), torch.cat([p.span for p in parts]))


def _windows_of(tokenizer: "Tokenizer", questions: Sequence[Question], max_length: int, first: int) -> Windows:
    third = max_length // 3
    asked = _cut(tokenizer, [q.text for q in questions], third)
    tokens, row = encode(tokenizer, asked, [q.context for q in questions], max_length, stride=third)
    return Windows(tokens, first + row, answer_tokens(tokens, [questions[i] for i in row.tolist()]))


def _cut(tokenizer: "Tokenizer", texts: Sequence[str], length: int) -> list[str]:
    """The texts, each without what comes after its first `length` tokens."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    cut = []
    for text in texts:
        keep = length
        while len(encoding := tokenizer.encode(text, add_special_tokens=False)) > length:
            text, keep = text[: encoding.offsets[keep - 1][1]], keep - 1  # the rest of a word may split anew
        cut.append(text)
    return cut


def answer_tokens(tokens: Tokens, questions: Sequence[Question]) -> Tensor:
    """First and last token of each row's first answer, int64 (N, 2); (0, 0) if the row does not hold it whole.

    questions: one a row. A token that the answer cuts through belongs to it.
    """
    begin, end = (column[:, None] for column in torch.tensor([_characters(q) for q in questions]).unbind(1))
    left, right = tokens.offsets.unbind(2)
    context = tokens.part == 1
    from_, to = left.where(context, 2**31 - 1).amin(1), right.where(context, -1).amax(1)
    touched = context & (right > begin) & (left < end)
    held = touched.any(1) & (from_ <= begin[:, 0]) & (to >= end[:, 0])
    last = touched.shape[1] - 1 - touched.flip(1).int().argmax(1)
    return torch.stack([touched.int().argmax(1), last], dim=1).where(held[:, None], 0)


def _characters(question: Question) -> tuple[int, int]:
    """[begin, end) of the first answer in the context without white space around it; (0, 0) without an answer."""
    if not question.answers:
        return 0, 0
    text, start = question.answers[0].text, question.answers[0].start
    begin = start + len(text) - len(text.lstrip())
    return begin, begin + len(text.strip())


def article_words(questions: Sequence[Question]) -> list[str]:
    """One text an article: each of its words, lower-cased, and punctuation marks, once.

    So MIN_ARTICLES counts articles. A word of one article alone would be learned by heart with its questions, and
    the network would never meet the unknown word that stands for such words in other articles.
    """
    articles: dict[str, set[str]] = {}
    for question in questions:
        articles.setdefault(question.title, set()).update((question.text, question.context))
    return [" ".join(sorted({w for t in texts for w in WORD.findall(t.lower())})) for texts in articles.values()]


def content_hash(splits: Sequence[SpanSplit]) -> str:
    """sha256 of questions, contexts, answers and token numbers, in order: equal if and only if the data are."""
    digest = hashlib.sha256()
    for split in splits:
        for question in split.questions:
            digest.update(json.dumps(astuple(question)).encode())
        digest.update(repr(tuple(split.windows.tokens.ids.shape)).encode())
        digest.update(split.windows.tokens.ids.contiguous().numpy().data)
    return digest.hexdigest()
