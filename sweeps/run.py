"""A sweep from top to bottom: check, record the source, search, confirm, write down.

The sweep folder:

    sweep.yaml     the resolved sweep file            sweep.json    status, seeds, versions, time spent
    base.yaml      the base that it started with      study.db      the Optuna study
    source/        the recorded source                .lock         held by the driver
    trials/NAME/   a run folder + trial.json          best.yaml     the best trial for `mergenet train`
    summary.json   what is printed at the end

A sweep that was stopped or killed goes on from these: every step below is taken again, and what the records say has
ended is read from them instead of trained.
"""

import itertools
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

import mergenet
from analysis.trials import (
    BASELINE,
    CONFIRM_BEST,
    CONFIRM_NONE,
    FAILED,
    RUNNING,
    SOURCE,
    SWEEP_FILE,
    TRIAL,
    TRIALS_FOLDER,
    portable_config,
)
from mergenet.config import Config
from mergenet.configfile import dump_yaml
from mergenet.files import write_json, write_text
from mergenet.record import FINISHED, STOPPED
from sweeps.best import write_best
from sweeps.cluster import local_ray, quiet
from sweeps.config import dump_sweep
from sweeps.errors import Suspended, SweepFailed, SweepStopped
from sweeps.eventfiles import EventFiles
from sweeps.folder import (
    BASE_FILE,
    STATE_FILE,
    SUMMARY_FILE,
    check_deletable,
    check_folder,
    clear,
    locked,
    read_state,
    shown_path,
)
from sweeps.jobs import Jobs
from sweeps.plan import Plan, fresh_seeds
from sweeps.report import print_summary, summarize
from sweeps.results import best_record, best_trial, read_trials
from sweeps.tracking import Mirror
from sweeps.view import View, say

VERSIONS = ("ray", "optuna", "torch", "wandb")


def write_status(folder: Path, plan: Plan, status: str, error: str | None = None, **more: Any) -> None:
    versions = {"mergenet": mergenet.__version__} | {name: metadata.version(name) for name in VERSIONS}
    seeds = {"search": plan.sweep.seed, "trials": plan.space.base["seed"], "confirmation": fresh_seeds(plan)}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    source = {"recorded": plan.source.record, "layers": list(plan.source.layers), "every": plan.source.every}
    state = {"name": plan.sweep.name, "status": status, "error": error, "written": now, "seeds": seeds}
    kept = {key: value for key, value in read_state(folder).items() if key in ("base_hash", "seconds")}
    write_json(folder / STATE_FILE, state | {"versions": versions, "source": source} | kept | more)


def run_sweep(plan: Plan, folder: Path, console: Console, overwrite: bool = False) -> dict[str, Any]:
    """Run the whole sweep in a new folder; returns what summary.json holds.

    Raises SlotDied, SweepFailed or SweepStopped; whatever happens, the records that exist are kept.
    """
    (check_deletable if overwrite else check_folder)(folder)
    folder = folder.absolute()
    with locked(folder):
        (clear if overwrite else check_folder)(folder)  # again: another driver may have been quicker
        write_text(folder / BASE_FILE, dump_yaml(Config.model_validate(plan.space.base)))
        write_text(folder / SWEEP_FILE, dump_sweep(plan.sweep))
        write_status(folder, plan, RUNNING, base_hash=plan.base_hash)
        return _guarded(plan, folder, console)


def resume_sweep(plan: Plan, folder: Path, console: Console) -> dict[str, Any]:
    """Go on with the sweep in a folder, from `load_resumable`'s plan of it. As `run_sweep`."""
    folder = folder.absolute()
    with locked(folder):
        write_status(folder, plan, RUNNING)
        return _guarded(plan, folder, console)


def _guarded(plan: Plan, folder: Path, console: Console) -> dict[str, Any]:
    try:
        with closing(Mirror(plan.sweep, folder, lambda text: say(console, text))) as mirror:
            summary = _run(plan, folder, console, mirror)
    except (SweepStopped, KeyboardInterrupt):
        write_status(folder, plan, STOPPED)
        raise
    except BaseException as error:
        write_status(folder, plan, FAILED, str(error))
        raise
    write_status(folder, plan, FINISHED)
    return summary


