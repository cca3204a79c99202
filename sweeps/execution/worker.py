"""What runs in a worker group's processes: they train job after job and survive jobs that fail.

An exception in a job becomes the job's outcome. Only the loss of the queue, or an exception in one of several workers,
ends the loop early.
"""

import gc
import itertools
import os
import traceback
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from analysis.names import COMPLETE, FAILED, PRUNED, RUNNING, SOURCE
from analysis.trial_file import TRIAL_FILE
from mergenet.config import Config
from mergenet.config.user_code import raised_at
from mergenet.errors import TrainingDiverged, UserError, WriteError, named_line
from mergenet.learner import distributed
from mergenet.records.atomic import write_text
from mergenet.records.run_record import CONFIG_FILE, RECORDING_FILE, RESULT_FILE, EpochResult
from sweeps.execution.job_queue import NAMESPACE
from sweeps.execution.placement import own_placement
from sweeps.trials.errors import write_refusal
from sweeps.trials.messages import GO_ON, STOP, SUSPEND, Job, JobOutcome, Row
from sweeps.trials.record import write_trial

Epochs = Generator[EpochResult, None, None]
ReportEpoch = Callable[[Row], str]  # what the job is told after an epoch
ANSWERS = (GO_ON, STOP, SUSPEND)


def worker_loop(settings: dict[str, Any]) -> None:
    """settings: queue (its name), slots (names: of each worker, or of all together), folder (the driver's working
    directory, for relative paths), jobs (how many jobs a slot runs; None: until there are no more).
    """
    import ray

    os.chdir(settings["folder"])
    queue, group = ray.get_actor(settings["queue"], NAMESPACE), own_slot(settings["slots"])
    if distributed.is_main():
        ray.get(queue.ready.remote(group, own_placement()))
    for turn in itertools.count() if settings["jobs"] is None else range(settings["jobs"]):
        job = next_job(queue, group, turn)
        if job is None:
            break

        def report(row: Row, name: str = job["id"]) -> str:
            return str(ray.get(queue.report.remote(group, name, row)))

        outcome = do_job(job, report)
        tidy(turn)
        if distributed.is_main():
            ray.get(queue.finish.remote(group, job["id"], outcome))
        if outcome["state"] == SUSPEND and outcome["error"] and distributed.world_size() > 1:
            raise WriteError(outcome["error"])  # the others wait for this worker, and would for ever


def own_slot(slots: list[str]) -> str:
    from ray.train import get_context

    return slots[get_context().get_world_rank()] if len(slots) > 1 else slots[0]


def tidy(turn: int) -> None:
    """Free the memory of job number `turn`: its networks are in reference cycles, and the next job needs the memory.

    What is alive after the first job are modules. From then on garbage collection skips them, or it would go through
    half a million objects: 0.3 s of each trial.
    """
    import torch

    gc.collect()
    if turn == 0:
        gc.freeze()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def next_job(queue: Any, group: str, turn: int) -> Job | None:
    import ray

    job: Job | None = ray.get(queue.next_job.remote(group, turn))
    return job


def do_job(job: Job, report: ReportEpoch) -> JobOutcome:
    """Run a job until it ends, is stopped or fails.

    If the disk refuses a write the job has not failed: it is suspended, and the error says why.
    What `report` returns after the last epoch is ignored: a job that has trained to its end is complete.
    """
    before = None
    try:
        before = written(job)
        state, error = do_epochs(job, report)
        note_state(job, RUNNING if state == SUSPEND else state, error)
    except (WriteError, OSError) as failure:
        if (reason := write_refusal(failure)) is None:
            raise
        state, error = SUSPEND, reason
    outcome: JobOutcome = {"state": state, "error": error}
    only_read = state == COMPLETE and before is not None and written(job) == before
    return outcome | {"there": True} if only_read else outcome


def written(job: Job) -> tuple[int, int] | None:
    """Which file a job's last record is, and when it was written: what trains or records writes it anew."""
    name = RECORDING_FILE if job["task"] == "record" else RESULT_FILE
    try:
        found = (Path(job["folder"]) / name).stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def do_epochs(job: Job, report: ReportEpoch) -> tuple[str, str | None]:
    """The job's state and error. Raises WriteError or OSError if the disk refuses a write."""
    results = JOBS[job["task"]](job)
    began = False
    try:
        while (result := advance(results, job)) is not None:
            if not began:
                note_state(job, RUNNING)
                began = True
            answer = agreed(result, report)
            if answer != GO_ON and result.epoch < job["config"]["epochs"]:
                results.close()
                return PRUNED if answer == STOP else SUSPEND, None
    except JobFailed as failure:
        return FAILED, str(failure)
    return COMPLETE, None


def agreed(result: EpochResult, report: ReportEpoch) -> str:
    """The first worker reports; all act on the answer that it gets."""
    import torch

    answer = report(result.row()) if distributed.is_main() else GO_ON
    if distributed.world_size() == 1:
        return answer
    number = torch.tensor(ANSWERS.index(answer), device=distributed.device())
    return ANSWERS[int(distributed.broadcast_(number).item())]


class JobFailed(Exception):
    """The job raised; the message is one line."""


class WorkerFailed(Exception):
    """The job raised in one of several workers; the message is one line, with which Ray's text ends."""


def advance(results: Epochs, job: Job) -> EpochResult | None:
    """The next epoch, None at the end. Raises JobFailed for whatever the job raises, because the group must go on.

    Raises WriteError if what the job raises comes from a disk that refuses a write.

    With several workers only what all of them raise alike is the job's failure. Anything else leaves the others
    waiting, so it ends the group, and the job is tried again.
    """
    try:
        return next(results, None)
    except (UserError, TrainingDiverged) as error:
        raise_refusal(error)
        raise JobFailed(str(error)) from error
    except (Exception, SystemExit) as error:  # the user's code can raise anything
        raise_refusal(error)
        folder = Path(job["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"traceback{distributed.rank() or ''}.txt", traceback.format_exc())
        failed = WorkerFailed if distributed.world_size() > 1 else JobFailed
        raise failed(f"{named_line(error, 300)}{raised_at(error)}") from error


def raise_refusal(error: BaseException) -> None:
    """Raises WriteError if the error comes from a disk that refuses a write."""
    if (reason := write_refusal(error)) is not None:
        raise WriteError(reason) from error


def note_state(job: Job, state: str, error: str | None = None) -> None:
    """Records the state in trial.json, by the first worker; the recording of a source has none."""
    if job["role"] != SOURCE and distributed.is_main():
        write_trial(job, state, error)


def clear_failed(folder: Path) -> None:
    """Delete what a run that failed before it began has left: a run starts in an empty folder."""
    if distributed.is_main() and not (folder / CONFIG_FILE).exists():
        for path in (folder / TRIAL_FILE, *folder.glob("traceback*.txt")):
            path.unlink(missing_ok=True)
    distributed.barrier()


def train(job: Job) -> Epochs:
    from mergenet.training.run import train_run

    clear_failed(Path(job["folder"]))
    yield from train_run(Config.model_validate(job["config"]), Path(job["folder"]))


def record(job: Job) -> Epochs:
    from mergenet.transfer.source import record_source

    config = Config.model_validate(job["config"])
    yield from record_source(config, Path(job["folder"]), job["layers"], job["every"])


JOBS: dict[str, Callable[[Job], Epochs]] = {"train": train, "record": record}
