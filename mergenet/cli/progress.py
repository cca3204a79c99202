"""The progress of a training: one line per epoch, and a progress bar below if the output is a terminal."""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mergenet.records.run_record import EpochResult, is_loss, measured


def show_progress(
    results: Iterator[EpochResult],
    total_epochs: int,
    console: Console,
    recorded: int = 0,
    selecting: Callable[[], str | None] = lambda: None,
) -> Iterator[EpochResult]:
    """Passes `results` through and shows each on `console`; closes them when the consumer stops early.

    recorded: how many epochs an earlier process trained; they are marked as recorded.
    selecting: returns the column that selects the best epoch; called for each epoch shown.
    """
    try:
        with _bar(console) as bar:
            task = bar.add_task("training", total=total_epochs)
            for result in results:
                mark = "  (recorded)" if result.epoch <= recorded else ""
                line = describe(result, total_epochs, selecting()) + mark
                bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
                bar.update(task, completed=result.epoch)
                yield result
    finally:
        if isinstance(results, Generator):
            results.close()  # so that a run records that it was stopped


class _Shown(logging.Handler):
    """Shows what is logged as plain lines."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        self.console.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def show_log(console: Console) -> Iterator[None]:
    """What the trainer logs is shown on `console` in the block."""
    logger, handler = logging.getLogger("mergenet"), _Shown(console)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


def exhaust(results: Iterator[EpochResult]) -> None:
    """Trains to the end. Ctrl-C then always lands inside the generators, which close in order."""
    deque(results, maxlen=0)


def describe(result: EpochResult, total_epochs: int, selecting: str | None = None) -> str:
    """One epoch as a line: losses, a validation metric in percent, seconds."""
    width = len(str(total_epochs))
    parts = [f"epoch {result.epoch:>{width}}/{total_epochs}"]
    for role in ("target", "source"):
        values = []
        if (loss := result.metrics.get(f"{role}_train_loss")) is not None:
            values.append(f"loss {loss:.4f}")
        if (name := shown_metric(result.metrics, role, selecting)) is not None:
            values.append(f"val {shown(name, result.metrics[name])}")
        if values:
            parts.append(f"{role}: {', '.join(values)}")
    if (spent := seconds(result)) > 0:  # phases of a recording are not timed
        parts.append(f"{spent:.1f} s")
    return "  ".join(parts)


def shown_metric(metrics: dict[str, float], role: str, selecting: str | None) -> str | None:
    """The network's column for the selecting metric, else for its first validation metric other than the loss."""
    names = [name for name in metrics if name.startswith(f"{role}_val_") and not is_loss(name)]
    same = f"{role}_val_{measured(selecting or '')}"
    return same if same in names else next(iter(names), None)


def shown(column: str, value: float) -> str:
    """`target_test_top1`, 0.5 -> `top1 50.00%`; losses as they are."""
    name = measured(column)
    return f"{name} {value:.4f}" if is_loss(name) else f"{name} {value:.2%}"


def seconds(result: EpochResult) -> float:
    """Wall time of an epoch: the sum of its phases."""
    return sum(value for name, value in result.metrics.items() if name.startswith("seconds_"))


def _bar(console: Console) -> Progress:
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs")]
    times = [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    return Progress(*columns, *times, console=console, transient=True, disable=not console.is_terminal)
