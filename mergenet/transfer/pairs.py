"""Transfer pairs by pattern and `auto`, written out as layer names before anything trains. All rules are [ours].

A pattern (`layer4.*`, `*.conv2`; * ? and [...] as in file names, * also across dots) stands for the layers that match
and can take part in a transfer, in network order. A pair with a pattern becomes several pairs:

* patterns on both sides: the k layers of the shorter side in order, each with the layer at the same relative depth
  among the longer side's matches (`align`); every layer is in one of these pairs at most;
* a layer's name and a pattern: the named layer with each match; it may then only give.

`auto` is one pair: layers of two networks that share a space of at least 4 * rank dimensions (layers/spaces.py: inputs
before outputs, then the largest); where none do, or rows are taken as they come (align none, factorized), a large layer
of the last third of each (`choose`). Where the target is its own source, two layers of it: a vision and a text layer if
it has both, else one of the last third that gives to one of the middle third. Only the architectures are looked at; no
weight and no data decide.

`align: auto` of a pair becomes the space that its layers share, or none.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mergenet.config import Config, PairConfig
from mergenet.config.choices import KINDS
from mergenet.config.rules import check_pairs, is_pattern
from mergenet.errors import unknown_name
from mergenet.layers.candidates import both_candidates
from mergenet.layers.matrices import LayerError, LayerInfo
from mergenet.layers.spaces import COLUMNS, columns_of, shared_space, sharing_pairs
from mergenet.transfer.encodings import has_rank

MIN_SPACE = 4  # dimensions of a shared space for each one that is shown of it
MAX_PAIRS = 64  # of one pattern: each has an adapter of its own
VISION, TEXT = re.compile(r"vision|visual|image"), re.compile(r"text")  # how networks of both name the parts' layers


def resolve_pairs(config: Config) -> Config:
    """The configuration with every transfer pair and its alignment written out; itself where they already are.

    The same at every call. Raises as `write_pairs`.
    """
    return with_alignment(write_pairs(config))


def write_pairs(config: Config) -> Config:
    """The configuration with every transfer pair written out; itself where it already is. The same at every call.

    Methods that transfer nothing get no pairs. The networks are built without weights, the data read.
    Raises LayerError for a pattern without match, with too many, or with a layer that is too small for the rank,
    and where `auto` finds no pair; ConfigError for pairs that break the rules of explicit ones.
    """
    pairs = config.transfer.pairs
    if is_written(pairs):
        return config
    if config.method != "mergenet":
        return with_pairs(config, ())
    if isinstance(pairs, str):
        return with_pairs(config, (auto_pair(config, *both_candidates(config)),))
    written: list[tuple[str, PairConfig]] = []
    for i, pair in enumerate(pairs):
        path = f"transfer.pairs.{i}"
        expanded = expand(config, pair, path)
        written += [(path, one) for one in expanded]
    try:
        check_pairs(config, written)
    except ValueError as error:
        raise LayerError(str(error)) from None
    return with_pairs(config, tuple(pair for _, pair in written))


def with_alignment(config: Config) -> Config:
    """The configuration with the alignment of each pair, which are written out: inputs, outputs or none."""
    if config.method != "mergenet" or all(pair.align not in (None, "auto") for pair in config.transfer.written_pairs):
        return config
    return with_pairs(config, tuple(_aligned(config, pair) for pair in config.transfer.written_pairs))


def _aligned(config: Config, pair: PairConfig) -> PairConfig:
    align = pair.align or config.transfer.align
    if align == "auto":
        plain = config.transfer.adapter.encoding == "factorized"  # its factors have one layout
        align = "none" if plain else shared_space(config, pair.source, pair.target)
    return pair.model_copy(update={"align": align})


def pairs_begun(config: Config, rows: Sequence[Mapping[str, Any]]) -> tuple[PairConfig, ...] | None:
    """The pairs of a run that was begun when `auto` chose other layers or spaces for it; None if they are today's.

    Builds of 0.2 before its release took two networks of one architecture to share the inputs of all their layers.
    rows: the pairs that the run recorded.
    """
    pairs, found = config.transfer.pairs, tuple(PairConfig.model_validate(row) for row in rows)
    aligns = {config.transfer.align} if isinstance(pairs, str) else {p.align or config.transfer.align for p in pairs}
    if config.method != "mergenet" or aligns != {"auto"} or None in [pair.align for pair in found]:
        return None
    today = resolve_pairs(config).transfer.written_pairs
    layers = [[pair.model_copy(update={"align": None}) for pair in each] for each in (found, today)]
    return found if found != today and (pairs == "auto" or layers[0] == layers[1]) else None


def by_activations(config: Config) -> PairConfig | None:
    """The first pair that is aligned by a map from activations, which no recording holds. config: pairs written out."""
    if config.method != "mergenet":
        return None
    for pair in with_alignment(config).transfer.written_pairs:
        if pair.align != "none" and pair.align != shared_space(config, pair.source, pair.target):
            return pair
    return None


def is_written(pairs: Sequence[PairConfig] | str) -> bool:
    return not isinstance(pairs, str) and not any(is_pattern(p.source) or is_pattern(p.target) for p in pairs)


def with_pairs(config: Config, pairs: tuple[PairConfig, ...] | str) -> Config:
    return config.model_copy(update={"transfer": config.transfer.model_copy(update={"pairs": pairs})})


# ---------------------------------------------------------------- patterns


def expand(config: Config, pair: PairConfig, path: str) -> list[PairConfig]:
    """The pairs that one pair stands for; a pair of two layer names is left alone. Raises LayerError."""
    if is_written((pair,)):
        return [pair]
    sources, targets = both_candidates(config, pair.direction)
    givers, receivers = matches(pair.source, sources, f"{path}.source"), matches(pair.target, targets, f"{path}.target")
    if is_pattern(pair.source) and is_pattern(pair.target):
        names = align(givers, receivers)
    else:
        _check_fan(pair, givers, receivers, path)
        same = config.source.kind == "self"  # a layer gives nothing to itself
        names = [(s, t) for s in givers for t in receivers if not (same and s == t)]
    if len(names) > MAX_PAIRS:
        raise LayerError(
            f"{path} must stand for at most {MAX_PAIRS} pairs, got {len(names)} from {pair.source!r} and "
            f"{pair.target!r}; narrow the patterns"
        )
    found = [pair.model_copy(update={"source": source, "target": target}) for source, target in names]
    for side, layers in (("source", sources), ("target", targets)):
        if is_pattern(getattr(pair, side)) and has_rank(config.transfer.adapter, gives=pair.direction != f"to_{side}"):
            _check_ranks(config, found, side, {layer.name: layer for layer in layers}, f"{path}.{side}", pair)
    return found


def matches(name: str, layers: Sequence[LayerInfo], path: str) -> list[str]:
    """The layers that a pattern matches, in network order; a name without wildcard is itself, known or not."""
    if not is_pattern(name):
        return [name]
    names = [layer.name for layer in layers if layer.kind != "embedding"]  # named, or not meant
    found = [candidate for candidate in names if fnmatch.fnmatchcase(candidate, name)]
    if not found:
        message = unknown_name(path, name, names)
        raise LayerError(message.replace(" must be one of ", " must match at least one of ", 1))
    return found


def align(sources: Sequence[str], targets: Sequence[str]) -> list[tuple[str, str]]:
    """k = min(m, n) pairs of m source and n target layers by relative depth, each layer once, in order.

    The longer list is cut into k runs as equal as can be; the last layer of the i-th stands beside the i-th layer
    of the shorter one: 3 layers meet the 2nd, 4th and 6th of 6.
    """
    k = min(len(sources), len(targets))

    def ends(names: Sequence[str]) -> list[str]:
        return [names[(i + 1) * len(names) // k - 1] for i in range(k)]

    return list(zip(ends(sources), ends(targets), strict=True))


def _check_fan(pair: PairConfig, givers: Sequence[str], receivers: Sequence[str], path: str) -> None:
    """A layer named beside a pattern must not receive from several."""
    for side, other, count, direction in (
        ("target", "source", len(givers), "to_target"),
        ("source", "target", len(receivers), "to_source"),
    ):
        name = getattr(pair, side)
        if not is_pattern(name) and count > 1 and pair.direction in (direction, "both"):
            raise LayerError(
                f"{path}.{other} must match one layer where {name} receives, got {getattr(pair, other)!r}, which "
                f"matches {count}; name one of them, or give a pattern on both sides"
            )


def _check_ranks(
    config: Config, found: Sequence[PairConfig], side: str, layers: Mapping[str, LayerInfo], path: str, pair: PairConfig
) -> None:
    """For the layers that a pattern matched; a named layer is checked where its factors are made."""
    rank = needed_rank(config)
    for one in found:
        layer = layers[getattr(one, side)]
        limit = layer.largest_rank_in(columns_of(_aligned(config, one)))
        if limit < rank:
            raise LayerError(
                f"{path} must match layers that allow rank {rank}, got {getattr(pair, side)!r}, which matches "
                f"{layer.name} (largest rank {limit}); narrow it or lower transfer.adapter.rank"
            )


def needed_rank(config: Config) -> int:
    """What a layer must allow; whole matrices have no rank."""
    return 1 if KINDS[config.transfer.adapter.kind].shows_whole else config.transfer.adapter.rank


# ---------------------------------------------------------------- auto


def auto_pair(config: Config, sources: Sequence[LayerInfo], targets: Sequence[LayerInfo]) -> PairConfig:
    """The pair that `auto` stands for. Raises LayerError if too few layers allow the rank."""
    rank = needed_rank(config)
    if config.source.kind != "self":
        plain = config.transfer.align == "none" or config.transfer.adapter.encoding == "factorized"
        shared = None if plain else largest_shared(config, rank)
        source, target = (choose(sources, rank), choose(targets, rank)) if shared is None else shared
    elif all(parts := [[layer for layer in targets if part.search(layer.name)] for part in (VISION, TEXT)]):
        source, target = (choose(part, rank) for part in parts)
    else:
        source = choose(targets, rank)
        target = choose([layer for layer in targets if layer != source], rank, third=1)
    for side, found in (("source", source), ("target", target)):
        if found is None:
            raise LayerError(
                f"transfer.pairs must name the layers, got 'auto', which finds no {side} layer that allows rank "
                f"{rank}; lower transfer.adapter.rank, or see `mergenet layers`"
            )
    assert source is not None
    assert target is not None
    return PairConfig(source=source.name, target=target.name)


def largest_shared(config: Config, rank: int) -> tuple[LayerInfo, LayerInfo] | None:
    """The pair that shares the inputs, else the outputs, and is the largest; None if no space is worth a subspace."""
    best: dict[str, tuple[LayerInfo, LayerInfo]] = {}
    for source, target, space in sharing_pairs(config):
        if config.transfer.align not in ("auto", space):
            continue
        if space == "outputs" and config.source.kind == "frozen":
            continue  # its head may be new: a file of starting weights need not fill it
        columns = COLUMNS[space]
        ranks = source.largest_rank_in(columns), target.largest_rank_in(columns)
        wide = target.matrix_in(columns)[1] >= MIN_SPACE * rank and min(ranks) >= rank
        if wide and (
            space not in best or source.parameters + target.parameters > sum(i.parameters for i in best[space])
        ):
            best[space] = source, target
    return best.get("inputs", best.get("outputs"))


def choose(layers: Sequence[LayerInfo], rank: int, third: int = 2) -> LayerInfo | None:
    """The layer with the most weights in the last third (`third` 2; 1 is the middle one), the deepest of equals.

    Without the first and the last layer, which are the input's and the task's. Deep layers hold the features that
    a task is solved with, and the largest ones most of what a network knows. Where no layer of that third allows
    the rank, all but the first and the last are looked at, and then these too; None if none does.
    """
    layers = [layer for layer in layers if layer.kind != "embedding"]  # these meet by their words, or not at all
    inner = layers[1:-1]
    for pool in (inner[third * len(inner) // 3 : (third + 1) * len(inner) // 3], inner, layers):
        allowed = [layer for layer in pool if layer.largest_rank >= rank]
        if allowed:
            return max(reversed(allowed), key=lambda layer: layer.parameters)
    return None
