"""Emoji and their names; MSCOCO in Karpathy's splits."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenet.config import DataConfig
from mergenet.data.image_text.captions import (
    KARPATHY,
    CaptionData,
    load_coco,
    load_openmoji_names,
    read_karpathy,
    unicode_names,
)
from mergenet.data.image_text.image_text import ImageTexts
from mergenet.data.images.openmoji import emoji_images, emoji_list
from mergenet.errors import ConfigError, DataError
from tests.samples import spoil, write_coco

EMOJI = DataConfig(name="openmoji_names", image_size=16, max_length=16)


def words_of_split(data: CaptionData, split: ImageTexts) -> list[str]:
    names = {number: word for word, number in json.loads(data.tokenizer)["model"]["vocab"].items()}
    return [" ".join(names[t] for t in row.tolist() if t > 3) for row in split.tokens]


def test_emoji_are_all_there() -> None:
    data = load_openmoji_names(EMOJI)
    splits = (data.train, data.val, data.test)
    assert sum(len(split.image) for split in splits) == 1748
    assert sum(len(split.images) for split in splits) == len(torch.unique(emoji_images(16).flatten(1), dim=0))
    assert len(data.test.images) == round(0.15 * sum(len(split.images) for split in splits))
    assert all(torch.bincount(split.image, minlength=len(split.images)).min() >= 1 for split in splits)


def test_names_belong_to_their_images() -> None:
    data, (_, _, sequences) = load_openmoji_names(EMOJI), emoji_list()
    names, drawn = unicode_names(), {}
    for sequence, image in zip(sequences, emoji_images(16), strict=True):
        drawn.setdefault(image.numpy().tobytes(), set()).add(names[sequence].lower())
    found = 0
    for image, text in zip(data.train.image.tolist(), words_of_split(data, data.train), strict=True):
        known = {name.replace(":", " :") for name in drawn[data.train.images[image].numpy().tobytes()]}
        found += text in known
    assert found > 0.85 * len(data.train.image)  # the others hold accents, hyphens and the like


def test_lookalikes_are_one_image_with_several_names() -> None:
    """Svalbard flies Norway's flag."""
    for seed in range(3):
        data = load_openmoji_names(EMOJI.model_copy(update={"split_seed": seed}))
        (_, _, sequences), pictures = emoji_list(), emoji_images(16)
        norway = pictures[sequences.index((0x1F1F3, 0x1F1F4))]
        counts = []
        for split in (data.train, data.val, data.test):
            (where,) = (split.images == norway).flatten(1).all(dim=1).nonzero(as_tuple=True)
            counts.append([int((split.image == place).sum()) for place in where])
        assert sorted(counts) == [[], [], [2]]


def test_train_fraction_is_of_images_and_nested() -> None:
    whole, half, tenth = (
        load_openmoji_names(EMOJI.model_copy(update={"train_fraction": fraction})) for fraction in (1.0, 0.5, 0.1)
    )
    assert len(half.train.images) == round(0.5 * len(whole.train.images))
    pixels = [{image.numpy().tobytes() for image in data.train.images} for data in (whole, half, tenth)]
    assert pixels[0] > pixels[1] > pixels[2]
    assert half.val.images.equal(whole.val.images) and half.test.image.equal(whole.test.image)
    assert len({data.content_hash for data in (whole, half, tenth)}) == 3
    assert tenth.vocab_size < half.vocab_size  # words of the kept names only


# ---- MSCOCO


def config_of(root: Path, **options: Any) -> DataConfig:
    return DataConfig(name="coco", root=str(root), image_size=8, max_length=10, **options)


