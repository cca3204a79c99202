"""A sweep from start to end: check, record the source, search, confirm, write the summary.

The sweep folder:

    sweep.yaml     the resolved sweep file            sweep.json    status, seeds, versions, time spent
    base.yaml      the base that it started with      study.db      the Optuna study
    source/        the recorded source                .lock         held by the driver
    trials/NAME/   a run folder + trial.json          best.yaml     the best trial for `mergenet train`
    summary.json   what is printed at the end     warm_start.json   trials of earlier sweeps, if asked for
    report.html, report.md   the answer with its evidence, for people

A sweep that was stopped or killed resumes from these: every step below is taken again, and runs that have ended are
read from their records instead of trained.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from analysis.names import FAILED, RUNNING, SOURCE, TRIAL, TRIALS_FOLDER
from analysis.sweep_file import edits_of, read_sweep_file
from mergenet.records.run_record import FINISHED
from mergenet.records.sealed import write_record
from sweeps.driver.metadata import begin, new_folder, note_inputs, write_status
from sweeps.driver.stage import Desk, guarded, training
from sweeps.driver.steps import (
    adapter_trainings,
    confirm,
    confirmations,
    load_search,
    search,
    submit_source,
    submit_unless_failed,
    train_adapter,
    wait_source,
)
from sweeps.planning.plan import Plan, more_seeds
from sweeps.report.live import say
from sweeps.report.page import write_page
from sweeps.report.plan_text import data_text
from sweeps.report.summary import print_summary, summarize
from sweeps.study.draws import DRAWS, draw_changes
from sweeps.trials.best_config import write_best
from sweeps.trials.budget import SEARCH
from sweeps.trials.errors import SweepFailed
from sweeps.trials.files import BEST_FILE, SUMMARY_FILE, read_state, state_problem
from sweeps.trials.jobs import Jobs
from sweeps.trials.messages import Listener
from sweeps.trials.objectives import infeasible_text
from sweeps.trials.results import best_record, best_trial, read_trials
from sweeps.trials.sweep_dir import check_folder, locked, shown_path


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
    with new_folder(folder, check_folder, overwrite, plan.sweep.name, copy_to) as folder:
        begin(plan, folder, copy_to)
        return _train(plan, folder, console, address, listeners)


def resume_sweep(
    plan: Plan, folder: Path, console: Console, address: str | None = None, retry: bool = False
) -> dict[str, Any]:
    """Resume the sweep in a folder, as loaded by `load_resumable`. Otherwise as `run_sweep`.

    retry: failed runs train again.
    """
    folder = folder.absolute()
    with locked(folder):
        from sweeps.driver.check_records import check_records  # Optuna
        from sweeps.driver.repair import repair_runs  # torch

        check_records(plan, folder)
        if names := repair_runs(folder):
            say(console, f"records that were damaged are made again from the checkpoints: {', '.join(names)}")
        if (problem := state_problem(folder)) is not None:
            say(console, f"{problem}; it is written anew")
        if (changed := draw_changes(read_state(folder).get(DRAWS))) is not None:
            say(console, changed)
        if retry:
            from sweeps.driver.retry import retry_failed  # torch

            note_inputs(folder, plan)  # first: a run that has been reset trains with these, and no kill may hide it
            names = retry_failed(plan, folder)
            say(console, f"trains again: {', '.join(names)}" if names else "nothing has failed that could train again")
        if edits := edits_of(folder):
            say(console, f"goes on by sweep.yaml as it was edited: {', '.join(edits.values())}")
        write_status(folder, plan, RUNNING, settings=read_sweep_file(folder))
        return _train(plan, folder, console, address)


def _train(
    plan: Plan, folder: Path, console: Console, address: str | None, listeners: Sequence[Listener] = ()
) -> dict[str, Any]:
    return guarded(
        plan,
        folder,
        console,
        listeners,
        lambda mirror, more: _run(Desk.of(plan, folder, console, mirror), console, address, more),
    )


def _run(desk: Desk, console: Console, address: str | None, listeners: Sequence[Listener]) -> dict[str, Any]:
    plan, folder, view = desk.plan, desk.folder, desk.view
    sweep, shared = plan.sweep, None if address is None else folder
    for line in data_text(plan.data, plan.searched_data):
        view.say(line)
    for line in (*plan.warnings, *([] if plan.shortage is None else [plan.shortage])):
        view.say(line)
    with training(desk, address, listeners) as slots:
        recording = str(folder / SOURCE) if plan.source.record else None
        jobs = Jobs(folder, plan.space, recording, tuple(more_seeds(plan)))
        desk.clock.begin("source")
        submit_source(plan, jobs, slots, view)
        baselines = [jobs.baseline(), *jobs.replicates(jobs.baseline())]
        names = submit_unless_failed(baselines, slots)  # while the source trains: these need none
        load_search()
        wait_source(plan, slots)
        desk.clock.begin(SEARCH)
        search(plan, jobs, slots, desk.budget.spent, shared, view.say)
        desk.clock.begin("confirm")
        best = best_trial(read_trials(folder, sweep, TRIAL), sweep.objective)
        trainings = [] if best is None else adapter_trainings(plan, jobs, best)
        wanted = [] if best is None else confirmations(plan, jobs, best, trainings)
        view.searched(len(trainings) + len(wanted))
        if best is not None:
            write_best(folder / BEST_FILE, sweep.name, best, best_record(folder, best))
            confirm(train_adapter(trainings, wanted, slots, view.say), folder, slots)
        slots.wait(names)
        slots.no_more_jobs()  # they end beside the summary
        desk.clock.begin(None)
        summary = summarize(plan, folder, desk.clock.seconds(), desk.budget.facts())
        write_record(folder / SUMMARY_FILE, summary)
        line, evidence = write_page(shown_path(folder), FAILED if best is None else FINISHED)
    view.say(line)
    desk.mirror.summarize(summary, evidence)
    desk.mirror.close()  # its messages come before the summary
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
