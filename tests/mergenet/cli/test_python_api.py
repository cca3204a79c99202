"""Networks, data sets and tasks of the user's own that are not what they should be: one line, which says what."""

import json
import re
from pathlib import Path

import pytest

from mergenet.config import Config, NetworkConfig
from mergenet.errors import UserError
from mergenet.tasks.image_classification import ImageClassification
from mergenet.tasks.text_classification import TextClassification
from mergenet.training.trainer import Trainer
from tests.sweeps.base import base_values

MODULE = """
import numpy as np
import torch
from torch import nn
from mergenet import Architecture, ImageData, Split, image_data
from mergenet.data.text.labelled import Texts

def build(config, spec): return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, spec.num_outputs))
def build_other(config, spec): return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, spec.num_outputs + 2))
def build_nothing(config, spec): return None
def build_badly(config, spec): return nn.Linear(config.nowhere, 2)
good, other, nothing = Architecture(build), Architecture(build_other), Architecture(build_nothing)
badly = Architecture(build_badly)
seven = 7

def split(count, labels=3, size=16):
    return Split(torch.zeros(count, 3, size, size, dtype=torch.uint8), torch.arange(count) % labels)

NAMES = ("a", "b", "c")
def fine(config): return image_data(split(64), split(9), split(9), NAMES)
def none(config): return None
def labels(config): return image_data(split(64, labels=5), split(9), split(9), NAMES)
def large(config): return image_data(split(64, size=20), split(9), split(9), NAMES)
def empty(config): return image_data(split(64), split(0), split(9), NAMES)
def floats(config): return Split(torch.zeros(4, 3, 16, 16), torch.zeros(4, dtype=torch.int64))
def short(config): return Split(torch.zeros(4, 3, 16, 16, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
def one(config): return image_data(split(64, 1), split(9, 1), split(9, 1), ("a",))
def arrays(config): return Split(np.zeros((4, 3, 16, 16), np.uint8), np.zeros(4, np.int64))
def numpy_names(config): return image_data(split(64), split(9), split(9), np.arange(3))
def tensor_names(config): return image_data(split(64), split(9), split(9), torch.arange(3))
def texts(config): return [None, None, None, NAMES]
def one_text(config): return [Texts(["a"] * 9, torch.zeros(9, dtype=torch.int64))] * 3 + [("a",)]
def text_names(config): return [Texts(["a b", "c d"] * 9, torch.arange(18) % 2)] * 3 + [np.arange(2)]
def unreadable(config): return open("/nowhere/at/all")

class Half:
    metric = "top1"
    def __init__(self, config): ...
    def size(self, split): return 4
"""
LINE = {text: number for number, text in enumerate(MODULE.splitlines(), start=1)}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its name; each test has one of its own, as Python imports a name once."""
    name = "own_" + re.sub(r"\W", "_", tmp_path.name)
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def network(**target: object) -> NetworkConfig:
    return Config.model_validate(values(**target)).target


def values(**target: object) -> dict[str, object]:
    return base_values(method="none", target=base_values()["target"] | {"batch_size": 16} | target)


def refused(**target: object) -> str:
    with pytest.raises(UserError) as caught:
        for _ in Trainer(Config.model_validate(values(**target))).epochs():
            pass
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("build", " must name an Architecture, got 'M:build', a function; write NAME = Architecture(build) in its"),
        ("seven", " must name an Architecture, got 'M:seven', an int"),
        ("nothing", ": M:nothing must return a Module, got None"),
        ("badly", ": M:badly must work, got AttributeError: 'ModelConfig' object has no attribute 'nowhere' (FILE:11)"),
        ("absent", ": the object of M must be one of "),
    ],
)  # fmt: skip
def test_networks(module: str, name: str, message: str) -> None:
    text = refused(model={"name": f"{module}:{name}"}, data={"name": f"{module}:fine", "image_size": 16})
    assert shortened(text, module).startswith(f"target.model.name{message}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("seven", " must name a function or a class, got 'M:seven', which is an int"),
        ("none", ": M:none must return an ImageData, got None"),
        ("large", ": images of M:large must be of data.image_size 16, got 20 x 20"),
        ("empty", ": the split val of M:empty must hold examples, got none"),
        ("unreadable", ": M:unreadable must work, got FileNotFoundError: [Errno 2] No such file or directory: "),
    ],
)
def test_data_sets(module: str, name: str, message: str) -> None:
    text = refused(data={"name": f"{module}:{name}", "image_size": 16})
    assert shortened(text, module).startswith(f"target.data.name{message}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("labels", "labels must be from 0 to 2, the number of the class, got 3"),
        ("floats", "images of a split must be uint8 (N, 3, H, W), got float32 (4, 3, 16, 16)"),
        ("short", "as many labels as images, and images of 3 channels, got uint8 (4, 3, 16, 16) and 3 labels"),
        ("one", "class_names must be of at least 2 classes, got 1"),
        (
            "arrays",
            "images of a split must be a torch tensor, uint8 (N, 3, H, W), got a ndarray; torch.as_tensor makes",
        ),
    ],
)
def test_what_a_data_set_holds(module: str, name: str, message: str) -> None:
    text = shortened(refused(data={"name": f"{module}:{name}", "image_size": 16}), module)
    assert text.startswith(f"target.data.name: M:{name}: ")
    assert message in text


def test_logits_of_other_classes(module: str) -> None:
    text = refused(model={"name": f"{module}:other"}, data={"name": f"{module}:fine", "image_size": 16})
    assert text == "target.model.name: the network must give logits of shape (16, 3) for this batch, got (16, 5)"


def test_the_line_of_the_users_module_is_named(module: str) -> None:
    text = refused(data={"name": f"{module}:unreadable", "image_size": 16})
    line = next(number for text, number in LINE.items() if "nowhere/at" in text)
    assert text.endswith(f"{module}.py:{line})")


def test_tasks(module: str) -> None:
    text = refused(task=f"{module}:Half")
    assert shortened(text, module).startswith("target.task: M:Half must have spec, data_hash, metric, ")
    assert text.endswith("and lacks spec, data_hash, metadata, batch, forward, loss, score, metrics")
    text = shortened(refused(task=f"{module}:seven"), module)
    assert text == "target.task must name a function or a class, got 'M:seven', which is an int"


def test_texts(module: str) -> None:
    data = {"name": f"{module}:texts", "max_length": 16}
    text = refused(task="text_classification", data=data, model={"name": "bert_small"})
    assert shortened(text, module).startswith(
        "target.data.name: M:texts must return three Texts and the class names, got N"
    )


def test_texts_of_one_class(module: str) -> None:
    data = {"name": f"{module}:one_text", "max_length": 16}
    text = refused(task="text_classification", data=data, model={"name": "bert_small"})
    assert shortened(text, module) == "target.data.name: M:one_text: class_names must be of at least 2 classes, got 1"


@pytest.mark.parametrize("name", ["numpy_names", "tensor_names"])
def test_class_names_of_numpy_and_torch_are_their_plain_values(module: str, name: str) -> None:
    task = ImageClassification(network(data={"name": f"{module}:{name}", "image_size": 16}))
    assert json.loads(task.metadata["class_names"]) == [0, 1, 2]


def test_class_names_of_texts_are_their_plain_values(module: str) -> None:
    data = {"name": f"{module}:text_names", "max_length": 16}
    task = TextClassification(network(task="text_classification", data=data, model={"name": "bert_small"}))
    assert json.loads(task.metadata["class_names"]) == [0, 1]


def shortened(text: str, module: str) -> str:
    return re.sub(rf"{module}\.py:(\d+)", r"FILE:\1", text).replace(module, "M")
