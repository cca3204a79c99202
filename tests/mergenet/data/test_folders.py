"""What lies in an image folder is read, counted as left out, or refused."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from mergenet.config import DataConfig
from mergenet.data.images.folders import load_folder
from mergenet.data.images.images import ImageData
from mergenet.data.listing import SHOWN, entries, some
from mergenet.errors import DataError

CLASSES = ("ant", "bee", "owl")


def write(root: Path, split: str = "train", count: int = 6, suffix: str = ".png") -> Path:
    for number, name in enumerate(CLASSES):
        place = root / split / name
        place.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("RGB", (8, 8), (80 * number, 10 * i, 0)).save(place / f"{i}{suffix}")
    return root


def load(root: Path, **options: object) -> ImageData:
    return load_folder(DataConfig(name="folder", root=str(root), image_size=8, **options))


def sizes(data: ImageData) -> list[int]:
    return [len(split.labels) for split in (data.train, data.val, data.test)]


NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_two_folders_of_one_name_in_two_unicode_forms_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    for name in (NFC, NFD):
        shutil.copytree(tmp_path / "train" / "ant", tmp_path / "train" / name)
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert str(caught.value) == (
        rf"{tmp_path}/train must hold one folder a class, got 'cafe\u0301' and 'caf\xe9', which read alike; "
        "merge them, or rename one"
    )


@pytest.mark.parametrize(("train", "val"), [(NFC, NFD), (NFD, NFC)])
def test_a_class_may_have_another_unicode_form_in_val(tmp_path: Path, train: str, val: str) -> None:
    for split, name in (("train", train), ("val", val)):
        write(tmp_path, split)
        (tmp_path / split / "bee").rename(tmp_path / split / name)
    data = load(tmp_path)
    assert data.class_names == ("ant", train, "owl")
    assert data.val.labels.bincount().tolist() == [6, 6, 6]
    green = {int(image[0, 0, 0]): int(label) for image, label in zip(data.val.images, data.val.labels, strict=True)}
    assert green == {0: 0, 80: 1, 160: 2}


def test_hidden_folders_and_files_are_no_data(tmp_path: Path) -> None:
    plain = load(write(tmp_path))
    assert plain.left_out == {}
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
        shutil.copytree(tmp_path / "train" / "ant", tmp_path / "train" / name)
        shutil.copytree(tmp_path / "train" / "ant", tmp_path / "train" / "owl" / name)
        shutil.copytree(tmp_path / "train", tmp_path / name)
    (tmp_path / "train" / "ant" / "._0.png").write_bytes(b"\0\5\x16\7 of another system")
    data = load(tmp_path)
    assert data.class_names == CLASSES and data.content_hash == plain.content_hash
    assert data.left_out == {"hidden": 10}


def test_all_suffixes_that_pillow_opens_are_read(tmp_path: Path) -> None:
    for suffix in (".png", ".webp", ".bmp", ".tif", ".GIF"):
        write(tmp_path, count=2, suffix=suffix)
    assert sum(sizes(load(tmp_path))) == 3 * 2 * 5


def test_what_is_not_read_is_counted_by_suffix(tmp_path: Path) -> None:
    write(tmp_path)
    for name in ("a.txt", "b.TXT", "c.svg", "d"):
        (tmp_path / "train" / "bee" / name).write_text("x")
    (tmp_path / "train" / "classes.csv").write_text("x")
    for name in ("README.md", "extra"):
        (tmp_path / name).mkdir()
    data = load(tmp_path)
    assert sum(sizes(data)) == 18
    assert data.left_out == {
        "beside the splits (README.md, extra)": 2,
        ".txt": 2,
        ".svg": 1,
        "without suffix": 1,
        "beside the class folders": 1,
    }


def test_images_in_folders_of_a_class_belong_to_it(tmp_path: Path) -> None:
    flat = load(write(tmp_path))
    owl = tmp_path / "train" / "owl"
    (owl / "0").mkdir()
    for name in ("0.png", "1.png"):
        (owl / name).rename(owl / "0" / name)
    assert load(tmp_path).content_hash == flat.content_hash


def test_a_folder_that_holds_itself_is_refused(tmp_path: Path) -> None:
    owl = write(tmp_path) / "train" / "owl"
    (owl / "again").symlink_to(owl)
    with pytest.raises(DataError, match=r"owl/again must not be a link to a folder that it lies in"):
        load(tmp_path)


def test_an_empty_class_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / "train" / "wolf").mkdir()
    message = r"train/wolf must hold at least one image to be a class, got none; fill it or remove it$"
    with pytest.raises(DataError, match=message):
        load(tmp_path)
    (tmp_path / "train" / "wolf" / "a.heic2").write_text("x")
    with pytest.raises(DataError, match=r"train/wolf must .*, got none \(1 \.heic2 not read\); fill it"):
        load(tmp_path)


def test_a_test_split_without_classes_is_refused(tmp_path: Path) -> None:
    test = write(tmp_path) / "test"
    test.mkdir()
    for i in range(4):
        Image.new("RGB", (8, 8)).save(test / f"{i}.png")
    with pytest.raises(DataError, match=r"test must hold at least 3 images, .*got 0 \(4 beside the class folders not"):
        load(tmp_path)


@pytest.mark.parametrize("names", [("Train", "VALID", "Test"), ("training", "validation", "testing"), ("train", "dev")])
def test_other_usual_names_of_the_splits(tmp_path: Path, names: tuple[str, ...]) -> None:
    for count, (ours, theirs) in enumerate(zip(("train", "val", "test"), names, strict=False), start=3):
        write(tmp_path / "ours", ours, count)
        write(tmp_path / "theirs", theirs, count)
    theirs = load(tmp_path / "theirs")
    assert theirs.content_hash == load(tmp_path / "ours").content_hash
    assert sizes(theirs)[1] == 12 and theirs.left_out == {}


def test_one_split_under_two_names_is_refused(tmp_path: Path) -> None:
    for split in ("train", "val", "Validation"):
        write(tmp_path, split)
    with pytest.raises(DataError, match=r"must hold one val split, got (val and Validation|Validation and val)$"):
        load(tmp_path)


def test_a_split_that_was_not_unpacked_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / "Test.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"Test\.zip must be a folder to be read as the test split; convert it or ren"):
        load(tmp_path)


def test_a_folder_without_train_says_what_it_holds(tmp_path: Path) -> None:
    write(tmp_path / "data", ".")
    message = (
        r"data\.root must hold train/<class>/\*\.png, got '.*' without a folder named train; it holds ant, bee, owl$"
    )
    with pytest.raises(DataError, match=message):
        load(tmp_path / "data")
    with pytest.raises(DataError, match=r"data\.root must hold train/.*nowhere', which is no folder$"):
        load(tmp_path / "nowhere")


def test_classes_are_ordered_by_code_point_and_alike_for_all_networks(tmp_path: Path) -> None:
    names = ("b", "10", "a", "Z", "é", "2")
    for number, name in enumerate(names):
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8), (number, i, 0)).save(tmp_path / "train" / name / f"{i}.png")
    for options in ({}, {"train_fraction": 0.5}, {"split_seed": 7}, {"val_fraction": 0.4}):
        data = load(tmp_path, **options)
        assert data.class_names == ("10", "2", "Z", "a", "b", "é")
        for split in (data.train, data.val, data.test):
            assert [data.class_names[n] for n in split.labels] == [names[i] for i in split.images[:, 0, 0, 0]]


def test_a_folder_that_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone cannot be listed: No such file or directory$"):
        entries(tmp_path / "gone")


def test_long_lists_are_cut() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some("abcdef") == f"a, b, c, {6 - SHOWN} more"
