"""The links of a run: for each direction of each pair the giver, the receiver, and the space in which they meet."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mergenet.config import Config, PairConfig
from mergenet.errors import CheckpointError, ConfigError
from mergenet.layers.current import current_weight
from mergenet.layers.matrices import Layer, check_receives, find_layer
from mergenet.layers.spaces import columns_of, reads_tokens, same_words, shared_space, words_of_target
from mergenet.learner.dry_run import TRIED
from mergenet.learner.learner import Learner
from mergenet.models.sharing import share_memory
from mergenet.records.checkpoint import load_tensors
from mergenet.records.provenance import ADAPTER_FILE, adapter_file
from mergenet.transfer.alignment import Estimated
from mergenet.transfer.encodings import encode, encode_giver
from mergenet.transfer.giver import Giver
from mergenet.transfer.link import Link
from mergenet.transfer.source import Source


def build_links(
    config: Config, source: Source, target: Learner, steps_per_epoch: int, as_it_is: bool = False
) -> list[Link]:
    """One link per direction of each pair, named e.g. "pair0/to_target". config: with its pairs written out.

    as_it_is: what each pair's alignment says is taken as shared, as `auto` does; no map is estimated.
    Raises ConfigError for layers that do not exist, are too small for the rank, or cannot be aligned as the pair says.
    """
    found: list[Link] = []
    for number, pair in enumerate(config.transfer.written_pairs):
        ends = Ends(config, source, target, pair, f"transfer.pairs.{number}", steps_per_epoch, as_it_is)
        sides = [side for side in ("target", "source") if pair.direction in (f"to_{side}", "both")]
        links = [ends.link(f"pair{number}/to_{side}", receives=side) for side in sides]
        for link in links:
            check_written_once(config, link, found)
        found += links
    if config.transfer.adapter.init is not None:
        start_adapters(found, Path(config.transfer.adapter.init))
    return found


def check_written_once(config: Config, link: Link, others: Sequence[Link]) -> None:
    """Raises ConfigError if one of the other links writes the weight of this one, under another layer's name."""
    for other in others:
        if share_memory(link.receiver.weight_parameter, other.receiver.weight_parameter):
            one, two = (f"transfer.pairs.{x.name.partition('/')[0].removeprefix('pair')}" for x in (link, other))
            names = [getattr(pair_of(config, x), x.name.rpartition("to_")[2]) for x in (link, other)]
            raise ConfigError(
                f"{one}.{link.name.rpartition('to_')[2]} must be written by one pair only, got {names[0]!r}, whose "
                f"weight is that of {names[1]!r}, which {two} writes; leave one of the two pairs out"
            )


def pair_of(config: Config, link: Link) -> PairConfig:
    return config.transfer.written_pairs[int(link.name.partition("/")[0].removeprefix("pair"))]


def is_idle(learner: Learner, layer: str) -> bool:
    """Whether a layer's weight was seen to get no gradient in any step that was tried."""
    return bool({f"{layer}.weight", f"{layer}.parametrizations.weight.original1"} & learner.idle)


def adapter_tensors(links: Sequence[Link]) -> dict[str, Tensor]:
    """All adapters, by LINK/PARAMETER, without fixed gates, which are settings and not learned."""
    return {
        f"{link.name}/{name}": value
        for link in links
        for name, value in link.adapter.state_dict().items()
        if name != "fixed_gate"
    }


def start_adapters(links: Sequence[Link], path: Path) -> None:
    """Starts the links' adapters from the trained ones of an earlier run.

    Raises ConfigError unless all are there, of these shapes.
    """
    file, key = adapter_file(path), "transfer.adapter.init"
    if not file.is_file():
        must = f"name the folder of a finished run with transfer, or its {ADAPTER_FILE}"
        raise ConfigError(f"{key} must {must}, got {str(path)!r}, where there is none")
    try:
        tensors, _ = load_tensors(file)
    except CheckpointError as error:
        raise ConfigError(f"{key} must name an {ADAPTER_FILE} that can be read: {error}") from None
    for name, wanted in adapter_tensors(links).items():
        found = tensors.get(name)
        if found is None or found.shape != wanted.shape:
            got = "none" if found is None else str(tuple(found.shape))
            raise ConfigError(
                f"{key} must hold adapters of this run's shapes, got {got} for {name}, {tuple(wanted.shape)} here, in "
                f"{str(path)!r}; use the same transfer.adapter settings and layers as that run"
            )
        wanted.copy_(found)


