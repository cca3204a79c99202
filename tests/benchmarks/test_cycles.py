"""What is counted as a trial's training, and what as time beyond it."""

from typing import Any

import pytest

from benchmarks.cycles import Cycle, covered, cycles, training, warm

Event = dict[str, Any]


def job(
    name: str, slot: int, *moments: float, role: str = "trial", group: int = 0, trained: float = 0.5
) -> list[Event]:
    """A job's events: started, an epoch at each moment between, ended."""
    start, *rows, end = moments
    about = {"job": name, "role": role}
    first = about | {"event": "started", "time": start, "group": f"slot-{slot}-{group}-queue-0ab1"}
    epochs = [about | {"event": "row", "time": time, "trained": trained} for time in rows]
    return [first, *epochs, about | {"event": "ended", "time": end}]


def in_order(*jobs: list[Event]) -> list[Event]:
    return sorted((event for events in jobs for event in events), key=lambda event: event["time"])


def test_a_cycle_runs_from_the_end_of_the_job_before_in_the_same_slot() -> None:
    events = in_order(
        job("baseline", 0, 0, 1, 2, role="baseline"),
        job("trial-000", 1, 0.5, 2, 3),
        job("trial-001", 0, 2.25, 3, 4, 5),  # two epochs of half a second
        job("trial-002", 1, 14, 15, 16, group=1),  # another worker group of the same slot
    )
    found = cycles(events)
    assert found == [
        Cycle("trial-001", "trial", "0", whole=3, waited=0.25, trained=1.0),
        Cycle("trial-002", "trial", "1", whole=13, waited=11, trained=0.5),
    ]
    assert [cycle.beyond for cycle in found] == [2.0, 12.5]


def test_warm_up_is_left_out_of_each_slot_and_only_trials_count() -> None:
    names = [("baseline", "0"), ("trial", "0"), ("trial", "0"), ("trial", "1"), ("trial", "0"), ("confirm_best", "1")]
    found = [Cycle(str(i), role, slot, 1, 0, 0) for i, (role, slot) in enumerate(names)]
    assert [cycle.job for cycle in warm(found, 1)] == ["2", "4"]
    assert [cycle.job for cycle in warm(found, 0)] == ["1", "2", "3", "4"]


def test_training_is_the_phases_before_each_report() -> None:
    assert training(job("trial-000", 0, 0, 3, 6, 7, trained=2.0)) == [(1, 3), (4, 6)]


def test_the_sources_first_epoch_is_not_longer_than_the_others() -> None:
    events = job("source", 0, 0, 10, 12, 14, 15, role="source")
    assert training(events) == [(8, 10), (10, 12), (12, 14)]
    assert training(job("source", 0, 9, 10, 14, 18, 19, role="source")) == [(9, 10), (10, 14), (14, 18)]


@pytest.mark.parametrize(
    ("intervals", "length"),
    [([], 0), ([(0, 2)], 2), ([(5, 6), (0, 2), (1, 3)], 4), ([(0, 9), (1, 2), (3, 10)], 10)],
)
def test_what_intervals_cover_together(intervals: list[tuple[float, float]], length: float) -> None:
    assert covered(intervals) == length
