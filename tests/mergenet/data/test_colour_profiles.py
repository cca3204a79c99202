"""Pictures with a colour profile are in sRGB afterwards, by the profile's own formula; all others keep their bits.

The profiles are built here, tag by tag (ICC.1:2001-04), so that the expected colours come from the formula alone.
"""

import io
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from mergenet.config import DataConfig, NetworkConfig
from mergenet.data.images.colour_profiles import conversion
from mergenet.data.images.pictures import UNUSABLE, read_image, read_images, viewed
from mergenet.data.listing import LeftOut
from mergenet.tasks import build_task, contents
from mergenet.tasks.contents import in_a_line
from tests.samples import write_coco, write_vqa2

D50 = np.array([0.9642, 1.0, 0.8249])
# red, green, blue in XYZ, adapted to D50 (columns)
ADOBE = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
SIZE = 16
RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
RGB = Image.fromarray(COLOURS)
GREY = RGB.convert("L")
LEFT = np.tile(np.arange(SIZE) < SIZE // 2, (SIZE, 1))


def xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(65536 * value)) for value in values)


def gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(256 * value)) + bytes(2)


def srgb_curve() -> bytes:
    encoded = np.linspace(0, 1, 1024)
    return b"curv" + bytes(4) + struct.pack(">I1024H", 1024, *np.rint(65535 * linear(encoded)).astype(int))


def profile(space: bytes, tags: dict[bytes, bytes], device: bytes = b"mntr", connected: bytes = b"XYZ ") -> bytes:
    text = b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(78)
    tags = {b"desc": text, b"cprt": b"text" + bytes(5), b"wtpt": xyz(*D50)} | tags
    place, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", place + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    body = struct.pack(">I", len(tags)) + table + data
    head = struct.pack(">I4xI", 128 + len(body), 0x02400000) + device + space + connected + bytes(12) + b"acsp"
    white = b"".join(struct.pack(">i", round(65536 * value)) for value in D50)
    return (head + bytes(28) + white).ljust(128, b"\0") + body


