"""Times from the events of a sweep (watched.py): of each job in its slot, and of training in the whole sweep."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.names import SOURCE, TRIAL

Event = dict[str, Any]


@dataclass(frozen=True)
class Cycle:
    """A job in its slot, in seconds.

    whole: since the end of the job before it in the slot; waited: the part of that until it began; trained: the part in
    the phases of its epochs (seconds_* of epochs.jsonl: steps and validation).
    """

    job: str
    role: str
    slot: str
    whole: float
    waited: float
    trained: float

    @property
    def beyond(self) -> float:
        """Everything but training: drawing, messages, processes; building networks, the test split, files."""
        return self.whole - self.trained


def cycles(events: Iterable[Event]) -> list[Cycle]:
    """The jobs that followed another one in their slot, in the order in which they ended."""
    slots, starts, trained = dict[str, str](), dict[str, float](), dict[str, float]()
    ends = dict[str, float]()  # of a slot's last job
    found = []
    for event in events:
        job, now = event["job"], event["time"]
        if event["event"] == "started":
            slots[job], starts[job] = slot_of(event["group"]), now
        elif event["event"] == "row":
            trained[job] = trained.get(job, 0.0) + event["trained"]
        elif event["event"] == "ended" and job in slots:
            before = ends.get(slots[job])
            if before is not None:
                times = now - before, starts[job] - before, trained.get(job, 0.0)
                found.append(Cycle(job, event["role"], slots[job], *times))
            ends[slots[job]] = now
    return found


def slot_of(group: str) -> str:
    """slot-1-4-queue-... -> 1: the fifth worker group of the second slot."""
    return group.split("-")[1]


def warm(found: Iterable[Cycle], warm_up: int) -> list[Cycle]:
    """Trials of the search, without the first ones of each slot."""
    seen = dict[str, int]()
    kept = []
    for cycle in found:
        if cycle.role == TRIAL:
            seen[cycle.slot] = seen.get(cycle.slot, 0) + 1
            if seen[cycle.slot] > warm_up:
                kept.append(cycle)
    return kept


def training(events: Sequence[Event]) -> list[tuple[float, float]]:
    """When each epoch of each job trained: its phases, up to the moment in which it was reported.

    The recorded source reports no phases. Its epochs count from report to report; the first one, which begins with
    imports, at most as the median of the others.
    """
    reports, starts = dict[str, list[float]](), dict[str, float]()
    found = []
    for event in events:
        if event["event"] == "started":
            starts[event["job"]] = event["time"]
        elif event["event"] == "row" and event["role"] == SOURCE:
            reports.setdefault(event["job"], []).append(event["time"])
        elif event["event"] == "row":
            found.append((event["time"] - event["trained"], event["time"]))
    for job, times in reports.items():
        lengths = [end - start for start, end in zip([starts[job], *times], times, strict=False)]
        lengths[0] = min(lengths[0], statistics.median(lengths[1:] or lengths))
        found += [(end - length, end) for length, end in zip(lengths, times, strict=True)]
    return found


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Total length of the union of the intervals."""
    length, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        length += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return length
