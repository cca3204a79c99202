"""What Tune calls while it searches: it stops the jobs of trials that have ended, and ends if the slots have died."""

from collections.abc import Callable
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback

from analysis.seeds import replicate_name
from sweeps.trials.jobs import trial_name


class StopJobs(Callback):
    """Tune's callback that stops the jobs of a trial that has ended, early or not; jobs that have ended ignore it.

    A trial that has lost its relay has not ended. count: seeds of a trial. If one has failed, the others are no longer
    needed.
    """

    def __init__(self, queue: Any, count: int = 1) -> None:
        self.queue, self.count = queue, count

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        del iteration, trials, info
        name = trial_name(trial.config["number"])
        for job in (name, *(replicate_name(name, place) for place in range(2, self.count + 1))):
            self.queue.stop.remote(job)


class Started(Callback):
    """Tells which trial has a relay from now on, by Tune's id of it."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        del iteration, trials, info
        self.tell(trial.trial_id)


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
