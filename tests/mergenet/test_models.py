"""Networks: the same as torchvision's where they should be, the CIFAR stems, weights from a file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from mergenet.config import ModelConfig
from mergenet.errors import ConfigError
from mergenet.models import MODELS, build_model
from mergenet.models._torchvision import torchvision_module

SMALL = ("resnet_small", "mobilenetv2_small")


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032), ("mobilenetv2", 3_504_872)],
)
def test_imagenet_stem_is_torchvisions_network(name: str, parameters: int) -> None:
    models = torchvision_module("torchvision.models")
    theirs = {"mobilenetv2": models.mobilenet_v2}.get(name) or getattr(models, name)
    torch.manual_seed(0)
    expected = theirs().state_dict()
    torch.manual_seed(0)
    model = build_model(ModelConfig(name=name, stem="imagenet"), 1000)
    assert count(model) == parameters
    ours = model.state_dict()
    assert list(ours) == list(expected)
    assert all(ours[key].equal(expected[key]) for key in ours)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("name", MODELS)
def test_logits_and_gradients(name: str, stem: str) -> None:
    model = build_model(ModelConfig(name=name, stem=stem), 7)
    side = 16 if stem == "cifar" else 64
    logits = model(torch.randn(2, 3, side, side))
    assert isinstance(logits, Float[Tensor, "2 7"])
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def output_size(model: nn.Module, layer: str, image: int) -> list[int]:
    sizes: list[int] = []
    hook = model.get_submodule(layer).register_forward_hook(lambda *call: sizes.extend(call[2].shape[2:]))
    model.eval()(torch.zeros(1, 3, image, image))
    hook.remove()
    return sizes


@pytest.mark.parametrize(
    ("name", "stem", "image", "maps"),
    [
        ("resnet18", "cifar", 32, {"conv1": 32, "layer1": 32, "layer4": 4}),
        ("resnet50", "cifar", 32, {"conv1": 32, "layer1": 32, "layer4": 4}),
        ("resnet18", "imagenet", 224, {"conv1": 112, "layer1": 56, "layer4": 7}),
        ("resnet_small", "cifar", 32, {"conv1": 32, "layer1": 32, "layer3": 8}),
        ("resnet_small", "imagenet", 64, {"conv1": 32, "layer1": 16, "layer3": 4}),
        ("mobilenetv2", "cifar", 32, {"features.0": 32, "features.2": 32, "features.18": 4}),
        ("mobilenetv2", "imagenet", 224, {"features.0": 112, "features.2": 56, "features.18": 7}),
        ("mobilenetv2_small", "cifar", 32, {"features.0": 32, "features.6": 4}),
        ("mobilenetv2_small", "imagenet", 64, {"features.0": 32, "features.6": 4}),
    ],
)
def test_map_sizes(name: str, stem: str, image: int, maps: dict[str, int]) -> None:
    model = build_model(ModelConfig(name=name, stem=stem), 10)
    for layer, size in maps.items():
        assert output_size(model, layer, image) == [size, size], layer


def test_small_networks_are_small() -> None:
    flop_counter = pytest.importorskip("torch.utils.flop_counter")
    for name, most in (("resnet_small", 30e6), ("mobilenetv2_small", 6e6)):
        model = build_model(ModelConfig(name=name), 70).eval()
        with flop_counter.FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, 32, 32))
        assert counter.get_total_flops() / 2 < most, name
        assert count(model) < 300_000


@pytest.mark.parametrize("name", SMALL)
def test_initialised_from_the_global_generator(name: str) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build_model(ModelConfig(name=name), 5).state_dict())
    assert all(states[0][key].equal(states[1][key]) for key in states[0])
    assert not all(states[0][key].equal(states[2][key]) for key in states[0])


def test_unknown_model() -> None:
    with pytest.raises(ConfigError, match=r"model\.name must be one of .*, got 'resnet-50'; did you mean resnet50"):
        build_model(ModelConfig(name="resnet-50"), 10)


def test_weights_are_loaded(tmp_path: Path) -> None:
    torch.manual_seed(3)
    weights = {k: v + 1 for k, v in build_model(ModelConfig(), 5).state_dict().items()}
    save_file(weights, tmp_path / "w.safetensors")
    loaded = build_model(ModelConfig(weights=str(tmp_path / "w.safetensors")), 5).state_dict()
    assert loaded.keys() == weights.keys()
    assert all(loaded[key].equal(weights[key]) for key in weights)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    config = ModelConfig(weights=str(path))
    with pytest.raises(ConfigError, match=r"model\.weights must be a safetensors file, got '.*', which is not there"):
        build_model(config, 5)
    path.write_bytes(b"\x80\x02pickle")
    with pytest.raises(ConfigError, match=r"model\.weights must be a safetensors file, got '.*w\.safetensors': "):
        build_model(config, 5)
    weights = build_model(ModelConfig(), 5).state_dict()
    weights["extra"] = weights.pop("classifier.1.bias")
    save_file(weights, path)
    message = r"must fit mobilenetv2_small \(cifar stem\).*classifier\.1\.bias is missing; extra is not in the network$"
    with pytest.raises(ConfigError, match=message):
        build_model(config, 5)
    save_file(build_model(ModelConfig(), 6).state_dict(), path)
    message = r"classifier\.1\.bias is \(6,\), the network has \(5,\); classifier\.1\.weight is \(6, 128\)"
    with pytest.raises(ConfigError, match=message):
        build_model(config, 5)


def test_torchvision_imports_in_a_fresh_process() -> None:
    """Whatever torch build is here; afterwards the plain import works too, and nothing was declared needlessly."""
    script = """
import torch
try:
    import torchvision
    fits = True
except RuntimeError:
    fits = False
    import sys
    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        del sys.modules[name]
from mergenet.models import _torchvision
module = _torchvision.torchvision_module('torchvision.models.resnet')
assert module is _torchvision.torchvision_module('torchvision.models.resnet')
import torchvision
assert torchvision.models.resnet18(num_classes=2).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 2)
assert fits == (not _torchvision._declared), fits
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=120)


def test_other_import_errors_come_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_module.py").write_text("raise RuntimeError('operator torchvision::roll does not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RuntimeError, match="torchvision::roll"):
        torchvision_module("broken_module")
    with pytest.raises(ModuleNotFoundError):
        torchvision_module("no_such_module_at_all")
