"""Starting weights from a file: safetensors, or a state dict as torchvision publishes them (.pth)."""

import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mergenet.errors import ConfigError
from mergenet.models.head import find_head
from mergenet.models.sharing import same_tensors

PREFIXES = "module.", "_orig_mod."  # of DistributedDataParallel and of torch.compile
SUFFIXES = (".safetensors", ".pth", ".pt")
ALONE = "save the state dict alone: torch.save(network.state_dict(), FILE)"
FOLDER_PARTS = ("*.safetensors", "config.json")  # what determines the weights in a checkpoint folder


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of starting weights, on the CPU. Nothing in the file is executed.

    Raises ConfigError if it is not a safetensors file, nor a .pth or .pt file that holds a plain state dict.
    """
    if path.suffix not in SUFFIXES or not path.is_file():
        raise ConfigError(f"model.weights must be a file of type {', '.join(SUFFIXES)}, got {str(path)!r}")
    try:
        if path.stat().st_size == 0:
            raise TypeError("it is empty, as a download is that was cut off")
        weights = load_file(path) if path.suffix == ".safetensors" else _load_pickled(path)
    except SafetensorError as error:
        reason = f"it is damaged or cut off, or no safetensors file ({_line(error)})"
        raise ConfigError(f"model.weights must be readable weights, got {str(path)!r}: {reason}") from None
    except (OSError, TypeError) as error:
        raise ConfigError(f"model.weights must be readable weights, got {str(path)!r}: {_line(error)}") from None
    for name, value in weights.items():
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            kind = ", but of the device meta, where none has numbers" if value.is_meta else ""
            got = f"{str(path)!r}, where {name} is not one{kind}"
            raise ConfigError(f"model.weights must hold plain tensors, got {got}")
    return weights


def _load_pickled(path: Path) -> dict[str, Tensor]:
    """Raises TypeError for whatever is not a state dict."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of what is refused
            values = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL (\S+) (was not an allowed global|whose module)", str(error)):
            raise TypeError(
                f"it is pickled with objects of Python ({named[1]}), perhaps a whole module, and nothing is unpickled "
                f"here; {ALONE}"
            ) from None
        raise TypeError(f"it is damaged, or pickled otherwise than torch.save does; {ALONE}") from None
    except Exception as error:  # a truncated or hostile file can make the restricted unpickler raise anything
        if isinstance(error, OSError) and error.filename is not None:
            raise  # it cannot be opened
        if "TorchScript" in str(error):
            raise TypeError(f"it is a TorchScript archive; {ALONE}") from None
        raise TypeError(f"it is damaged or cut off ({_line(error)}); take it anew, or {ALONE}") from None
    if not isinstance(values, dict):
        raise TypeError(f"it holds a {type(values).__name__}, not a state dict")
    for name, value in values.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise TypeError(f"entry {name!r} is a {type(value).__name__}; a state dict has tensors by name only")
    return dict(values)


def load_into(
    model: nn.Module, weights: dict[str, Tensor], path: Path, label: str, inputs: tuple[Tensor, ...] | None = None
) -> None:
    """Load `weights` into `model`. All must fit but the head, for which another number of classes is allowed.

    A head that does not fit keeps its random start, with a warning. Counters of BatchNorm (num_batches_tracked),
    which older files lack, may be missing. path, label: the file and the network, for messages. inputs: examples, to
    find the head with.
    Raises ConfigError if anything else differs.
    """
    expected = model.state_dict()
    weights = with_shared_names(model, without_prefix(weights, expected))
    check_finite(model, weights, path)
    misfits = any(name in expected and value.shape != expected[name].shape for name, value in weights.items())
    head = head_of(model, inputs if misfits else None)
    loaded = {name: value for name, value in weights.items() if not _other_classes(name, head, value, expected)}
    if dropped := weights.keys() - loaded.keys():
        have, want = (len(values[f"{head}.weight"]) for values in (weights, expected))
        warnings.warn(
            f"model.weights: layer {head} starts from random weights, it is for {have} classes in {str(path)!r} "
            f"and the task has {want}",
            stacklevel=2,
        )
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    given = {name: expected[name] for name in dropped | counters} | loaded
    if different := difference(expected, given):
        prefixed = next((p for p in PREFIXES if any(name.startswith(p) for name in weights)), None)
        told = f" (also without the prefix {prefixed!r} of its names)" if prefixed else ""
        raise ConfigError(f"model.weights must fit {label}, got {str(path)!r}: {different}{told}")
    model.load_state_dict(given)


