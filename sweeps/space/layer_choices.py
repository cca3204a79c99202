"""The layers of a search space: patterns expanded, names looked up, ranks limited before a trial starts."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from types import EllipsisType
from typing import Any, TypeVar

from torch import nn

from mergenet.config import Config, NetworkConfig, PairConfig
from mergenet.config.rules import is_pattern, rule
from mergenet.errors import ConfigError
from mergenet.layers.candidates import both_candidates
from mergenet.layers.matrices import LayerError, LayerInfo, check_receives, find_layer, list_layers
from mergenet.layers.spaces import columns_of, network_key
from mergenet.learner.dry_run import is_own, shared_buffers
from mergenet.learner.learner import errors_of
from mergenet.models import build_model
from mergenet.tasks import description_of
from mergenet.transfer.encodings import has_rank
from mergenet.transfer.pairs import is_written, matches, with_alignment, with_pairs, write_pairs
from sweeps.space.conditions import holds
from sweeps.space.entry import Entry, Scalar
from sweeps.space.possible_values import reachable
from sweeps.space.space import MAX_COMBINATIONS, METHOD, PAIRS, RANK, Labels, Space

MANY = 100_000  # combinations are not counted further

T = TypeVar("T")
Key = tuple[Scalar | EllipsisType, ...]
PlainPair = dict[str, Any]
Pairs = tuple[PairConfig, ...] | str


def with_layers(space: Space) -> Space:
    """The space with the pairs of the base and of every choice written out: no pattern, `auto` or `layers` is left.

    `auto` needs layers that allow the smallest rank that can be drawn. Where networks are searched too, all of them
    must give the same pairs. A base's `auto` or pattern is no pair where no run transfers. Raises ConfigError.
    """
    entry, base = space.entries.get(PAIRS), space.config({}).transfer.pairs
    options = [] if entry is None else [space.config({PAIRS: label}).transfer.pairs for label in space.options(PAIRS)]
    check_numbers(space, [base, *options])
    check_mappings(space)
    if entry is not None and entry.layers is not None:
        found = drawn_pairs(space, entry.layers)
    elif all(map(is_written, [base, *options])):
        return space
    else:
        found = [written(space, pairs, "search.") for pairs in options]
    pairs = written(space, base) if may_transfer(space, {}) else []
    values = space.base | {"transfer": space.base["transfer"] | {"pairs": pairs}}
    if entry is None:
        return dataclasses.replace(space, base=values)
    once = [pairs for i, pairs in enumerate(found) if pairs not in found[:i]]  # two patterns may be the same
    listed = Entry(choice=tuple(once), when=entry.when)
    return dataclasses.replace(space, base=values, entries=space.entries | {PAIRS: listed})


def check_numbers(space: Space, values: Sequence[Pairs]) -> None:
    """Settings of a pair are searched by its number, which a pattern's pairs get only when expanded."""
    one_each = PAIRS in space.entries and space.entries[PAIRS].layers is not None
    for path in [path for path in space.entries if path.startswith(f"{PAIRS}.")]:
        if any(is_pattern(str(value)) for value in space.entries[path].listed):
            must = f"search.{path}.choice must be names of layers, got a pattern"
            raise ConfigError(f"{must}; draw from patterns with search.{PAIRS}.layers")
        if not one_each and not all(map(is_written, values)):
            raise ConfigError(f"search.{path} must not be searched beside patterns in {PAIRS}; name the layers")


def check_mappings(space: Space) -> None:
    """Pairs inside a mapping stay as they are written."""
    for path in [path for path in space.entries if path != PAIRS and PAIRS in space.names(path)]:
        for label in space.options(path):
            if not is_written(space.config(space.example(path, label)).transfer.pairs):
                raise ConfigError(
                    f"search.{path} must name the layers of its pairs; only search.{PAIRS} takes patterns"
                )


def networks(space: Space) -> Iterator[tuple[Labels, Config]]:
    """One configuration for each combination of searched values, pairs aside, that changes the layers."""
    paths = [path for path in space.shaping if not path.startswith(PAIRS)]
    branches = list(space.branches(paths))
    for labels in [labels for labels in branches if may_transfer(space, labels)] or branches:
        config = space.config(space.filled(labels))
        adapter = config.transfer.adapter.model_copy(update={"rank": lowest_rank(space, config)})
        transfer = config.transfer.model_copy(update={"adapter": adapter})
        yield labels, config.model_copy(update={"method": "mergenet", "transfer": transfer})


def written(space: Space, pairs: Pairs, prefix: str = "") -> list[PlainPair]:
    """The pairs that a pattern or `auto` stands for, the same in all networks of the space. prefix: of messages."""
    if is_written(pairs):
        return plain(pairs)
    found = []
    for labels, config in networks(space):
        try:
            found.append((labels, plain(write_pairs(with_pairs(config, pairs)).transfer.pairs)))
        except LayerError as error:
            raise LayerError(f"{prefix}{error}{describe(labels)}") from None
    return the_same(found, prefix + PAIRS)


def drawn_pairs(space: Space, pair: PairConfig) -> list[list[PlainPair]]:
    """The choices of `layers`: each matching source layer with each matching target layer."""
    path, found = f"search.{PAIRS}.layers", []
    for labels, config in networks(space):
        sources, targets = both_candidates(config, pair.direction)
        givers = matches(pair.source, sources, f"{path}.source{describe(labels)}")
        receivers = matches(pair.target, targets, f"{path}.target{describe(labels)}")
        if len(givers) * len(receivers) > MAX_COMBINATIONS:
            raise ConfigError(
                f"{path} must stand for at most {MAX_COMBINATIONS} pairs, got {len(givers) * len(receivers)} "
                f"({len(givers)} source and {len(receivers)} target layers){describe(labels)}; narrow the patterns"
            )
        same = config.source.kind == "self"  # a layer gives nothing to itself
        names = [(source, target) for source in givers for target in receivers if not (same and source == target)]
        drawn = [pair.model_copy(update={"source": source, "target": target}) for source, target in names]
        found.append((labels, [plain((one,)) for one in drawn]))
    return the_same(found, path)


