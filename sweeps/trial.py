"""The Tune side of a trial: it hands the job to a slot and relays the epochs; it trains nothing itself.

A relay takes one `trial_slot` and no CPU, and is reused for trial after trial (reuse_actors).
"""

from collections.abc import Callable
from typing import Any

import ray
from ray import tune
from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial

from analysis.trials import FAILED
from sweeps.jobs import EPOCH, EPOCHS, OBJECTIVE, Jobs, trial_name
from sweeps.mailbox import NAMESPACE


class TrialFailed(RuntimeError):
    """What a job of a slot failed with."""


def build_relay(jobs: Jobs, mailbox_name: str, metric: str, mode: str) -> Callable[[dict[str, Any]], None]:
    """The trainable. The objective is the best value so far, because the best epoch's network is what is kept."""
    better = max if mode == "max" else min

    def relay(config: dict[str, Any]) -> None:
        mailbox = ray.get_actor(mailbox_name, NAMESPACE)
        job = jobs.trial(config["number"], config["params"])
        ray.get(mailbox.submit.remote(job))
        best: float | None = None
        while "row" in (message := ray.get(mailbox.next_row.remote(job["id"]))):
            row = message["row"]
            if metric not in row:
                known = ", ".join(name for name in row if name.startswith("target_val_"))
                raise TrialFailed(f"metric must be one that trials report ({known}), got {metric!r}")
            best = row[metric] if best is None else better(best, row[metric])
            tune.report({OBJECTIVE: best, EPOCH: row["epoch"], EPOCHS: job["config"]["epochs"]})
        if message["end"]["state"] == FAILED:
            raise TrialFailed(message["end"]["error"])

    return tune.with_resources(relay, {"trial_slot": 1})


class StopJobs(Callback):
    """When Tune ends a trial, early or not, its job is told; one that has ended does not mind."""

    def __init__(self, mailbox: Any) -> None:
        self.mailbox = mailbox

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        del iteration, trials, info
        self.mailbox.stop.remote(trial_name(trial.config["number"]))

    on_trial_error = on_trial_complete


class StopWhenDead(Stopper):
    """Ends the search as soon as a slot has died. `died` is asked in the driver; Tune's snapshot goes without it."""

    def __init__(self, died: Callable[[], bool]) -> None:
        self.died = died

    def __getstate__(self) -> dict[str, Any]:
        return {"died": bool}  # a snapshot holds no threads and locks; bool() is False

    def __call__(self, _trial_id: str, _result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.died()
