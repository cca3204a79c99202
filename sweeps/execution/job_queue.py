"""The queue between those who submit jobs and the worker groups that run them: a named Ray actor without a CPU.

What goes in and out is in trials/messages.py: jobs, their rows and ends, and the events of all jobs in order.

The job of a lost worker group is queued again; the next group resumes it from its last checkpoint. Epochs that were
reported before are not reported again.

A `judged` job waits after each epoch but its last for the scheduler's decision, so that the epoch at which it is
stopped early does not depend on how quickly the decision is made.
"""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from analysis.names import FAILED, PRUNED
from sweeps.trials.messages import (
    GO_ON,
    STOP,
    SUSPEND,
    EndEvent,
    EventHead,
    Job,
    JobEvent,
    JobMessage,
    JobOutcome,
    LostEvent,
    QueuedEvent,
    ReadyEvent,
    Row,
    RowEvent,
    StartEvent,
)

NAMESPACE = "mergenet-sweep"
MAX_ATTEMPTS = 3  # worker groups that a job may lose in a row, without a new epoch, before it fails


@dataclass
class JobState:
    """The state of a job in the queue."""

    job: Job
    rows: asyncio.Queue[JobMessage] = field(default_factory=asyncio.Queue)
    last_epoch: int = 0  # reported
    judged_epoch: int = 0  # of a judged job: the epoch up to which it may train
    decided: asyncio.Event = field(default_factory=asyncio.Event)  # set where a worker that waits should look again
    attempts: int = 0  # worker groups lost since the last new epoch
    judged: bool = False
    stopped: bool = False
    ended: bool = False

    def may_go_on(self, epoch: int) -> bool:
        return not self.judged or epoch <= self.judged_epoch or epoch >= self.job["config"]["epochs"]


