"""The mailbox between those who want jobs done and the slots that do them: a named Ray actor without a CPU.

A job is a dict: id, role (as in analysis.trials), folder, config (plain
values), and what `worker.py` needs beyond that. Events, in order: {"job", "role", "event": "queued" | "started" |
"row" | "ended", ...}.
"""

import asyncio
import time
from typing import Any

from analysis.trials import FAILED, PRUNED

NAMESPACE = "mergenet-sweep"
Message = dict[str, Any]


class Mailbox:
    def __init__(self) -> None:
        self.jobs: asyncio.Queue[Message | None] = asyncio.Queue()
        self.rows: dict[str, asyncio.Queue[Message]] = {}
        self.roles: dict[str, str] = {}
        self.stopped: set[str] = set()
        self.log: list[Message] = []
        self.news = asyncio.Condition()
        self.broken: str | None = None

    # those who want a job done

    async def submit(self, job: Message) -> None:
        self.rows[job["id"]] = asyncio.Queue()
        self.roles[job["id"]] = job["role"]
        await self._tell(job["id"], "queued", params=job.get("params", {}))
        if self.broken is not None:
            await self.finish(job["id"], {"state": FAILED, "error": self.broken})
        else:
            await self.jobs.put(job)

    async def next_row(self, job: str) -> Message:
        """The next {"row": ...} of a job, at last {"end": outcome}."""
        return await self.rows[job].get()

    async def stop(self, job: str) -> None:
        """Ask the job to end after its current epoch, and release who waits for its rows now."""
        self.stopped.add(job)
        if job in self.rows:
            await self.rows[job].put({"end": {"state": PRUNED, "error": None}})

    async def events(self, start: int) -> list[Message]:
        """All events from number `start` on; waits until there is one."""
        async with self.news:
            await self.news.wait_for(lambda: len(self.log) > start)
        return self.log[start:]

    async def break_off(self, reason: str) -> None:
        """A slot died: every job that has not ended fails with the reason, and so do those to come."""
        self.broken = reason
        ended = {event["job"] for event in self.log if event["event"] == "ended"}
        for job in set(self.rows) - ended:
            await self.finish(job, {"state": FAILED, "error": reason})

    # slots

    async def ready(self, slot: int) -> None:
        await self._tell(f"slot-{slot}", "ready")

    async def next_job(self) -> Message | None:
        """The next job; None: there is no more work, the slot may go."""
        job = await self.jobs.get()
        if job is not None:
            await self._tell(job["id"], "started")
        return job

    async def no_more_jobs(self, slots: int) -> None:
        for _ in range(slots):
            await self.jobs.put(None)

    async def report(self, job: str, row: Message) -> bool:
        """Pass an epoch on. True: please stop."""
        await self.rows[job].put({"row": row})
        await self._tell(job, "row", row=row)
        return job in self.stopped

    async def finish(self, job: str, outcome: Message) -> None:
        await self.rows[job].put({"end": outcome})
        await self._tell(job, "ended", **outcome)

    async def _tell(self, job: str, event: str, **more: Any) -> None:
        async with self.news:
            role = self.roles.get(job, "slot")
            self.log.append({"job": job, "role": role, "event": event, "time": time.time(), **more})
            self.news.notify_all()