class Ends:
    """The two layers of a pair, and the networks that they are in."""

    def __init__(
        self,
        config: Config,
        source: Source,
        target: Learner,
        pair: PairConfig,
        path: str,
        steps_per_epoch: int,
        as_it_is: bool,
    ) -> None:
        self.config, self.source, self.target = config, source, target
        self.pair, self.path, self.steps_per_epoch, self.as_it_is = pair, path, steps_per_epoch, as_it_is
        self.columns = columns_of(pair)
        self.layers: dict[str, Layer] = {
            "target": find_layer(target.network, pair.target, f"{path}.target"),
            "source": source.layer(pair.source, f"{path}.source"),
        }
        if config.source.kind == "self" and share_memory(*(current_weight(layer) for layer in self.layers.values())):
            raise ConfigError(
                f"{path}.source must differ from the pair's target for source kind self, got {pair.source!r}, whose "
                f"weight is that of {pair.target!r}; name another layer"
            )

    def link(self, name: str, receives: str) -> Link:
        """receives: the side that receives; the other one gives."""
        transfer, gives = self.config.transfer, "target" if receives == "source" else "source"
        learner = self.target if receives == "target" else self.source.trainee
        assert learner is not None
        layer = getattr(self.pair, receives)
        check_receives(learner.network, layer, f"{self.path}.{receives}")
        if is_idle(learner, layer):
            raise ConfigError(
                f"{self.path}.{receives} must be a layer that learns, got {layer!r}, whose weight gets no gradient "
                f"in any of {TRIED} steps: the forward pass does not use it, or it is frozen or detached; name another "
                "layer"
            )
        receiver = encode(self.layers[receives], f"{self.path}.{receives}", transfer.adapter, self.columns)
        giver = self.giver(gives, receives)
        if transfer.adapter.kind == "linear" and self.pair.align == "none":
            warnings.warn(
                f"{self.path}.align is none: the rows of {self.pair.source} and {self.pair.target} share no space, so "
                "adapter.kind linear starts from numbers that mean nothing to each other; set align to inputs or "
                "outputs, or use kind: lpka",
                stacklevel=2,
            )
        every = self.pair.every or transfer.t_cycle
        return Link(name, giver, receiver, learner, transfer, every, self.config.seed)

    def giver(self, gives: str, receives: str) -> Giver:
        layer, adapter = self.layers[gives], self.config.transfer.adapter
        self.warn_if_idle(gives)
        learns = gives == "target" or self.config.source.kind != "frozen"
        words, estimated = self.translation(gives, receives)
        encoding = encode_giver(layer, f"{self.path}.{gives}", adapter, self.columns, learns, words)
        recorded = self.source.weight if gives == "source" else None

        def weight(step: int) -> Tensor:
            return current_weight(layer) if recorded is None else recorded(self.pair.source, step)

        return Giver(encoding, weight, estimated, learns)

    def warn_if_idle(self, gives: str) -> None:
        """Of a giving layer that does not learn in a network that does."""
        learner = self.target if gives == "target" or self.config.source.kind == "self" else self.source.trainee
        name = getattr(self.pair, gives)
        if learner is not None and is_idle(learner, name):
            warnings.warn(
                f"{self.path}.{gives}: the weight of {name} gets no gradient in any of {TRIED} steps, so that it gives "
                "what it started with: the forward pass does not use it, or it is frozen or detached; name another "
                "layer unless it is meant",
                stacklevel=2,
            )

    def translation(self, gives: str, receives: str) -> tuple[Tensor | None, Estimated | None]:
        """How the giver's columns become the receiver's: by word, by an estimated map, or as they come."""
        if self.pair.align == "none":
            return None, None
        if self.as_it_is or shared_space(self.config, self.pair.source, self.pair.target) == self.pair.align:
            return (self.words(gives, receives) if self.read_words() else None), None
        self.check_readable()
        if self.columns == "inputs" and any(isinstance(layer, nn.Embedding) for layer in self.layers.values()):
            raise ConfigError(
                f"{self.path}.align must be outputs or none for an Embedding whose inputs the other layer does not "
                f"share, got {self.pair.align!r}; a map between words is not estimated"
            )
        assert self.source.learner is not None
        networks = {"source": self.source.learner.network, "target": self.target.network}
        giver, receiver = ((networks[side], self.layers[side]) for side in (gives, receives))
        return None, Estimated(giver, receiver, self.columns, self.target, self.steps_per_epoch)

    def read_words(self) -> bool:
        """Whether the layers, of one space, are the embeddings of words: not those of positions or of segments."""
        return self.columns == "inputs" and reads_tokens(self.config, self.pair.target)

    def words(self, gives: str, receives: str) -> Tensor | None:
        """For each of the receiver's columns the giver's of the same word, if vocabularies number words differently."""
        embeddings = {side: layer for side, layer in self.layers.items() if isinstance(layer, nn.Embedding)}
        numbers = words_of_target(self.config) if len(embeddings) == 2 else None
        if numbers is None:
            return None
        known = (numbers >= 0).nonzero().flatten()
        number_of = {"target": known, "source": numbers[known]}
        columns = torch.full((embeddings[receives].num_embeddings,), -1, dtype=torch.int64)
        columns[number_of[receives]] = number_of[gives]
        return columns

    def check_readable(self) -> None:
        """Raises ConfigError if the two networks cannot be shown the same examples."""
        path, align = f"{self.path}.align", self.pair.align
        apart = "where the layers do not share that space as it is"
        if self.source.learner is None:
            raise ConfigError(
                f"{path} must be none {apart} and the source is recorded, got {align!r}; a map is estimated from "
                "activations, which a recording lacks: use source.kind: live or frozen"
            )
        if self.config.source.kind == "self":
            return
        specs = [learner.task.spec for learner in (self.target, self.source.learner)]
        sizes = [(spec.inputs, spec.image_size, spec.max_length) for spec in specs]
        if sizes[0] != sizes[1] or not same_words(self.config):
            raise ConfigError(
                f"{path} must be none {apart} and the two networks read different things, got {align!r}; a map is "
                "estimated from examples that both can read"
            )