class JobQueue:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[str | None] = asyncio.Queue()
        self.states: dict[str, JobState] = {}
        self.turns: dict[tuple[str, int], asyncio.Future[Job | None]] = {}  # (group, turn) -> its job
        self.working: dict[str, str] = {}  # group -> its job
        self.gone: set[str] = set()  # groups that are lost
        self.log: list[JobEvent] = []
        self.forgotten = 0  # events that were delivered and are no longer in the log
        self.news = asyncio.Condition()
        self.broken: str | None = None
        self.suspended = False

    # those who submit jobs

    async def submit(self, job: Job, judged: bool = False) -> None:
        """judged: whoever submits the job calls `judge` for each of its epochs."""
        self.states[job["id"]] = JobState(job, judged=judged)
        event = QueuedEvent(
            **self._head(job["id"]),
            event="queued",
            params=job["params"],
            number=job["number"],
            seed=job["config"]["seed"],
            method=job["config"]["method"],
            config=job["config"],
        )
        await self._tell(event)
        if self.broken is not None:
            await self._end(job["id"], {"state": FAILED, "error": self.broken})
        elif self.suspended:
            await self._end(job["id"], {"state": SUSPEND, "error": None})
        else:
            await self.queue.put(job["id"])

    async def next_row(self, job: str) -> JobMessage:
        """The next {"row": ...} of a job, at last {"end": {"state", "error"}}; "final": not recorded by a worker."""
        return await self.states[job].rows.get()

    async def judge(self, job: str, epoch: int) -> None:
        """The job need not stop at this epoch."""
        state = self.states[job]
        state.judged_epoch = epoch
        state.decided.set()

    async def unfinished(self) -> list[str]:
        """The jobs that were submitted and have not ended."""
        return [name for name, state in self.states.items() if not state.ended]

    async def stop(self, job: str) -> None:
        """Ask the job to end after its current epoch, and release whoever waits for its rows now."""
        if (state := self.states.get(job)) is not None and not state.ended:
            state.stopped = True
            state.decided.set()
            await state.rows.put({"end": {"state": PRUNED, "error": None}})

    async def suspend(self) -> None:
        """Ask all jobs to pause after their current epoch; queued jobs do not begin."""
        self.suspended = True
        for state in self.states.values():
            state.decided.set()
        while not self.queue.empty():
            name = self.queue.get_nowait()
            if name is not None:
                await self._end(name, {"state": SUSPEND, "error": None})
        await self.queue.put(None)  # releases a group that waits; it is put back for the next one

    async def events(self, start: int) -> list[JobEvent]:
        """All events from number `start` on; waits until there is one. Earlier events are dropped."""
        async with self.news:
            del self.log[: start - self.forgotten]
            self.forgotten = start
            await self.news.wait_for(lambda: bool(self.log))
            return self.log[:]

    async def break_off(self, reason: str) -> None:
        """No job can run any more: all that have not ended fail with the reason, and so do later ones."""
        self.broken = reason
        for name in [name for name, state in self.states.items() if not state.ended]:
            await self._end(name, {"state": FAILED, "error": reason})

    async def lost(self, group: str, reason: str, beside: bool = False) -> None:
        """A worker group died. Its job is queued again, or fails after MAX_ATTEMPTS.

        beside: the group has several slots, and this one's worker was not the cause: that is no attempt of its job.
        """
        self.gone.add(group)
        name = self.working.pop(group, None)
        if name is None or self.states[name].ended:
            return
        state = self.states[name]
        state.decided.set()
        state.attempts += not beside
        attempts = 0 if beside else state.attempts
        again = not self.suspended and state.attempts < MAX_ATTEMPTS
        await self._tell(LostEvent(**self._head(name), event="lost", reason=reason, attempts=attempts, again=again))
        if self.suspended:
            await self._end(name, {"state": SUSPEND, "error": None})
        elif state.attempts < MAX_ATTEMPTS:
            await self.queue.put(name)
        else:
            error = f"lost its workers {state.attempts} times: {reason}{seen_in(Path(state.job['folder']))}"
            await self._end(name, {"state": FAILED, "error": error, "final": True})

    async def is_suspended(self) -> bool:
        return self.suspended

    # worker groups

    async def ready(self, group: str, placement: str = "") -> None:
        await self._tell(ReadyEvent(**self._head(group), event="ready", placement=placement))

    async def next_job(self, group: str, turn: int) -> Job | None:
        """The job number `turn` of a group, the same for all its workers; None: no more work, the group may go."""
        key = (group, turn)
        if key in self.turns:
            return await asyncio.shield(self.turns[key])
        self.turns.pop((group, turn - 2), None)  # all workers have it: they train in step
        future = self.turns[key] = asyncio.get_running_loop().create_future()
        name = await self.queue.get()
        if name is None:
            await self.queue.put(None)
            future.set_result(None)
            return None
        if group in self.gone:  # nobody waits for this answer any more
            await self.queue.put(name)
            future.set_result(None)
            return None
        self.working[group] = name
        await self._tell(StartEvent(**self._head(name), event="started", group=group))
        future.set_result(self.states[name].job)
        return self.states[name].job

    async def no_more_jobs(self) -> None:
        await self.queue.put(None)

    async def report(self, group: str, job: str, row: Row) -> str:
        """Pass an epoch on, unless it was reported before, and wait for the decision: GO_ON, STOP or SUSPEND."""
        state = self.states[job]
        if group in self.gone:
            return SUSPEND
        if row["epoch"] > state.last_epoch:
            state.last_epoch = row["epoch"]
            state.attempts = 0
            await state.rows.put({"row": row})
            await self._tell(RowEvent(**self._head(job), event="row", row=row))
        while not (state.may_go_on(row["epoch"]) or self._released(group, state)):
            state.decided.clear()
            await state.decided.wait()
        if group in self.gone:
            return SUSPEND
        if state.stopped and row["epoch"] >= state.last_epoch:  # who resumes a stopped job trains up to there again
            return STOP
        return SUSPEND if self.suspended else GO_ON

    def _released(self, group: str, state: JobState) -> bool:
        return state.stopped or state.ended or self.suspended or group in self.gone

    async def finish(self, group: str, job: str, outcome: JobOutcome) -> None:
        """A job that pauses by itself cannot write to its disk: all others pause, too."""
        if group not in self.gone:
            self.working.pop(group, None)
            if outcome["state"] == SUSPEND and not self.suspended:
                await self.suspend()
            await self._end(job, outcome)

    async def _end(self, job: str, outcome: JobOutcome) -> None:
        state = self.states[job]
        if state.ended:  # a group that grew just then runs its job once more, from its record
            return
        state.ended = True
        state.decided.set()
        await state.rows.put({"end": outcome})
        await self._tell(EndEvent(**self._head(job), event="ended", **outcome))

    def _head(self, job: str) -> EventHead:
        role = self.states[job].job["role"] if job in self.states else "group"
        return {"job": job, "role": role, "time": time.time()}

    async def _tell(self, event: JobEvent) -> None:
        async with self.news:
            self.log.append(event)
            self.news.notify_all()


def seen_in(run: Path) -> str:
    """Where the traceback of a job's workers is, if one of them has left one."""
    found = next(iter(sorted(run.glob("traceback*.txt"))), None)
    return "" if found is None else f"; see {run.parent.name}/{run.name}/{found.name}"
