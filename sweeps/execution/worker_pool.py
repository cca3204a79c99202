"""The worker pool: a slot for each trial that may train at the same time, and in it a worker group.

A slot is the place for one trial at a time; a worker group is the processes that train in it, a Ray Train TorchTrainer.
All groups take their jobs from one queue. With the executor `slots` a group runs one job after the other, because
starting a TorchTrainer costs ten seconds; with `per_trial` a group runs one job, for trials that should have fresh
processes. Stopping a job early is a flag that the epoch loop reads, so nothing is killed and nothing leaks. A group
that is lost is replaced, and its job resumes from its checkpoint.
"""

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from sweeps.execution.job_queue import NAMESPACE, JobQueue
from sweeps.execution.ray_cluster import HEAD
from sweeps.execution.scratch import scratch_folder
from sweeps.execution.worker import worker_loop
from sweeps.trials.errors import SlotDied, Suspended, write_refusal, write_refusal_in
from sweeps.trials.messages import SUSPEND, EndEvent, Job, JobEvent, Listener

MAX_LOSSES = 5  # groups that a slot may lose in a row, without an epoch finished in between, before it is given up


@dataclass(frozen=True)
class Groups:
    """How a worker group is started. jobs: how many it runs; None: until there are no more.

    workers: processes of a group, or (fewest, most) of one that grows and shrinks with the cluster.
    gpus: per worker; a fraction lets several share one.
    look_seconds: how often a group that can grow looks for free resources; Ray itself counts the nodes every 20 s.
    Growing means restarting from the last checkpoint, so it should be rare.
    """

    jobs: int | None = None
    workers: int | tuple[int, int] = 1
    gpus: float = 0.0
    look_seconds: float = 60.0

    def trainer(self, queue: str, name: str, scratch: str) -> TorchTrainer:
        settings = {"queue": queue, "group": name, "folder": str(Path.cwd()), "jobs": self.jobs}
        resources = {"CPU": 1.0} | ({"GPU": self.gpus} if self.gpus else {})
        elastic: dict[str, Any] = {  # neither is in the types that Ray declares
            "num_workers": self.workers,
            "elastic_resize_monitor_interval_s": self.look_seconds,
        }
        scaling = ScalingConfig(use_gpu=self.gpus > 0, resources_per_worker=resources, **elastic)
        run_config = RunConfig(name=name, storage_path=scratch)
        return TorchTrainer(worker_loop, train_loop_config=settings, scaling_config=scaling, run_config=run_config)


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
        self.ready: set[str] = set()
        self.died: str | None = None
        self.suspending = False
        self.trouble: str | None = None  # why nothing can be written any more
        self.epochs = 0  # reported by all jobs together
        self.changed = threading.Condition()
        self.closing = False

    def __enter__(self) -> "WorkerPool":
        self.exits = ExitStack()
        self.scratch = self.exits.enter_context(scratch_folder(self.shared))
        actor: Any = ray.remote(num_cpus=0, resources=HEAD)(JobQueue)
        self.queue: Any = actor.options(name=self.name, namespace=NAMESPACE).remote()
        self.threads = [threading.Thread(target=self._serve, args=(i,), daemon=True) for i in range(self.count)]
        self.pump = threading.Thread(target=self._pump, daemon=True)
        for thread in [self.pump, *self.threads]:
            thread.start()
        return self

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        """Without an error the groups finish their jobs and exit; otherwise they lose their queue at once."""
        self.closing = True
        calm = (kind is None or issubclass(kind, Suspended)) and self.died is None
        if calm:
            self.queue.no_more_jobs.remote()
        else:
            ray.kill(self.queue)
        deadline = time.monotonic() + (30 if calm else 3)  # a worker sees the loss at its epoch's end
        for thread in self.threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
        ray.kill(self.queue)
        self.pump.join(timeout=10)
        self.exits.close()

    def wait_ready(self, count: int) -> None:
        """Wait until so many slots have started. Raises SlotDied, Suspended."""
        self._wait(lambda: self.suspending or len(self.ready) >= count)
        self._pause(())

    def submit(self, job: Job) -> None:
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

    def paused(self) -> bool:
        """Whether jobs that end from now on are only paused. The queue is asked, because it knows first."""
        if self.suspending or self.died is not None:
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

    def _serve(self, slot: int) -> None:
        """One slot from start to end, in a thread of the driver: group after group."""
        losses = 0
        for number in itertools.count():
            name = f"slot-{slot}-{number}-{self.name}"
            epochs = self.epochs
            lost = self._run_group(name)
            if self.closing or self.died is not None or (lost is None and self.groups.jobs is None):
                return
            if lost is None:
                losses = 0
                continue
            trouble = write_refusal_in(lost)
            if trouble is not None:
                self.suspend(trouble)
            self.queue.lost.remote(name, lost)
            if trouble is not None:
                return
            losses = losses + 1 if self.epochs == epochs else 1
            if losses >= MAX_LOSSES:
                self._die(f"slot {slot} lost its workers {losses} times in a row, last: {lost}")
                return
            time.sleep(min(2.0**losses, 30))

    def _run_group(self, name: str) -> str | None:
        """Trains with one worker group. Returns why it ended before its work was done; None if it did not."""
        try:
            self.groups.trainer(self.name, name, str(self.scratch)).fit()
        except Exception as error:
            return write_refusal(error) or " ".join(str(error).split())[:300] or type(error).__name__
        return None

    def _die(self, reason: str) -> None:
        with self.changed:
            self.died = self.died or reason
            self.changed.notify_all()
        self.queue.break_off.remote(reason)  # relays that wait for rows are told, so Tune ends too

    def _pump(self) -> None:
        """Follow the queue's events until it is gone."""
        seen = 0
        while True:
            try:
                events: list[JobEvent] = ray.get(self.queue.events.remote(seen))
            except ray.exceptions.RayError as error:
                if not self.closing:
                    self._die(f"the queue died: {type(error).__name__}")
                return
            seen += len(events)
            for event in events:
                self.listener(event)
            with self.changed:
                self.epochs += sum(e["event"] == "row" for e in events)
                self.ready |= {e["job"] for e in events if e["event"] == "ready"}
                ended = {e["job"]: e for e in events if e["event"] == "ended"}
                self.outcomes |= ended
                refused = [e["error"] for e in ended.values() if e["state"] == SUSPEND and e["error"]]
                self.trouble = next(iter(refused), self.trouble)
                self.suspending = self.suspending or bool(refused)
                self.changed.notify_all()
