"""Which layers of two networks share a space, found by running both on the same made-up examples. [ours]

* inputs: both layers receive the same values (first layers on the same images, the embeddings of the same tokens) with
  kernels of one size. Rows of both weights are then vectors over the same inputs. Embeddings of words meet by word,
  whatever numbers the two vocabularies give them.
* outputs: both layers give their network's class logits, for the same classes of the same data.

Only the data's specification is read. Weights do not matter: each network is given random ones of its own, so that what
is equal is equal whatever the weights. No random number of the process is drawn.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mergenet.config import Config, NetworkConfig, PairConfig
from mergenet.config.spec import CLASSES, Spec
from mergenet.errors import DataError
from mergenet.layers.candidates import both_candidates, real_architecture
from mergenet.layers.matrices import Columns, LayerInfo, list_layers
from mergenet.learner.learner import errors_of
from mergenet.learner.rng import Stream
from mergenet.models import find_architecture, weights_file
from mergenet.tasks import description_of

EXAMPLES = 2
LEAST = 1e-3  # RMS of weights that are drawn: a layer that starts at zero gives numbers, too
COLUMNS: dict[str, Columns] = {"inputs": "inputs", "outputs": "outputs", "none": "kernel_rows"}  # of an alignment


@dataclass(frozen=True)
class Sight:
    """What the layers of a network receive and return: layer -> a hash of the values.

    layers: those that can take part, by name. tokens: a hash of the tokens shown; answer: of what the network returned.
    A hash is empty where nothing is known: of a layer that is called twice, of what is no tensor, and of what a layer
    receives if it is one number throughout (all zeros behind a ReLU may be so in any network) or not finite.
    """

    layers: dict[str, LayerInfo]
    received: dict[str, str]
    given: dict[str, str]
    tokens: str = ""
    answer: str = ""


def columns_of(pair: PairConfig) -> Columns:
    """What the columns of both matrices of a pair stand for, once its alignment is known."""
    assert pair.align in COLUMNS, "resolve_pairs comes first"
    return COLUMNS[pair.align]


def shared_space(config: Config, source: str, target: str) -> Literal["inputs", "outputs", "none"]:
    """The space that a layer of the source shares with one of the target as it is: inputs, outputs or none.

    none, too, for a layer that does not exist. Raises ConfigError and DataError as building the networks does.
    """
    if _common_spec(config) is None or not _may_share(config, source, target):
        return "none"
    found = _sights(config)
    return "none" if found is None else _shared(config, found, source, target)


def _may_share(config: Config, source: str, target: str) -> bool:
    """Whether the shapes of two layers allow that they share a space; most pairs need no look at the networks."""
    sources, targets = ({layer.name: layer for layer in layers} for layers in both_candidates(config))
    if source not in sources or target not in targets:
        return False  # whoever uses the layer reports that it does not exist
    one, other = sources[source], targets[target]
    if one.kind == other.kind == "embedding":
        return True
    outputs = description_of(config.target).spec.num_outputs
    return one.shape[1:] == other.shape[1:] or one.shape[0] == other.shape[0] == outputs


def reads_tokens(config: Config, target: str) -> bool:
    """Whether a layer of the target receives the tokens themselves, and not, say, positions."""
    found = _sights(config)
    return found is not None and bool(tokens := found[1].tokens) and found[1].received.get(target) == tokens


def _shared(
    config: Config, found: tuple[Sight, Sight], source: str, target: str
) -> Literal["inputs", "outputs", "none"]:
    if source not in found[0].layers or target not in found[1].layers:
        return "none"  # whoever uses the layer reports that it does not exist
    if _same_inputs(config, found[0], source, found[1], target):
        return "inputs"
    return "outputs" if _same_outputs(config, found[0], source, found[1], target) else "none"


def sharing_pairs(config: Config) -> list[tuple[LayerInfo, LayerInfo, str]]:
    """Every (source layer, target layer, space) of two networks that share a space, in network order."""
    found = _sights(config)
    if found is None:
        return []
    spaces = [(s, t, _shared(config, found, s, t)) for s in found[0].layers for t in found[1].layers]
    return [(found[0].layers[s], found[1].layers[t], space) for s, t, space in spaces if space != "none"]


def _sights(config: Config) -> tuple[Sight, Sight] | None:
    """What source and target see of the same examples; None if they read different things."""
    common = _common_spec(config)
    if common is None:
        return None
    if config.source.kind == "self":
        seen = sight(network_key(config.target), common, "target")
        return seen, seen
    with errors_of("source"):
        source = sight(network_key(config.source), common, "source")
    with errors_of("target"):
        return source, sight(network_key(config.target), common, "target")


def _common_spec(config: Config) -> Spec | None:
    """A specification of examples that both networks can read; None if they read different things."""
    with errors_of("target"):
        target_spec = description_of(config.target).spec
    if config.source.kind == "self":
        return target_spec
    source_spec = _source_spec(config)
    if target_spec.inputs != source_spec.inputs or target_spec.image_size != source_spec.image_size:
        return None
    smaller = {
        name: min(getattr(target_spec, name), getattr(source_spec, name)) for name in ("vocab_size", "max_length")
    }
    return replace(target_spec, **smaller)


def _source_spec(config: Config) -> Spec:
    try:
        with errors_of("source"):
            return description_of(config.source).spec
    except DataError as error:
        if config.source.kind != "recorded":
            raise
        way_out = "a recorded source needs its data to find the space of a pair alone: set transfer.align: none"
        raise DataError(f"{error}; {way_out}, or bring them back") from None


def _same_inputs(config: Config, source_sight: Sight, source: str, target_sight: Sight, target: str) -> bool:
    received = source_sight.received.get(source)
    if not received or received != target_sight.received.get(target):
        return False
    ours, theirs = target_sight.layers[target], source_sight.layers[source]
    if "embedding" not in (ours.kind, theirs.kind):
        return ours.shape[1:] == theirs.shape[1:]
    if ours.kind != theirs.kind:
        return False
    of_words = received == target_sight.tokens
    if of_words and words_of_target(config) is not None:
        return True
    return ours.shape[0] == theirs.shape[0] and (not of_words or same_words(config))


def _same_outputs(config: Config, source_sight: Sight, source: str, target_sight: Sight, target: str) -> bool:
    ends = (source_sight, source), (target_sight, target)
    ours, theirs = config.target, config.source
    if (
        not all(seen.answer and seen.given.get(name) == seen.answer for seen, name in ends)
        or ours.task != theirs.task
        or (ours.data.name, ours.data.root) != (theirs.data.name, theirs.data.root)
    ):
        return False
    spec, other = description_of(ours).spec, description_of(theirs).spec
    return spec.outputs == CLASSES and spec.num_outputs == other.num_outputs


# ---------------------------------------------------------------- words


def words_of_target(config: Config) -> Tensor | None:
    """For each token of the target its number in the source's vocabulary, -1 where that lacks it: int64 (words,).

    None if one of the two networks reads no tokens, or both number them alike.
    """
    if config.source.kind == "self":
        return None
    ours, theirs = vocabulary(config.target), vocabulary(config.source)
    if ours is None or theirs is None or ours == theirs:
        return None
    numbers = torch.full((max(ours.values()) + 1,), -1, dtype=torch.int64)
    for word, number in ours.items():
        numbers[number] = theirs.get(word, -1)
    return numbers


def same_words(config: Config) -> bool:
    """Whether both networks number the words alike; where a vocabulary is unknown, only if they read the same data.

    Networks that read no words do.
    """
    if not description_of(config.target).spec.vocab_size:
        return True
    ours, theirs = vocabulary(config.target), vocabulary(config.source)
    if config.source.kind == "self" or (ours is not None and ours == theirs):
        return True
    return ours is theirs is None and config.source.data == config.target.data


def vocabulary(network: NetworkConfig) -> dict[str, int] | None:
    """Token -> number, as the network knows them: of the tokenizer beside its starting weights, else of its data."""
    return _vocabulary(network_key(network))


@functools.lru_cache(maxsize=64)
def _vocabulary(key: str) -> dict[str, int] | None:
    network = NetworkConfig.model_validate_json(key)
    path = weights_file(network.model)
    file = None if path is None else path / "tokenizer.json"
    if network.data.tokenizer is None and file is not None and find_architecture(network.model.name).reads_folders:
        text = file.read_text(encoding="utf-8") if file.is_file() else None
    else:
        text = description_of(network).metadata.get("tokenizer")
    if text is None:
        return None
    found = json.loads(text)["model"]["vocab"]
    return found if isinstance(found, dict) else None


# ---------------------------------------------------------------- looking


def network_key(network: NetworkConfig) -> str:
    """What determines the architecture, as a cache key."""
    return network.model_dump_json(include={"task", "model", "data"})


@functools.lru_cache(maxsize=64)
def sight(key: str, spec: Spec, role: str) -> Sight:
    """What the network of `network_key` sees of a specification's examples. Empty if it cannot be run on them.

    Its weights are random ones of its role, so that two networks of one architecture are as different as two others.
    """
    model = real_architecture(NetworkConfig.model_validate_json(key)).eval()
    layers = {layer.name: layer for layer in list_layers(model)}
    received, given = dict[str, str](), dict[str, str]()
    hooks = [model.get_submodule(name).register_forward_hook(_note(name, received, given)) for name in layers]
    shown = spec.example(EXAMPLES)
    try:
        with torch.no_grad(), drawn_weights(model, role), Stream(0, "sight").active():  # some draw in evaluation mode
            answer = model(*shown)
    except (Exception, SystemExit):  # a network of the user's may not take this specification; then nothing is known
        return Sight(layers, {}, {})
    finally:
        for hook in hooks:
            hook.remove()
    tokens = next(
        (_hash(values) for name, values in zip(spec.argument_names, shown, strict=True) if name == "tokens"), ""
    )
    return Sight(layers, received, given, tokens, _hash(answer) if isinstance(answer, Tensor) else "")


@contextmanager
def drawn_weights(model: nn.Module, role: str) -> Iterator[None]:
    """Within the block all that a network learns is random: its parameters and the running statistics of its norms.

    Other buffers stay: they may be constants of the data. Afterwards it is as before, as a module may be used again.
    """
    norms = [module for module in model.modules() if isinstance(module, _NormBase)]
    values = (*model.parameters(), *(buffer for norm in norms for buffer in norm.buffers(recurse=False)))
    kept = [(value, value.data) for value in values if value.is_floating_point() or value.is_complex()]
    try:
        with Stream(0, f"sight/{role}").active():
            for value, data in kept:
                value.data = _drawn(data)
        yield
    finally:
        for value, data in kept:
            value.data = data


def _drawn(data: Tensor) -> Tensor:
    """Random numbers of the same RMS; above 0 where none is below, as a variance must be."""
    scale = data.abs().square().mean().sqrt().clamp_min(LEAST)
    positive = not data.is_complex() and bool((data >= 0).all())
    drawn = torch.rand(data.shape) + 0.5 if positive else torch.randn_like(data)
    return (drawn * scale).to(data.dtype)


def _note(name: str, received: dict[str, str], given: dict[str, str]) -> Callable[[nn.Module, Any, Any], None]:
    def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
        if name in received:  # called twice: it is not known which of its inputs counts
            received[name] = given[name] = ""
            return
        tells = inputs and isinstance(inputs[0], Tensor) and _tells(inputs[0])
        received[name] = _hash(inputs[0]) + _spread(layer) if tells else ""
        given[name] = _hash(output) if isinstance(output, Tensor) else ""

    return hook


def _tells(values: Tensor) -> bool:
    """Whether real numbers are such that two networks have the same only if they see the same."""
    real = values.is_floating_point()
    return not real or bool(values.isfinite().all() and (values != values.flatten()[:1]).any())


def _spread(layer: nn.Module) -> str:
    """The dilation of a convolution, if any: its patches differ from those of a dense kernel."""
    skips = isinstance(layer, nn.Conv2d) and any(step > 1 for step in layer.dilation)
    return f" dilation {layer.dilation}" if skips else ""


def _hash(values: Tensor) -> str:
    values = values.detach().contiguous()
    return hashlib.sha256(repr(tuple(values.shape)).encode() + values.numpy().tobytes()).hexdigest()
