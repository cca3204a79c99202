"""A sweep in a separate process, like `mergenet sweep run`, with a record of its jobs' events and times.

    python -m benchmarks.watched SWEEP FOLDER EVENTS [live]

SWEEP as for `mergenet sweep run`; with `live` its source trains beside every trial, recorded elsewhere or not.
EVENTS becomes a file of JSON lines, the queue's events: job, role, event, time (seconds since 1970), the group of a job
that started, the seconds that an epoch trained, and as a job ends the memory and the CPU time of the driver and of all
processes that it started.
"""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from sweeps.trials.messages import JobEvent

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
KEPT = "job", "role", "event", "time", "group", "state"


@dataclass(frozen=True)
class Watched:
    """A sweep that has ended.

    seconds: from the start of its process to its end; first_epoch: to its first epoch; after: from its last job's end
    to its own.
    """

    seconds: float
    events: list[dict[str, Any]]
    first_epoch: float = math.nan
    after: float = math.nan


def watched_sweep(sweep: Path, folder: Path, *options: str, code: Path | None = None) -> Watched:
    """Run the sweep of a file. Its output is in FOLDER.log. Raises SystemExit with the last lines if it fails.

    code: a checkout with whose packages it runs, by default these.
    """
    log, events = folder.with_suffix(".log"), folder.with_suffix(".events")
    command = [sys.executable, "-m", "benchmarks.watched", str(sweep), str(folder), str(events), *options]
    with log.open("w", encoding="utf-8") as file:
        start = time.perf_counter()
        began = time.time()
        status = run_to_end(command, file, code)
        seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"the sweep of {sweep} failed, its last lines:\n{log.read_text(encoding='utf-8')[-2000:]}")
    known = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    first = min((event["time"] for event in known if event["event"] == "row"), default=math.nan)
    last = max((event["time"] for event in known if event["event"] == "ended"), default=math.nan)
    return Watched(seconds, known, first - began, began + seconds - last)


def run_to_end(command: Sequence[str], log: IO[str], code: Path | None = None) -> int:
    """The exit status. Ending this process, also by SIGTERM, ends the command with it: the sweep stops cleanly."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        environment = None if code is None else {**os.environ, "PYTHONPATH": str(code)}
        with subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=code, env=environment) as child:
            try:
                return child.wait()
            except BaseException:
                child.terminate()
                raise
    finally:
        signal.signal(signal.SIGTERM, before)


class Watch:
    """Listens to the events of a sweep and writes them to a file."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file

    def __call__(self, event: JobEvent) -> None:
        line = {key: value for key, value in event.items() if key in KEPT}
        if event["event"] == "row":
            line["trained"] = sum(value for name, value in event["row"].items() if name.startswith("seconds_"))
        elif event["event"] == "ended":
            line |= usage(os.getpid())
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()


def usage(driver: int) -> dict[str, float]:
    """Usage of a process and all its running descendants: resident MiB, seconds of CPU.

    From /proc of Linux. Pages that processes share count in each of them.
    """
    facts = processes()
    sums = [sum(facts[process].usage[i] for process in descendants(driver, facts) - {driver}) for i in range(2)]
    names = "driver_mib", "driver_cpu", "others_mib", "others_cpu"
    return dict(zip(names, [*facts[driver].usage, *sums], strict=True))


@dataclass(frozen=True)
class Process:
    """usage: resident MiB, seconds of CPU."""

    parent: int
    usage: tuple[float, float]


def processes() -> dict[int, Process]:
    """All that run, by number."""
    found = dict[int, Process]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()  # from the third of proc(5) on
        except OSError:  # it has ended meanwhile
            continue
        usage = int(fields[21]) * PAGE / 2**20, (int(fields[11]) + int(fields[12])) / TICKS
        found[int(path.parent.name)] = Process(int(fields[1]), usage)
    return found


def descendants(first: int, facts: dict[int, Process] | None = None) -> set[int]:
    """A process and all that it has started, as long as they run."""
    known = processes() if facts is None else facts
    found, new = {first}, {first}
    while new:
        new = {process for process, each in known.items() if each.parent in new}
        found |= new
    return found


def marked(mark: str) -> set[int]:
    """The processes with a variable in their environment: a fork server outlives the one that started it."""
    found = set[int]()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is another user's
            if mark.encode() in path.read_bytes():
                found.add(int(path.parent.name))
    return found


def main(arguments: Sequence[str]) -> None:
    from rich.console import Console

    from sweeps.config.loading import load_sweep
    from sweeps.driver.run import run_sweep
    from sweeps.driver.start import starting
    from sweeps.planning.checks import plan_sweep
    from sweeps.trials.recorded_source import SourcePlan

    sweep, folder, events, *options = arguments
    config = load_sweep(sweep)
    with Path(events).open("w", encoding="utf-8") as file, starting(config, None):
        plan = plan_sweep(config)
        if options:
            assert options == ["live"], options
            plan = replace(plan, source=SourcePlan(reason="trains beside every trial, as this benchmark wants it"))
        run_sweep(plan, Path(folder), Console(), listeners=[Watch(file)])


if __name__ == "__main__":
    main(sys.argv[1:])
