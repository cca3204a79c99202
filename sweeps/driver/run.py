"""A sweep from start to end: check, record the source, search, confirm, write the summary.

The sweep folder:

    sweep.yaml     the resolved sweep file            sweep.json    status, seeds, versions, time spent
    base.yaml      the base that it started with      study.db      the Optuna study
    source/        the recorded source                .lock         held by the driver
    trials/NAME/   a run folder + trial.json          best.yaml     the best trial for `mergenet train`
    summary.json   what is printed at the end     warm_start.json   trials of earlier sweeps, if asked for

A sweep that was stopped or killed resumes from these: every step below is taken again, and runs that have ended are
read from their records instead of trained.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

from rich.console import Console

from analysis.names import FAILED, RUNNING, SOURCE, TRIAL, TRIALS_FOLDER
from mergenet.errors import WriteError
from mergenet.records.atomic import write_json
from mergenet.records.run_record import FINISHED, STOPPED
from sweeps.config import SweepConfig
from sweeps.driver.check_records import check_records
from sweeps.driver.metadata import begin, note_inputs, note_status, write_status
from sweeps.driver.signals import interruptible
from sweeps.driver.steps import (
    adapter_trainings,
    confirm,
    confirmations,
    search,
    submit_source,
    train_adapter,
    wait_source,
)
from sweeps.driver.watchdog import watched
from sweeps.execution.ray_cluster import (
    check_running,
    check_workers,
    cluster_gpus,
    cluster_text,
    is_up,
    joined_ray,
    local_ray,
    quiet,
)
from sweeps.execution.resources import groups_of, num_cpus, worker_range
from sweeps.planning.checks import num_gpus
from sweeps.planning.plan import Plan, more_seeds
from sweeps.report.live import View, say
from sweeps.report.summary import print_summary, summarize
from sweeps.study.draws import DRAWS, draw_changes
from sweeps.tracking.remote_copy import Copy, claim
from sweeps.tracking.tensorboard import EventFiles
from sweeps.tracking.wandb_mirror import Mirror
from sweeps.trials.best_config import write_best
from sweeps.trials.budget import SEARCH, Budget, Clock
from sweeps.trials.errors import Suspended, SweepFailed, SweepPaused, SweepStopped, write_refusal
from sweeps.trials.files import STATE_FILE, SUMMARY_FILE, read_state
from sweeps.trials.jobs import Jobs
from sweeps.trials.messages import JobEvent, Listener
from sweeps.trials.objectives import infeasible_text
from sweeps.trials.results import best_record, best_trial, ended_runs, read_trials
from sweeps.trials.sweep_dir import (
    check_deletable,
    check_folder,
    clear,
    locked,
    resume_command,
    shown_path,
)


def run_sweep(
    plan: Plan,
    folder: Path,
    console: Console,
    overwrite: bool = False,
    address: str | None = None,
    listeners: Sequence[Listener] = (),
    copy_to: str | None = None,
) -> dict[str, Any]:
    """Run the whole sweep in a new folder; returns what summary.json holds.

    copy_to: URL of an empty folder to which the sweep folder is copied as it grows (tracking/remote_copy.py).
    address: of a running Ray, whose nodes must all see the folder; None: on this machine.
    listeners: called with every event of the jobs (trials/messages.py), in a thread of the worker pool.
    Raises SlotDied, SweepFailed, SweepPaused or SweepStopped; whatever happens, the records that exist are kept.
    """
    (check_deletable if overwrite else check_folder)(folder)
    folder = folder.absolute()
    with locked(folder):
        (check_deletable if overwrite else check_folder)(folder)  # again: another driver may have been faster
        clear(folder)
        if copy_to is not None:
            claim(copy_to, folder, plan.sweep.name)
        begin(plan, folder, copy_to)
        return _watched(plan, folder, console, address, listeners)


def resume_sweep(
    plan: Plan, folder: Path, console: Console, address: str | None = None, retry: bool = False
) -> dict[str, Any]:
    """Resume the sweep in a folder, as loaded by `load_resumable`. Otherwise as `run_sweep`.

    retry: failed runs train again.
    """
    folder = folder.absolute()
    with locked(folder):
        check_records(plan, folder)
        from sweeps.driver.repair import repair_runs  # torch

        if names := repair_runs(folder):
            say(console, f"records that were damaged are made again from the checkpoints: {', '.join(names)}")
        if "status" not in read_state(folder):
            say(
                console,
                f"{STATE_FILE} is damaged: the time spent so far and a copy's URL, copy_to (--copy-to), are forgotten",
            )
        if (changed := draw_changes(read_state(folder).get(DRAWS))) is not None:
            say(console, changed)
        if retry:
            from sweeps.driver.retry import retry_failed  # torch

            names = retry_failed(plan, folder)
            say(console, f"trains again: {', '.join(names)}" if names else "nothing has failed that could train again")
            note_inputs(folder, plan)
        write_status(folder, plan, RUNNING)
        return _watched(plan, folder, console, address)


def _watched(
    plan: Plan, folder: Path, console: Console, address: str | None, listeners: Sequence[Listener] = ()
) -> dict[str, Any]:
    died = (
        "error: the sweep's driver was killed, or processes of Ray that it needs were, as happens when memory runs "
        f"out; what has trained is kept, `{resume_command(shown_path(folder))}` goes on from there"
    )
    with watched(died), Copy(read_state(folder).get("copy"), folder, lambda text: say(console, text)) as copy:
        return _guarded(plan, folder, console, address, (copy, *listeners))


def _guarded(
    plan: Plan, folder: Path, console: Console, address: str | None, listeners: Sequence[Listener]
) -> dict[str, Any]:
    try:
        with closing(Mirror(plan.sweep, folder, lambda text: say(console, text))) as mirror:
            summary = _run(plan, folder, console, mirror, address, listeners)
        write_status(folder, plan, FINISHED)
    except (SweepStopped, KeyboardInterrupt):
        note_status(folder, plan, STOPPED)
        raise
    except BaseException as error:
        reason = write_refusal(error)
        note_status(folder, plan, FAILED if reason is None else STOPPED, reason or str(error))
        if reason is None:
            raise
        raise SweepPaused(
            f"{reason}; nothing is lost: make room, or make it writable, and "
            f"`{resume_command(shown_path(folder))}` goes on from there"
        ) from error
    return summary


def _run(
    plan: Plan, folder: Path, console: Console, mirror: Mirror, address: str | None, listeners: Sequence[Listener]
) -> dict[str, Any]:
    sweep, shared = plan.sweep, None if address is None else folder
    clock = Clock(
        read_state(folder).get("seconds", {}), lambda seconds: write_status(folder, plan, RUNNING, seconds=seconds)
    )
    budget = Budget(sweep, folder, lambda: clock.seconds().get(SEARCH, 0.0))
    view = View(console, sweep, plan.num_jobs, budget)
    view.remember(ended_runs(folder))
    files = EventFiles(folder, view.say)

    told: list[Listener] = [budget, view, mirror, files, *listeners, clock.beat]

    def listener(event: JobEvent) -> None:
        for listens in told:
            listens(event)

    if plan.shortage is not None:
        view.say(plan.shortage)
    clock.begin("ray")
    with quiet(), view, closing(files), session(sweep, address, view.say):
        # after `quiet`: ray reads its environment when it is imported
        from sweeps.execution.worker_pool import WorkerPool

        check_workers()
        clock.begin("slots")
        if shared is not None:
            view.say(f"joined Ray at {address}: {cluster_text()}")
        groups = groups_of(sweep, plan.space.base, num_gpus() if shared is None else cluster_gpus())
        try:
            with WorkerPool(sweep.slots, listener, groups, shared) as slots, interruptible(slots.suspend, view.say):
                recording = str(folder / SOURCE) if plan.source.record else None
                jobs = Jobs(folder, plan.space, recording, tuple(more_seeds(plan)))
                slots.wait_ready(1)
                clock.begin("source")
                submit_source(plan, jobs, slots, view)
                baselines = [jobs.baseline(), *jobs.replicates(jobs.baseline())]
                for job in baselines:  # while the source trains: these need none
                    slots.submit(job)
                wait_source(plan, slots)
                clock.begin(SEARCH)
                search(plan, jobs, slots, budget.spent, shared, view.say)
                clock.begin("confirm")
                best = best_trial(read_trials(folder, sweep, TRIAL), sweep.objective)
                trainings = [] if best is None else adapter_trainings(plan, jobs, best)
                wanted = [] if best is None else confirmations(plan, jobs, best, trainings)
                view.searched(len(trainings) + len(wanted))
                if best is not None:
                    write_best(folder / "best.yaml", sweep.name, best, best_record(folder, best))
                    confirm(train_adapter(trainings, wanted, slots, view.say), folder, slots)
                slots.wait([job["id"] for job in baselines])
        except Suspended as suspended:
            if str(suspended):
                raise WriteError(str(suspended)) from None
            raise SweepStopped(f"go on with it by `{resume_command(shown_path(folder))}`") from None
        finally:
            clock.begin(None)
    summary = summarize(plan, folder, clock.seconds(), budget.facts())
    write_json(folder / SUMMARY_FILE, summary)
    mirror.summarize(summary)
    mirror.close()  # its messages come before the summary
    print_summary(folder, summary, console)
    if best is None:
        raise SweepFailed(no_best(summary, folder))
    return summary


def no_best(summary: dict[str, Any], folder: Path) -> str:
    """Why a sweep has no best trial, and where to find out more."""
    trials = shown_path(folder / TRIALS_FOLDER)
    if summary["infeasible"]["infeasible"]:
        return f"{infeasible_text(summary['infeasible'])}, so none is the best; all records are kept in {trials}"
    return f"no trial trained to its end; their messages are in {trials}"


def session(sweep: SweepConfig, address: str | None, tell: Callable[[str], None]) -> AbstractContextManager[None]:
    """A Ray session: this process's if it has one; else a new one on this machine, or the one at an address."""
    if is_up():
        check_running(sweep.slots * worker_range(sweep)[1], address)
        tell(f"uses the Ray that this process has started, and leaves it running: {cluster_text()}")
    return local_ray(num_cpus(sweep)) if address is None else joined_ray(address)
