"""A network of the user's is tried out before it trains: a throwaway twin takes one step on real examples. [ours]

What is found out: whether it computes the same with the memory format channels_last, which is quicker for convolutions,
but in which `view` after a convolution fails; and which of its parameters get a gradient. Where some get none in that
step, more steps are tried, as a network may leave layers out of some (LayerDrop, experts). The network itself, and all
random streams, are left alone. Networks that this package or torchvision brings are known to take it; they are tried
out where several workers train them, as DDP must know of parameters without a gradient.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mergenet.config import ModelConfig
from mergenet.config.user_code import raised_at
from mergenet.errors import ConfigError, UserError, visible
from mergenet.learner.rng import Stream
from mergenet.models.sharing import kept_shared
from mergenet.tasks import Batch, Task

ONE_VALUE = "Expected more than 1 value per channel when training"  # torch's words: BatchNorm of a single value
TRIED = 8  # steps in which a parameter may get a gradient
CLOSE = 1e-3  # of the largest output: what rounding explains between two layouts, in TF32 too


@dataclass(frozen=True)
class DryRun:
    """channels_last: the network takes it. left_out: names of parameters that got no gradient in the first step; idle:
    in none of TRIED steps.
    """

    channels_last: bool = True
    left_out: frozenset[str] = frozenset()
    idle: frozenset[str] = frozenset()


def is_own(config: ModelConfig) -> bool:
    """Whether the user brings the network."""
    return ":" in config.name


def place(network: nn.Module, device: torch.device, channels_last: bool) -> RemovableHandle | None:
    """Moves the network, and what it shares stays shared. Where it does not take channels_last, nor do its inputs.

    Returns the hook that sees to that.
    """
    with kept_shared(network):
        placed: Any = network.to(device)  # torch's stubs do not know the memory format
        if channels_last:
            placed.to(memory_format=torch.channels_last)
            return None
    return network.register_forward_pre_hook(_contiguous, with_kwargs=True)


def _contiguous(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def plain(value: Any) -> Any:
        return value.contiguous() if isinstance(value, Tensor) else value

    return tuple(map(plain, args)), {name: plain(value) for name, value in kwargs.items()}


def dry_run(
    twin: Callable[[], nn.Module],
    task: Task,
    batch_of: Callable[[int], Batch],
    device: torch.device,
    amp: AbstractContextManager[None],
    network: nn.Module | None = None,
    name: str = "",
    formats: bool = True,
) -> DryRun:
    """twin: makes the network anew. batch_of: makes a step's batch. network: the one that `name` made before it, which
    is to learn. formats: whether it may be one that does not take channels_last.

    Raises ConfigError, in one line, if it fails in plain torch as well.
    """
    first = twin()
    buffers = {} if network is None else shared_buffers(name, network, first)
    batch = batch_of(0)
    with errors_of_network():
        outputs = _step(first, task, batch, device, amp, channels_last=False)
        left_out = without_gradient(first)
        idle = left_out if network is None else _idle(first, task, batch_of, device, amp)
    for buffer, value in buffers.items():
        if not torch.equal(first.get_buffer(buffer).to(value.device), value):
            raise ConfigError(not_new(name, buffer))
    if not formats:
        return DryRun(True, left_out, idle)
    try:
        others = _step(twin(), task, batch, device, amp, channels_last=True)
    except torch.OutOfMemoryError:
        raise
    except (Exception, SystemExit):  # whatever it is, it does not happen without channels_last
        return DryRun(False, left_out, idle)
    alike = outputs.keys() == others.keys() and all(_close(outputs[k], others[k]) for k in outputs)
    return DryRun(alike, left_out, idle)


@contextmanager
def errors_of_network() -> Iterator[None]:
    """Around a pass of a network on the data: what the user's code raises becomes a ConfigError of one line."""
    try:
        yield
    except (UserError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:  # the user's code can raise anything
        if str(error).startswith(ONE_VALUE):
            raise ConfigError(
                "batch_size must leave at least 2 training examples for each step of a worker, got 1: in this network "
                "BatchNorm then sees one value per channel; raise it, add data, or take another normalisation"
            ) from error
        raise ConfigError(f"model.name: the network fails in a first step on the data: {said(error)}") from error


def shared_buffers(name: str, network: nn.Module, other: nn.Module) -> dict[str, Tensor]:
    """Copies of the buffers that two networks share; of constants they may. Raises ConfigError for a parameter."""
    storages = {storage(value) for value in (*network.parameters(), *network.buffers())} - {0}
    for parameter, value in other.named_parameters():
        if storage(value) in storages:
            raise ConfigError(not_new(name, parameter))
    return {buffer: value.clone() for buffer, value in other.named_buffers() if storage(value) in storages}


def storage(value: Tensor) -> int:
    """Address of a tensor's numbers; 0 if it has none."""
    return value.untyped_storage().data_ptr() if value.layout == torch.strided else 0


def not_new(name: str, shared: str) -> str:
    return (
        f"model.name: {name} must make a new network at each call, got one that shares {shared} with the one before, "
        "so that each run would start from the last one's weights; make it inside the function"
    )


def _step(
    network: nn.Module,
    task: Task,
    batch: Batch,
    device: torch.device,
    amp: AbstractContextManager[None],
    channels_last: bool,
) -> dict[str, Tensor]:
    """A step without its update; returns what the network gives in evaluation mode."""
    place(network, device, channels_last)
    with Stream(0, "dry run", device).active():
        network.train()
        with amp:
            outputs = task.forward(network, batch)
            loss = task.loss(outputs, batch)
            check_outputs(outputs, loss)
            loss.backward()
        network.eval()
        with torch.no_grad():
            return task.forward(network, batch)


def _idle(
    network: nn.Module,
    task: Task,
    batch_of: Callable[[int], Batch],
    device: torch.device,
    amp: AbstractContextManager[None],
) -> frozenset[str]:
    """The parameters that get no gradient in further steps either, which end once all that learn have one."""
    network.train()
    for step in range(1, TRIED):
        if all(parameter.grad is not None for parameter in network.parameters() if parameter.requires_grad):
            break
        batch = batch_of(step)
        with Stream(step, "dry run", device).active(), amp:
            loss = task.loss(task.forward(network, batch), batch)
        loss.backward()
    return without_gradient(network)


def without_gradient(network: nn.Module) -> frozenset[str]:
    """Names of parameters that have none."""
    named = network.named_parameters(remove_duplicate=False)
    return frozenset(name for name, parameter in named if parameter.grad is None)


def check_outputs(outputs: Mapping[str, Tensor], loss: Tensor) -> None:
    """Raises ConfigError for NaN, and for infinite outputs (a mask may be) whose loss is not finite."""
    if torch.isfinite(loss).all() and not any(torch.isnan(value).any() for value in outputs.values()):
        return
    names = [name for name, value in outputs.items() if not torch.isfinite(value).all()] or ["the loss"]
    raise ConfigError(
        f"model.name: the network's outputs must be finite on the first batch, got NaN or infinite numbers in "
        f"{names[0]}; look at its forward pass and its starting weights"
    )


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    scale = one.abs().max().item() if one.numel() else 0.0
    return torch.allclose(one, other, rtol=0, atol=CLOSE * scale + 1e-12, equal_nan=True) or scale != scale


def said(error: BaseException) -> str:
    """The first line of an error of the user's code, with the place in it where it came up."""
    line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {visible(line)[:300]}{raised_at(error)}"


def check_state(network: nn.Module) -> None:
    """Raises ConfigError for state that checkpoints and files of weights, which hold plain tensors, cannot hold."""
    for name, value in network.state_dict().items():
        if not isinstance(value, Tensor):
            raise ConfigError(
                f"model.name: the network keeps {name} as a {type(value).__name__} (get_extra_state), which files of "
                "tensors do not hold; keep it in buffers (register_buffer), or let get_extra_state return a tensor"
            )
        if value.layout != torch.strided or value.is_quantized:
            kind = "quantized" if value.is_quantized else str(value.layout).removeprefix("torch.")
            raise ConfigError(
                f"model.name: {name} of the network is {kind}, which files of tensors do not hold; make it dense, or a "
                "buffer with persistent=False, which is made anew with the network"
            )
        try:
            save({"x": torch.empty(1, dtype=value.dtype)})
        except Exception:  # of a type that the file format does not know it raises one or another
            raise ConfigError(
                f"model.name: {name} of the network is of {value.dtype}, which files of tensors do not hold; take "
                "another type (complex64 for complex128), or a buffer with persistent=False, which is made anew with "
                "the network"
            ) from None
