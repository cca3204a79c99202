"""What the layers of a search space allow: names are looked up and ranks limited before a trial starts."""

import dataclasses
import functools
import math

from torch import nn

from mergenet.config import Config, NetworkConfig, rule
from mergenet.errors import ConfigError
from mergenet.layers import LayerInfo, find_layer, list_layers
from mergenet.learner import errors_of
from mergenet.models import build_model
from mergenet.tasks import build_task
from sweeps.space import MAX_COMBINATIONS, RANK, Labels, Space


def with_limits(space: Space) -> Space:
    """The space with the largest rank of each combination of its shaping choices.

    Builds the networks and reads the data once, which is also the check that they exist. Raises ConfigError.
    """
    count = math.prod(len(space.options(path)) for path in space.shaping)
    if count > MAX_COMBINATIONS:
        raise ConfigError(
            f"search must have at most {MAX_COMBINATIONS} combinations of pairs, models and data, got {count}; "
            "list fewer choices"
        )
    limits = {}
    for labels in space.combinations():
        limit = rank_limit(space.config(labels), describe(labels))
        check_rank(space, labels, limit)
        limits[tuple(labels.values())] = limit
    return dataclasses.replace(space, limits=limits)


def describe(labels: Labels) -> str:
    drawn = ", ".join(f"{path}={label}" for path, label in labels.items())
    return f" (with {drawn})" if drawn else ""


def check_rank(space: Space, labels: Labels, limit: int) -> None:
    """The smallest rank that can be drawn must fit every combination. Raises ConfigError."""
    entry = space.entries.get(RANK)
    lowest = space.config(labels).transfer.adapter.rank
    if entry is not None:
        lowest = entry.whole[0] if entry.whole is not None else min(entry.choice or (lowest,))
    if lowest > limit:
        path = RANK if entry is None else f"search.{RANK}"
        raise ConfigError(
            str(rule(path, f"allow a rank of at most {limit}{describe(labels)}", lowest, "lower it or change the pair"))
        )


def rank_limit(config: Config, where: str = "") -> int:
    """The largest rank that all pairs allow; per kernel row for convolutions. Raises LayerError for a bad name."""
    target = config.target
    source = target if config.source.kind == "self" else config.source
    limit = 2**31 - 1
    for i, pair in enumerate(config.transfer.pairs):
        for side, network, name in (("source", source, pair.source), ("target", target, pair.target)):
            with errors_of(side):
                limit = min(limit, layer_limit(network, name, f"transfer.pairs.{i}.{side}{where}"))
    return 2**31 - 1 if config.transfer.adapter.kind == "full_matrix" else limit


def layer_limit(network: NetworkConfig, name: str, path: str) -> int:
    layers = network_layers(network.model_dump_json(include={"task", "model", "data"}))
    if name not in layers:
        find_layer(build(network), name, path)  # raises, with the nearest names
    info = layers[name]
    return min(info.matrix) // (info.shape[2] if info.kind == "conv" else 1)


@functools.lru_cache(maxsize=64)
def network_layers(network: str) -> dict[str, LayerInfo]:
    """Layers by name. network: NetworkConfig as JSON, a key that can be cached."""
    return {info.name: info for info in list_layers(build(NetworkConfig.model_validate_json(network)))}


def build(network: NetworkConfig) -> nn.Module:
    return build_model(network.model, build_task(network).num_outputs)
