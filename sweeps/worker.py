"""What runs inside a slot: one process that trains job after job and lives through those that fail.

A job's failure is its own: the exception becomes the job's outcome. Only the loss of the mailbox ends the loop early.
"""

import gc
import os
import traceback
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from analysis.trials import COMPLETE, FAILED, PRUNED, RUNNING, SOURCE, TRIAL_FILE
from mergenet.config import Config
from mergenet.errors import TrainingDiverged, UserError
from mergenet.record import EpochResult, write_json, write_text
from sweeps.mailbox import NAMESPACE, Message

Epochs = Generator[EpochResult, None, None]


def worker_loop(settings: dict[str, Any]) -> None:
    """settings: mailbox (its name), slot (number), folder (the driver's working directory, for relative paths)."""
    import ray
    import torch

    os.chdir(settings["folder"])
    mailbox = ray.get_actor(settings["mailbox"], NAMESPACE)
    ray.get(mailbox.ready.remote(settings["slot"]))
    while (job := ray.get(mailbox.next_job.remote())) is not None:

        def report(row: Message, name: str = job["id"]) -> bool:
            return bool(ray.get(mailbox.report.remote(name, row)))

        outcome = do_job(job, report)
        gc.collect()  # networks hang in reference cycles; the next trial finds the memory free
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        ray.get(mailbox.finish.remote(job["id"], outcome))


def do_job(job: Message, report: Callable[[Message], bool]) -> Message:
    """Run a job to its end, to a stop or to its failure. Returns {"state", "error"}.

    The stop flag is not looked at after the last epoch: what has trained to its end is complete.
    """
    results = JOBS[job["task"]](job)
    state, error = COMPLETE, None
    try:
        while (result := advance(results, job)) is not None:
            write_trial(job, RUNNING)
            if report(result.row()) and result.epoch < job["config"]["epochs"]:
                results.close()
                state = PRUNED
                break
    except JobFailed as failure:
        state, error = FAILED, str(failure)
    write_trial(job, state, error)
    return {"state": state, "error": error}


class JobFailed(Exception):
    """The job raised; the message is one line."""


def advance(results: Epochs, job: Message) -> EpochResult | None:
    """The next epoch, None at the end. Raises JobFailed for whatever the job raises: the slot must go on."""
    try:
        return next(results, None)
    except (UserError, TrainingDiverged) as error:
        raise JobFailed(str(error)) from error
    except Exception as error:
        folder = Path(job["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "traceback.txt", traceback.format_exc())
        raise JobFailed(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error


def write_trial(job: Message, state: str, error: str | None = None) -> None:
    """trial.json beside the run's own files; not before its first epoch, because a run starts in an empty folder."""
    if job["role"] == SOURCE:
        return
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    keys = ("role", "params", "number")
    seed = job["config"]["seed"]
    fields = {"trial_id": job["id"], **{key: job[key] for key in keys}, "seed": seed, "state": state, "error": error}
    write_json(folder / TRIAL_FILE, fields)


def train(job: Message) -> Epochs:
    from mergenet.run import run

    yield from run(Config.model_validate(job["config"]), Path(job["folder"]))


def record(job: Message) -> Epochs:
    from mergenet.source import record_source

    config = Config.model_validate(job["config"])
    yield from record_source(config, Path(job["folder"]), job["layers"], job["every"])


JOBS: dict[str, Callable[[Message], Epochs]] = {"train": train, "record": record}