def the_same(found: Sequence[tuple[Labels, list[T]]], path: str) -> list[T]:
    """What was found in all networks alike. Raises ConfigError if they differ."""
    (_, first), *others = found
    for labels, other in others:
        if other != first:
            raise ConfigError(
                f"{path} must stand for the same layers in all networks of the search, but with "
                f"{describe(labels)[7:-1]} it stands for others; name the layers"
            )
    return first


def plain(pairs: Pairs) -> list[PlainPair]:
    """As sweep files have them: without defaults."""
    assert not isinstance(pairs, str)
    return [pair.model_dump(mode="json", exclude_defaults=True) for pair in pairs]


def with_limits(space: Space) -> Space:
    """The space with the largest rank of each combination of its shaping choices.

    Builds the networks and reads the data once, which also checks that they exist. Raises ConfigError.
    """
    count = len({space.key(labels) for labels in itertools.islice(space.combinations(), MANY)})
    if count > MAX_COMBINATIONS:
        got = f"{count} or more" if count == MANY else count
        raise ConfigError(
            f"search must have at most {MAX_COMBINATIONS} combinations of pairs, models and data, got {got}; "
            "list fewer choices"
        )
    limits: dict[Key, int] = {}
    for labels in space.combinations():
        config = space.config(space.filled(labels))
        check_new(config)
        if not may_transfer(space, labels):  # its pairs are not used
            check_networks(config)
            continue
        config = config.model_copy(update={"method": "mergenet"})  # the base's may be another of those searched
        limit = limits[space.key(labels)] = rank_limit(config, describe(labels))
        check_rank(space, labels, config, limit)
    return dataclasses.replace(space, limits=limits)


def check_networks(config: Config) -> None:
    """Checks that both networks can be built. Raises UserError."""
    for side in ("source", "target"):
        with errors_of(side):
            network_layers(network_key(getattr(config, side)))


def check_new(config: Config) -> None:
    """Checks that networks of the user's that learn are new at each call. Raises UserError."""
    for side in ("source", "target"):
        network = getattr(config, side)
        if is_own(network.model) and (side == "target" or config.source.kind not in ("frozen", "self")):
            with errors_of(side):
                made_anew(network_key(network))


@functools.lru_cache(maxsize=64)
def made_anew(network: str) -> None:
    config = NetworkConfig.model_validate_json(network)
    shared_buffers(config.model.name, build(config), build(config))  # raises


def may_transfer(space: Space, labels: Labels) -> bool:
    """Whether the labels may stand for runs with transfer: it is their method, or one that may be drawn with them."""
    methods = [labels[METHOD]] if METHOD in labels else reachable(space, METHOD)
    return "mergenet" in methods


def describe(labels: Labels) -> str:
    drawn = ", ".join(f"{path}={label}" for path, label in labels.items())
    return f" (with {drawn})" if drawn else ""


def check_rank(space: Space, labels: Labels, config: Config, limit: int) -> None:
    """The smallest rank that can be drawn must fit every combination, or the base's where none is drawn.

    config: of the labels. Raises ConfigError.
    """
    drawn = RANK in space.entries and holds(space.entries[RANK], labels)
    lowest = lowest_rank(space, config) if drawn else config.transfer.adapter.rank
    if lowest > limit:
        path = f"search.{RANK}" if drawn else RANK
        raise ConfigError(
            str(rule(path, f"allow a rank of at most {limit}{describe(labels)}", lowest, "lower it or change the pair"))
        )


def lowest_rank(space: Space, config: Config) -> int:
    """The smallest that can be drawn; the configuration's own if ranks are not searched."""
    entry = space.entries.get(RANK)
    if entry is None:
        return config.transfer.adapter.rank
    return entry.whole[0] if entry.whole is not None else min(entry.listed)


def rank_limit(config: Config, where: str = "") -> int:
    """The largest rank that all pairs allow; per kernel row for convolutions.

    Raises LayerError for a bad name, and for a layer that is to receive and cannot.
    """
    target = config.target
    source = target if config.source.kind == "self" else config.source
    limit = 2**31 - 1
    for i, pair in enumerate(with_alignment(config).transfer.written_pairs):
        for side, network, name in (("source", source, pair.source), ("target", target, pair.target)):
            with errors_of(side):
                layer = layer_of(network, name, path := f"transfer.pairs.{i}.{side}{where}")
                if layer.computed_from and pair.direction in (f"to_{side}", "both"):
                    check_receives(build(network), name, path)  # raises, with the layers that can
            if has_rank(config.transfer.adapter, gives=pair.direction != f"to_{side}"):
                limit = min(limit, layer.largest_rank_in(columns_of(pair)))
    return limit


def layer_of(network: NetworkConfig, name: str, path: str) -> LayerInfo:
    layers = network_layers(network_key(network))
    if name not in layers:
        find_layer(build(network), name, path)  # raises, with the nearest names
    return layers[name]


@functools.lru_cache(maxsize=64)
def network_layers(network: str) -> dict[str, LayerInfo]:
    """Layers by name. network: `network_key`, which can be cached."""
    return {info.name: info for info in list_layers(build(NetworkConfig.model_validate_json(network)))}


def build(network: NetworkConfig) -> nn.Module:
    return build_model(network.model, description_of(network).spec)
