"""The number of parameters of the adapters in a search space, from the shapes of its layers, before any training."""

import functools
import itertools
from collections.abc import Sequence

import torch

from analysis.measures import Bounds, broken
from mergenet.config import AdapterConfig, Config
from mergenet.errors import ConfigError
from mergenet.layers.spaces import columns_of
from mergenet.records.run_record import ADAPTER_PARAMETERS
from mergenet.transfer.adapter import Adapter
from mergenet.transfer.encodings import giver_shape, receiver_shape
from mergenet.transfer.pairs import with_alignment
from sweeps.space.checks import samples
from sweeps.space.conditions import countable, ordered, walk
from sweeps.space.entry import Scalar
from sweeps.space.layer_choices import network_layers
from sweeps.space.space import MAX_COMBINATIONS, RANK, Labels, Space

WITHOUT_PARAMETERS = {"gate": 1.0, "dropout": 0.0, "rms_match": True, "spectral_norm": False}


def check_size(space: Space, bounds: Bounds) -> None:
    """Raises ConfigError if no configuration of the space can satisfy the constraint on parameters."""
    if ADAPTER_PARAMETERS not in bounds or (sizes := adapter_sizes(space)) is None:
        return
    bound = {ADAPTER_PARAMETERS: bounds[ADAPTER_PARAMETERS]}
    rules = [broken(bound, {ADAPTER_PARAMETERS: size}) for size in sizes]
    if not all(rules):
        return
    if rules[0] != rules[-1]:  # too small at one end, too large at the other: what lies between may keep both
        between = adapter_sizes(space, whole=True)
        if between is None or not all(broken(bound, {ADAPTER_PARAMETERS: size}) for size in between):
            return
    broken_rules = dict.fromkeys(rule for found in rules for rule in found)
    raise ConfigError(
        f"constraints: {' and '.join(broken_rules)} must be possible in the search space, whose adapters have "
        f"{sizes[0]} to {sizes[-1]}{' and none between that keeps both' if len(broken_rules) > 1 else ''}; change "
        "the bound or the space"
    )


def adapter_sizes(space: Space, whole: bool = False) -> list[int] | None:
    """The adapters' parameters at all choices and both bounds, fewest first; None if there are too many.

    whole: at all whole numbers of a range, too.
    """

    def values(path: str) -> Sequence[Scalar]:
        entry = space.entries[path]
        return countable(entry) if whole and entry.whole is not None else samples(space, path)

    paths = ordered(space.entries, [path for path in space.order if decides(space, path)])
    points = walk(space.entries, paths, {path: values(path) for path in paths})
    few = list(itertools.islice(points, MAX_COMBINATIONS + 1))
    if len(few) > MAX_COMBINATIONS:
        return None
    return sorted({adapter_parameters(space.config(clamped_rank(space, labels))) for labels in few})


def decides(space: Space, path: str) -> bool:
    """Whether the number may depend on the value drawn for the path."""
    return path in space.shaping or any(map(_counts, space.names(path)))


def _counts(name: str) -> bool:
    within = name.startswith(("transfer.adapter.", "transfer.pairs.")) or name in ("method", "transfer.control")
    return within and name.rpartition(".")[2] not in WITHOUT_PARAMETERS


def clamped_rank(space: Space, labels: Labels) -> Labels:
    """The same labels with a rank that the layers allow, as it would be drawn."""
    if RANK not in labels:
        return labels
    rank = labels[RANK]
    assert isinstance(rank, int)
    return labels | {RANK: int(min(rank, space.limit(labels)))}


def adapter_parameters(config: Config) -> int:
    """Parameters of all adapters of a run, as `Transfer.num_parameters` counts them once they are built."""
    if config.method != "mergenet":
        return 0
    target = network_layers(config.target.model_dump_json(include={"task", "model", "data"}))
    own = config.source.kind == "self"
    source = target if own else network_layers(config.source.model_dump_json(include={"task", "model", "data"}))
    total, adapter = 0, config.transfer.adapter
    for pair in with_alignment(config).transfer.written_pairs:
        columns, ends = columns_of(pair), {"source": source[pair.source], "target": target[pair.target]}
        for receives, gives in (("target", "source"), ("source", "target")):
            if pair.direction in (f"to_{receives}", "both"):
                receiver = receiver_shape(ends[receives], adapter, columns)
                width = receiver[1] if pair.align != "none" else giver_shape(ends[gives], adapter, columns)[1]
                giver = giver_shape(ends[gives], adapter, columns)[0], width
                total += size(receiver, receiver if config.transfer.control == "none" else giver, adapter)
    return total


def size(receiver: tuple[int, int], giver: tuple[int, int], config: AdapterConfig) -> int:
    return _size(receiver, giver, config.model_copy(update=WITHOUT_PARAMETERS))


@functools.lru_cache(maxsize=4096)  # a sampler may ask for many draws before one keeps a constraint
def _size(receiver: tuple[int, int], giver: tuple[int, int], config: AdapterConfig) -> int:
    with torch.device("meta"):  # shapes without numbers
        return sum(parameter.numel() for parameter in Adapter(receiver, giver, config).parameters())
