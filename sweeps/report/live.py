"""What a user sees of a sweep: one line for each job that ends, and in a terminal a live status below them."""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from analysis.names import ADAPTER, COMPLETE, CONFIRM_ROLES, FAILED, PRUNED, REPLICATE, SOURCE, TRIAL
from analysis.report.verdict import label, show
from analysis.seeds import SD, SEEDS, first_of, mean_and_sd
from analysis.trial_file import named_values
from mergenet.records.run_record import EPOCH
from sweeps.config import SweepConfig
from sweeps.report.wording import best_text, short, show_params, show_value
from sweeps.trials.budget import Budget, budget_line
from sweeps.trials.messages import SUSPEND, EndEvent, JobEvent, LostEvent, Row
from sweeps.trials.objectives import feasible
from sweeps.trials.ranking import leader, trial_states
from sweeps.trials.record import best_value

UNDONE = ("waiting", "running", "retrying")


def say(console: Console, text: str) -> None:
    """Print a line as it is, however long."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def lost_text(event: LostEvent) -> str:
    """Why a job is tried again, or no longer."""
    if not event["attempts"]:
        return "waits    for new workers: one beside its own was lost, and they start again together"
    again = "; it is tried again" if event["again"] else ""
    return f"lost     its workers, time {event['attempts']} ({event['reason']}){again}"


class View:
    """Listens to the events of the job queue. Use as a context manager around the whole sweep.

    num_jobs: how many jobs this driver will run in all, for the time left.
    budget: the search's, to be shown.
    """

    def __init__(self, console: Console, sweep: SweepConfig, num_jobs: int, budget: Budget | None = None) -> None:
        self.console, self.sweep, self.num_jobs, self.budget = console, sweep, num_jobs, budget
        self.params: dict[str, dict[str, Any]] = {}
        self.started: dict[str, float] = {}
        self.rows: dict[str, list[Row]] = {}
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

    def __call__(self, event: JobEvent) -> None:
        """Handles one event of the queue. Called from a thread of the worker pool."""
        job = event["job"]
        with self.lock:
            if event["event"] == "queued":
                self.params[job] = event["params"]
                self.states[job] = (event["role"], "waiting")
            elif event["event"] == "started":
                self.started[job] = event["time"]
                self.states[job] = (event["role"], "running")
            elif event["event"] == "row":
                self._row(job, event["row"])
            elif event["event"] == "lost":
                self.lost += 1
                self.states[job] = (event["role"], "retrying")
            elif event["event"] == "ended":
                self._end(event)
        if event["event"] == "ended" and (event["state"] != SUSPEND or job in self.started):
            self.say(self.line(event))
            if (line := self.mean_line(event)) is not None:
                self.say(line)
        elif event["event"] == "lost":
            self.say(f"{job:<14} {lost_text(event)}")

    def remember(self, runs: Mapping[str, tuple[str, list[Row]]]) -> None:
        """Adds runs that ended under an earlier driver, for which no events come: name -> state, epochs."""
        with self.lock:
            for name, (state, rows) in runs.items():
                self.rows[name] = rows
                self._settle(name, TRIAL if first_of(name) == name else REPLICATE, state)

    def searched(self, to_come: int) -> None:
        """The search has ended; a budget may have ended it early, and then there are fewer jobs. to_come: jobs."""
        with self.lock:
            self.num_jobs = min(self.num_jobs, len(self.states) + to_come)
        if self.budget is not None and self.budget.spent():
            self.say(f"the {budget_line(self.budget.facts() or {})} is spent: no more trials begin")

    def _settle(self, job: str, role: str, state: str) -> None:
        """A trial that did not complete does not train its other seeds."""
        self.states[job] = (role, state)
        if role == TRIAL and state in (PRUNED, FAILED):
            self.num_jobs -= self.sweep.seeds_per_trial - 1

    def _row(self, job: str, row: Row) -> None:
        rows = self.rows.setdefault(job, [])
        del rows[row[EPOCH] - 1 :]  # of a run that is read again, or goes on from an earlier epoch
        rows.append(row)

    def _end(self, event: EndEvent) -> None:
        self._settle(event["job"], event["role"], event["state"])
        if event["job"] in self.started and event["role"] != SOURCE and not event.get("there"):
            self.seconds.append(event["time"] - self.started[event["job"]])

    def line(self, event: EndEvent) -> str:
        """The line about a job that has ended."""
        job, role = event["job"], event["role"]
        rows = self.rows.get(job, [])
        seconds = event["time"] - self.started.get(job, event["time"])
        time = ", there already" if event.get("there") else f" {seconds:6.1f} s"
        head = f"{job:<14} {event['state']:<8} {len(rows):>3} epochs{time}"
        if event["error"] is not None:
            return f"{head}  {event['error']}"
        if role == SOURCE:
            return head.rstrip()
        value = best_value(rows, self.sweep.objective)
        shown = "no value" if value is None else show(self.sweep.objective, value)
        params = (
            {} if role in (ADAPTER, *CONFIRM_ROLES) else self.params.get(job, {})
        )  # all confirmations have the parameters of the best trial
        return f"{head}  {label(self.sweep.objective)} {shown}  {show_params(params)}".rstrip()

    def mean_line(self, event: EndEvent) -> str | None:
        """The line about a trial, or no transfer, whose last seed has ended."""
        count, metric, first = self.sweep.seeds_per_trial, self.sweep.objective, first_of(event["job"])
        if count == 1 or event["state"] != COMPLETE or self._trial_states().get(first) != COMPLETE:
            return None
        values = [best_value(rows, metric) for name, rows in self.rows.items() if first_of(name) == first]
        known = [value for value in values if value is not None]
        if len(known) < count:
            return None
        mean, sd = mean_and_sd(known)
        return f"{first:<14} mean over {count} seeds: {label(metric)} {show(metric, mean)} (sd {show(metric, sd)})"

    def _trial_states(self) -> dict[str, str]:
        own = {job: state for job, (role, state) in self.states.items() if role != SOURCE}
        return trial_states(own, self.sweep.seeds_per_trial)

    def status(self) -> RenderableType:
        """The live status: a bar over all jobs, trials by state, the best so far, the time left."""
        with self.lock:
            done = sum(state not in UNDONE for _, state in self.states.values())
            counts = Counter(state for job, state in self._trial_states().items() if self.states[job][0] == TRIAL)
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
        runs = feasible(self.sweep, {job: self.rows.get(job, []) for job in self.states})
        states = {job: state for job, (_, state) in self.states.items()}
        metric = self.sweep.objective
        return best_text(leader(runs, states, metric, self.sweep.seeds_per_trial), metric)

    def _seconds_left(self, done: int) -> str:
        if not self.seconds:
            return "time left: unknown yet"
        mean = sum(self.seconds) / len(self.seconds)
        seconds = int(mean * (self.num_jobs - done) / self.sweep.slots)
        return f"about {seconds // 60}:{seconds % 60:02d} left"


def trials_table(trials: Sequence[dict[str, Any]], metric: str, others: Sequence[str] = ()) -> Table:
    """All trials, in the order in which they were drawn. Each: trial_id, params, epochs, value, state, error.

    others: further measures of each. With several seeds a trial, also the number of seeds and the standard deviation.
    """
    drawn = [named_values(trial["params"]) for trial in trials]
    paths = list(dict.fromkeys(path for params in drawn for path in params))
    table = Table(box=None, pad_edge=False)
    repeated = ("seeds", "sd") if any(SEEDS in trial for trial in trials) else ()
    for name in ("trial", "state", "epochs", label(metric), *repeated, *map(label, others), *map(short, paths)):
        table.add_column(name, overflow="fold")
    for trial, params in zip(trials, drawn, strict=True):
        values = [show_value(params[path]) if path in params else "-" for path in paths]
        found = [show(name, trial["measured"].get(name)) for name in others]
        spread = (str(len(trial.get("values", "1"))), show(metric, trial.get(SD))) if repeated else ()
        cells = (trial["trial_id"], trial["state"], str(trial["epochs"]), show(metric, trial["value"]))
        table.add_row(*map(Text, (*cells, *spread, *found, *values)))
    return table


def front_table(front: Sequence[dict[str, Any]]) -> Table:
    """front: from trials/objectives.py, not empty."""
    table = Table(box=None, pad_edge=False)
    for name in ("trial", *map(label, front[0]["values"])):
        table.add_column(name)
    for point in front:
        table.add_row(point["trial_id"], *(show(name, value) for name, value in point["values"].items()))
    return table
