"""The worker pool: a slot for each trial that may train at the same time, and worker groups, which train in them.

A slot is the place for one trial at a time; a worker group is the processes of a trainer of Ray Train. Its controller
and helpers take half a gibibyte, so slots share a group where each needs one worker only: see groups.py. All slots take
their jobs from one queue. With the executor `slots` a group runs one job after the other, because starting a trainer
costs ten seconds; with `per_trial` a group runs one job, for trials that should have fresh processes. Stopping a job
early is a flag that the epoch loop reads, so nothing is killed and nothing leaks. A group that is lost is replaced, and
its jobs resume from their checkpoints.
"""

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ray

from analysis.names import SOURCE
from mergenet.errors import WriteError
from sweeps.execution.groups import Groups, Lost
from sweeps.execution.job_queue import NAMESPACE, JobQueue
from sweeps.execution.placement import Placements
from sweeps.execution.ray_cluster import HEAD
from sweeps.execution.scratch import scratch_folder
from sweeps.trials.errors import SlotDied, Suspended, write_refusal_in
from sweeps.trials.messages import SUSPEND, EndEvent, Job, JobEvent, Listener
from sweeps.trials.record import write_trial

MAX_LOSSES = 5  # groups that a slot may lose in a row, without an epoch finished in between, before it is given up


