"""What a user sees of a sweep: one line for each job that ends, and in a terminal a live status below them."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from analysis.trials import BASELINE, SOURCE, TRIAL, mode_of
from mergenet.record import ADAPTER_PARAMETERS, is_metric
from sweeps.budget import Budget, budget_line
from sweeps.config import SweepConfig
from sweeps.mailbox import Message
from sweeps.objectives import breaks

UNDONE = ("waiting", "running", "retrying")


def say(console: Console, text: str) -> None:
    """A line as it is, however long."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


class View:
    """Listens to the events of the slots. Use as a context manager around the whole sweep.

    num_jobs: how many jobs this driver will have in all, for the time that is left.
    budget: of the search, to be shown.
    """

    def __init__(self, console: Console, sweep: SweepConfig, num_jobs: int, budget: Budget | None = None) -> None:
        self.console, self.sweep, self.num_jobs, self.budget = console, sweep, num_jobs, budget
        self.params: dict[str, dict[str, Any]] = {}
        self.started: dict[str, float] = {}
        self.rows: dict[str, list[Message]] = {}
        self.states: dict[str, tuple[str, str]] = {}  # job -> role, state
        self.lost = 0  # times that a job lost its workers
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
            elif event["event"] == "lost":
                self.lost += 1
                self.states[job] = (event["role"], "retrying")
            elif event["event"] == "ended":
                self._end(event)
        if event["event"] == "ended":
            self.say(self.line(event))
        elif event["event"] == "lost":
            self.say(f"{job:<14} lost     its workers, time {event['attempts']} ({event['reason']}); it is tried again")

    def remember(self, trials: Mapping[str, tuple[str, list[Message]]]) -> None:
        """Trials that ended under an earlier driver, name -> state, epochs: no event will tell of them."""
        with self.lock:
            self.states |= {name: (TRIAL, state) for name, (state, _) in trials.items()}
            self.rows |= {name: rows for name, (_, rows) in trials.items()}

    def searched(self) -> None:
        """The search has ended; a budget may have ended it early, and then there are fewer jobs."""
        with self.lock:
            self.num_jobs = min(self.num_jobs, len(self.states) + 2 * self.sweep.confirm_seeds)
        if self.budget is not None and self.budget.spent():
            self.say(f"the {budget_line(self.budget.facts() or {})} is spent: no more trials begin")

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
            done = sum(state not in UNDONE for _, state in self.states.values())
            counts = Counter(state for role, state in self.states.values() if role == TRIAL)
            running = [job for job, (_, state) in self.states.items() if state == "running"]
            text = ", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "none yet"
            lost = f"; workers lost {self.lost} times" if self.lost else ""
            lines = [Text(f"trials: {text}{lost}"), Text(self._best_so_far())]
            if self.budget is not None and (facts := self.budget.facts()) is not None:
                lines.append(Text(budget_line(facts)))
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
        trials = {job: self.rows.get(job, []) for job, (role, _) in self.states.items() if role == TRIAL}
        trials = {job: rows for job, rows in trials.items() if not breaks(self.sweep, rows)}
        return best_text(leader(trials, self.rows.get(BASELINE, []), self.sweep.objective), self.sweep.objective)

    def _seconds_left(self, done: int) -> str:
        if not self.seconds:
            return "time left: unknown yet"
        mean = sum(self.seconds) / len(self.seconds)
        seconds = int(mean * (self.num_jobs - done) / self.sweep.slots)
        return f"about {seconds // 60}:{seconds % 60:02d} left"


def leader(trials: Mapping[str, Sequence[Message]], baseline: Sequence[Message], metric: str) -> dict[str, Any] | None:
    """The best trial so far by its rows, and how far it leads no transfer; None if no trial has a value.

    lead: trial minus baseline, both at their best within as many epochs as the trial has; None until the baseline
    has trained them.
    """
    values = {job: best_value(rows, metric) for job, rows in trials.items()}
    known = {job: value for job, value in values.items() if value is not None}
    if not known:
        return None
    best = (max if mode_of(metric) == "max" else min)(known, key=lambda job: known[job])
    epochs = len(trials[best])
    other = best_value(baseline[:epochs], metric) if len(baseline) >= epochs else None
    return {
        "trial": best,
        "value": known[best],
        "epochs": epochs,
        "lead": None if other is None else known[best] - other,
    }


def best_text(best: dict[str, Any] | None, metric: str) -> str:
    """Never calls the lead a gain: that is what the confirmation is for."""
    if best is None:
        return "best so far: none yet"
    extreme = "highest" if mode_of(metric) == "max" else "lowest"
    lead = (
        "no transfer is not there yet" if best["lead"] is None else f"{show_lead(metric, best['lead'])} to no transfer"
    )
    return (
        f"{extreme} so far: {show(metric, best['value'])} ({best['trial']}, {lead}; "
        "not a gain, the best of many is lucky)"
    )


def show_lead(metric: str, lead: float) -> str:
    return f"{100 * lead:+.2f} points" if is_metric(metric) else f"{lead:+.4g}"


def best_value(rows: Iterable[Message], metric: str) -> float | None:
    values = [row[metric] for row in rows if row.get(metric) is not None]
    return (max if mode_of(metric) == "max" else min)(values, default=None)


def label(metric: str) -> str:
    return metric.replace("target_", "").replace("_", " ")


def show(metric: str, value: float | None) -> str:
    """A metric in per cent, a number of parameters whole, anything else as it is."""
    if value is None:
        return "-"
    if metric == ADAPTER_PARAMETERS:
        return f"{value:.0f}"
    return f"{100 * value:.2f} %" if is_metric(metric) else f"{value:.4g}"


def show_params(params: dict[str, Any]) -> str:
    return " ".join(f"{short(path)}={show_value(value)}" for path, value in params.items())


def short(path: str) -> str:
    return path.split(".")[-1]


def show_value(value: Any) -> str:
    from sweeps.space import label_of

    plain = label_of(value)
    return f"{plain:.4g}" if isinstance(plain, float) else str(plain)


def trials_table(trials: Sequence[dict[str, Any]], metric: str, others: Sequence[str] = ()) -> Table:
    """All trials, in the order in which they were drawn. Each: trial_id, params, epochs, value, state, error.

    others: what else was measured of each.
    """
    paths = list(dict.fromkeys(path for trial in trials for path in trial["params"]))
    table = Table(box=None, pad_edge=False)
    for name in ("trial", "state", "epochs", label(metric), *map(label, others), *map(short, paths)):
        table.add_column(name, overflow="fold")
    for trial in trials:
        values = [show_value(trial["params"][path]) if path in trial["params"] else "-" for path in paths]
        found = [show(name, trial["measured"].get(name)) for name in others]
        cells = (trial["trial_id"], trial["state"], str(trial["epochs"]), show(metric, trial["value"]), *found, *values)
        table.add_row(*map(Text, cells))
    return table


def front_table(front: Sequence[dict[str, Any]]) -> Table:
    """front: of objectives.py, not empty."""
    table = Table(box=None, pad_edge=False)
    for name in ("trial", *map(label, front[0]["values"])):
        table.add_column(name)
    for point in front:
        table.add_row(point["trial_id"], *(show(name, value) for name, value in point["values"].items()))
    return table


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60} s" if seconds >= 60 else f"{seconds:.0f} s"
