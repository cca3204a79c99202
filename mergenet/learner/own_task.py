"""What a task of the user's own returns is checked: in a trial before the first epoch, and at each evaluation. [ours]

In the trial a throwaway network scores a few validation examples, spread over the split; their rows stand for all.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from mergenet.config.registry import kind_of
from mergenet.errors import ConfigError, UserError
from mergenet.learner.dry_run import said
from mergenet.learner.rng import Stream
from mergenet.tasks import Scores, Task

FEW = 256  # validation examples that the trial scores


def is_own_task(name: str, task: Task) -> bool:
    """Whether the user brings the task, by `module:object` or as an entry in TASKS."""
    return ":" in name or type(task).__module__.partition(".")[0] != "mergenet"


@contextmanager
def errors_of_task(name: str, what: str) -> Iterator[None]:
    """What the user's code raises becomes a ConfigError of one line."""
    try:
        yield
    except (UserError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"task: {what} of {name} fails: {said(error)}") from error


def measure(name: str, task: Task, split: str, scores: Scores) -> dict[str, float]:
    """The task's metrics as floats, from one-element tensors and NumPy's numbers too.

    Raises ConfigError for what is no number, and for validation without the metric that selects.
    """
    with errors_of_task(name, "metrics()") if is_own_task(name, task) else nullcontext():
        found = task.metrics(split, scores)
    if not isinstance(found, dict):
        raise ConfigError(f"task: metrics() of {name} must return a dict of numbers, got {kind_of(found)}")
    values = {metric: _number(name, metric, value) for metric, value in found.items()}
    if split == "val" and task.metric not in values:
        names = ", ".join(map(str, values)) or "none"
        raise ConfigError(f"task: metric of {name} must be one that metrics() returns ({names}), got {task.metric!r}")
    return values


def _number(name: str, metric: object, value: object) -> float:
    try:
        if isinstance(metric, str) and not isinstance(value, str | bytes):
            plain = value.item() if hasattr(value, "item") else value
            return float(plain)  # type: ignore[arg-type]  # of what is no number it raises
    except (TypeError, ValueError, RuntimeError):
        pass
    shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
    raise ConfigError(
        f"task: metrics() of {name} must return numbers by name, got {kind_of(value)}{shape} for {metric!r}"
    )


@torch.no_grad()
def try_metrics(name: str, task: Task, network: nn.Module, device: torch.device) -> None:
    """Raises ConfigError, in one line, if evaluation cannot work. The network is put into evaluation mode.

    Arithmetic and values that fail are let pass: they may well be those of a network that has not learned.
    """
    network.eval()
    size = task.size("val")
    few = min(FEW, size)
    with Stream(0, "dry run", device).active():
        for count in sorted({few, size}):
            scores = _scored(name, task, network, torch.arange(count) * size // count, device)
            try:
                whole = {key: rows[torch.arange(size) * count // size] for key, rows in scores.items()}
                measure(name, task, "val", whole)
                return
            except ConfigError as error:
                raised = error.__cause__  # by the task, perhaps for rows of other examples only: then all are scored
                if raised is None or (count == size and not isinstance(raised, ArithmeticError | ValueError)):
                    raise


def _scored(name: str, task: Task, network: nn.Module, index: Tensor, device: torch.device) -> Scores:
    """The scores of validation examples, on the CPU; ConfigError unless they are tensors with a row an example."""
    parts = []
    for some in index.split(FEW):
        with errors_of_task(name, "scoring with score()"):
            batch = task.batch("val", some, device)
            found = task.score(task.forward(network, batch), batch)
            parts.append({key: rows.cpu() for key, rows in found.items()})
        for key, rows in parts[-1].items():
            if rows.shape[:1] != some.shape:
                raise ConfigError(
                    f"task: score() of {name} must return tensors with a row for each of {len(some)} examples, got "
                    f"shape {tuple(rows.shape)} for {key!r}"
                )
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
