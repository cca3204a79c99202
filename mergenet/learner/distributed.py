"""Plain torch.distributed, used whenever a process group is up (torchrun, Ray Train's TorchTrainer)."""

import gc
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mergenet.errors import ConfigError

FLOATS = torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128
# what gloo and NCCL send; of other types the bytes are sent
EXCHANGED = {torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64, *FLOATS}


@contextmanager
def torchrun_group(device: str) -> Iterator[None]:
    """A process group of the workers that torchrun started, destroyed after the block; none for a single worker.

    device: as in the configuration; NCCL on GPUs, gloo on CPU. A group that exists already is left alone.
    Raises ConfigError if two workers would have to share a GPU, which NCCL refuses.
    """
    if num_started() == 1 or dist.is_initialized():
        yield
        return
    cuda = resolve_device(device).type == "cuda"
    local = int(os.environ.get("LOCAL_WORLD_SIZE", num_started()))
    gpus = 1 if ":" in device else torch.cuda.device_count()
    if cuda and local > gpus:
        raise ConfigError(
            f"device must give each worker a GPU of its own, got {device!r} ({gpus} of them) for {local} workers; "
            "lower --nproc-per-node, or use device: cpu"
        )
    with process_group("nccl" if cuda else "gloo"):
        yield


@contextmanager
def process_group(backend: str, **options: Any) -> Iterator[None]:
    """Inside, a process group is up. Nothing of it stays: a thread that did could abort the process at its end.

    options: of `init_process_group`.
    """
    # DDP imports this, whose functions take the group that is up then for a default argument and so keep it for ever:
    # threads of gloo that free a tensor while the interpreter ends abort the process
    importlib.import_module("torch.distributed.nn.functional")
    dist.init_process_group(backend, **options)
    try:
        yield
        dist.barrier()  # a worker that exits early closes connections that the others may still use
    finally:
        dist.destroy_process_group()
        gc.collect()  # a DDP wrapper in a cycle keeps the group, too; with its last reference its threads end


def num_started() -> int:
    """Workers that torchrun started, this one among them; 1 without it.

    Raises ConfigError where WORLD_SIZE was left behind by something else, and there is nobody to wait for.
    """
    count = os.environ.get("WORLD_SIZE", "1")
    lacking = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if count != "1" and (lacking or not count.isdecimal()):
        got = f"{count!r} without {', '.join(lacking)}" if lacking else repr(count)
        raise ConfigError(f"WORLD_SIZE must be set by torchrun, got {got}; `unset WORLD_SIZE` trains in one process")
    return int(count)


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    return rank() == 0


def wrap(network: nn.Module, device: torch.device, unused: bool = False) -> nn.Module:
    """The network itself, or its DDP wrapper if several workers train it together.

    unused: the loss does not use every parameter; the wrapper then looks in each step which ones, and that takes time.
    A network that uses some of them in some steps only says so itself, by an attribute `find_unused_parameters`.
    """
    if world_size() == 1 or not any(p.requires_grad for p in network.parameters()):
        return network
    odd = [name for name, buffer in network.named_buffers() if buffer.dtype not in EXCHANGED]
    if odd:  # DDP would send them as they are
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(network, odd)
    ids = [device] if device.type == "cuda" else None
    unused = unused or bool(getattr(network, "find_unused_parameters", False))
    wrapper = DistributedDataParallel(network, device_ids=ids, find_unused_parameters=unused)

    @torch.no_grad()
    def send(*_: Any) -> None:
        for name in odd:
            broadcast_(network.get_buffer(name))

    if odd:
        wrapper.register_forward_pre_hook(send)
    return wrapper


def check_reduced(model: nn.Module, which: str) -> None:
    """Raises ConfigError if the backward pass has left gradients that the workers have not averaged.

    DDP itself says so in the next forward pass only: this step's update would already differ between the workers.

    which: the network, by path and name.
    """
    if not isinstance(model, DistributedDataParallel):
        return
    try:
        model._check_reducer_finalized()
    except RuntimeError as error:
        if "find_unused_parameters" not in str(error):
            raise
        raise ConfigError(
            f"{which} must use all parameters that learn in every step, as workers that train together wait for each "
            "gradient, but a step left some out; write find_unused_parameters = True in the class of the network, or "
            "train with one worker"
        ) from error


def broadcast_(tensor: Tensor) -> Tensor:
    """Every worker gets rank 0's values, in place."""
    if world_size() > 1 and tensor.dtype in EXCHANGED:
        dist.broadcast(tensor, src=0)
    elif world_size() > 1:
        values = tensor.contiguous().flatten().view(torch.uint8)
        dist.broadcast(values, src=0)
        tensor.copy_(values.view(tensor.dtype).reshape(tensor.shape))
    return tensor


def sum_(tensor: Tensor) -> Tensor:
    """Every worker gets the sum over workers, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def device() -> torch.device:
    """The device of tensors that workers exchange."""
    return torch.device("cuda" if world_size() > 1 and dist.get_backend() == "nccl" else "cpu")


def barrier() -> None:
    if world_size() > 1:
        dist.barrier()


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA if there is one; a worker takes the device of its local rank."""
    available = torch.cuda.is_available()
    if name.startswith("cuda") and not available:
        raise ConfigError(f"device must be available here, got {name!r}; torch sees no CUDA device, use device: cpu")
    if name == "cpu" or not available:
        return torch.device("cpu")
    count = torch.cuda.device_count()
    index = int(name.split(":")[1]) if ":" in name else int(os.environ.get("LOCAL_RANK", 0)) % count
    if index >= count:
        raise ConfigError(f"device must be one of cuda:0 to cuda:{count - 1}, got {name!r}")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)
