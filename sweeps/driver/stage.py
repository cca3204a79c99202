"""Where the trainings of a sweep, or of an ablation, take place: Ray, the worker pool, the live view, the clock.

`guarded` is around everything, and its end is what sweep.json says. Inside, `training` has the slots for as long as
something trains.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from analysis.names import FAILED, RUNNING
from mergenet.errors import WriteError
from mergenet.records.run_deletion import clear_deleted
from mergenet.records.run_record import FINISHED, STOPPED
from sweeps.config import SweepConfig
from sweeps.driver.kept import Keeper, prune
from sweeps.driver.metadata import note_status, write_status
from sweeps.driver.signals import interruptible
from sweeps.driver.watchdog import watched
from sweeps.execution.local_ray import is_starting, local_ray, settle
from sweeps.execution.ray_cluster import (
    check_running,
    cluster_gpus,
    cluster_text,
    is_up,
    joined_ray,
    look_at_workers,
    quiet,
    slow_head,
)
from sweeps.execution.resources import groups_of, num_cpus, worker_range
from sweeps.planning.checks import num_gpus
from sweeps.planning.plan import Plan
from sweeps.report.live import View, say
from sweeps.tracking.remote_copy import Copy
from sweeps.tracking.tensorboard import EventFiles
from sweeps.tracking.wandb_mirror import Mirror
from sweeps.trials.budget import SEARCH, Budget, Clock
from sweeps.trials.errors import Suspended, SweepPaused, SweepStopped, write_refusal
from sweeps.trials.files import read_state
from sweeps.trials.messages import JobEvent, Listener
from sweeps.trials.results import ended_runs
from sweeps.trials.sweep_dir import resume_command, shown_path

if TYPE_CHECKING:
    from sweeps.execution.worker_pool import WorkerPool  # ray, which reads its environment when it is imported

T = TypeVar("T")


@dataclass(frozen=True)
class Desk:
    """What all trainings of a folder share from start to end. view: what a user sees; budget, clock: what is spent."""

    plan: Plan
    folder: Path
    mirror: Mirror
    clock: Clock
    budget: Budget
    view: View

    @classmethod
    def of(cls, plan: Plan, folder: Path, console: Console, mirror: Mirror, view: type[View] = View) -> "Desk":
        """view: the kind of live view."""
        spent = read_state(folder).get("seconds", {})
        clock = Clock(spent, lambda seconds: write_status(folder, plan, RUNNING, seconds=seconds))
        budget = Budget(plan.sweep, folder, lambda: clock.seconds().get(SEARCH, 0.0))
        seen = view(console, plan.sweep, plan.num_jobs, budget)
        seen.remember(ended_runs(folder))
        return cls(plan, folder, mirror, clock, budget, seen)


def guarded(
    plan: Plan,
    folder: Path,
    console: Console,
    listeners: Sequence[Listener],
    run: Callable[[Mirror, Sequence[Listener]], T],
    last: Callable[[], None] = lambda: None,
) -> T:
    """What `run` returns; sweep.json tells how it ended. run: gets the mirror, and the listeners with the copy's.

    last: called when sweep.json says that it has finished, before the copy is made whole.

    Raises SweepPaused where the disk refuses a write, and what `run` raises.
    """
    died = (
        "error: the sweep's driver was killed, or processes of Ray that it needs were, as happens when memory runs "
        f"out; what has trained is kept, `{resume_command(shown_path(folder))}` goes on from there"
    )
    with watched(died), Copy(read_state(folder).get("copy"), folder, lambda text: say(console, text)) as copy:
        found = _noted(plan, folder, console, lambda mirror: run(mirror, (copy, *listeners)))
        last()
        return found


def _noted(plan: Plan, folder: Path, console: Console, run: Callable[[Mirror], T]) -> T:
    try:
        with closing(Mirror(plan.sweep, folder, lambda text: say(console, text))) as mirror:
            found = run(mirror)
        write_status(folder, plan, FINISHED)
    except (SweepStopped, KeyboardInterrupt):
        note_status(folder, plan, STOPPED)
        raise
    except BaseException as error:
        reason = write_refusal(error)
        note_status(folder, plan, FAILED if reason is None else STOPPED, reason or str(error))
        if reason is None:
            raise
        raise SweepPaused(f"{reason}; nothing is lost: make room, or make it writable") from error
    return found


@contextmanager
def training(desk: Desk, address: str | None, listeners: Sequence[Listener]) -> Iterator["WorkerPool"]:
    """The slots, the first of which is ready.

    Raises SweepStopped if they were asked to pause, WriteError if they pause because a write was refused; SlotDied.
    """
    plan, view, clock = desk.plan, desk.view, desk.clock
    files = EventFiles(desk.folder, view.say)
    keeper = Keeper(desk.folder, plan.sweep.keep_checkpoints)
    told: list[Listener] = [desk.budget, view, desk.mirror, files, keeper, *listeners]

    def listener(event: JobEvent) -> None:
        for listens in told:
            listens(event)

    clear_deleted(desk.folder)  # what a killed driver had no time for
    prune(desk.folder, plan.sweep.keep_checkpoints)
    clock.begin("ray")
    with clock.beating(), quiet(), view, closing(files), session(plan.sweep, address, view.say):
        # after `quiet`: ray reads its environment when it is imported
        from sweeps.execution.worker_pool import WorkerPool

        check_workers = look_at_workers()
        clock.begin("slots")
        if address is not None:
            view.say(f"joined Ray at {address}: {cluster_text()}")
            if (line := slow_head(plan.sweep.slots)) is not None:
                view.say(line)
        shared = None if address is None else desk.folder
        groups = groups_of(plan.sweep, plan.space.base, num_gpus() if address is None else cluster_gpus())
        try:
            with (
                WorkerPool(plan.sweep.slots, listener, groups, shared) as slots,
                interruptible(slots.suspend, view.say),
            ):
                check_workers()  # beside the start of the slots
                slots.wait_ready(1)
                yield slots
        except Suspended as suspended:
            if str(suspended):
                raise WriteError(str(suspended)) from None
            raise SweepStopped(f"go on with it by `{resume_command(shown_path(desk.folder))}`") from None
        finally:
            clock.begin(None)


def session(sweep: SweepConfig, address: str | None, tell: Callable[[str], None]) -> AbstractContextManager[None]:
    """A Ray session: this process's if it has one; else a new one on this machine, or the one at an address."""
    settle()
    if not is_starting() and is_up():
        check_running(sweep.slots * worker_range(sweep)[1], address)
        tell(f"uses the Ray that this process has started, and leaves it running: {cluster_text()}")
    return local_ray(num_cpus(sweep)) if address is None else joined_ray(address)
