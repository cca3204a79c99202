"""Slots: long-lived worker groups that train one job after the other.

A TorchTrainer for every trial costs ten seconds of start-up each; a slot pays once. All slots take their jobs from
one mailbox. Stopping a job early is a flag that the epoch loop reads, so nothing is killed and nothing leaks.
"""

import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ray
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from sweeps.mailbox import NAMESPACE, Mailbox, Message
from sweeps.worker import worker_loop

Listener = Callable[[Message], None]


class SlotDied(RuntimeError):
    """A worker group ended before its work was done; the message says which and why."""


class Slots:
    """The slots of a sweep and what has happened in them. Use as a context manager.

    listener: called in a thread of ours with every event of the mailbox, in order.
    """

    def __init__(self, count: int, listener: Listener) -> None:
        self.count, self.listener = count, listener
        self.name = f"mailbox-{uuid.uuid4().hex[:8]}"
        self.outcomes: dict[str, Message] = {}
        self.ready: set[str] = set()
        self.died: str | None = None
        self.changed = threading.Condition()
        self.closing = False

    def __enter__(self) -> "Slots":
        self.scratch = tempfile.TemporaryDirectory(prefix="mergenet-sweep-", ignore_cleanup_errors=True)
        self.mailbox: Any = ray.remote(num_cpus=0)(Mailbox).options(name=self.name, namespace=NAMESPACE).remote()
        self.threads = [threading.Thread(target=self._serve, args=(i,), daemon=True) for i in range(self.count)]
        self.pump = threading.Thread(target=self._pump, daemon=True)
        for thread in [self.pump, *self.threads]:
            thread.start()
        return self

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        """Without an error the slots finish what they have and go; otherwise they lose their mailbox at once."""
        self.closing = True
        if kind is None and self.died is None:
            self.mailbox.no_more_jobs.remote(self.count)
        else:
            ray.kill(self.mailbox)
        deadline = time.monotonic() + (30 if kind is None else 3)  # a worker sees the loss at its epoch's end
        for thread in self.threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
        ray.kill(self.mailbox)
        self.pump.join(timeout=10)
        self.scratch.cleanup()

    def wait_ready(self, count: int) -> None:
        """Until so many slots have started. Raises SlotDied."""
        self._wait(lambda: len(self.ready) >= count)

    def submit(self, job: Message) -> None:
        ray.get(self.mailbox.submit.remote(job))

    def wait(self, jobs: Iterable[str]) -> dict[str, Message]:
        """The outcomes of the jobs, once all have ended. Raises SlotDied."""
        names = list(jobs)
        self._wait(lambda: all(name in self.outcomes for name in names))
        return {name: self.outcomes[name] for name in names}

    def check(self) -> None:
        """Raises SlotDied if a slot has died."""
        if self.died is not None:
            raise SlotDied(self.died)

    def _wait(self, done: Callable[[], bool]) -> None:
        with self.changed:
            while not done():
                self.check()
                self.changed.wait(timeout=0.5)  # a bare wait would not let Ctrl-C through
        self.check()

    def _serve(self, slot: int) -> None:
        """One slot from start to end, in a thread of the driver."""
        reason = "its worker group ended"
        try:
            build_trainer(slot, self.count, self.name, self.scratch.name).fit()
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
        if not self.closing:
            self._die(f"slot {slot} died: {reason}; what has finished is kept in the sweep's folder")

    def _die(self, reason: str) -> None:
        with self.changed:
            self.died = self.died or reason
            self.changed.notify_all()
        self.mailbox.break_off.remote(reason)  # relays that wait for rows are told, so Tune ends too

    def _pump(self) -> None:
        """Follow the mailbox's events until it is gone."""
        seen = 0
        while True:
            try:
                events = ray.get(self.mailbox.events.remote(seen))
            except ray.exceptions.RayError as error:
                if not self.closing:
                    self._die(f"the mailbox died: {type(error).__name__}")
                return
            seen += len(events)
            for event in events:
                self.listener(event)
            with self.changed:
                self.ready |= {e["job"] for e in events if e["event"] == "ready"}
                self.outcomes |= {e["job"]: e for e in events if e["event"] == "ended"}
                self.changed.notify_all()


def build_trainer(slot: int, count: int, mailbox: str, scratch: str) -> TorchTrainer:
    """The worker group of one slot; slots share the machine's GPUs evenly."""
    settings = {"mailbox": mailbox, "slot": slot, "folder": str(Path.cwd())}
    gpus = torch.cuda.device_count()
    resources = {"CPU": 1.0} | ({"GPU": min(1.0, gpus / count)} if gpus else {})
    return TorchTrainer(
        worker_loop,
        train_loop_config=settings,
        scaling_config=ScalingConfig(num_workers=1, use_gpu=gpus > 0, resources_per_worker=resources),
        run_config=RunConfig(name=f"slot-{slot}-{time.time_ns()}", storage_path=scratch),
    )
