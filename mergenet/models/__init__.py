"""The networks, by name."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mergenet.config import ModelConfig
from mergenet.config.choices import SHIPPED_MODELS
from mergenet.config.registry import kind_of, look_up, made_by, shipped
from mergenet.config.spec import IMAGE, Spec
from mergenet.data.text.minilm import MINILM
from mergenet.errors import ConfigError, unknown_name, visible
from mergenet.models.architecture import Architecture, image_classifier
from mergenet.models.pretrained import check_finite, content_hash, load_into, read_weights
from mergenet.models.torchvision_zoo import PREFIX, as_built, torchvision_classifier, torchvision_names

__all__ = [
    "MODELS",
    "Architecture",
    "build_model",
    "check_words",
    "find_architecture",
    "image_classifier",
    "weights_file",
    "weights_hash",
]

MODELS: dict[str, Architecture] = shipped(SHIPPED_MODELS)


def find_architecture(name: str) -> Architecture:
    """The architecture in MODELS, torchvision's for "torchvision/NAME", or the user's own for "module:object".

    Raises ConfigError, with near names, if there is none.
    """
    if name in MODELS or ":" in name:
        found = look_up("model.name", name, MODELS)
        if not isinstance(found, Architecture):
            own = name.rpartition(":")[2]
            wrap = f"; write NAME = Architecture({own}) in its module, and name that" if callable(found) else ""
            raise ConfigError(f"model.name must name an Architecture, got {name!r}, {kind_of(found)}{wrap}")
        return found
    theirs = torchvision_names()
    if name in theirs:
        return Architecture(lambda _, spec: torchvision_classifier(name, spec), renamed=as_built)
    known = theirs if name.startswith(PREFIX) or PREFIX + name in theirs else [*MODELS, f"{PREFIX}NAME"]
    raise ConfigError(unknown_name("model.name", name, known))


def weights_file(config: ModelConfig) -> Path | None:
    """The file or folder that `config.weights` names; None if the network starts from random weights.

    Raises ConfigError if there is none, or if the package that brings it is not installed.
    """
    if config.weights is None:
        return None
    packaged = find_architecture(config.name).packaged
    path = packaged[config.weights]() if config.weights in packaged else Path(config.weights)
    if not path.exists():
        names = f", or {' or '.join(packaged)}" if packaged else ""
        raise ConfigError(
            f"model.weights must be a file of starting weights{names}, got {str(path)!r}, which is not there"
        )
    return path


def check_words(config: ModelConfig, tokenizer: str | None) -> None:
    """Raises ConfigError if a network that was trained on texts would get another numbering of words."""
    path = weights_file(config)
    if path is not None and find_architecture(config.name).reads_folders and path.is_dir() and tokenizer is None:
        written = MINILM if config.weights == MINILM else path
        raise ConfigError(
            f"data.tokenizer must be given beside model.weights {config.weights!r}, got nothing: by default words are "
            f"numbered as they come in the training texts, which that network does not know; write {written}"
        )


def weights_hash(config: ModelConfig) -> str | None:
    """SHA-256, hex, of the content of the starting weights; None for random ones. Raises as `weights_file`."""
    path = weights_file(config)
    return None if path is None else content_hash(path)


def fill_lazy(model: nn.Module, spec: Spec) -> None:
    """Lazy layers get their shapes and starting weights from a pass over made-up examples, as in plain torch from the
    first batch. Raises ConfigError if the pass fails, or does not reach them all.
    """
    if not lazy_tensors(model):
        return
    training, inputs = model.training, spec.example(2)
    try:
        with torch.no_grad():
            model.eval()(*inputs)
    except (Exception, SystemExit) as error:  # the user's code can raise anything
        what = f"{type(error).__name__}: {visible((str(error).splitlines() or [''])[0])[:200]}"
        raise ConfigError(f"model.name: the pass that gives its lazy layers their shapes fails with {what}") from error
    model.train(training)
    if left := lazy_tensors(model):
        raise ConfigError(
            f"model.name: the forward pass does not use {left[0]}, which is lazy and so has no shape; give its layer "
            "the number of inputs, or leave it out"
        )


def lazy_tensors(model: nn.Module) -> list[str]:
    return [name for name, value in [*model.named_parameters(), *model.named_buffers()] if is_lazy(value)]


def build_model(config: ModelConfig, spec: Spec) -> nn.Module:
    """The network of that name, initialised from torch's global generator, or from the file `config.weights`.

    A file for another number of classes gives all but the head, with a warning.
    Raises ConfigError for an unknown name, a network that does not fit the task, and for weights that are
    missing, unreadable or of another network.
    """
    architecture = find_architecture(config.name)
    if not architecture.fits(spec):
        fitting = [name for name, other in MODELS.items() if other.fits(spec)]
        raise ConfigError(
            f"model.name must fit the task, which gives {spec.inputs} and asks for {spec.outputs}, "
            f"got {config.name!r}; {', '.join(fitting)} do"
        )
    path = weights_file(config)
    named = config if path is None else config.model_copy(update={"weights": str(path)})
    if ":" in config.name:
        model = made_by("model.name", config.name, architecture.build, nn.Module, named, spec)
    else:
        model = architecture.build(named, spec)
    fill_lazy(model, spec)
    if path is not None and architecture.reads_folders and path.is_dir():
        check_finite(model, model.state_dict(), path)
    elif path is not None:
        label = f"{config.name} ({config.stem} stem)" if architecture.inputs == IMAGE else config.name
        weights = architecture.renamed(read_weights(path))
        try:
            load_into(model, weights, path, label, spec.example(2))
        except ConfigError as error:
            other = named.model_copy(update={"stem": "imagenet" if config.stem == "cifar" else "cifar"})
            if ":" in config.name or not loads(architecture.build(other, spec), weights, path):
                raise
            raise ConfigError(f"{error}; set model.stem={other.stem}, with which they fit") from None
    return model


def loads(model: nn.Module, weights: dict[str, Tensor], path: Path) -> bool:
    """Whether the weights fit the network, which they are loaded into."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of the head
            load_into(model, weights, path, "")
    except ConfigError:
        return False
    return True
