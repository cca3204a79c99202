"""Questions about texts from files in the JSON format of SQuAD v2.0 and v1.1, https://rajpurkar.github.io/SQuAD-explorer."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mergenet.config import DataConfig
from mergenet.config.rules import shown
from mergenet.data.json_fields import field, folder_with, read_json, text_field
from mergenet.data.listing import LeftOut
from mergenet.data.splits import hold_out_groups, stratified_order
from mergenet.errors import DataError

URL = "https://rajpurkar.github.io/SQuAD-explorer/dataset"
VERSIONS = {"squad2": "v2.0", "squad1": "v1.1"}


@dataclass(frozen=True)
class Answer:
    text: str
    start: int  # character of the context


@dataclass(frozen=True)
class Question:
    id: str
    title: str  # of the article that the context is from
    text: str
    context: str
    answers: tuple[Answer, ...]  # any of them is right; none: the context does not answer the question


@dataclass(frozen=True)
class QuestionSets:
    train: tuple[Question, ...]
    val: tuple[Question, ...]
    test: tuple[Question, ...]
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)  # what was not read -> how many


def load_squad(config: DataConfig) -> QuestionSets:
    """The official development set as test split; `val_fraction` of the training articles for validation.

    (The official test set is not public.) Raises ConfigError without data.root, DataError for files that are
    missing or malformed.
    """
    version = VERSIONS[config.name]
    names = [f"{part}-{version}.json" for part in ("train", "dev")]
    urls = " ".join(f"{URL}/{name}" for name in names)
    root = folder_with(
        config, names, f"mkdir -p ROOT && curl -fL --create-dirs --output-dir ROOT --remote-name-all {urls}"
    )
    left_out: LeftOut = Counter()
    train, test = (read_squad(root / name, left_out) for name in names)
    sets = split_articles(train, test, config, str(root / names[0]))
    return dataclasses.replace(sets, left_out=dict(left_out))


def split_articles(train: Sequence[Question], test: Sequence[Question], config: DataConfig, where: str) -> QuestionSets:
    """Validation is split off `train` by article: its questions share contexts, which must not leak.

    `train_fraction` then keeps that share of the training questions, of those with and without an answer alike.
    where: of the training questions, for the DataError raised if they are from fewer than two articles.
    """
    titles = {title: number for number, title in enumerate(dict.fromkeys(q.title for q in train))}
    if len(titles) < 2:
        raise DataError(f"{where} must hold articles of at least 2 titles, got {len(titles)}; one is for validation")
    val, rest = hold_out_groups(torch.tensor([titles[q.title] for q in train]), config.val_fraction, config.split_seed)
    if config.train_fraction < 1:
        answerable = torch.tensor([int(bool(train[i].answers)) for i in rest.tolist()])
        count = max(1, round(config.train_fraction * len(rest)))
        rest = rest[stratified_order(answerable, config.split_seed)[:count].sort().values]
    return QuestionSets(tuple(train[i] for i in rest.tolist()), tuple(train[i] for i in val.tolist()), tuple(test))


def read_squad(path: Path, left_out: LeftOut | None = None) -> tuple[Question, ...]:
    """Raises DataError for a file that cannot be read, is no JSON, or is not as `parse_squad` wants it."""
    return parse_squad(read_json(path), str(path), left_out)


def parse_squad(value: object, where: str, left_out: LeftOut | None = None) -> tuple[Question, ...]:
    """All questions of a SQuAD file's value, in order; `version` and `plausible_answers` are ignored.

    left_out: counts the contexts that no question is about.

    Raises DataError, which names `where` and the record, for whatever a SQuAD file cannot hold: other types,
    missing keys, blank texts, ids that come twice, answers that the context does not hold, no question at all.
    """
    questions: list[Question] = []
    for a, article in enumerate(field(value, "data", list, where)):
        place = f"{where}: data[{a}]"
        title = text_field(article, "title", place)
        for p, paragraph in enumerate(field(article, "paragraphs", list, place)):
            spot = f"{place}.paragraphs[{p}]"
            context = text_field(paragraph, "context", spot)
            records = field(paragraph, "qas", list, spot)
            if not records and left_out is not None:
                left_out["contexts without a question"] += 1
            for q, record in enumerate(records):
                questions.append(_question(record, title, context, f"{spot}.qas[{q}]"))
    if not questions:
        raise DataError(f"{where} must hold at least one question, got none")
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise DataError(f"{where}: ids must be unique, got {shown(question.id)} twice")
        seen.add(question.id)
    return tuple(questions)


def _question(record: object, title: str, context: str, where: str) -> Question:
    name = text_field(record, "id", where)
    where = f"{where} (id {shown(name)})"
    answers = tuple(
        _answer(answer, context, f"{where}.answers[{i}]")
        for i, answer in enumerate(field(record, "answers", list, where))
    )
    assert isinstance(record, dict)
    impossible = "is_impossible" in record and field(record, "is_impossible", bool, where)  # v1.1 has no such key
    if impossible == bool(answers):
        raise DataError(
            f"{where} must have answers or is_impossible: true, and not both, got {len(answers)} answers and "
            f"is_impossible: {str(impossible).lower()}"
        )
    return Question(name, title, text_field(record, "question", where), context, answers)


def _answer(record: object, context: str, where: str) -> Answer:
    """The answer where it is in the context.

    An `answer_start` that is off is moved to the nearest place that holds the text. The official evaluation does
    not look at it, and the usual training scripts drop such answers without a word; a text that is nowhere in
    the context can be no span, so it is an error here.
    """
    text = text_field(record, "text", where)
    start = nearest(context, text, field(record, "answer_start", int, where))
    if start is None:
        raise DataError(f"{where}.text must be part of the context, got {shown(text)}; mend or drop the question")
    return Answer(text, start)


def nearest(context: str, text: str, start: int) -> int | None:
    """The place at which `context` holds `text` that is nearest to `start`; None if there is none.

    >>> nearest("to be or not to be", "be", 15)
    16
    """
    start = min(max(start, 0), len(context))
    before, after = context.rfind(text, 0, start + len(text)), context.find(text, start)
    return min((place for place in (before, after) if place >= 0), key=lambda place: abs(place - start), default=None)
