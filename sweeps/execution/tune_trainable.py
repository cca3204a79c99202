"""Tune's trainable of a trial: it submits the job to the queue and relays the epochs; it trains nothing itself.

A relay takes no CPU (see ray_cluster.HEAD); Tune runs as many as there are slots, and each is reused for trial after
trial (reuse_actors). A trial that ended before this driver started is replayed from its record, so that Tune's
scheduler has the same state as before.

With several seeds a trial, its last epoch is reported once all have trained: see seeds.py.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback

from analysis.names import TRIAL
from analysis.seeds import replicate_name
from analysis.trial_file import ended_trial
from mergenet.records.run_record import EPOCH, read_epochs
from sweeps.config import SweepConfig
from sweeps.execution.job_queue import NAMESPACE
from sweeps.execution.ray_cluster import HEAD
from sweeps.execution.seeds import reports
from sweeps.trials.jobs import Jobs, trial_name
from sweeps.trials.messages import EPOCHS, OBJECTIVE, EndMessage, Job, JobMessage, JobOutcome, RowMessage


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


def build_relay(jobs: Jobs, queue_name: str, sweep: SweepConfig) -> Callable[[dict[str, Any]], None]:
    """The trainable."""

    def relay(config: dict[str, Any]) -> None:
        job = jobs.trial(config["number"], config["params"])
        for report in reports(job, jobs.replicates(job), lambda of: follow(of, queue_name), sweep):
            told = {name: value for name, value in report.measured.items() if value is not None}
            # returns once Tune has decided that the trial goes on
            tune.report({OBJECTIVE: report.value, EPOCH: report.epoch, EPOCHS: job["config"]["epochs"], **told})

    trainable: Callable[[dict[str, Any]], None] = tune.with_resources(relay, HEAD)
    return trainable


class StopJobs(Callback):
    """Tune's callback that stops the jobs of a trial that has ended, early or not; jobs that have ended ignore it.

    count: seeds of a trial. If one has failed, the others are no longer needed.
    """

    def __init__(self, queue: Any, count: int = 1) -> None:
        self.queue, self.count = queue, count

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        del iteration, trials, info
        name = trial_name(trial.config["number"])
        for job in (name, *(replicate_name(name, place) for place in range(2, self.count + 1))):
            self.queue.stop.remote(job)

    on_trial_error = on_trial_complete


class Silent(TrialProgressCallback):
    """Replaces Tune's reporter, which at any verbosity prints a line for a trial that ends before its first report."""

    def _print(self, msg: str) -> None:
        """Prints nothing: report/live.py does."""


class StopWhenDead(Stopper):
    """Ends the search as soon as a slot has died. `died` is called in the driver; Tune's snapshot does without it."""

    def __init__(self, died: Callable[[], bool]) -> None:
        self.died = died

    def __getstate__(self) -> dict[str, Any]:
        return {"died": bool}  # a snapshot holds no threads and locks; bool() is False

    def __call__(self, _trial_id: str, _result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.died()
