"""A sweep from top to bottom: check, record the source, search, confirm, write down.

The sweep folder:

    sweep.yaml     the resolved sweep file            sweep.json    status, seeds, versions
    source/        the recorded source                study.db      the Optuna study
    trials/NAME/   a run folder + trial.json          best.yaml     the best trial for `mergenet train`
    summary.json   what is printed at the end
"""

import itertools
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console

import mergenet
from analysis.trials import (
    BASELINE,
    CONFIRM_BEST,
    CONFIRM_NONE,
    FAILED,
    SOURCE,
    SWEEP_FILE,
    TRIAL,
    TRIALS_FOLDER,
    portable_config,
)
from mergenet.files import write_json, write_text
from sweeps.best import write_best
from sweeps.cluster import local_ray, quiet
from sweeps.config import dump_sweep
from sweeps.folder import STATE_FILE, SUMMARY_FILE, check_folder, shown_path
from sweeps.jobs import Jobs, trial_name
from sweeps.plan import Plan, fresh_seeds
from sweeps.report import print_summary, summarize
from sweeps.results import best_record, best_trial, read_trials
from sweeps.tracking import Mirror
from sweeps.view import View

VERSIONS = ("ray", "optuna", "torch", "wandb")


class SweepFailed(RuntimeError):
    """The sweep could not go on; the message says why and what is kept."""


def write_status(folder: Path, plan: Plan, status: str, error: str | None = None) -> None:
    versions = {"mergenet": mergenet.__version__} | {name: metadata.version(name) for name in VERSIONS}
    seeds = {"search": plan.sweep.seed, "trials": plan.space.base["seed"], "confirmation": fresh_seeds(plan)}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    base = {"base_hash": plan.base_hash}
    source = {"recorded": plan.source.record, "layers": list(plan.source.layers), "every": plan.source.every}
    state = {"name": plan.sweep.name, "status": status, "error": error, "written": now}
    write_json(folder / STATE_FILE, state | base | {"seeds": seeds, "versions": versions, "source": source})


def run_sweep(plan: Plan, folder: Path, console: Console) -> dict[str, Any]:
    """Run the whole sweep; returns what summary.json holds.

    Raises SlotDied or SweepFailed; on these and on Ctrl-C the records that exist are kept.
    """
    check_folder(folder)
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / SWEEP_FILE, dump_sweep(plan.sweep))
    write_status(folder, plan, "running")
    try:
        summary = _run(plan, folder, console)
    except BaseException as error:
        write_status(folder, plan, "interrupted" if isinstance(error, KeyboardInterrupt) else "failed", str(error))
        raise
    write_status(folder, plan, "finished")
    return summary


def _run(plan: Plan, folder: Path, console: Console) -> dict[str, Any]:
    sweep, times = plan.sweep, {"start": time.monotonic()}
    view = View(console, sweep, plan.num_jobs)
    mirror = Mirror(sweep, folder, view.say)

    def listener(event: dict[str, Any]) -> None:
        view(event)
        mirror(event)

    with quiet(), view, closing(mirror), local_ray(sweep.slots):
        from sweeps.slots import Slots  # after `quiet`: ray reads its environment when it is imported

        times["ray"] = time.monotonic()
        with Slots(sweep.slots, listener) as slots:
            jobs = Jobs(folder, plan.space, str(folder / SOURCE) if plan.source.record else None)
            slots.wait_ready(1)
            times["slots"] = time.monotonic()
            submit_source(plan, jobs, slots, view)
            slots.submit(jobs.baseline())  # beside the source: it needs none
            wait_source(plan, slots)
            times["source"] = time.monotonic()
            search(plan, jobs, slots)
            times["search"] = time.monotonic()
            best = best_trial(read_trials(folder, sweep, TRIAL), sweep.mode)
            if best is not None:
                write_best(folder / "best.yaml", sweep.name, best, best_record(folder, best))
                confirm(plan, jobs, slots, best)
            slots.wait([BASELINE])
            times["confirm"] = time.monotonic()
    summary = summarize(plan, folder, seconds(times))
    write_json(folder / SUMMARY_FILE, summary)
    print_summary(folder, summary, console)
    if best is None:
        raise SweepFailed(f"no trial trained to its end; their messages are in {shown_path(folder / TRIALS_FOLDER)}")
    return summary


def submit_source(plan: Plan, jobs: Jobs, slots: Any, view: View) -> None:
    """Have the source trained once, if it can be recorded, and say what happens."""
    if not plan.source.record:
        view.say(f"the source {plan.source.reason}")
        return
    view.say(
        f"the source trains once, {len(plan.source.layers)} layers recorded every {plan.source.every} steps; "
        "all trials replay it"
    )
    slots.submit(jobs.source(plan.source))


def wait_source(plan: Plan, slots: Any) -> None:
    """Raises SweepFailed if the source could not be recorded."""
    if not plan.source.record:
        return
    outcome = slots.wait([SOURCE])[SOURCE]
    if outcome["state"] == FAILED:
        raise SweepFailed(f"the source could not be recorded: {outcome['error']}")


def search(plan: Plan, jobs: Jobs, slots: Any) -> None:
    """The trials, drawn by Optuna, scheduled by Tune, trained in the slots."""
    from ray import tune

    from sweeps.search import build_scheduler, build_search
    from sweeps.trial import StopJobs, StopWhenDead, build_relay

    sweep = plan.sweep
    with tempfile.TemporaryDirectory(prefix="mergenet-tune-", ignore_cleanup_errors=True) as scratch:
        tuner = tune.Tuner(
            build_relay(jobs, slots.name, sweep.metric, sweep.mode),
            tune_config=tune.TuneConfig(
                num_samples=sweep.num_trials,
                max_concurrent_trials=sweep.slots,
                search_alg=build_search(sweep, plan.space, jobs.folder),
                scheduler=build_scheduler(sweep, plan.epochs),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=sweep.name,
                storage_path=scratch,
                verbose=0,
                callbacks=[StopJobs(slots.mailbox)],
                stop=StopWhenDead(lambda: slots.died is not None),
            ),
        )
        tuner.fit()
    slots.check()
    slots.wait([trial_name(number) for number in range(sweep.num_trials)])


def confirm(plan: Plan, jobs: Jobs, slots: Any, best: dict[str, Any]) -> None:
    """The best configuration and no transfer, each with the same fresh seeds."""
    config = portable_config(best_record(jobs.folder, best).config)
    names = []
    for number, seed in enumerate(fresh_seeds(plan), start=1):
        for role in (CONFIRM_BEST, CONFIRM_NONE):
            job = jobs.confirmation(role, config, best["params"], number, seed)
            slots.submit(job)
            names.append(job["id"])
    slots.wait(names)


def seconds(times: dict[str, float]) -> dict[str, float]:
    names = list(times)
    steps = {name: times[name] - times[before] for before, name in itertools.pairwise(names)}
    return {name: round(value, 2) for name, value in steps.items()}