class WorkerPool:
    """The slots of a sweep and the outcomes of their jobs. Use as a context manager.

    listener: called with every event of the queue, in order, in a thread of the pool.
    shared: a folder that all nodes see, for what Ray Train writes; None: all is on this machine.
    """

    def __init__(
        self, count: int, listener: Listener, groups: Groups | None = None, shared: Path | None = None
    ) -> None:
        self.count, self.listener, self.shared = count, listener, shared
        self.groups = groups or Groups()
        self.name = f"queue-{uuid.uuid4().hex[:8]}"
        self.outcomes: dict[str, EndEvent] = {}
        self.jobs: dict[str, Job] = {}  # those that this process has submitted
        self.ready: set[str] = set()
        self.died: str | None = None
        self.suspending = False
        self.trouble: str | None = None  # why nothing can be written any more
        self.epochs = 0  # reported by all jobs together
        self.numbers = itertools.count()  # of groups, because the queue knows for ever which names are gone
        self.changed = threading.Condition()
        self.closing = False

    def __enter__(self) -> "WorkerPool":
        self.exits = ExitStack()
        self.scratch = self.exits.enter_context(scratch_folder(self.shared))
        self.placements = Placements()
        actor: Any = ray.remote(num_cpus=0, resources=HEAD)(JobQueue)
        self.queue: Any = actor.options(name=self.name, namespace=NAMESPACE).remote()
        self.pump = threading.Thread(target=self._pump, daemon=True)
        self.pump.start()
        self.threads: list[threading.Thread] = []
        for slots in self.groups.deal(self.count):
            self._start(slots)
        return self

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        """Without an error the groups finish their jobs and exit; otherwise they lose their queue at once."""
        calm = (kind is None or issubclass(kind, Suspended)) and self.died is None
        if calm:
            self.no_more_jobs()
        else:
            self._close()
            ray.kill(self.queue)
        deadline = time.monotonic() + (30 if calm else 3)  # a worker sees the loss at its epoch's end
        for thread in self.threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
        ray.kill(self.queue)
        self.pump.join(timeout=10)
        self.exits.close()

    def no_more_jobs(self) -> None:
        """The groups end once their jobs have; leaving the pool waits for that."""
        self._close()
        self.queue.no_more_jobs.remote()

    def _close(self) -> None:
        with self.changed:
            self.closing = True
            self.changed.notify_all()

    def _start(self, slots: Sequence[int]) -> None:
        self.threads.append(threading.Thread(target=self._serve, args=(slots,), daemon=True))
        self.threads[-1].start()

    def wait_ready(self, count: int) -> None:
        """Wait until so many slots have started. Raises SlotDied, Suspended."""
        self._wait(lambda: self.suspending or len(self.ready) >= count)
        self._pause(())

    def submit(self, job: Job) -> None:
        self.jobs[job["id"]] = job
        ray.get(self.queue.submit.remote(job))

    def wait(self, jobs: Iterable[str]) -> dict[str, EndEvent]:
        """The outcomes of the jobs, once all have ended. Raises SlotDied; Suspended if any was paused."""
        names = list(jobs)
        self._wait(lambda: all(name in self.outcomes for name in names))
        self._pause(names)
        return {name: self.outcomes[name] for name in names}

    def wait_unfinished(self) -> None:
        """Wait until every job that was submitted has ended. Raises SlotDied, Suspended."""
        self.check()
        self.wait(ray.get(self.queue.unfinished.remote()))

    def suspend(self, trouble: str | None = None) -> None:
        """Have every job pause after its current epoch; whatever waits for jobs then raises Suspended.

        trouble: why nothing can be written any more, if that is the reason.
        """
        self.trouble = self.trouble or trouble
        self.suspending = True
        self.queue.suspend.remote()

    def closed(self) -> bool:
        """Whether jobs that end from now on are only paused, as far as this process knows."""
        return self.suspending or self.died is not None

    def paused(self) -> bool:
        """Whether jobs that have ended may only be paused. The queue is asked, because it knows first."""
        if self.closed():
            return True
        try:
            return bool(ray.get(self.queue.is_suspended.remote()))
        except ray.exceptions.RayError:
            return True

    def check(self) -> None:
        """Raises SlotDied if a slot has died."""
        if self.died is not None:
            raise SlotDied(self.died)

    def _pause(self, names: Iterable[str]) -> None:
        if self.suspending or any(self.outcomes[name]["state"] == SUSPEND for name in names):
            raise Suspended(self.trouble or "")

    def _wait(self, done: Callable[[], bool]) -> None:
        with self.changed:
            while not done():
                self.check()
                self.changed.wait(timeout=0.5)  # a bare wait would not let Ctrl-C through
        self.check()

    def _serve(self, slots: Sequence[int]) -> None:
        """The slots of a group from start to end, in a thread of the driver: group after group."""
        losses = 0
        while True:
            number = next(self.numbers)
            names = [f"slot-{slot}-{number}-{self.name}" for slot in slots]
            epochs = self.epochs
            lost = self.groups.run(self.name, names, str(self.scratch))
            if self.closing or self.died is not None or (lost is None and self.groups.jobs is None):
                return
            self.placements.end(names, self.groups.shape(slots) if lost is not None and lost.left else None)
            if lost is None:
                losses = 0
                continue
            if not self._tell_lost(names, lost):
                return
            losses = losses + 1 if self.epochs == epochs else 1
            if losses >= MAX_LOSSES:
                self.die(f"slot {slots[0]} lost its workers {losses} times in a row, last: {lost.reason}")
                return
            if self._over(within=min(2.0**losses, 30)):
                return
            if lost.with_its_node:  # each slot takes what place it finds
                for slot in slots:
                    self._start([slot])
                return

    def _over(self, within: float) -> bool:
        """Waits for so many seconds. Returns at once, and true, if no group has to start any more."""
        with self.changed:
            return self.changed.wait_for(lambda: self.closing or self.died is not None, timeout=within)

    def _tell_lost(self, names: Sequence[str], lost: Lost) -> bool:
        """Tells the queue. Returns whether it is worth while to go on: not where nothing can be written."""
        trouble = write_refusal_in(lost.reason)
        if trouble is not None:
            self.suspend(trouble)
        for rank, name in enumerate(names):
            self.queue.lost.remote(name, lost.reason, rank not in lost.died)
        return trouble is None

    def die(self, reason: str) -> None:
        """Nothing can go on, for this reason; whatever waits for jobs then raises SlotDied."""
        with self.changed:
            self.died = self.died or reason
            self.changed.notify_all()
        self.queue.break_off.remote(reason)  # relays that wait for rows are told, so Tune ends too

    def _record(self, event: EndEvent) -> None:
        """Writes down how a job ended whose workers could not. A trial's relay does that itself."""
        job = self.jobs.get(event["job"])
        if job is None or job["role"] == SOURCE:
            return
        try:
            write_trial(job, event["state"], event["error"])
        except (WriteError, OSError) as error:
            self.suspend(str(error))

    def _pump(self) -> None:
        """Follow the queue's events until it is gone."""
        seen = 0
        while True:
            try:
                events: list[JobEvent] = ray.get(self.queue.events.remote(seen))
            except ray.exceptions.RayError as error:
                if not self.closing:
                    self.die(f"the queue died: {type(error).__name__}")
                return
            seen += len(events)
            for event in events:
                if event["event"] == "ended" and event.get("final"):
                    self._record(event)
                self.listener(event)
            with self.changed:
                self.epochs += sum(e["event"] == "row" for e in events)
                self.ready |= {e["job"] for e in events if e["event"] == "ready"}
                self.placements.listen(events)
                ended = {e["job"]: e for e in events if e["event"] == "ended"}
                self.outcomes |= ended
                refused = [e["error"] for e in ended.values() if e["state"] == SUSPEND and e["error"]]
                self.trouble = next(iter(refused), self.trouble)
                self.suspending = self.suspending or bool(refused)
                self.changed.notify_all()
