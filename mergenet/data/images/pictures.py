"""Picture files as the RGB pixels that an image viewer shows, whatever format and mode they are stored in.

Turned as EXIF says; transparent parts on white; the first picture of an animation or of several pages; 16 bits by
their upper 8. Greys of 32 bits have no range that viewers agree on: whole numbers are taken as 16 bits, fractions as
0 for black to 1 for white, and what lies outside is refused. Colours are those of the embedded profile, in sRGB
(`colour_profiles.py`); one that cannot be used is counted.
"""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms, UnidentifiedImageError
from torch import Tensor

from mergenet.data.images.colour_profiles import conversion, converted
from mergenet.data.listing import LeftOut
from mergenet.errors import DataError

NO_PICTURES = {"BUFR", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}  # Pillow knows their headers alone
PROGRAMS = {"EPS"}  # drawn by running Ghostscript on the file
UNUSABLE = "unusable colour profiles"
WHITE = (255, 255, 255, 255)
ORIENTATION = 0x0112  # EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NO_PICTURES | PROGRAMS)


@cache
def suffixes() -> frozenset[str]:
    """Of picture files, lower-case, with the dot."""
    known = {*formats(), "MPO"}  # several JPEGs in a file, which the format JPEG opens
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


def read_images(paths: Sequence[Path], size: int, left_out: LeftOut | None = None) -> Tensor:
    """uint8 (N, 3, size, size), resized to squares whatever their shape, by threads. Raises DataError with the path.

    left_out: counts the colour profiles that cannot be used.
    """
    images = np.empty((len(paths), size, size, 3), dtype=np.uint8)

    def read(number: int) -> bool:
        images[number], profiled = read_image(paths[number], size)
        return profiled

    formats()  # not by several threads at once
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore")  # Pillow's, which name no file: of odd metadata, and of large pictures
        try:
            ignored = list(pool.map(read, range(len(paths)))).count(False)
        except DataError:
            pool.shutdown(cancel_futures=True)
            raise
    if ignored and left_out is not None:
        left_out[UNUSABLE] += ignored
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def read_image(path: Path, size: int) -> tuple[np.ndarray, bool]:
    """uint8 (size, size, 3), and False if its colour profile cannot be used.

    Raises DataError with the path for a file that cannot be read.
    """
    try:
        with Image.open(path, formats=formats()) as image:
            seen, profiled = viewed(image)
            return np.asarray(seen.resize((size, size), Image.Resampling.BILINEAR)), profiled
    except UnidentifiedImageError:
        raise DataError(f"{path} cannot be read as an image: Pillow knows no format that it is in") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path} cannot be read as an image: {_line(reason)}") from None
    except Exception as error:  # damaged bytes fail in whatever way they lead to
        raise DataError(f"{path} cannot be read as an image: {_line(str(error)) or type(error).__name__}") from None


def viewed(image: Image.Image) -> tuple[Image.Image, bool]:
    """The picture as a viewer shows it, mode RGB; False if its colour profile cannot be used.

    Raises ValueError for 32 bits out of range.
    """
    image.load()
    turn, profile = TURNS.get(_orientation(image)), conversion(image)
    seen = _grey(image) if image.mode.startswith("I") or image.mode == "F" else image
    if profile.into_srgb is not None:
        seen = converted(seen, profile.into_srgb)
    if seen.has_transparency_data:
        seen = seen.convert("RGBA")
        seen = Image.alpha_composite(Image.new("RGBA", seen.size, WHITE), seen)
    if seen.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        seen = ImageCms.profileToProfile(seen, lab, srgb, outputMode="RGB") or seen
    seen = seen.convert("RGB")
    return seen if turn is None else seen.transpose(turn), profile.usable


def _grey(image: Image.Image) -> Image.Image:
    """8 bits, mode L or LA, of a picture of 16 or 32."""
    values = np.asarray(image)
    most = 1 if image.mode == "F" else 65535
    if not (values.min() >= 0 and values.max() <= most):  # not a number is neither
        raise ValueError(f"values of mode {image.mode} must be 0 to {most}; save it with 8 bits a channel")
    grey = Image.fromarray((np.rint(values * 255) if image.mode == "F" else values >> 8).astype(np.uint8))
    if isinstance(nothing := image.info.get("transparency"), int):  # the value that stands for no picture
        grey.putalpha(Image.fromarray((values != nothing).astype(np.uint8) * 255))
    return grey


def _orientation(image: Image.Image) -> Any:
    """As EXIF has it; of a file whose EXIF is damaged, none: viewers show it as it is."""
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:
        return None


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