def _run(plan: Plan, folder: Path, console: Console, mirror: Mirror) -> dict[str, Any]:
    sweep, times = plan.sweep, {"start": time.monotonic()}
    view = View(console, sweep, plan.num_jobs)
    files = EventFiles(folder, view.say)

    def listener(event: dict[str, Any]) -> None:
        for listen in (view, mirror, files):
            listen(event)

    def mark(step: str) -> None:
        times[step] = time.monotonic()
        write_status(folder, plan, RUNNING, seconds=spent(before, seconds(times)))

    before = read_state(folder).get("seconds", {})
    with quiet(), view, closing(files), local_ray(sweep.slots):
        from sweeps.slots import Slots  # after `quiet`: ray reads its environment when it is imported

        mark("ray")
        try:
            with Slots(sweep.slots, listener) as slots, interruptible(slots.suspend, view.say):
                jobs = Jobs(folder, plan.space, str(folder / SOURCE) if plan.source.record else None)
                slots.wait_ready(1)
                mark("slots")
                submit_source(plan, jobs, slots, view)
                slots.submit(jobs.baseline())  # beside the source: it needs none
                wait_source(plan, slots)
                mark("source")
                search(plan, jobs, slots)
                mark("search")
                best = best_trial(read_trials(folder, sweep, TRIAL), sweep.objective)
                if best is not None:
                    write_best(folder / "best.yaml", sweep.name, best, best_record(folder, best))
                    confirm(plan, jobs, slots, best)
                slots.wait([BASELINE])
                mark("confirm")
        except Suspended:
            mark("stopped")
            raise SweepStopped(f"go on with it by `mergenet sweep resume {shown_path(folder)}`") from None
    summary = summarize(plan, folder, spent(before, seconds(times)))
    write_json(folder / SUMMARY_FILE, summary)
    mirror.summarize(summary)
    mirror.close()  # what it has to say comes before the summary
    print_summary(folder, summary, console)
    if best is None:
        raise SweepFailed(f"no trial trained to its end; their messages are in {shown_path(folder / TRIALS_FOLDER)}")
    return summary


@contextmanager
def interruptible(suspend: Callable[[], None], say: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) lets the running trials end their epochs; the second is a KeyboardInterrupt."""

    def ask() -> None:
        say("stopping after the running epochs, nothing is lost; once more stops at once")
        suspend()

    def handle(number: int, _frame: FrameType | None) -> None:
        for name in before:
            signal.signal(name, signal.default_int_handler)
        del number
        threading.Thread(target=ask, daemon=True).start()  # a handler must not wait for locks that it interrupts

    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield
        return
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        for name in before:
            signal.signal(name, handle)
        yield
    finally:
        for name, old in before.items():
            signal.signal(name, old)


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

    from sweeps.search import StudySearch, build_scheduler
    from sweeps.study import SweepStudy
    from sweeps.trial import StopJobs, StopWhenDead, build_relay, outcome_of

    sweep = plan.sweep
    study = SweepStudy(sweep, plan.space, sweep.mode, jobs.folder)
    study.reconcile(lambda drawn: outcome_of(jobs.trial(drawn.index, drawn.params), sweep.objective, sweep.mode))

    def paused() -> bool:
        return slots.suspending or slots.died is not None

    with tempfile.TemporaryDirectory(prefix="mergenet-tune-", ignore_cleanup_errors=True) as scratch:
        tuner = tune.Tuner(
            build_relay(jobs, slots.name, sweep.objective, sweep.mode),
            tune_config=tune.TuneConfig(
                num_samples=sweep.num_trials,
                max_concurrent_trials=sweep.slots,
                search_alg=StudySearch(study, sweep.mode, sweep.num_trials, closed=paused, paused=paused),
                scheduler=build_scheduler(sweep, sweep.mode, plan.epochs),
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
    slots.wait_unfinished()


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


def spent(before: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    """Seconds of each step, those of earlier drivers included."""
    return {name: round(before.get(name, 0.0) + now.get(name, 0.0), 2) for name in {**before, **now}}


def seconds(times: dict[str, float]) -> dict[str, float]:
    names = list(times)
    steps = {name: times[name] - times[before] for before, name in itertools.pairwise(names)}
    return {name: round(value, 2) for name, value in steps.items()}
