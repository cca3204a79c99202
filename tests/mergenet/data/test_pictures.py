"""Every mode and format of picture files as a viewer shows it, and in one line what cannot be shown."""

import io
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from mergenet.data.images.pictures import read_image, read_images, suffixes, viewed
from mergenet.errors import DataError

SIZE = 16
RNG = np.random.default_rng(0)
COLOURS = np.kron(RNG.integers(0, 256, (2, 2, 3), dtype=np.uint8), np.ones((8, 8, 1), dtype=np.uint8))
RGB = Image.fromarray(COLOURS)
GREY = np.asarray(RGB.convert("L"))
SEEN_GREY = np.repeat(GREY[:, :, None], 3, axis=2)
LEFT = np.tile(np.arange(SIZE) < SIZE // 2, (SIZE, 1))  # what is opaque of the transparent ones
ON_WHITE = np.where(LEFT[:, :, None], COLOURS, 255)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def with_alpha(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.fromarray(LEFT.astype(np.uint8) * 255))
    return image


def lab() -> Image.Image:
    srgb, space = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(RGB, srgb, space, outputMode="LAB")


def palette() -> Image.Image:
    """The colours with one palette entry, whose colour is black, for the transparent part."""
    image = Image.fromarray(np.where(LEFT, np.arange(SIZE)[:, None] // 8 * 2 + 1, 0).astype(np.uint8), "P")
    image.putpalette([0, 0, 0, *COLOURS[0, 0], 0, 0, 0, *COLOURS[8, 0]])
    return image


PALETTE_SEEN = np.where(LEFT[:, :, None], COLOURS[[0, 8]].repeat(8, axis=0)[:, :1], 255)
SIXTEEN = Image.fromarray(GREY.astype(np.uint16) * 257)
FLOATS = Image.fromarray(GREY.astype(np.float32) / 255)
BITS = np.repeat((GREY > 127)[:, :, None], 3, axis=2) * 255

SHOWN: dict[str, tuple[str, Callable[[Path], Path], np.ndarray, int]] = {  # suffix, writer, seen, tolerance
    "1": (".png", lambda p: saved(p, Image.fromarray(GREY > 127)), BITS, 0),
    "L": (".png", lambda p: saved(p, RGB.convert("L")), SEEN_GREY, 0),
    "LA": (".png", lambda p: saved(p, with_alpha(RGB.convert("L"))), np.where(LEFT[:, :, None], SEEN_GREY, 255), 0),
    "L tRNS": (".png", lambda p: saved(p, Image.fromarray(GREY * LEFT), transparency=0),
               np.where(LEFT[:, :, None], SEEN_GREY, 255), 0),
    "P": (".png", lambda p: saved(p, palette()), np.where(LEFT[:, :, None], PALETTE_SEEN, 0), 0),
    "P bytes": (".png", lambda p: saved(p, palette(), transparency=b"\0\xff\xff\xff"), PALETTE_SEEN, 0),
    "P index": (".gif", lambda p: saved(p, palette(), transparency=0), PALETTE_SEEN, 0),
    "RGB": (".bmp", lambda p: saved(p, RGB), COLOURS, 0),
    "RGB tRNS": (".png", lambda p: saved(p, RGB, transparency=tuple(map(int, COLOURS[0, 0]))),
                 np.where((COLOURS[0, 0] == COLOURS).all(axis=2)[:, :, None], 255, COLOURS), 0),
    "RGBA": (".png", lambda p: saved(p, with_alpha(RGB)), ON_WHITE, 0),
    "RGBA webp": (".webp", lambda p: saved(p, with_alpha(RGB), lossless=True), ON_WHITE, 0),
    "CMYK": (".tiff", lambda p: saved(p, RGB.convert("CMYK")), COLOURS, 1),
    "CMYK jpeg": (".jpg", lambda p: saved(p, RGB.convert("CMYK"), quality=100), COLOURS, 6),
    "YCbCr": (".tif", lambda p: saved(p, RGB.convert("YCbCr")), COLOURS, 3),
    "LAB": (".tif", lambda p: saved(p, lab()), COLOURS, 6),
    "I;16": (".png", lambda p: saved(p, SIXTEEN), SEEN_GREY, 0),
    "I;16 tRNS": (".png", lambda p: saved(p, SIXTEEN, transparency=257 * int(GREY[0, 0])),
                  np.where((GREY[0, 0] == GREY)[:, :, None], 255, SEEN_GREY), 0),
    "I;16B": (".tif", lambda p: big_endian(p), SEEN_GREY, 0),
    "I": (".tif", lambda p: saved(p, Image.fromarray(GREY.astype(np.int32) * 257)), SEEN_GREY, 0),
    "I pgm": (".pgm", lambda p: pgm(p), SEEN_GREY, 0),
    "F": (".tif", lambda p: saved(p, FLOATS), SEEN_GREY, 0),
    "F pfm": (".pfm", lambda p: saved(p, FLOATS), SEEN_GREY, 0),
    "RGB 16": (".png", lambda p: sixteen_bit_colours(p), COLOURS, 0),
    "animated gif": (".gif", lambda p: frames(p), SEEN_GREY, 0),
    "animated webp": (".webp", lambda p: frames(p, lossless=True), SEEN_GREY, 0),
    "animated png": (".apng", lambda p: frames(p), SEEN_GREY, 0),
    "pages": (".tiff", lambda p: frames(p), SEEN_GREY, 0),
    "mpo": (".mpo", lambda p: frames(p, quality=100), SEEN_GREY, 6),
    "jpeg 2000": (".jp2", lambda p: saved(p, RGB, irreversible=False), COLOURS, 0),
    "ico": (".ico", lambda p: saved(p, RGB, sizes=[(SIZE, SIZE)]), COLOURS, 0),
    "wrong suffix": (".jpg", lambda p: saved(p, RGB, format="PNG"), COLOURS, 0),
    "upper case": (".PNG", lambda p: saved(p, RGB), COLOURS, 0),
}  # fmt: skip


def big_endian(path: Path) -> Path:
    """A TIFF in Motorola's order."""
    pixels = (GREY.astype(">u2") * 257).tobytes()
    tags = [(256, 3, SIZE), (257, 3, SIZE), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 122), (277, 3, 1),
            (278, 3, SIZE), (279, 4, len(pixels))]  # fmt: skip
    fields = b"".join(
        tag.to_bytes(2)
        + kind.to_bytes(2)
        + (1).to_bytes(4)
        + (value.to_bytes(2) + b"\0\0" if kind == 3 else value.to_bytes(4))
        for tag, kind, value in tags
    )
    head = b"MM\0*" + (8).to_bytes(4) + len(tags).to_bytes(2) + fields + bytes(4)
    assert len(head) == 122
    path.write_bytes(head + pixels)
    return path


def pgm(path: Path) -> Path:
    path.write_bytes(f"P5 {SIZE} {SIZE} 65535\n".encode() + (GREY.astype(">u2") * 257).tobytes())
    return path


def sixteen_bit_colours(path: Path) -> Path:
    """A PNG of 16 bits a channel, which Pillow cannot write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)

    rows = b"".join(b"\0" + row.tobytes() for row in COLOURS.astype(">u2") * 257)
    head = SIZE.to_bytes(4) * 2 + bytes([16, 2, 0, 0, 0])
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return path


def frames(path: Path, **options: object) -> Path:
    second = Image.new("RGB", (SIZE, SIZE), "red")
    return saved(path, RGB.convert("L").convert("RGB"), save_all=True, append_images=[second], **options)


@pytest.mark.parametrize("kind", SHOWN)
def test_is_what_a_viewer_shows(tmp_path: Path, kind: str) -> None:
    suffix, write, expected, tolerance = SHOWN[kind]
    assert suffix.lower() in suffixes()
    pixels, _ = read_image(write(tmp_path / f"picture{suffix}"), SIZE)
    assert pixels.shape == (SIZE, SIZE, 3) and pixels.dtype == np.uint8
    inside = np.s_[2:6, 2:6] if tolerance > 2 else np.s_[:]  # JPEG blurs the edges of colours
    assert np.abs(pixels.astype(int) - expected)[inside].max() <= tolerance


@pytest.mark.parametrize("mode", ["RGBa", "PA", "HSV", "RGBX", "I;16L", "I;16N"])
def test_modes_that_few_formats_store(mode: str) -> None:
    """As a format's plugin would make them."""
    if mode.startswith("I"):
        image, expected = Image.frombytes(mode, (SIZE, SIZE), (GREY.astype("<u2") * 257).tobytes()), SEEN_GREY
    elif mode == "PA":
        image, expected = palette(), PALETTE_SEEN
        image.putalpha(Image.fromarray(LEFT.astype(np.uint8) * 255))
    elif mode == "RGBa":
        image, expected = with_alpha(RGB).convert(mode), ON_WHITE
    else:
        image, expected = RGB.convert(mode), COLOURS
    assert image.mode == mode
    assert np.abs(np.asarray(viewed(image)[0]).astype(int) - expected).max() <= (4 if mode == "HSV" else 0)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_as_exif_says(tmp_path: Path, orientation: int, suffix: str) -> None:
    """Against Pillow's own function; a file of 24 x 16, so that a missing turn shows in a non-square corner, too."""
    from PIL import ImageOps

    quarters = Image.new("RGB", (24, 16), "white")
    quarters.paste("red", (0, 0, 12, 8))
    quarters.paste("blue", (12, 8, 24, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / f"turned{suffix}", quarters, exif=exif)
    plain = Image.open(saved(tmp_path / "plain.png", quarters, exif=exif))
    upright = ImageOps.exif_transpose(plain).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    middles = np.s_[4:13:8, 4:13:8]  # of the quarters
    assert np.abs(read_image(path, SIZE)[0][middles].astype(int) - np.asarray(upright)[middles]).max() < 60


def test_a_damaged_exif_does_not_hide_the_picture(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", RGB, exif=b"Exif\0\0no TIFF header", quality=100)
    assert np.abs(read_image(path, SIZE)[0][3, 3].astype(int) - COLOURS[3, 3]).max() < 6


def test_opaque_pictures_keep_their_bits(tmp_path: Path) -> None:
    noise = Image.fromarray(RNG.integers(0, 256, (23, 31, 3), dtype=np.uint8))
    expected = np.asarray(noise.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    opaque = noise.convert("RGBA")
    paths = [saved(tmp_path / "a.png", noise), saved(tmp_path / "b.png", opaque), saved(tmp_path / "c.bmp", noise)]
    for pixels in read_images(paths, SIZE).permute(0, 2, 3, 1).numpy():
        assert np.array_equal(pixels, expected)


def long_text(path: Path) -> Path:
    text = PngImagePlugin.PngInfo()
    text.add_text("c", "A" * 2**21, zip=True)
    return saved(path, RGB, pnginfo=text)


def torn(path: Path, share: float = 0.5) -> Path:
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(
        buffer, path.suffix[1:].replace("jpg", "jpeg")
    )
    path.write_bytes(buffer.getvalue()[: int(share * buffer.tell())])
    return path


def bomb(path: Path) -> Path:
    """20,000 x 20,000 pixels in a header."""
    whole = saved(path, Image.new("1", (1, 1))).read_bytes()
    head = b"IHDR" + (20_000).to_bytes(4) * 2 + whole[24:29]
    path.write_bytes(whole[:12] + head + zlib.crc32(head).to_bytes(4) + whole[33:])
    return path


def script(path: Path) -> Path:
    """PostScript under the name of a picture, which Pillow would hand to Ghostscript."""
    return saved(path, RGB, format="EPS")


REFUSED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "long text": (".png", long_text, "Decompressed data too large"),
    "torn png": (".png", torn, ""),
    "torn jpeg": (".jpg", torn, "truncated"),
    "torn gif": (".gif", torn, ""),
    "torn webp": (".webp", torn, ""),
    "torn tiff": (".tiff", torn, ""),
    "torn head": (".jpg", lambda p: torn(p, 0.01), ""),
    "empty": (".png", lambda p: p.write_bytes(b""), "Pillow knows no format that it is in"),
    "text": (".png", lambda p: p.write_text("<html>\nnot found"), "Pillow knows no format that it is in"),
    "bomb": (".png", bomb, r"400000000 pixels"),
    "PostScript": (".png", script, "Pillow knows no format that it is in"),
    "missing": (".png", lambda _: None, "No such file or directory"),
    "folder": (".png", lambda p: p.mkdir(), "Is a directory"),
    "large numbers": (".tif", lambda p: saved(p, Image.fromarray(np.full((4, 4), 70_000, dtype=np.int32))),
                      "values of mode I must be 0 to 65535; save it with 8 bits a channel"),
    "negative": (".tif", lambda p: saved(p, Image.fromarray(np.full((4, 4), -1, dtype=np.int32))), "0 to 65535"),
    "large floats": (".tif", lambda p: saved(p, Image.fromarray(np.full((4, 4), 200, dtype=np.float32))), "0 to 1;"),
    "not a number": (".tif", lambda p: saved(p, Image.fromarray(np.full((4, 4), np.nan, dtype=np.float32))), "0 to 1;"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_shown_is_one_line_with_the_path(tmp_path: Path, kind: str) -> None:
    suffix, write, reason = REFUSED[kind]
    good, bad = saved(tmp_path / "good.png", RGB), tmp_path / f"bad{suffix}"
    write(bad)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=rf"bad{suffix} cannot be read as an image: .*{reason}") as caught:
            read_images([good, bad], SIZE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".webp", ".tiff", ".bmp", ".ico", ".tga"])
def test_no_damage_ends_in_another_error(tmp_path: Path, suffix: str, share: float) -> None:
    """Bytes are overwritten: the picture is read all the same, or refused with its path."""
    path = torn(tmp_path / f"a{suffix}", 1)
    content = bytearray(path.read_bytes())
    place = int(share * len(content))
    content[place : place + 40] = RNG.bytes(40)
    path.write_bytes(content)
    with suppress(DataError):
        assert read_image(path, SIZE)[0].shape == (SIZE, SIZE, 3)


def test_a_large_picture_is_read_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)  # it is refused above twice of it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_images([saved(tmp_path / "a.png", RGB)], SIZE).shape == (1, 3, SIZE, SIZE)
