"""The relay of a Tune trial: it submits the trial's job to the queue and passes its epochs on; it trains nothing.

A relay is a process for each slot, so it must be small. It takes no CPU (see ray_cluster.HEAD), is reused for trial
after trial (reuse_actors), and has neither Tune, pandas nor torch: Tune alone would more than double it. So `Relay` is
a Tune Trainable only where Tune is loaded, in the driver, which registers it; in its own process it is a class with the
methods that Tune calls, and what Tune would send along for its own Trainable stays behind (`light`).

A trial that ended before this driver started is replayed from its record, so that Tune's scheduler has the same state
as before. With several seeds a trial, its last epoch is reported once all have trained: see seeds.py.
"""

import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import ray

from analysis.names import TRIAL
from analysis.trial_file import ended_trial
from mergenet.records.run_record import EPOCH, read_epochs
from sweeps.config import SweepConfig
from sweeps.execution.job_queue import NAMESPACE
from sweeps.execution.ray_cluster import HEAD
from sweeps.execution.seeds import Report, TrialFailed, reports
from sweeps.trials.jobs import Jobs
from sweeps.trials.messages import EPOCHS, FAILURE, OBJECTIVE, EndMessage, Job, JobMessage, JobOutcome, RowMessage

if TYPE_CHECKING:
    Trainable = object
else:
    Trainable = sys.modules["ray.tune"].Trainable if "ray.tune" in sys.modules else object


class Small(type):
    """Lists no method of Tune's Trainable: Ray sends the code of what a class lists, and theirs would load Tune."""

    def __dir__(cls) -> list[str]:
        return sorted({name for base in cls.__mro__ if not base.__module__.startswith("ray.") for name in vars(base)})


class Relay(Trainable, metaclass=Small):
    """Reports a trial's epochs: OBJECTIVE, EPOCH, EPOCHS, and by name what else the sweep asks for.

    jobs, queue_name, sweep: set by `relay_for`.
    """

    jobs: ClassVar[Jobs]
    queue_name: ClassVar[str]
    sweep: ClassVar[SweepConfig]

    def __init__(self, config: dict[str, Any], storage: object = None) -> None:
        self.reset(config, storage)

    def reset(self, new_config: dict[str, Any], storage: object = None) -> bool:
        """Begins another trial. new_config: a suggestion of StudySearch."""
        del storage
        self.job = self.jobs.trial(new_config["number"], new_config["params"])
        others = self.jobs.replicates(self.job)
        self.reports = reports(self.job, others, lambda of: follow(of, self.queue_name), self.sweep)
        self.last: dict[str, Any] = {}
        self.count, self.start, self.before = 0, time.time(), time.time()
        return True

    def train(self) -> dict[str, Any]:
        """The next report; after the last one what makes Tune end the trial.

        Tune calls this once it has decided that the trial goes on. What a trial fails of is in its report: an error
        that Tune sees is the relay's own.
        """
        try:
            report = next(self.reports, None)
        except TrialFailed as failure:
            return self.last | self.facts() | {FAILURE: str(failure), "done": True}
        if report is None:
            return self.last | {"__duplicate__": True, "done": True}
        self.count += 1
        self.last = {**self.told(report), **self.facts()}
        return self.last

    def told(self, report: Report) -> dict[str, Any]:
        measured = {name: value for name, value in report.measured.items() if value is not None}
        return {OBJECTIVE: report.value, EPOCH: report.epoch, EPOCHS: self.job["config"]["epochs"], **measured}

    def facts(self) -> dict[str, Any]:
        """What Tune's own Trainable adds to each result, as far as Tune itself or a scheduler reads it."""
        now, before = time.time(), self.before
        self.before = now
        times = {"timestamp": int(now), "time_this_iter_s": now - before, "time_total_s": now - self.start}
        place = {"pid": os.getpid(), "hostname": platform.node(), "node_ip": ray.util.get_node_ip_address()}
        return {"done": False, "training_iteration": self.count, **times, **place}

    def get_auto_filled_metrics(self, debug_metrics_only: bool = False) -> dict[str, Any]:
        """The result of a trial that has none."""
        del debug_metrics_only
        return self.facts()

    def stop(self) -> None:
        """Tune's last call."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> Any:
        """Called in the driver."""
        from ray.tune import PlacementGroupFactory

        del config
        return PlacementGroupFactory([HEAD])


def relay_for(jobs: Jobs, queue_name: str, sweep: SweepConfig) -> type[Relay]:
    """The trainable of a sweep. To be called where Tune was imported before this module."""
    return type("SweepRelay", (Relay,), {"jobs": jobs, "queue_name": queue_name, "sweep": sweep})


@contextmanager
def light() -> Iterator[None]:
    """Inside, what Tune sends to its Trainable beside the suggestion arrives as None: unpickling it imports Tune."""
    from ray.train._internal.storage import StorageContext
    from ray.tune.experiment.trial import _TrialInfo
    from ray.util import deregister_serializer, register_serializer

    with ExitStack() as exits:
        for kind in (StorageContext, _TrialInfo):
            register_serializer(kind, serializer=nothing, deserializer=nothing)
            exits.callback(deregister_serializer, kind)
        yield


def nothing(_: object) -> None:
    return None


def follow(job: Job, queue_name: str) -> Iterator[JobMessage]:
    """Submits the job, unless it has ended. Yields its epochs, {"row": ...}, and at last {"end": outcome}."""
    folder = Path(job["folder"])
    if (ended := ended_trial(folder)) is not None:
        end: JobOutcome = {"state": ended["state"], "error": ended.get("error")}
        return iter([*(RowMessage(row=row) for row in read_epochs(folder)), EndMessage(end=end)])
    queue = ray.get_actor(queue_name, NAMESPACE)
    ray.get(queue.submit.remote(job, judged=job["role"] == TRIAL))  # of several seeds only the first is judged
    return messages(job, queue)


def messages(job: Job, queue: Any) -> Iterator[JobMessage]:
    while True:
        message: JobMessage = ray.get(queue.next_row.remote(job["id"]))
        yield message
        if "end" in message:
            return
        queue.judge.remote(job["id"], message["row"][EPOCH])
