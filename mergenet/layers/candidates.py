"""The layers of a configuration's networks that can take part in a transfer, from the architectures alone."""

import functools
from pathlib import Path

import torch
from torch import nn

from mergenet.config import Config, ModelConfig, NetworkConfig
from mergenet.layers.matrices import LayerInfo, list_layers
from mergenet.learner.learner import errors_of
from mergenet.models import build_model, find_architecture, weights_file
from mergenet.tasks import description_of

Candidates = tuple[LayerInfo, ...]


def both_candidates(config: Config, direction: str = "to_target") -> tuple[Candidates, Candidates]:
    """The layers of the source and of the target that can take part in a pair of this direction, in network order.

    A layer whose weight is computed from others at each pass can give, and not receive.
    """
    with errors_of("target"):
        targets = sources = _candidates(config.target.model_dump_json(include={"task", "model", "data"}))
    if config.source.kind != "self":
        with errors_of("source"):
            sources = _candidates(config.source.model_dump_json(include={"task", "model", "data"}))
    return _able(sources, direction != "to_target"), _able(targets, direction != "to_source")


def _able(layers: Candidates, receives: bool) -> Candidates:
    return tuple(layer for layer in layers if not (receives and layer.computed_from))


@functools.lru_cache(maxsize=64)
def _candidates(network: str) -> Candidates:
    """network: NetworkConfig as JSON, a cache key."""
    return tuple(list_layers(architecture(NetworkConfig.model_validate_json(network))))


def architecture(network: NetworkConfig) -> nn.Module:
    """The network, for its layers' names and shapes: without weights where possible. Draws no random number.

    What a module of the user's makes once, when it is imported or first called, must have its numbers for later.
    Raises ConfigError for names that are not known, for weights that give the sizes and are not there, and DataError.
    """
    spec, model = description_of(network).spec, _unread(network.model)
    if model.weights is None and ":" not in model.name:
        try:
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                return build_model(model, spec)
        except RuntimeError:  # the architecture computes with its starting weights
            pass
    return real_architecture(network)


def real_architecture(network: NetworkConfig) -> nn.Module:
    """The same with weights, so that it can be run; they are random unless a folder gives the sizes."""
    with torch.random.fork_rng(devices=[]):
        return build_model(_unread(network.model), description_of(network).spec)


def _unread(model: ModelConfig) -> ModelConfig:
    """Without starting weights, unless the layers depend on them."""
    if model.weights is None:
        return model
    sized = find_architecture(model.name).sized_by_folder
    path = weights_file(model) if sized else Path(model.weights)
    return model if path is not None and path.is_dir() else model.model_copy(update={"weights": None})