def without_prefix(weights: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries without what DistributedDataParallel and torch.compile put before each name, if all names fit then.

    Counters of BatchNorm may be missing, and the file may hold no more than the network.
    """
    needed = {name for name in expected if not name.endswith("num_batches_tracked")}
    found = weights
    for _ in PREFIXES:  # a network may have been wrapped by both, in either order
        for prefix in PREFIXES:
            if found and all(name.startswith(prefix) for name in found):
                found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found if needed <= found.keys() <= expected.keys() else weights


def with_shared_names(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """With every name of a tensor that the network has under several; files often hold one of them alone.

    Raises ConfigError if a file has two values for one tensor.
    """
    found = dict(weights)
    for names in same_tensors(model):
        given = [name for name in names if name in weights]
        if not given:
            continue
        for name in given[1:]:
            if not torch.equal(weights[name], weights[given[0]]):
                raise ConfigError(
                    f"model.weights must have one value for {given[0]} and {name}, which are one tensor in the "
                    "network, got two that differ"
                )
        found |= {name: weights[given[0]] for name in names if name not in weights}
    return found


def check_finite(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Raises ConfigError, naming the first such tensor, if one is NaN, or a parameter infinite; a mask may well be."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, value in weights.items():
        if not (value.is_floating_point() or value.is_complex()):
            continue
        kind = "NaN" if torch.isnan(value).any() else "infinite" if torch.isinf(value).any() else ""
        if kind == "NaN" or (kind and name in parameters):
            raise ConfigError(
                f"model.weights must hold finite numbers, got {str(path)!r}, where {name} is {kind} in part or whole; "
                "its training had diverged: take an earlier file"
            )


def head_of(model: nn.Module, inputs: tuple[Tensor, ...] | None) -> str:
    """Name of the linear or convolutional layer that computes the logits of these inputs; empty if there is none.

    Without inputs, or where the network fails on them: of the last such layer that it has.
    """
    if inputs is not None:
        with suppress(Exception):  # the user's code can raise anything; a pass on the data will tell of it
            found = find_head(model, inputs, (nn.Linear, nn.Conv2d))
            return "" if found is None else found.name
    return ["", *(name for name, layer in model.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d))][-1]


def _other_classes(name: str, head: str, value: Tensor, expected: dict[str, Tensor]) -> bool:
    """Whether the entry is of the head, and differs from the network's in the number of outputs alone."""
    if name not in (f"{head}.weight", f"{head}.bias") or name not in expected:
        return False
    shape = expected[name].shape
    return value.ndim == len(shape) and value.shape[1:] == shape[1:] and value.shape[0] != shape[0]


def difference(expected: dict[str, Tensor], given: dict[str, Tensor]) -> str:
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


def content_hash(path: Path) -> str:
    """SHA-256, hex, of a file of weights; of a checkpoint folder that of its weights and its config.json.

    Raises ConfigError if there is no such file or folder.
    """
    try:
        if not path.is_dir():
            return _file_hash(path)
        parts = sorted({part for pattern in FOLDER_PARTS for part in path.glob(pattern)})
        lines = [f"{part.name} {_file_hash(part)}\n" for part in parts]
    except OSError as error:
        raise ConfigError(f"model.weights must be readable, got {str(path)!r}: {error.strerror}") from None
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _line(error: Exception) -> str:
    """The first line of a message, at most 300 characters of it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
