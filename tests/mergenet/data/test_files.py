"""CIFAR in both of its layouts, and image folders: what is read and what is refused."""

import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mergenet.config import DataConfig
from mergenet.config.loading import load_config
from mergenet.data.images.cifar import CIFAR10, CIFAR100, Layout, load_cifar10, load_cifar100
from mergenet.data.images.folders import load_folder
from mergenet.data.images.images import ImageData
from mergenet.errors import ConfigError, DataError
from tests.samples import CIFAR, cifar_file, write_cifar_binary

LOADERS = {"cifar10": (load_cifar10, CIFAR10), "cifar100": (load_cifar100, CIFAR100)}


def write_pickled(root: Path, name: str) -> Path:
    layout: Layout = LOADERS[name][1]
    folder = root / layout.pickled
    folder.mkdir(parents=True)
    for i, file in enumerate((*layout.train, *layout.test)):
        images, labels = cifar_file(name, i)
        batch = {"batch_label": "x", layout.labels_key: labels.tolist(), "data": images, "filenames": ["a.png"]}
        (folder / file).write_bytes(pickle.dumps(batch, protocol=2))
    names = {layout.names_key: [f"class{i}" for i in range(layout.num_classes)]}
    (folder / layout.names[1]).write_bytes(pickle.dumps(names, protocol=2))
    return folder


def load(root: Path, name: str, **options: float) -> ImageData:
    return LOADERS[name][0](DataConfig(name=name, root=str(root), **options))


@pytest.mark.parametrize("name", LOADERS)
def test_both_layouts_hold_the_same(tmp_path: Path, name: str) -> None:
    write_cifar_binary(tmp_path / "binary", name)
    write_pickled(tmp_path / "pickled", name)
    binary, pickled = load(tmp_path / "binary", name), load(tmp_path / "pickled", name)
    assert binary.content_hash == pickled.content_hash
    assert binary.class_names == pickled.class_names
    assert binary.class_names[:2] == ("class0", "class1")
    layout = LOADERS[name][1]
    images, labels = cifar_file(name, len(layout.train))
    assert binary.test.images.equal(torch.from_numpy(images.reshape(-1, 3, 32, 32)))
    assert binary.test.labels.tolist() == labels.tolist()
    total = CIFAR[name][1] * len(layout.train)
    assert (len(binary.train.labels), len(binary.val.labels)) == (total - round(0.15 * total), round(0.15 * total))


def test_pickles_that_python_2_wrote(tmp_path: Path) -> None:
    """The originals: byte strings for text, numpy's module by its old name."""
    folder = write_pickled(tmp_path, "cifar10")
    expected = load(tmp_path, "cifar10").content_hash
    for file in (*CIFAR10.train, *CIFAR10.test):
        new = (folder / file).read_bytes()
        old = new.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
        assert old != new
        for key in (b"data", b"labels"):  # BINUNICODE -> SHORT_BINSTRING
            old = old.replace(b"X" + len(key).to_bytes(4, "little") + key, b"U" + bytes([len(key)]) + key)
        (folder / file).write_bytes(old)
    assert load(tmp_path, "cifar10").content_hash == expected


def test_torchvision_reads_the_same(tmp_path: Path) -> None:
    from mergenet.models._torchvision import Later

    datasets = Later("torchvision.datasets")
    write_pickled(tmp_path, "cifar10")

    class Unchecked(datasets.CIFAR10):
        def _check_integrity(self) -> bool:  # these are not the originals
            return True

        def _load_meta(self) -> None:
            return

    theirs, ours = Unchecked(str(tmp_path), train=False), load(tmp_path, "cifar10").test
    assert np.array_equal(theirs.data, ours.images.permute(0, 2, 3, 1).numpy())
    assert theirs.targets == ours.labels.tolist()


class Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_pickle_that_would_run_something_is_refused(tmp_path: Path) -> None:
    folder = write_pickled(tmp_path, "cifar10")
    trace = tmp_path / "trace"
    (folder / "data_batch_1").write_bytes(pickle.dumps({"data": Attack(trace), "labels": []}, protocol=2))
    with pytest.raises(DataError, match=r"data_batch_1 cannot be read: it asks for \w+\.mkdir, which no array needs"):
        load(tmp_path, "cifar10")
    assert not trace.exists()


@pytest.mark.parametrize("attack", [b"cbuiltins\neval\n(V1\ntR.", b"cnumpy\nload\n(Vx\ntR.", b"cos\nsystem\n(Vx\ntR."])
def test_other_names_are_refused(tmp_path: Path, attack: bytes) -> None:
    folder = write_pickled(tmp_path, "cifar100")
    (folder / "meta").write_bytes(attack)
    with pytest.raises(DataError, match=r"meta cannot be read: it asks for \w+\.\w+, which no array needs"):
        load(tmp_path, "cifar100")


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([1]), pickle.dumps({"data": 1})])
def test_damaged_pickle(tmp_path: Path, content: bytes) -> None:
    folder = write_pickled(tmp_path, "cifar10")
    (folder / "test_batch").write_bytes(content)
    with pytest.raises(DataError, match=r"cifar-10-batches-py/test_batch .*; fetch"):
        load(tmp_path, "cifar10")


