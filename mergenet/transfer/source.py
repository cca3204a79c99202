"""Where the source's factors come from: a live, frozen or recorded source, or the target itself.

With one-way transfer the source never sees the target, so its trajectory is the same in every run that trains it
in the same way. `recording.py` keeps that trajectory; here it is replayed, bit for bit.
"""

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mergenet.config import Config
from mergenet.errors import ConfigError
from mergenet.layers.matrices import Layer, check_receives, find_layer, weight_shape
from mergenet.learner import distributed
from mergenet.learner.learner import Learner, set_up, steps_per_epoch
from mergenet.models.sharing import sharing
from mergenet.records.run_record import EpochResult
from mergenet.tasks import built_once, contents
from mergenet.tasks.contents import data_lines
from mergenet.transfer.encodings import factorize
from mergenet.transfer.recording import Recorder, Recording, check_room

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A source network for the transfer.

    trainee: the source network, if it learns beside the target.
    layer: (layer name, its path in messages) -> the layer that gives, as the run starts.
    weight: (layer name, step) -> its weight before that optimizer step of a recorded source; None: what it is now.
    metrics: epoch -> what is known of a recorded source's own learning.
    data_hash: SHA-256 of the data it learns or learned from.
    learner: the network that gives, whether it learns or not; None of a recording, which has layers alone.
    """

    trainee: Learner | None
    layer: Callable[[str, str], Layer]
    weight: Callable[[str, int], Tensor] | None
    metrics: Callable[[int], dict[str, float]]
    data_hash: str
    learner: Learner | None = None


def build_source(config: Config, target: Learner, total_steps: int) -> Source:
    """The source that `config.source.kind` names."""
    kind = config.source.kind
    if kind == "recorded":
        return _recorded(config, target, total_steps)
    if kind == "self":
        return Source(None, layers_of(target), None, lambda _: {}, target.task.data_hash, target)
    if kind == "frozen" and config.source.model.weights is None:
        warnings.warn(
            "the source is frozen and source.model.weights names none: it stays random and has nothing to give",
            stacklevel=2,
        )
    learner = Learner("source", config.source, config, target.device, prepare=factorizer(config, "source"))
    trainee = learner if kind == "live" else None
    return Source(trainee, layers_of(learner), None, lambda _: {}, learner.task.data_hash, learner)


def factorizer(config: Config, side: str) -> Callable[[torch.nn.Module], None]:
    """For the factorized encoding: turns the layers of `side` that take part in a pair into B A."""
    sides = ("target", "source") if side == "target" and config.source.kind == "self" else (side,)
    paths = {
        getattr(pair, name): f"transfer.pairs.{i}.{name}"
        for name in sides
        for i, pair in enumerate(config.transfer.written_pairs)
    }

    def prepare(network: torch.nn.Module) -> None:
        if config.method == "mergenet" and config.transfer.adapter.encoding == "factorized":
            for name, path in paths.items():
                layer = find_layer(network, name, path)
                check_receives(network, name, path)
                check_unshared(network, name, path)
                factorize(layer, config.transfer.adapter.rank, path)

    return prepare


def check_unshared(network: torch.nn.Module, name: str, path: str) -> None:
    """Raises ConfigError if the weight of this layer is that of another one, too: factors would be of one alone.

    One module under two names is no other layer: both names stay those of the factorized one.
    """
    layer = network.get_submodule(name)
    for other in sharing(network, f"{name}.weight"):
        owner, _, own = other.rpartition(".")
        if network.get_submodule(owner) is not layer or own != "weight":
            must = "transfer.adapter.encoding must be projected where a weight is shared"
            raise ConfigError(
                f"{must}, got 'factorized' and {path} {name}, whose weight is also {other}: factors in the place of "
                "one would leave the other behind; projected keeps both one"
            )


def layers_of(learner: Learner) -> Callable[[str, str], Layer]:
    return lambda name, path: find_layer(learner.network, name, path)


def _recorded(config: Config, target: Learner, total_steps: int) -> Source:
    """A replay needs no data of the source, so they are compared only where the target has loaded the same."""
    assert config.source.recording is not None
    recording, device = Recording.open(Path(config.source.recording)), target.device
    recording.check(config, total_steps)
    if (config.source.task, config.source.data) == (config.target.task, config.target.data):
        recording.check_data(target.task.data_hash)

    shown, rounded = config.source.record_every or 1, config.source.record_dtype == "bf16"

    def weight(name: str, step: int) -> Tensor:
        """Of the step, or with record_every of the last one that is shown."""
        found = recording.weight(name, step - step % shown)
        return (found.bfloat16().float() if rounded else found).to(device)

    def layer(name: str, path: str) -> Layer:
        found = recording.layer(name, path)
        return found.to(device)

    return Source(None, layer, weight, recording.metrics, recording.info["data_hash"])


def record_source(config: Config, folder: Path, layers: Sequence[str], every: int) -> Iterator[EpochResult]:
    """Trains the source by itself, as a live source of `config` would, and records `layers` every `every` steps.

    Resumes the same recording in the same folder if it was stopped; a complete one is only read.
    Several workers train it together; the first one writes. What the source learns from is logged before the first
    epoch (level info).
    Raises ConfigError for unknown layers, a source that takes no steps, or a recording larger than source.max_gib,
    before anything is written.
    """
    if config.source.kind not in ("live", "recorded") or not layers or every < 1:
        raise ConfigError(
            "a recording needs source.kind live, at least one layer and an interval of at least 1 step, got "
            f"{config.source.kind!r}, {list(layers)!r} and {every!r}"
        )
    device = set_up(config)
    with built_once():
        learner = Learner("source", config.source, config, device)
        found = {name: find_layer(learner.network, name, "layer") for name in layers}
        per_epoch = steps_per_epoch(config)
    total_steps = per_epoch * config.epochs
    check_room(config.source, sum(math.prod(weight_shape(layer)) for layer in found.values()), every, total_steps)
    recorder = Recorder(config, total_steps, folder, found, every, per_epoch)
    recorder.resume(learner)
    if distributed.is_main() and len(recorder.epochs) < config.epochs:
        for line in data_lines({"source": contents(learner.task, learner.config)}):
            LOG.info(line)
    for epoch, metrics in enumerate(recorder.epochs[:], start=1):
        yield EpochResult(epoch, epoch * per_epoch, metrics)
    for epoch in range(len(recorder.epochs) + 1, config.epochs + 1):
        for step in range((epoch - 1) * per_epoch, epoch * per_epoch):
            recorder.snapshot(step)
            learner.set_rate(step, total_steps, per_epoch)
            learner.backward()
            learner.update()
            learner.check_finite(step)
        metrics = learner.results()
        recorder.end_epoch(metrics, learner)
        yield EpochResult(epoch, epoch * per_epoch, metrics)
    recorder.finish()
