"""The Tune side of a trial: it hands the job to a slot and relays the epochs; it trains nothing itself.

A relay takes no CPU (see ray_session.HEAD); Tune runs as many as there are slots, and each is reused for trial after
trial (reuse_actors). A trial that ended before this driver started is relayed from its record: Tune's scheduler then
knows what it knew.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial

from analysis.trials import FAILED, RUNNING, TRIAL_FILE
from mergenet.record import read_epochs
from sweeps.config import SweepConfig
from sweeps.jobs import EPOCH, EPOCHS, OBJECTIVE, Jobs, Message, trial_name
from sweeps.mailbox import NAMESPACE
from sweeps.objectives import Outcome, measured
from sweeps.ray_session import HEAD
from sweeps.worker import write_trial


class TrialFailed(RuntimeError):
    """What a job of a slot failed with."""


def settled(folder: Path) -> Message | None:
    """trial.json of a trial that has ended, for good or ill; None of one that is still to train."""
    try:
        trial: Message = json.loads((folder / TRIAL_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or torn: the run itself knows how far it is
        return None
    return trial if trial.get("state") != RUNNING else None


def outcome_of(job: Message, sweep: SweepConfig) -> Outcome | None:
    """How a trial ended; None of one that has not."""
    if (ended := settled(Path(job["folder"]))) is None:
        return None
    best: float | None = None
    rows = []
    epochs = read_epochs(Path(job["folder"]))
    for row in epochs:
        best = better_of(sweep.mode, best, row.get(sweep.objective))
        rows.append({"epoch": row["epoch"], "value": best})
    return Outcome(ended["state"], rows, best, measured(sweep, epochs))


def better_of(mode: str, best: float | None, value: float | None) -> float | None:
    """The objective is the best value so far, because the best epoch's network is what is kept."""
    if best is None or value is None:
        return value if best is None else best
    return max(best, value) if mode == "max" else min(best, value)


def messages(job: Message, mailbox_name: str) -> Iterator[Message]:
    """The job's epochs, {"row": ...}, and at last its {"end": outcome}. Who asks for the next has judged this one."""
    ended = settled(Path(job["folder"]))
    if ended is not None:
        yield from ({"row": row} for row in read_epochs(Path(job["folder"])))
        yield {"end": ended}
        return
    mailbox = ray.get_actor(mailbox_name, NAMESPACE)
    ray.get(mailbox.submit.remote(job, judged=True))
    while "row" in (message := ray.get(mailbox.next_row.remote(job["id"]))):
        yield message
        mailbox.judge.remote(job["id"], message["row"]["epoch"])
    yield message


def build_relay(jobs: Jobs, mailbox_name: str, sweep: SweepConfig) -> Callable[[dict[str, Any]], None]:
    """The trainable."""
    metric, mode = sweep.objective, sweep.mode

    def relay(config: dict[str, Any]) -> None:
        job = jobs.trial(config["number"], config["params"])
        best: float | None = None
        rows: list[Message] = []
        for message in messages(job, mailbox_name):
            if "end" in message:
                break
            row = message["row"]
            if metric not in row:
                known = ", ".join(name for name in row if name.startswith("target_val_"))
                raise TrialFailed(f"metric must be one that trials report ({known}), got {metric!r}")
            best = better_of(mode, best, row[metric])
            rows.append(row)
            more = {name: value for name, value in measured(sweep, rows).items() if value is not None}
            # returns once Tune has decided that the trial goes on
            tune.report({OBJECTIVE: best, EPOCH: row["epoch"], EPOCHS: job["config"]["epochs"], **more})
        if message["end"].get("final"):
            write_trial(job, FAILED, message["end"]["error"])
        if message["end"]["state"] == FAILED:
            raise TrialFailed(message["end"]["error"])

    return tune.with_resources(relay, HEAD)


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
