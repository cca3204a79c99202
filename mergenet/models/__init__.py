"""The networks, by name."""

from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mergenet.config import ModelConfig
from mergenet.errors import ConfigError, unknown_name
from mergenet.models.mobilenet import mobilenetv2, mobilenetv2_small
from mergenet.models.resnet import resnet18, resnet34, resnet50, resnet_small

MODELS: dict[str, Callable[[int, str], nn.Module]] = {  # (number of outputs, stem) -> network
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet_small": resnet_small,
    "mobilenetv2": mobilenetv2,
    "mobilenetv2_small": mobilenetv2_small,
}


def build_model(config: ModelConfig, num_outputs: int) -> nn.Module:
    """The network of that name, initialised from torch's global generator, or from the file `config.weights`.

    Raises ConfigError for an unknown name and for weights that are missing, unreadable or of another network.
    """
    if config.name not in MODELS:
        raise ConfigError(unknown_name("model.name", config.name, MODELS))
    model = MODELS[config.name](num_outputs, config.stem)
    if config.weights is not None:
        _load_weights(model, config)
    return model


def _load_weights(model: nn.Module, config: ModelConfig) -> None:
    path = str(config.weights)
    if not Path(path).is_file():
        raise ConfigError(f"model.weights must be a safetensors file, got {path!r}, which is not there")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ConfigError(f"model.weights must be a safetensors file, got {path!r}: {error}") from None
    if difference := _difference(model.state_dict(), weights):
        raise ConfigError(f"model.weights must fit {config.name} ({config.stem} stem), got {path!r}: {difference}")
    model.load_state_dict(weights)


def _difference(expected: dict[str, Tensor], given: dict[str, Tensor]) -> str:
    """What of `given` does not fit, in one line; empty if all of it does."""
    shapes = [
        f"{name} is {tuple(given[name].shape)}, the network has {tuple(expected[name].shape)}"
        for name in expected.keys() & given.keys()
        if given[name].shape != expected[name].shape
    ]
    missing = [f"{name} is missing" for name in expected.keys() - given.keys()]
    surplus = [f"{name} is not in the network" for name in given.keys() - expected.keys()]
    found = sorted(missing) + sorted(surplus) + sorted(shapes)
    more = f"; {len(found) - 3} more" if len(found) > 3 else ""
    return "; ".join(found[:3]) + more
