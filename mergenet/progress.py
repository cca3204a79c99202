"""What a person sees of a training: one line an epoch, and under it a bar where the output is a terminal."""

from collections import deque
from collections.abc import Generator, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mergenet.record import EpochResult


def show_progress(
    results: Iterator[EpochResult], total_epochs: int, console: Console, recorded: int = 0
) -> Iterator[EpochResult]:
    """Passes `results` through and shows each on `console`; closes them when the consumer stops early.

    recorded: the first so many epochs were trained by an earlier process and are marked so.
    """
    try:
        with _bar(console) as bar:
            task = bar.add_task("training", total=total_epochs)
            for result in results:
                line = describe(result, total_epochs) + ("  (recorded)" if result.epoch <= recorded else "")
                bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
                bar.update(task, completed=result.epoch)
                yield result
    finally:
        if isinstance(results, Generator):
            results.close()  # a run writes down that it was stopped


def exhaust(results: Iterator[EpochResult]) -> None:
    """Trains to the end. Ctrl-C then always strikes inside the generators, which close in order."""
    deque(results, maxlen=0)


def describe(result: EpochResult, total_epochs: int) -> str:
    """One epoch as a line: losses, validation accuracies in percent, seconds."""
    width = len(str(total_epochs))
    parts = [f"epoch {result.epoch:>{width}}/{total_epochs}"]
    for role in ("target", "source"):
        values = []
        if (loss := result.metrics.get(f"{role}_train_loss")) is not None:
            values.append(f"loss {loss:.4f}")
        if (name := selecting_metric(result.metrics, role)) is not None:
            values.append(f"val {name.removeprefix(f'{role}_val_')} {result.metrics[name]:.2%}")
        if values:
            parts.append(f"{role}: {', '.join(values)}")
    parts.append(f"{seconds(result):.1f} s")
    return "  ".join(parts)


def selecting_metric(metrics: dict[str, float], role: str) -> str | None:
    """The column of the network's first validation metric that is not the loss, top1 where there is one."""
    names = [name for name in metrics if name.startswith(f"{role}_val_") and name != f"{role}_val_loss"]
    return f"{role}_val_top1" if f"{role}_val_top1" in names else next(iter(names), None)


def seconds(result: EpochResult) -> float:
    """Wall time of an epoch: the sum of its phases."""
    return sum(value for name, value in result.metrics.items() if name.startswith("seconds_"))


def _bar(console: Console) -> Progress:
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs")]
    times = [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    return Progress(*columns, *times, console=console, transient=True, disable=not console.is_terminal)