def rgb_profile(primaries: np.ndarray, curve: bytes) -> bytes:
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    tags = {name: xyz(*primaries[:, i]) for i, name in enumerate(names)}
    return profile(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def grey_profile(value: float) -> bytes:
    return profile(b"GRAY", {b"kTRC": gamma(value)})


def cmyk_profile(lightness: Callable[[int], int]) -> bytes:
    """Neutral Lab whose L is a function of how many of the four inks are on, in between along straight lines."""
    corners = b"".join(bytes([lightness(i.bit_count()), 128, 128]) for i in range(16))
    same = bytes(range(256))
    one = b"".join(struct.pack(">i", value) for value in (65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + one + same * 4 + corners + same * 3
    return profile(b"CMYK", {b"A2B0": table}, b"prtr", b"Lab ")


def linear(encoded: np.ndarray) -> np.ndarray:
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def encode(light: np.ndarray) -> np.ndarray:
    light = light.clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def in_srgb(light: np.ndarray, primaries: np.ndarray) -> np.ndarray:
    return encode(light @ primaries.T @ np.linalg.inv(SRGB).T)


ADOBE_RGB = rgb_profile(ADOBE, gamma(2.19921875))
P3 = rgb_profile(DISPLAY_P3, srgb_curve())
BY_ADOBE = in_srgb((COLOURS / 255) ** 2.19921875, ADOBE)
BY_P3 = in_srgb(linear(COLOURS / 255), DISPLAY_P3)
PLAIN = COLOURS.astype(float)
TWICE = np.repeat(encode((np.asarray(GREY)[:, :, None] / 255) ** 3), 3, axis=2)  # a grey of gamma 3


def seen(path: Path, image: Image.Image, icc: bytes, **options: object) -> np.ndarray:
    image.save(path, icc_profile=icc, **options)
    pixels, usable = read_image(path, SIZE)
    assert usable
    return pixels.astype(float)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg", ".avif"])
@pytest.mark.parametrize(("icc", "expected"), [(ADOBE_RGB, BY_ADOBE), (P3, BY_P3)])
def test_wide_colours_are_those_of_the_formula(suffix: str, icc: bytes, expected: np.ndarray, tmp_path: Path) -> None:
    exact = suffix in (".png", ".tif", ".webp")
    if exact:
        found = seen(tmp_path / f"a{suffix}", RGB, icc, **({"lossless": True} if suffix == ".webp" else {}))
        assert np.abs(found - expected).max() <= 2 and np.abs(expected - PLAIN).max() > 20
        return
    one = Image.new("RGB", (SIZE, SIZE), (40, 200, 90))  # files that lose details keep a plain colour
    place = np.array([[40.0, 200.0, 90.0]]) / 255
    right = in_srgb(place**2.19921875, ADOBE) if icc is ADOBE_RGB else in_srgb(linear(place), DISPLAY_P3)
    assert np.abs(seen(tmp_path / f"a{suffix}", one, icc, quality=100)[8, 8] - right[0]).max() <= 5


def test_the_largest_difference_is_what_it_was_to_be() -> None:
    """A full red of Display P3 is out of sRGB; a green of Adobe RGB, too: cut off, as the formula says."""
    red = Image.new("RGB", (1, 1), (255, 0, 0))
    red.info["icc_profile"] = P3
    assert np.asarray(viewed(red)[0]).tolist() == [[[255, 0, 0]]]
    half = Image.new("RGB", (1, 1), (128, 128, 128))  # greys stay grey
    half.info["icc_profile"] = ADOBE_RGB
    pixel = np.asarray(viewed(half)[0])[0, 0].astype(int)
    assert np.ptp(pixel) <= 1 and abs(pixel[0] - 128) <= 2


def test_palettes_transparent_parts_and_turns(tmp_path: Path) -> None:
    palette = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(SIZE, SIZE), "P")
    palette.putpalette(COLOURS.tobytes())
    assert np.abs(seen(tmp_path / "p.png", palette, ADOBE_RGB) - BY_ADOBE).max() <= 2
    clear = RGB.copy()
    clear.putalpha(Image.fromarray(LEFT.astype(np.uint8) * 255))
    found = seen(tmp_path / "a.png", clear, ADOBE_RGB)
    assert np.abs(found - np.where(LEFT[:, :, None], BY_ADOBE, 255)).max() <= 2
    exif = Image.Exif()
    exif[0x0112] = 3
    assert np.abs(seen(tmp_path / "t.png", RGB, ADOBE_RGB, exif=exif) - BY_ADOBE[::-1, ::-1]).max() <= 2


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_greys(mode: str, tmp_path: Path) -> None:
    image, expected = GREY, TWICE
    if mode == "LA":
        image = GREY.copy()
        image.putalpha(Image.fromarray(LEFT.astype(np.uint8) * 255))
        expected = np.where(LEFT[:, :, None], TWICE, 255)
    elif mode == "I;16":
        image = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)
    assert np.abs(seen(tmp_path / "g.png", image, grey_profile(3)) - expected).max() <= 2
    if mode == "L":  # a profile of colours says which grey it is as well
        found = seen(tmp_path / "h.png", image, rgb_profile(SRGB, gamma(3)))
        assert np.abs(found - TWICE).max() <= 2


@pytest.mark.parametrize("suffix", [".tif", ".jpg"])
def test_inks(suffix: str, tmp_path: Path) -> None:
    """Each of four inks takes a quarter of the lightness by the profile; without it they would be colours."""
    icc = cmyk_profile(lambda inks: round(255 * (1 - inks / 4)))
    options = {"quality": 100} if suffix == ".jpg" else {}
    for inks, lightness in (((0, 0, 0, 0), 100), ((255, 0, 0, 0), 75), ((0, 255, 255, 0), 50)):
        right = encode(np.array(((lightness + 16) / 116) ** 3))
        found = seen(tmp_path / f"i{suffix}", Image.new("CMYK", (SIZE, SIZE), inks), icc, **options)
        assert np.abs(found - right).max() <= 3, inks


def test_pictures_in_srgb_keep_their_bits(tmp_path: Path) -> None:
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number, icc in enumerate((own, rgb_profile(SRGB, srgb_curve()), b"")):
        image = Image.fromarray(RNG.integers(0, 256, (23, 31, 3), dtype=np.uint8))
        image.save(path := tmp_path / f"{number}.png", icc_profile=icc)
        plain = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        assert np.array_equal(read_image(path, SIZE)[0], plain)
        assert conversion(Image.open(path)).into_srgb is None


BROKEN = {
    "noise": b"not a profile" * 20,
    "torn": ADOBE_RGB[: len(ADOBE_RGB) // 2],
    "head": ADOBE_RGB[:100],
    "of inks": cmyk_profile(lambda inks: 255 - 60 * inks),
    "without curves": profile(b"RGB ", {b"rXYZ": xyz(1, 0, 0)}),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_profile_that_cannot_be_used_is_left_out_and_counted(kind: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, icc in zip(paths, (BROKEN[kind], b"", BROKEN[kind]), strict=True):
        RGB.save(path, icc_profile=icc)
    left_out = LeftOut()
    for pixels in read_images(paths, SIZE, left_out).permute(0, 2, 3, 1).numpy():
        assert np.array_equal(pixels, COLOURS)
    assert left_out == {UNUSABLE: 2}


def test_damaged_bytes_of_a_profile_never_end_in_an_error() -> None:
    for seed in range(200):
        draw = np.random.default_rng(seed)
        content = np.frombuffer(ADOBE_RGB, dtype=np.uint8).copy()
        content[draw.integers(0, len(content), 8)] = draw.integers(0, 256, 8)
        image = RGB.copy()
        image.info["icc_profile"] = content.tobytes()
        assert viewed(image)[0].mode == "RGB"


def test_threads_that_share_a_profile_see_the_same(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(64)]
    for path in paths:
        Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path, icc_profile=P3)
    alone = np.stack([read_image(path, 64)[0] for path in paths])
    with ThreadPoolExecutor(8) as pool:
        for _ in range(4):
            assert np.array_equal(np.stack([found for found, _ in pool.map(lambda p: read_image(p, 64), paths)]), alone)


def test_every_reader_of_pictures_converts_and_counts(tmp_path: Path) -> None:
    for number in range(24):
        folder = tmp_path / "folder/train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        RGB.save(folder / f"{number}.png", icc_profile=ADOBE_RGB if number < 22 else BROKEN["noise"])
    config = NetworkConfig(data=DataConfig(name="folder", root=str(tmp_path / "folder"), image_size=SIZE))
    task = build_task(config)
    assert in_a_line(contents(task, config)).endswith("; left out: 2 unusable colour profiles")
    images = task._splits["train"].images.permute(0, 2, 3, 1).numpy().astype(float)  # type: ignore[attr-defined]
    near = np.abs(images - BY_ADOBE).max(axis=(1, 2, 3)) <= 2
    plain = np.abs(images - PLAIN).max(axis=(1, 2, 3)) == 0
    assert (near | plain).all() and near.sum() >= len(images) - 2

    pytest.importorskip("tokenizers")
    for name, task_name, write in (
        ("vqa2", "visual_question_answering", lambda root: write_vqa2(root, num_images=12)),
        ("coco", "image_text_retrieval", write_coco),
    ):
        root = tmp_path / name
        root.mkdir()
        write(root)
        for number, path in enumerate(sorted(root.rglob("*.jpg"))):
            icc = BROKEN["noise"] if number == 0 else b""
            image = Image.open(io.BytesIO(path.read_bytes()))
            image.save(path, icc_profile=icc)
        data = {"name": name, "root": str(root), "image_size": 4, "max_length": 8, "val_fraction": 0.25}
        network = NetworkConfig.model_validate({"task": task_name, "data": data})
        assert "1 unusable colour profiles" in in_a_line(contents(build_task(network), network)), name
