"""Networks: the same as torchvision's where they should be, the CIFAR stems, weights from a file."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mergenet.config import ModelConfig
from mergenet.config.spec import CLASSES, IMAGE, TEXT, Spec
from mergenet.errors import ConfigError
from mergenet.layers.matrices import list_layers
from mergenet.models import MODELS, build_model
from mergenet.models._torchvision import Later
from mergenet.models.torchvision_zoo import torchvision_names

OPTIONAL = "efficientnet_lite0"  # needs a package; test_pretrained.py has it
IMAGE_MODELS = [name for name, built in MODELS.items() if built.inputs == IMAGE and name != OPTIONAL]
SMALL = ("resnet_small", "mobilenetv2_small")


def images(num_outputs: int, size: int = 32) -> Spec:
    return Spec(IMAGE, CLASSES, num_outputs, image_size=size)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032), ("mobilenetv2", 3_504_872)],
)
def test_imagenet_stem_is_torchvisions_network(name: str, parameters: int) -> None:
    models = Later("torchvision.models")
    theirs = {"mobilenetv2": models.mobilenet_v2}.get(name) or getattr(models, name)
    torch.manual_seed(0)
    expected = theirs().state_dict()
    torch.manual_seed(0)
    model = build_model(ModelConfig(name=name, stem="imagenet"), images(1000, 224))
    assert count(model) == parameters
    ours = model.state_dict()
    assert list(ours) == list(expected)
    assert all(ours[key].equal(expected[key]) for key in ours)


@pytest.mark.parametrize(("name", "widths"), [("mlp", (14 * 14, 256, 128, 7)), ("mlp_small", (14 * 14, 16, 7))])
def test_perceptrons_see_the_mean_of_the_colours(name: str, widths: tuple[int, ...]) -> None:
    model = build_model(ModelConfig(name=name), images(7, 14))
    pairs = list(itertools.pairwise(widths))
    assert [(i.name, i.shape) for i in list_layers(model)] == [(f"fc{k + 1}", (n, m)) for k, (m, n) in enumerate(pairs)]
    shown = torch.randn(5, 3, 14, 14)
    values = shown.mean(1).flatten(1)
    for number in range(1, len(widths)):
        layer = model.get_submodule(f"fc{number}")
        values = layer(values if number == 1 else values.relu())
    torch.testing.assert_close(model(shown), values)
    grey = shown.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(model(grey), model(shown))


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_logits_and_gradients(name: str, stem: str) -> None:
    side = 16 if stem == "cifar" else 64
    model = build_model(ModelConfig(name=name, stem=stem), images(7, side))
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
    model = build_model(ModelConfig(name=name, stem=stem), images(10, image))
    for layer, size in maps.items():
        assert output_size(model, layer, image) == [size, size], layer


def test_small_networks_are_small() -> None:
    flop_counter = pytest.importorskip("torch.utils.flop_counter")
    for name, most in (("resnet_small", 30e6), ("mobilenetv2_small", 6e6)):
        model = build_model(ModelConfig(name=name), images(70)).eval()
        with flop_counter.FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, 32, 32))
        assert counter.get_total_flops() / 2 < most, name
        assert count(model) < 300_000


@pytest.mark.parametrize("name", SMALL)
def test_initialised_from_the_global_generator(name: str) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build_model(ModelConfig(name=name), images(5)).state_dict())
    assert all(states[0][key].equal(states[1][key]) for key in states[0])
    assert not all(states[0][key].equal(states[2][key]) for key in states[0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet-50", r"^model\.name must be one of .*, torchvision/NAME, got 'resnet-50'; did you mean resnet50"),
        ("torchvision/resnet51", r"^model\.name must be one of torchvision/alexnet, .*did you mean torchvision/resnet"),
        ("wide_resnet50_2", r"^model\.name must be one of torchvision.*; did you mean torchvision/wide_resnet50_2 or"),
        ("torchvision/fcn_resnet50", r"got 'torchvision/fcn_resnet50'"),  # torchvision's, but no classifier
    ],
)
def test_unknown_model(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(ModelConfig(name=name), images(10))


def test_an_image_network_does_not_fit_a_text_task() -> None:
    text = Spec(TEXT, CLASSES, 2, vocab_size=50, max_length=8)
    for name in ("resnet_small", "torchvision/resnet18"):
        with pytest.raises(
            ConfigError, match=f"must fit the task, which gives text and asks for classes, got '{name}'"
        ):
            build_model(ModelConfig(name=name), text)


SOME = [("googlenet", 32), ("mobilenet_v3_small", 32), ("squeezenet1_1", 32)]
OTHER_FAMILIES = [
    ("alexnet", 64), ("convnext_tiny", 32), ("densenet121", 32), ("efficientnet_b0", 32), ("inception_v3", 80),
    ("maxvit_t", 224), ("mnasnet0_5", 32), ("regnet_x_400mf", 32), ("shufflenet_v2_x0_5", 32), ("swin_v2_t", 64),
    ("vit_b_32", 64), ("vgg11_bn", 32),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "size"), [*SOME, *(pytest.param(*family, marks=pytest.mark.slow) for family in OTHER_FAMILIES)]
)
def test_torchvisions_classifiers_by_name(name: str, size: int) -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig(name=f"torchvision/{name}"), images(7, size))
    state = torch.get_rng_state()
    assert model.training
    with torch.no_grad():
        logits = model(torch.randn(2, 3, size, size))
    assert isinstance(logits, Float[Tensor, "2 7"])
    assert list_layers(model)
    torch.manual_seed(0)
    options = {"vit_b_32": {"image_size": size}, "googlenet": {"init_weights": True}}.get(name, {})
    if name not in ("inception_v3", "googlenet"):
        theirs = Later("torchvision.models").get_model(name, num_classes=7, **options)
        assert torch.get_rng_state().equal(state), "looking at the shapes draws nothing"
        ours = model.state_dict()
        assert all("running" in k or "tracked" in k or ours[k].equal(v) for k, v in theirs.state_dict().items())


def test_every_torchvision_classifier_has_a_name() -> None:
    names = torchvision_names()
    assert len(names) >= 80
    assert {"torchvision/resnet50", "torchvision/vit_h_14", "torchvision/regnet_y_128gf"} <= set(names)


@pytest.mark.parametrize(("name", "size"), [("squeezenet1_1", 8), ("vit_b_16", 40), ("maxvit_t", 32)])
def test_images_that_a_torchvision_network_cannot_take(name: str, size: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"^data\.image_size must suit torchvision/{name}, got {size}: \w+"
    ) as caught:
        build_model(ModelConfig(name=f"torchvision/{name}"), images(7, size))
    assert "\n" not in str(caught.value)


FIRST_TO_IMPORT = {  # in a fresh process: whoever imports torchvision first
    "ours": "assert _torchvision.Later('torchvision.models.resnet').ResNet",
    "a user's module": "from torchvision.models import resnet18",
    "transformers": "from transformers import DistilBertModel, BlipModel",
}


@pytest.mark.slow
@pytest.mark.parametrize("first", FIRST_TO_IMPORT)
def test_torchvision_imports_in_a_fresh_process(first: str) -> None:
    """Whatever torch build is here; afterwards the plain import works too, and nothing was declared needlessly."""
    script = f"""
import sys
import torch
try:
    import torchvision
    fits = True
except RuntimeError:
    fits = False
for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"] if not fits else ():
    del sys.modules[name]
from mergenet.models import _torchvision
assert fits or "torchvision" not in sys.modules
{FIRST_TO_IMPORT[first]}
import torchvision
assert torchvision.__file__ and torchvision.__path__ and torchvision.__spec__.submodule_search_locations
assert torchvision.models.resnet18(num_classes=2).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 2)
assert fits == (not _torchvision._declared), fits
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=120)


def test_other_import_errors_come_through(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    file = tmp_path / "torchvision/__init__.py"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])}
    for text in ("operator torchvision::roll does not exist", "operator torchvision::nms does not exist"):
        file.write_text(f"raise RuntimeError('{text}')")
        code = "import mergenet.models, torchvision"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert done.stderr.splitlines()[-1] == f"RuntimeError: {text}"