def test_karpathys_splits(tmp_path: Path) -> None:
    write_coco(tmp_path)
    data = load_coco(config_of(tmp_path))
    assert [len(s.images) for s in (data.train, data.val, data.test)] == [4, 2, 2]  # restval is training data
    assert data.train.image.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert words_of_split(data, data.train)[:4] == [
        f"picture {n} seen {way} ." for n, way in ((0, "here"), (0, "there"), (0, "far"), (1, "here"))
    ]
    red = data.test.images[:, 0].float().mean(dim=(1, 2))
    assert red.tolist() == pytest.approx([60, 140], abs=4)  # images 3 and 7
    half = load_coco(config_of(tmp_path, train_fraction=0.5))
    assert len(half.train.images) == 2 and half.test.images.equal(data.test.images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("images"), r"dataset_coco.json must have the key 'images'"),
        (lambda v: v["images"].clear(), r"splits train, val and test, got none of train, val, test"),
        (
            lambda v: v["images"][1].update(split="dev"),
            r"images\[1\].split must be one of train, restval, .*, got 'dev'",
        ),
        (lambda v: v["images"][1].update(filepath="/etc"), r"images\[1\].filepath must be one of train2014, val2014"),
        (lambda v: v["images"][1].update(filename="../a.jpg"), r"images\[1\].filename must be the name of a file"),
        (lambda v: v["images"][1].update(filename="a\0.jpg"), r"images\[1\].filename must be the name of a file"),
        (lambda v: v["images"][1].update(filename="a.jpg"), r"val2014/a.jpg cannot be read as an image"),
        (lambda v: v["images"][1].update(filename="x" * 5000), r"cannot be read as an image"),
        (
            lambda v: v["images"][5].update(filename=v["images"][1]["filename"]),
            r"images\[5\].filename must be an image of its own, got 'COCO_.*jpg', as in images\[1\]",
        ),
        (lambda v: v["images"][1].update(sentences=[]), r"images\[1\].sentences must hold at least one caption"),
        (
            lambda v: v["images"][1]["sentences"][0].update(raw=3),
            r"images\[1\].sentences\[0\].raw must be a text, got 3",
        ),
    ],
)
def test_malformed_coco(tmp_path: Path, change: Any, message: str) -> None:
    write_coco(tmp_path)
    value = json.loads((tmp_path / KARPATHY).read_text())
    change(value)
    (tmp_path / KARPATHY).write_text(json.dumps(value))
    with pytest.raises(DataError, match=message) as caught:
        load_coco(config_of(tmp_path))
    assert "\n" not in str(caught.value)


def test_images_without_a_caption_are_counted(tmp_path: Path) -> None:
    write_coco(tmp_path)
    value = json.loads((tmp_path / KARPATHY).read_text())
    value["images"] = value["images"][:-1]
    (tmp_path / KARPATHY).write_text(json.dumps(value))
    assert load_coco(config_of(tmp_path)).left_out == {"files that no text is about": 1}
    assert load_coco(config_of(tmp_path, train_fraction=0.5)).left_out == {"files that no text is about": 1}


def test_missing_and_torn_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.root must name the folder of coco, got None; fill it with: mkdir"):
        load_coco(DataConfig(name="coco"))
    with pytest.raises(DataError, match=r"must hold dataset_coco.json, .* lacks dataset_coco.json, .*; fill it with"):
        load_coco(config_of(tmp_path))
    write_coco(tmp_path)
    whole = (tmp_path / KARPATHY).read_bytes()
    for torn in (whole[:-5], b"", b"\xff\xfe", b"[" * 100_000):
        (tmp_path / KARPATHY).write_bytes(torn)
        with pytest.raises(DataError, match=r"dataset_coco.json must be JSON"):
            load_coco(config_of(tmp_path))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_value_anywhere_is_an_error_or_fine(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    root = tmp_path_factory.mktemp("coco")
    write_coco(root, num_images=4)
    spoil(root / KARPATHY, data)
    message = refusal(root)
    assert message is None or (str(root) in message and "\n" not in message)


def refusal(root: Path) -> str | None:
    try:
        entries = read_karpathy(root)
    except DataError as error:
        return str(error)
    assert all(entry.captions for split in entries.values() for entry in split)
    return None