def test_damaged_binary(tmp_path: Path) -> None:
    folder = write_cifar_binary(tmp_path, "cifar10")
    file = folder / "data_batch_2.bin"
    file.write_bytes(file.read_bytes()[:-1])
    message = r"data_batch_2\.bin must hold whole records of 3073 bytes, got 122919 bytes; fetch it again"
    with pytest.raises(DataError, match=message):
        load(tmp_path, "cifar10")
    file.write_bytes(b"\x0a" + bytes(3072))
    with pytest.raises(DataError, match=r"data_batch_2\.bin: labels must be 0 to 9, got 10"):
        load(tmp_path, "cifar10")
    file.unlink()
    with pytest.raises(DataError, match=r"data_batch_2\.bin cannot be read: No such file"):
        load(tmp_path, "cifar10")


def test_missing_cifar_names_folder_and_command(tmp_path: Path) -> None:
    message = (
        rf"data\.root must hold cifar-100-binary or cifar-100-python, got '{tmp_path}' .*: mkdir -p .*/cifar-100-binary"
    )
    with pytest.raises(DataError, match=message):
        load(tmp_path, "cifar100")
    with pytest.raises(ConfigError, match=r"data\.root must name the folder of cifar10, got None; .*curl"):
        load_cifar10(DataConfig(name="cifar10"))


def test_the_command_of_the_error_fills_the_folder(tmp_path: Path) -> None:
    """With a curl that has the archive at hand."""
    folder = write_cifar_binary(tmp_path, "cifar100")
    subprocess.run(["tar", "-czf", "archive", folder.name], cwd=tmp_path, check=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "curl").write_text(f"#!/bin/sh\ncat '{tmp_path}/archive'\n")
    (tmp_path / "bin" / "curl").chmod(0o755)
    root = tmp_path / "new folder" / "data"
    with pytest.raises(DataError) as caught:
        load(root, "cifar100")
    command = str(caught.value).partition("fill it with: ")[2]
    environment = {**os.environ, "PATH": f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", command], env=environment, check=True)
    assert load(root, "cifar100").content_hash == load(tmp_path, "cifar100").content_hash


@pytest.mark.parametrize("write", [write_cifar_binary, write_pickled])
def test_the_preset_reads_what_its_comment_unpacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, str], Path]
) -> None:
    write(tmp_path / "data", "cifar100")
    monkeypatch.chdir(tmp_path)
    config = load_config("cross-structure-full")
    for network in (config.source, config.target):
        assert len(load_cifar100(network.data).train.labels)


def test_cifar_at_another_size(tmp_path: Path) -> None:
    write_cifar_binary(tmp_path, "cifar10")
    assert load(tmp_path, "cifar10", image_size=16).train.images.shape[1:] == (3, 16, 16)


COLORS = {"blue": (0, 0, 255), "red": (255, 0, 0)}


def write_images(folder: Path, n: int = 20) -> None:
    for name, color in COLORS.items():
        (folder / name).mkdir(parents=True)
        for i in range(n):
            Image.new("RGB", (20 + i, 30), color).save(folder / name / f"{i}.{'png' if i % 2 else 'JPG'}", quality=95)


def load_images(root: Path, **options: float) -> ImageData:
    return load_folder(DataConfig(name="folder", root=str(root), image_size=16, **options))


def test_folder_with_train_alone_is_split(tmp_path: Path) -> None:
    write_images(tmp_path / "train")
    data = load_images(tmp_path)
    assert data.class_names == ("blue", "red")
    assert [len(split.labels) for split in (data.train, data.val, data.test)] == [29, 5, 6]
    for split in (data.train, data.val, data.test):
        blue, red = (split.images.float().mean(dim=(2, 3))[split.labels == label] for label in (0, 1))
        assert len(blue) and (blue - torch.tensor([0, 0, 255])).abs().max() < 4
        assert len(red) and (red - torch.tensor([255, 0, 0])).abs().max() < 4
    assert load_images(tmp_path).content_hash == data.content_hash
    assert load_images(tmp_path, split_seed=1).class_names == data.class_names


def test_folder_with_splits_of_its_own(tmp_path: Path) -> None:
    for split, n in (("train", 10), ("val", 3), ("test", 4)):
        write_images(tmp_path / split, n)
    data = load_images(tmp_path, train_fraction=0.5)
    assert [len(split.labels) for split in (data.train, data.val, data.test)] == [10, 6, 8]


def test_folder_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.root must name the folder .*, got None"):
        load_folder(DataConfig(name="folder"))
    with pytest.raises(DataError, match=rf"data\.root must hold train/.*got '{tmp_path}' without a folder named train"):
        load_images(tmp_path)
    (tmp_path / "train" / "red").mkdir(parents=True)
    with pytest.raises(DataError, match=r"train must hold at least 2 folders, one a class, got 1"):
        load_images(tmp_path)
    (tmp_path / "train" / "blue").mkdir()
    with pytest.raises(DataError, match=r"train must hold at least 3 images, .* got 0"):
        load_images(tmp_path)


def test_folder_with_a_broken_image_or_an_unknown_class(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 4)
    broken = tmp_path / "train" / "red" / "1.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"train/red/1\.png cannot be read as an image: "):
        load_images(tmp_path)
    broken.write_bytes(whole)
    write_images(tmp_path / "val", 2)
    (tmp_path / "val" / "red").rename(tmp_path / "val" / "rde")
    with pytest.raises(DataError, match=r"val/rde must be a class of train, got 'rde'; train has \['blue', 'red'\]"):
        load_images(tmp_path)
