"""Pictures with an embedded ICC profile, in sRGB: what a viewer shows on a usual screen. By LittleCMS, in Pillow.

The rendering intent is perceptual, with black for the darkest ink, as in browsers and photo editors. A profile under
which no colour moves by more than 2 of 255 is taken for sRGB: such pictures keep their bits. Grey pictures may have a
profile of grey or of RGB; otherwise a profile of another colour space than the picture's is not used, as browsers do.
"""

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

GREYS = {"1", "L", "LA", "La", "I", "F"}  # modes; those of 16 bits begin with I
CLOSE = 2  # of 255


@dataclass(frozen=True)
class Conversion:
    """usable: the profile can be read and is one of this colour space. into_srgb: None if it changes nothing."""

    usable: bool = True
    into_srgb: ImageCms.ImageCmsTransform | None = None


def conversion(image: Image.Image) -> Conversion:
    """What the picture's own profile asks for. A picture without one is in sRGB."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode == "LAB":
        return Conversion()
    if image.mode in GREYS or image.mode.startswith("I;"):
        grey = _conversion(profile, "L")
        return grey if grey.usable else _conversion(profile, "RGB")
    return _conversion(profile, "CMYK" if image.mode == "CMYK" else "RGB")


def converted(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    """A picture in sRGB, mode RGB or RGBA, of one of 8 bits a channel; what is transparent stays so."""
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    seen = transform.apply(image.convert(transform.input_mode))
    if alpha is not None:
        seen.putalpha(alpha)
    return seen


@lru_cache(maxsize=64)
def _conversion(profile: bytes, mode: str) -> Conversion:
    """mode: L, RGB or CMYK. The pictures of a folder mostly share a few profiles."""
    try:
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(ImageCms.ImageCmsProfile(io.BytesIO(profile)), srgb, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, ImportError):
        return Conversion(usable=False)  # damaged, of another colour space, no profile of a picture; no LittleCMS
    if mode == "CMYK":
        return Conversion(into_srgb=transform)
    every = _every(mode)
    moved = np.abs(np.asarray(transform.apply(every), dtype=int) - np.asarray(every.convert("RGB"), dtype=int)).max()
    return Conversion(into_srgb=transform if moved > CLOSE else None)


def _every(mode: str) -> Image.Image:
    """All greys, or colours from all over the space."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.linspace(0, 255, 16).round().astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3))
