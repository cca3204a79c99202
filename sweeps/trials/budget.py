"""Time spent, over all drivers of a sweep, and the budget of its search."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from analysis.names import TRIAL, TRIALS_FOLDER
from mergenet.errors import UserError
from mergenet.records.run_record import EPOCHS_FILE
from sweeps.config import SweepConfig
from sweeps.trials.messages import JobEvent

BEAT = 10.0  # seconds between two records of the time spent: a kill loses no more than that
SEARCH = "search"
HOUR = 3600.0


class Clock:
    """Seconds of each step of a sweep, including earlier drivers.

    before: what earlier drivers recorded. write: records them; called when a step begins, and by a thread in `beating`.
    """

    def __init__(self, before: dict[str, float], write: Callable[[dict[str, float]], None]) -> None:
        self.before, self.write = dict(before), write
        self.step: str | None = None
        self.since = time.monotonic()
        self.lock = threading.Lock()

    def begin(self, step: str | None) -> None:
        """Ends the running step and begins another; None: no other."""
        with self.lock:
            now = time.monotonic()
            if self.step is not None:
                self.before[self.step] = self.before.get(self.step, 0.0) + now - self.since
            self.step, self.since = step, now
            self._note()

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Inside, the time is recorded every BEAT seconds, whether or not anything happens: an epoch may take hours."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(BEAT):
                with self.lock:
                    if self.step is not None:
                        self._note()

        thread = threading.Thread(target=beat, name="clock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def seconds(self) -> dict[str, float]:
        """Seconds by step, including the running one so far."""
        with self.lock:
            return self._seconds()

    def _note(self) -> None:
        with contextlib.suppress(OSError, UserError):  # a full disk is reported where results are written
            self.write(self._seconds())

    def _seconds(self) -> dict[str, float]:
        running = {} if self.step is None else {self.step: time.monotonic() - self.since}
        names = {**self.before, **running}
        return {name: round(self.before.get(name, 0.0) + running.get(name, 0.0), 2) for name in names}


class Budget:
    """How much of the search's budget is spent. Listens to the events of the job queue.

    seconds: of the search so far, by all drivers. The recorded epochs of all trials in the folder count, with all
    seeds.
    """

    def __init__(self, sweep: SweepConfig, folder: Path, seconds: Callable[[], float]) -> None:
        self.sweep, self.seconds = sweep, seconds
        self.epochs = {path.parent.name: recorded(path) for path in (folder / TRIALS_FOLDER).glob(f"*/{EPOCHS_FILE}")}
        self.epochs = {name: count for name, count in self.epochs.items() if name.startswith(TRIAL)}

    def __call__(self, event: JobEvent) -> None:
        if event["event"] == "row" and event["job"].startswith(TRIAL):
            self.epochs[event["job"]] = max(self.epochs.get(event["job"], 0), event["row"]["epoch"])

    @property
    def num_epochs(self) -> int:
        return sum(self.epochs.copy().values())

    def spent(self) -> bool:
        """Whether the budget is spent: no more trials may begin."""
        return is_spent(self.sweep, self.seconds(), self.num_epochs)

    def facts(self) -> dict[str, Any] | None:
        """For summary.json; None without a budget."""
        return budget_facts(self.sweep, self.seconds(), self.num_epochs)


def is_spent(sweep: SweepConfig, seconds: float, epochs: int) -> bool:
    hours = sweep.budget_hours is not None and seconds >= sweep.budget_hours * HOUR
    return hours or (sweep.budget_epochs is not None and epochs >= sweep.budget_epochs)


def budget_facts(sweep: SweepConfig, seconds: float, epochs: int) -> dict[str, Any] | None:
    if sweep.budget_hours is None and sweep.budget_epochs is None:
        return None
    limits = {"budget_hours": sweep.budget_hours, "budget_epochs": sweep.budget_epochs}
    return {**limits, "search_hours": round(seconds / HOUR, 4), "search_epochs": epochs}


def budget_line(facts: dict[str, Any]) -> str:
    """E.g. "budget of the search: 0.10 of 0.5 hours, 40 of 60 epochs"."""
    parts = []
    if facts["budget_hours"] is not None:
        parts.append(f"{facts['search_hours']:.3g} of {facts['budget_hours']:g} hours")
    if facts["budget_epochs"] is not None:
        parts.append(f"{facts['search_epochs']} of {facts['budget_epochs']} epochs")
    return f"budget of the search: {', '.join(parts)}"


def recorded(path: Path) -> int:
    """Epochs in a record; a row that was torn by a kill does not count."""
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 0
