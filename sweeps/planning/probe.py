"""A few timed steps of a configuration in a separate process: seconds, bytes and memory for a plan."""

import multiprocessing
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergenet.errors import UserError

STEPS = 16  # about; whole transfer cycles where they are shorter


@dataclass(frozen=True)
class Measured:
    """Measurements of the base configuration with a live source, on this machine, with nothing else running.

    Seconds: setup of a run; of a step the target's own, the source's own, transfer and adapter; of a validation.
    Bytes: target and source: all that a checkpoint holds of a learner; adapter: the same of the transfer; network:
    the target's weights; trained_adapter: the adapters' own; layers: the recorded weights at one step; memory: the
    process's peak; gpu_memory: torch's.
    findings: what stands in the way of a transfer, as far as it is known before any step, worst first; None without
    transfer.
    """

    device: str
    steps: int
    steps_per_epoch: int
    setup: float
    target: float
    source: float
    transfer: float
    validate_target: float
    validate_source: float
    target_bytes: int
    source_bytes: int
    adapter_bytes: int
    network_bytes: int
    trained_adapter_bytes: int
    layers_bytes: int
    memory_bytes: int
    gpu_memory_bytes: int
    findings: list[dict[str, Any]] | None = None


def measure(values: dict[str, Any], layers: Sequence[str]) -> Measured:
    """values: a configuration. layers: those of the source to record. Raises UserError; creates nothing."""
    (found,) = measure_each([(values, layers)])
    if isinstance(found, UserError):
        raise found
    return found


def measure_each(wanted: Iterable[tuple[dict[str, Any], Sequence[str]]]) -> Iterator[Measured | UserError]:
    """The same for several configurations, one after another in one process; in place of what one raises its error."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for values, layers in wanted:
            try:
                yield pool.submit(probe, values, list(layers)).result()
            except UserError as error:
                yield error


def probe(values: dict[str, Any], layers: list[str]) -> Measured:
    import torch

    from mergenet.config import Config
    from mergenet.layers.matrices import find_layer
    from mergenet.training.advice import findings
    from mergenet.training.diagnose import before, quiet
    from mergenet.training.trainer import Trainer
    from mergenet.transfer.build_links import adapter_tensors
    from mergenet.transfer.recording import number_size

    config = Config.model_validate(values)
    start = time.perf_counter()
    trainer = Trainer(config)
    setup = time.perf_counter() - start
    with quiet():
        found = findings(before(trainer)) if trainer.transfer.links else None
    steps = cycle_steps(config.transfer.t_cycle)
    lap = {name: seconds / steps for name, seconds in trainer.time_steps(steps).items()}
    trained = {learner.role: learner for learner in trainer.learners}
    validate = {role: seconds_of(lambda learner=learner: learner.evaluate("val")) for role, learner in trained.items()}
    source = trained.get("source")
    weights = [] if source is None else [find_layer(source.network, name, "layer").weight for name in layers]
    cuda = trainer.device.type == "cuda"
    return Measured(
        device=str(trainer.device),
        steps=steps,
        steps_per_epoch=trainer.steps_per_epoch,
        setup=setup,
        target=lap["seconds_target"],
        source=lap["seconds_source"],
        transfer=lap["seconds_transfer"] + lap["seconds_adapter"],
        validate_target=validate["target"],
        validate_source=validate.get("source", 0.0),
        target_bytes=size_of(trainer.target.state_dict()),
        source_bytes=0 if source is None else size_of(source.state_dict()),
        adapter_bytes=size_of(trainer.transfer.state_dict()),
        network_bytes=size_of(trainer.target.network.state_dict()),
        trained_adapter_bytes=size_of(adapter_tensors(trainer.transfer.links)),
        layers_bytes=sum(number_size(config.source) * weight.numel() for weight in weights),
        memory_bytes=peak_memory(),
        gpu_memory_bytes=torch.cuda.max_memory_reserved() if cuda else 0,
        findings=found,
    )


def cycle_steps(cycle: int) -> int:
    """Whole cycles, of about STEPS steps; of a longer one only the start, which overrates its transfer."""
    return max(1, STEPS // cycle) * cycle if cycle <= 2 * STEPS else STEPS


def seconds_of(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def size_of(state: Any) -> int:
    """Bytes of all tensors in a nested state."""
    from torch import Tensor

    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    items = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return sum(map(size_of, items))


def peak_memory() -> int:
    """Largest resident memory of this process in bytes. getrusage would count the parent's until the exec."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):  # no Linux
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
