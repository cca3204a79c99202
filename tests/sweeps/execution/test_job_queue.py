"""The queue without Ray: who gets which job, what is told once, and what becomes of a lost group's job."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from sweeps.execution.job_queue import MAX_ATTEMPTS, JobQueue, JobState
from sweeps.trials.messages import GO_ON, STOP, SUSPEND, Job, JobEvent


def job(name: str) -> Job:
    config = {"epochs": 4, "seed": 0, "method": "mergenet"}
    return {"id": name, "role": "trial", "task": "train", "folder": name, "config": config, "params": {}, "number": 0}


def run(script: Coroutine[Any, Any, None]) -> None:
    async def within() -> None:
        await asyncio.wait_for(script, timeout=60)

    asyncio.run(within())


def told(queue: JobQueue, event: str) -> list[JobEvent]:
    return [message for message in queue.log if message["event"] == event]


async def submitted(*names: str) -> JobQueue:
    queue = JobQueue()
    for name in names:
        await queue.submit(job(name))
    return queue


def test_all_workers_of_a_group_get_the_same_job_and_groups_get_different_ones() -> None:
    async def script() -> None:
        queue = await submitted("a", "b")
        found = await asyncio.gather(*(queue.next_job(group, 0) for group in ("g", "g", "h", "g", "h")))
        names = [found_job["id"] for found_job in found if found_job is not None]
        assert names == ["a", "a", "b", "a", "b"]
        assert len(told(queue, "started")) == 2

    run(script())


def test_an_epoch_is_told_once() -> None:
    async def script() -> None:
        queue = await submitted("a")
        await queue.next_job("g", 0)
        for epoch in (1, 2):
            assert await queue.report("g", "a", {"epoch": epoch}) == GO_ON
        await queue.lost("g", "killed")
        await queue.next_job("h", 0)
        for epoch in (1, 2, 3):  # the run goes on from its records
            await queue.report("h", "a", {"epoch": epoch})
        assert await queue.report("g", "a", {"epoch": 4}) == SUSPEND, "a group that was given up is not heard"
        await queue.finish("g", "a", {"state": "failed", "error": "late"})
        await queue.finish("h", "a", {"state": "complete", "error": None})
        assert [event["row"]["epoch"] for event in told(queue, "row")] == [1, 2, 3]
        messages = [await queue.next_row("a") for _ in range(4)]
        assert messages[-1] == {"end": {"state": "complete", "error": None}}

    run(script())


def test_a_job_that_pauses_by_itself_pauses_all_others() -> None:
    """It has met a full disk, and they would, too."""

    async def script() -> None:
        queue = await submitted("a", "b", "c")
        await queue.next_job("g", 0)
        await queue.next_job("h", 0)
        await queue.finish("g", "a", {"state": SUSPEND, "error": "the disk is full"})
        assert await queue.is_suspended()
        assert await queue.report("h", "b", {"epoch": 1}) == SUSPEND
        assert await queue.next_job("g", 1) is None
        assert {e["job"]: e["error"] for e in told(queue, "ended")} == {"a": "the disk is full", "c": None}
        assert await queue.unfinished() == ["b"]

    run(script())


def test_a_job_ends_once_though_its_group_grew_just_then() -> None:
    async def script() -> None:
        queue = await submitted("a")
        for _ in range(2):  # the group before it grew and after, which does the same turn again
            assert await queue.next_job("g", 0) is not None
            await queue.finish("g", "a", {"state": "complete", "error": None})
        assert len(told(queue, "ended")) == 1

    run(script())


def test_a_job_that_keeps_losing_its_group_fails() -> None:
    async def script() -> None:
        queue = await submitted("a")
        for attempt in range(MAX_ATTEMPTS):
            assert await queue.next_job(f"g{attempt}", 0) is not None
            await queue.lost(f"g{attempt}", "out of memory")
        end = (await queue.next_row("a"))["end"]
        assert (end["state"], end["final"]) == ("failed", True)
        assert end["error"] == f"lost its workers {MAX_ATTEMPTS} times: out of memory"
        assert await queue.unfinished() == []
        assert [event["again"] for event in told(queue, "lost")] == [True] * (MAX_ATTEMPTS - 1) + [False]

    run(script())


def test_a_group_that_dies_while_it_waits_takes_no_job_with_it() -> None:
    async def script() -> None:
        queue = JobQueue()
        waiting = asyncio.ensure_future(queue.next_job("g", 0))
        await asyncio.sleep(0)
        await queue.lost("g", "killed")
        await queue.submit(job("a"))
        await waiting
        found = await queue.next_job("h", 0)
        assert found is not None
        assert found["id"] == "a"

    run(script())


def test_stop_and_suspend_are_answers_to_a_report() -> None:
    async def script() -> None:
        queue = await submitted("a", "b", "c")
        await queue.next_job("g", 0)
        await queue.next_job("h", 0)
        await queue.stop("a")
        assert await queue.report("g", "a", {"epoch": 1}) == STOP
        assert (await queue.next_row("a"))["end"]["state"] == "pruned", "who waits is released at once"
        await queue.suspend()
        assert await queue.report("h", "b", {"epoch": 1}) == SUSPEND
        assert await queue.report("g", "a", {"epoch": 2}) == STOP, "a stop comes first"
        assert (await queue.next_row("c"))["end"]["state"] == SUSPEND, "what had not begun does not begin"
        assert await queue.next_job("g", 1) is None
        assert await queue.next_job("h", 1) is None

    run(script())


def test_who_resumes_a_stopped_job_trains_to_where_it_was_stopped() -> None:
    """Its worker died just then, and the next one begins at the last checkpoint, which may be earlier."""

    async def script() -> None:
        queue = await submitted("a")
        await queue.next_job("g", 0)
        for epoch in (1, 2, 3):
            assert await queue.report("g", "a", {"epoch": epoch}) == GO_ON
        await queue.stop("a")
        await queue.lost("g", "killed")
        await queue.next_job("h", 0)
        assert [await queue.report("h", "a", {"epoch": epoch}) for epoch in (1, 2, 3)] == [GO_ON, GO_ON, STOP]
        assert len(told(queue, "row")) == 3

    run(script())


def test_a_decision_wakes_only_whom_it_concerns() -> None:
    """With hundreds of slots, waking all for each decision kept the queue from its work."""

    async def script() -> None:
        queue = JobQueue()
        asked = dict.fromkeys("ab", 0)
        for name in "ab":
            await queue.submit(job(name), judged=True)
            state = queue.states[name]

            def counted(epoch: int, name: str = name, state: JobState = state) -> bool:
                asked[name] += 1
                return JobState.may_go_on(state, epoch)

            state.may_go_on = counted  # type: ignore[method-assign]
            assert await queue.next_job(name, 0) is not None
        waiting = [asyncio.ensure_future(queue.report(name, name, {"epoch": 1})) for name in "ab"]
        await asyncio.sleep(0.01)
        assert asked == {"a": 1, "b": 1}
        await queue.judge("a", 1)
        assert await waiting[0] == GO_ON
        assert asked == {"a": 2, "b": 1}
        await queue.judge("b", 1)
        assert await waiting[1] == GO_ON

    run(script())


def test_events_are_forgotten_once_they_are_fetched() -> None:
    async def script() -> None:
        queue = await submitted("a", "b")
        first = await queue.events(0)
        assert [event["job"] for event in first] == ["a", "b"]
        await queue.submit(job("c"))
        assert [event["job"] for event in await queue.events(2)] == ["c"]
        assert len(queue.log) == 1
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.events(3), timeout=0.05)

    run(script())


def test_after_breaking_off_every_job_fails() -> None:
    async def script() -> None:
        queue = await submitted("a", "b")
        await queue.next_job("g", 0)
        await queue.break_off("slot 0 lost its workers 5 times in a row")
        await queue.submit(job("c"))
        for name in "abc":
            end = (await queue.next_row(name))["end"]
            assert (end["state"], end["error"]) == ("failed", "slot 0 lost its workers 5 times in a row")

    run(script())


def test_a_judged_job_waits_for_the_judgement_of_each_epoch_but_its_last() -> None:
    async def script() -> None:
        queue = JobQueue()
        await queue.submit(job("a"), judged=True)
        await queue.next_job("g", 0)
        waiting = asyncio.ensure_future(queue.report("g", "a", {"epoch": 1}))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await queue.judge("a", 1)
        assert await waiting == GO_ON
        waiting = asyncio.ensure_future(queue.report("g", "a", {"epoch": 2}))
        await queue.lost("g", "killed")
        assert await waiting == SUSPEND, "nobody waits for a group that is gone"
        await queue.next_job("h", 0)
        assert await queue.report("h", "a", {"epoch": 1}) == GO_ON, "judged before the group was lost"
        waiting = asyncio.ensure_future(queue.report("h", "a", {"epoch": 2}))
        await asyncio.sleep(0.01)
        assert not waiting.done(), "told before, not judged yet"
        await queue.judge("a", 2)
        assert await waiting == GO_ON
        await queue.judge("a", 3)
        assert await queue.report("h", "a", {"epoch": 3}) == GO_ON
        assert await queue.report("h", "a", {"epoch": 4}) == GO_ON, "after the last epoch nothing is to judge"

    run(script())


@pytest.mark.parametrize(
    ("release", "answer"),
    [
        (lambda queue: queue.stop("a"), STOP),
        (lambda queue: queue.suspend(), SUSPEND),
        (lambda queue: queue.break_off("no slot is left"), GO_ON),  # it ends with its queue
    ],
)
def test_who_waits_for_a_judgement_is_released(release: Callable[[JobQueue], Any], answer: str) -> None:
    async def script() -> None:
        queue = JobQueue()
        await queue.submit(job("a"), judged=True)
        await queue.next_job("g", 0)
        waiting = asyncio.ensure_future(queue.report("g", "a", {"epoch": 1}))
        await asyncio.sleep(0.01)
        await release(queue)
        assert await waiting == answer

    run(script())


def test_what_is_submitted_after_a_suspension_does_not_begin() -> None:
    """A trial whose first seed ends meanwhile would have its others wait for a group that never comes."""

    async def script() -> None:
        queue = await submitted()
        await queue.suspend()
        await queue.submit(job("late"))
        assert (await queue.next_row("late"))["end"]["state"] == SUSPEND
        assert await queue.unfinished() == []
        assert await queue.next_job("g", 0) is None

    run(script())


def test_a_job_that_failed_with_its_workers_says_where_their_traceback_is(tmp_path: Path) -> None:
    async def script() -> None:
        queue, run = JobQueue(), tmp_path / "trials/a"
        await queue.submit({**job("a"), "folder": str(run)})
        run.mkdir(parents=True)
        (run / "traceback1.txt").write_text("of the second worker")
        for attempt in range(MAX_ATTEMPTS):
            await queue.next_job(f"g{attempt}", 0)
            await queue.lost(f"g{attempt}", "KeyError: 'fc'")
        (end,) = told(queue, "ended")
        assert end["error"] == f"lost its workers {MAX_ATTEMPTS} times: KeyError: 'fc'; see trials/a/traceback1.txt"

    run(script())
