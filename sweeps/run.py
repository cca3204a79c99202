"""A sweep from top to bottom: check, record the source, search, confirm, write down.

The sweep folder:

    sweep.yaml     the resolved sweep file            sweep.json    status, seeds, versions, time spent
    base.yaml      the base that it started with      study.db      the Optuna study
    source/        the recorded source                .lock         held by the driver
    trials/NAME/   a run folder + trial.json          best.yaml     the best trial for `mergenet train`
    summary.json   what is printed at the end     warm_start.json   trials of earlier sweeps, if asked for

A sweep that was stopped or killed goes on from these: every step below is taken again, and what the records say has
ended is read from them instead of trained.
"""

import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

import mergenet
from analysis.trials import (
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
from mergenet.errors import WriteError
from mergenet.files import remove, write_json, write_text
from mergenet.record import FINISHED, STOPPED
from sweeps.best import write_best
from sweeps.budget import SEARCH, Budget, Clock
from sweeps.config import SweepConfig, dump_sweep
from sweeps.errors import Suspended, SweepFailed, SweepPaused, SweepStopped
from sweeps.eventfiles import EventFiles
from sweeps.executors import groups_of, num_cpus
from sweeps.folder import (
    BASE_FILE,
    SCRATCH,
    STATE_FILE,
    SUMMARY_FILE,
    check_deletable,
    check_folder,
    clear,
    clear_scratch,
    locked,
    read_state,
    shown_path,
)
from sweeps.jobs import Jobs, Message
from sweeps.objectives import infeasible_text
from sweeps.plan import Plan, fresh_seeds, more_seeds, num_gpus
from sweeps.ray_session import cluster_gpus, cluster_text, joined_ray, local_ray, quiet
from sweeps.refused import refusal
from sweeps.remote import Copy, claim
from sweeps.report import print_summary, summarize
from sweeps.results import best_record, best_trial, read_trials, settled_runs
from sweeps.tracking import Mirror
from sweeps.view import View, say
from sweeps.warmstart import WARM_FILE, load_warm_start, warm_lines, write_warm_start

Listener = Callable[[Message], None]

VERSIONS = ("ray", "optuna", "torch", "wandb")


def write_status(folder: Path, plan: Plan, status: str, error: str | None = None, **more: Any) -> None:
    versions = {"mergenet": mergenet.__version__} | {name: metadata.version(name) for name in VERSIONS}
    seeds = {"search": plan.sweep.seed, "trials": plan.space.base["seed"], "confirmation": fresh_seeds(plan)}
    seeds |= {"replicates": found} if (found := more_seeds(plan)) else {}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    source = {"recorded": plan.source.record, "layers": list(plan.source.layers), "every": plan.source.every}
    state = {"name": plan.sweep.name, "status": status, "error": error, "written": now, "seeds": seeds}
    kept = {key: value for key, value in read_state(folder).items() if key in ("base_hash", "seconds", "copy")}
    write_json(folder / STATE_FILE, state | {"versions": versions, "source": source} | kept | more)


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

    copy_to: URL of an empty place that the folder is copied to as it grows (remote.py).
    address: of a running Ray, whose nodes must all see the folder; None: on this machine.
    listeners: called with every event of the jobs (mailbox.py), in a thread of the slots.
    Raises SlotDied, SweepFailed, SweepPaused or SweepStopped; whatever happens, the records that exist are kept.
    """
    (check_deletable if overwrite else check_folder)(folder)
    folder = folder.absolute()
    with locked(folder):
        (clear if overwrite else check_folder)(folder)  # again: another driver may have been quicker
        if copy_to is not None:
            claim(copy_to, folder, plan.sweep.name)
        begin(plan, folder, copy_to)
        return _copied(plan, folder, console, address, listeners)


def begin(plan: Plan, folder: Path, copy_to: str | None) -> None:
    """What stands in the folder from the start. Raises WriteError, and then nothing of it is left."""
    try:
        write_text(folder / BASE_FILE, dump_yaml(Config.model_validate(plan.space.base)))
        write_text(folder / SWEEP_FILE, dump_sweep(plan.sweep))
        write_warm_start(folder, plan.warm)
        write_status(folder, plan, RUNNING, base_hash=plan.base_hash, copy=copy_to)
    except WriteError:
        for name in (BASE_FILE, SWEEP_FILE, WARM_FILE):
            remove(folder / name)
        raise


def resume_sweep(plan: Plan, folder: Path, console: Console, address: str | None = None) -> dict[str, Any]:
    """Go on with the sweep in a folder, from `load_resumable`'s plan of it. As `run_sweep`."""
    folder = folder.absolute()
    with locked(folder):
        clear_scratch(folder)
        write_status(folder, plan, RUNNING)
        return _copied(plan, folder, console, address)


def _copied(
    plan: Plan, folder: Path, console: Console, address: str | None, listeners: Sequence[Listener] = ()
) -> dict[str, Any]:
    with Copy(read_state(folder).get("copy"), folder, lambda text: say(console, text)) as copy:
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
        reason = refusal(error)
        note_status(folder, plan, FAILED if reason is None else STOPPED, reason or str(error))
        if reason is None:
            raise
        raise SweepPaused(
            f"{reason}; nothing is lost: make room, or make it writable, and "
            f"`mergenet sweep resume {shown_path(folder)}` goes on from there"
        ) from error
    return summary


def note_status(folder: Path, plan: Plan, status: str, error: str | None = None) -> None:
    """Where it cannot be written the folder goes on saying that the sweep runs; `status` sees that no driver does."""
    with suppress(WriteError):
        write_status(folder, plan, status, error)


def _run(
    plan: Plan, folder: Path, console: Console, mirror: Mirror, address: str | None, listeners: Sequence[Listener]
) -> dict[str, Any]:
    sweep, shared = plan.sweep, None if address is None else folder
    clock = Clock(
        read_state(folder).get("seconds", {}), lambda seconds: write_status(folder, plan, RUNNING, seconds=seconds)
    )
    budget = Budget(sweep, folder, lambda: clock.seconds().get(SEARCH, 0.0))
    view = View(console, sweep, plan.num_jobs, budget)
    view.remember(settled_runs(folder))
    files = EventFiles(folder, view.say)

    told: list[Listener] = [budget, view, mirror, files, *listeners, clock.beat]

    def listener(event: Message) -> None:
        for listens in told:
            listens(event)

    clock.begin("ray")
    with quiet(), view, closing(files), session(sweep, address):
        from sweeps.slots import Slots  # after `quiet`: ray reads its environment when it is imported

        clock.begin("slots")
        if shared is not None:
            view.say(f"joined Ray at {address}: {cluster_text()}")
        groups = groups_of(sweep, plan.space.base, num_gpus() if shared is None else cluster_gpus())
        try:
            with Slots(sweep.slots, listener, groups, shared) as slots, interruptible(slots.suspend, view.say):
                recording = str(folder / SOURCE) if plan.source.record else None
                jobs = Jobs(folder, plan.space, recording, tuple(more_seeds(plan)))
                slots.wait_ready(1)
                clock.begin("source")
                submit_source(plan, jobs, slots, view)
                baselines = [jobs.baseline(), *jobs.replicates(jobs.baseline())]
                for job in baselines:  # beside the source: they need none
                    slots.submit(job)
                wait_source(plan, slots)
                clock.begin(SEARCH)
                search(plan, jobs, slots, budget.spent, shared, view.say)
                clock.begin("confirm")
                view.searched()
                best = best_trial(read_trials(folder, sweep, TRIAL), sweep.objective)
                if best is not None:
                    write_best(folder / "best.yaml", sweep.name, best, best_record(folder, best))
                    confirm(plan, jobs, slots, best)
                slots.wait([job["id"] for job in baselines])
        except Suspended as suspended:
            if str(suspended):
                raise WriteError(str(suspended)) from None
            raise SweepStopped(f"go on with it by `mergenet sweep resume {shown_path(folder)}`") from None
        finally:
            clock.begin(None)
    summary = summarize(plan, folder, clock.seconds(), budget.facts())
    write_json(folder / SUMMARY_FILE, summary)
    mirror.summarize(summary)
    mirror.close()  # what it has to say comes before the summary
    print_summary(folder, summary, console)
    if best is None:
        raise SweepFailed(no_best(summary, folder))
    return summary


def no_best(summary: dict[str, Any], folder: Path) -> str:
    """Why a sweep has no best trial, and where to look."""
    trials = shown_path(folder / TRIALS_FOLDER)
    if summary["infeasible"]["infeasible"]:
        return f"{infeasible_text(summary['infeasible'])}, so none is the best; all records are kept in {trials}"
    return f"no trial trained to its end; their messages are in {trials}"


def session(sweep: SweepConfig, address: str | None) -> AbstractContextManager[None]:
    """Ray: this machine's own, or the one at an address."""
    return local_ray(num_cpus(sweep)) if address is None else joined_ray(address)


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


def search(
    plan: Plan, jobs: Jobs, slots: Any, spent: Callable[[], bool], shared: Path | None, say: Callable[[str], None]
) -> None:
    """The trials, drawn by Optuna until the budget is spent, scheduled by Tune, trained in the slots."""
    from ray import tune

    from sweeps.replicates import mark_stopped, outcome_of
    from sweeps.schedule import build_scheduler
    from sweeps.search import StudySearch
    from sweeps.storage import kept
    from sweeps.study import SweepStudy
    from sweeps.trial import StopJobs, StopWhenDead, build_relay

    sweep = plan.sweep
    warm = load_warm_start(jobs.folder)
    for line in warm_lines(warm.facts()):
        say(line)
    study = SweepStudy(sweep, plan.space, sweep.mode, jobs.folder, warm.trials)
    with kept(sweep.storage, jobs.folder):
        study.reconcile(lambda drawn: outcome_of(jobs, jobs.trial(drawn.index, drawn.params), sweep))
        searcher = StudySearch(
            study, sweep.mode, sweep.num_trials, slots.paused, slots.paused, spent=spent, trouble=slots.suspend
        )

    def mark() -> None:
        if jobs.seeds:
            mark_stopped(jobs.trial(drawn.index, drawn.params) for drawn in study.pruned())

    mark()  # what a driver that was killed had no time for

    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=shared, ignore_cleanup_errors=True) as scratch:
        tuner = tune.Tuner(
            build_relay(jobs, slots.name, sweep),
            tune_config=tune.TuneConfig(
                num_samples=sweep.num_trials,
                max_concurrent_trials=sweep.slots,
                search_alg=searcher,
                scheduler=build_scheduler(study, plan.epochs, say),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=sweep.name,
                storage_path=scratch,
                verbose=0,
                callbacks=[StopJobs(slots.mailbox, sweep.seeds_per_trial)],
                stop=StopWhenDead(lambda: slots.died is not None),
            ),
        )
        tuner.fit()
    slots.wait_unfinished()
    mark()


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
