"""What a user sees of a sweep: one line for each job that ends, and in a terminal a live status below them."""

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from analysis.trials import SOURCE, TRIAL, mode_of
from mergenet.record import is_metric
from sweeps.config import SweepConfig
from sweeps.mailbox import Message


def say(console: Console, text: str) -> None:
    """A line as it is, however long."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


class View:
    """Listens to the events of the slots. Use as a context manager around the whole sweep.

    num_jobs: how many jobs the sweep will have in all, for the time that is left.
    """

    def __init__(self, console: Console, sweep: SweepConfig, num_jobs: int) -> None:
        self.console, self.sweep, self.num_jobs = console, sweep, num_jobs
        self.params: dict[str, dict[str, Any]] = {}
        self.started: dict[str, float] = {}
        self.rows: dict[str, list[Message]] = {}
        self.states: dict[str, tuple[str, str]] = {}  # job -> role, state
        self.seconds: list[float] = []
        self.lock = threading.Lock()
        self.live = Live(get_renderable=self.status, console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live is not None:
            self.live.stop()

    def say(self, text: str) -> None:
        say(self.console, text)

    def __call__(self, event: Message) -> None:
        """One event of the mailbox. Called from a thread of the slots."""
        job = event["job"]
        with self.lock:
            if event["event"] == "queued":
                self.params[job] = event["params"]
                self.states[job] = (event["role"], "waiting")
            elif event["event"] == "started":
                self.started[job] = event["time"]
                self.states[job] = (event["role"], "running")
            elif event["event"] == "row":
                self.rows.setdefault(job, []).append(event["row"])
            elif event["event"] == "ended":
                self._end(event)
        if event["event"] == "ended":
            self.say(self.line(event))

    def _end(self, event: Message) -> None:
        self.states[event["job"]] = (event["role"], event["state"])
        if event["job"] in self.started and event["role"] != SOURCE:
            self.seconds.append(event["time"] - self.started[event["job"]])

    def line(self, event: Message) -> str:
        """What is said of a job that has ended."""
        job, role = event["job"], event["role"]
        rows = self.rows.get(job, [])
        seconds = event["time"] - self.started.get(job, event["time"])
        head = f"{job:<14} {event['state']:<8} {len(rows):>3} epochs {seconds:6.1f} s"
        if event["error"] is not None:
            return f"{head}  {event['error']}"
        if role == SOURCE:
            return head.rstrip()
        value = best_value(rows, self.sweep.objective)
        shown = "no value" if value is None else show(self.sweep.objective, value)
        return f"{head}  {label(self.sweep.objective)} {shown}  {show_params(self.params.get(job, {}))}".rstrip()

    def status(self) -> RenderableType:
        """The live part: a bar over all jobs, trials by state, the best so far, the time that is left."""
        with self.lock:
            done = sum(state not in ("waiting", "running") for _, state in self.states.values())
            counts = Counter(state for role, state in self.states.values() if role == TRIAL)
            running = [job for job, (_, state) in self.states.items() if state == "running"]
            text = ", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "none yet"
            lines = [Text(f"trials: {text}"), Text(self._best_so_far())]
            lines += [Text(f"  {job}: {len(self.rows.get(job, []))} epochs", style="dim") for job in running]
            left = self._seconds_left(done)
        columns = (
            TextColumn(self.sweep.name),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("jobs, {task.fields[left]}"),
        )
        bar = Progress(*columns, console=self.console)
        bar.add_task("", total=self.num_jobs, completed=done, left=left)
        return Group(bar, *lines)

    def _best_so_far(self) -> str:
        pick = max if self.sweep.mode == "max" else min
        trials = [job for job, (role, _) in self.states.items() if role == TRIAL]
        values = {job: best_value(self.rows.get(job, []), self.sweep.objective) for job in trials}
        known = {job: value for job, value in values.items() if value is not None}
        if not known:
            return "best so far: none yet"
        best = pick(known, key=lambda job: known[job])
        extreme = "highest" if self.sweep.mode == "max" else "lowest"
        shown = show(self.sweep.objective, known[best])
        return f"{extreme} so far: {shown} ({best}; not a gain, the best of many is lucky)"

    def _seconds_left(self, done: int) -> str:
        if not self.seconds:
            return "time left: unknown yet"
        mean = sum(self.seconds) / len(self.seconds)
        seconds = int(mean * (self.num_jobs - done) / self.sweep.slots)
        return f"about {seconds // 60}:{seconds % 60:02d} left"


def best_value(rows: Iterable[Message], metric: str) -> float | None:
    values = [row[metric] for row in rows if row.get(metric) is not None]
    return (max if mode_of(metric) == "max" else min)(values, default=None)


def label(metric: str) -> str:
    return metric.replace("target_", "").replace("_", " ")


def show(metric: str, value: float | None) -> str:
    """A metric in per cent, a loss as it is."""
    if value is None:
        return "-"
    return f"{100 * value:.2f} %" if is_metric(metric) else f"{value:.4g}"


def show_params(params: dict[str, Any]) -> str:
    return " ".join(f"{short(path)}={show_value(value)}" for path, value in params.items())


def short(path: str) -> str:
    return path.split(".")[-1]


def show_value(value: Any) -> str:
    from sweeps.space import label_of

    plain = label_of(value)
    return f"{plain:.4g}" if isinstance(plain, float) else str(plain)


def trials_table(trials: Sequence[dict[str, Any]], metric: str) -> Table:
    """All trials, in the order in which they were drawn. Each: trial_id, params, epochs, value, state, error."""
    paths = list(dict.fromkeys(path for trial in trials for path in trial["params"]))
    table = Table(box=None, pad_edge=False)
    for name in ("trial", "state", "epochs", label(metric), *map(short, paths)):
        table.add_column(name, overflow="fold")
    for trial in trials:
        values = [show_value(trial["params"][path]) if path in trial["params"] else "-" for path in paths]
        cells = (trial["trial_id"], trial["state"], str(trial["epochs"]), show(metric, trial["value"]), *values)
        table.add_row(*map(Text, cells))
    return table


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60} s" if seconds >= 60 else f"{seconds:.0f} s"
