"""An ablation from start to end: reuse runs, record the source, train each variant with each seed, write the table.

Seeds come in rounds: all variants get the first seeds before any gets the next. Where variants race or hours are
limited a round is short, and what follows is decided after it, from the records alone. Runs that have ended are not
trained again, so an ablation that was killed goes on from its records and ends with the same table.
"""

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from analysis.names import COMPLETE, RUNNING
from analysis.seeds import SEEDS, first_of
from analysis.trial_file import ended_trial, read_outcome, trial_folders, trial_of, write_trial_file
from analysis.wandb_runs.tracked import SUMMARY_ROLE
from mergenet.errors import UserError
from mergenet.records.run_record import is_value
from sweeps.ablation.folder import check_free, write_adjusted, write_new
from sweeps.ablation.mirrored import OfAblation
from sweeps.ablation.plan import AblationPlan
from sweeps.ablation.race import looks
from sweeps.ablation.rejects import given_up, phases
from sweeps.ablation.results.result import AblationResult
from sweeps.ablation.reuse import Found, clear_unfinished, copy_run, find_runs
from sweeps.driver.metadata import new_folder, note_inputs, write_status
from sweeps.driver.stage import Desk, guarded, training
from sweeps.driver.steps import forget_other
from sweeps.report.live import View, say
from sweeps.tracking.wandb_about import run_id
from sweeps.tracking.wandb_file import is_closed
from sweeps.tracking.wandb_mirror import Mirror
from sweeps.trials.budget import SEARCH
from sweeps.trials.errors import SweepFailed
from sweeps.trials.files import read_state
from sweeps.trials.messages import Job, Listener
from sweeps.trials.sweep_dir import STUDY_ID, locked

if TYPE_CHECKING:
    from sweeps.execution.worker_pool import WorkerPool

Jobs = dict[str, list[Job]]  # variant -> its runs, one for each seed in order


class VariantsView(View):
    """The live view, without a leader: variants are compared when all have trained."""

    def _best_so_far(self) -> str:
        return f"seeds: {self.sweep.seeds_per_trial} of each variant"

    def _settle(self, job: str, role: str, state: str) -> None:
        self.states[job] = (role, state)


def run_ablation(
    plan: AblationPlan,
    folder: Path,
    console: Console,
    overwrite: bool,
    address: str | None,
    copy_to: str | None = None,
) -> None:
    """Begin in a new folder, and write its table in the end. copy_to, and what it raises: as `run_sweep`."""
    with new_folder(folder, check_free, overwrite, plan.ablation.name, copy_to) as folder:
        write_new(plan, folder, copy_to)
        give_id(plan, folder)
        _train(plan, folder, console, address)


def resume_ablation(
    plan: AblationPlan, folder: Path, console: Console, address: str | None, retry: bool = False
) -> None:
    """Go on in a folder that holds this ablation, perhaps with more seeds than it had. retry: what failed trains again.

    Raises as `run_sweep`.
    """
    folder = folder.absolute()
    with locked(folder):
        from sweeps.driver.repair import repair_runs  # torch

        if names := repair_runs(folder):
            say(console, f"records that were damaged are made again from the checkpoints: {', '.join(names)}")
        if retry:
            from sweeps.driver.retry import reset_failed

            note_inputs(folder, plan.as_sweep)  # first, as in a sweep
            names = reset_failed(folder)
            say(console, f"trains again: {', '.join(names)}" if names else "nothing has failed that could train again")
        write_adjusted(folder, plan)
        write_status(folder, plan.as_sweep, RUNNING)
        give_id(plan, folder)
        _train(plan, folder, console, address)


def give_id(plan: AblationPlan, folder: Path) -> None:
    """By which it knows its runs on W&B, wherever its folder is; one that has an id keeps it."""
    if not read_state(folder).get(STUDY_ID):
        write_status(folder, plan.as_sweep, RUNNING, **{STUDY_ID: uuid.uuid4().hex})


def _train(plan: AblationPlan, folder: Path, console: Console, address: str | None) -> None:
    def run(mirror: Mirror, listeners: Sequence[Listener]) -> None:
        desk = Desk.of(plan.as_sweep, folder, console, mirror, VariantsView)
        jobs = plan.jobs(folder)
        reused = reuse(plan, jobs, folder)
        for line in reused.lines():
            say(console, line)
        for found in jobs.values():
            note_seeds(found, found)
        mirror.catch_up(Path(job["folder"]) for found in jobs.values() for job in found if ended(job))
        to_train = left(plan, jobs, len(plan.seeds))
        if to_train and not spent(plan, desk):
            with training(desk, address, listeners) as slots:
                train_rounds(plan, jobs, desk, slots)
        trained = {name: [job for job in found if ended(job)] for name, found in jobs.items()}
        for name, found in trained.items():
            note_seeds(jobs[name], found)
        mirror.amend(Path(found[0]["folder"]) for found in jobs.values() if ended(found[0]))
        if not any(complete(job) for job in jobs[plan.variants[0].name]):
            raise SweepFailed(no_reference(plan, jobs))
        if to_train or reused.runs or not is_closed(folder, run_id(plan.as_sweep.sweep, SUMMARY_ROLE)):
            mirror.tell(lambda: OfAblation(plan.as_sweep.sweep, folder))

    guarded(plan.as_sweep, folder, console, (), run, lambda: AblationResult.load(folder).write())


def reuse(plan: AblationPlan, jobs: Jobs, folder: Path) -> Found:
    """Copies the runs of earlier sweeps that are the same."""
    clear_unfinished(folder)
    missing = [job for found in jobs.values() for job in found if not Path(job["folder"]).exists()]
    folders = [Path(one) for one in plan.ablation.reuse if trial_folders(Path(one))]  # one may be gone by now
    found = find_runs(missing, folders) if missing else Found()
    for job in missing:
        if job["id"] in found.runs:
            copy_run(found.runs[job["id"]], job, folder)
    return found


def train_rounds(plan: AblationPlan, jobs: Jobs, desk: Desk, slots: "WorkerPool") -> None:
    desk.clock.begin("source")
    record_sources(plan, jobs, desk, slots)
    desk.clock.begin(SEARCH)
    for count in rounds(plan):
        if spent(plan, desk):
            return
        wanted = left(plan, jobs, count)
        for job in wanted:
            forget_other(job)
            slots.submit(job)
        slots.wait([job["id"] for job in wanted])
        if count < len(plan.seeds):
            for name, at in dropped(plan, jobs, count).items():
                if at == count:
                    why = "rejected" if plan.ablation.top is not None else "clearly worse"
                    desk.view.say(f"{name}: {why} after {at} seeds, it gets no more")


def left(plan: AblationPlan, jobs: Jobs, count: int) -> list[Job]:
    """The runs that are still to train of the first `count` seeds, seed by seed: not of variants that were dropped."""
    out = dropped(plan, jobs, count - 1)
    wanted = [found[place] for place in range(count) for name, found in jobs.items() if name not in out]
    return [job for job in wanted if not ended(job)]


def spent(plan: AblationPlan, desk: Desk) -> bool:
    if not desk.budget.spent():
        return False
    desk.view.say(f"the budget of {plan.ablation.budget_hours:g} hours is spent: no further seed begins")
    return True


def rounds(plan: AblationPlan) -> Iterator[int]:
    """After how many seeds there is something to decide, and at last all of them."""
    total = len(plan.seeds)
    if plan.ablation.budget_hours is not None:
        yield from range(1, total)
    elif plan.ablation.top is not None:
        decided = dict.fromkeys([*phases(len(plan.variants) - 1, plan.ablation.seeds), plan.ablation.seeds])
        yield from (count for count in decided if count < total)
    elif plan.ablation.race:
        yield from looks(total)
    yield total


def record_sources(plan: AblationPlan, jobs: Jobs, desk: Desk, slots: "WorkerPool") -> None:
    """Raises SweepFailed if a source could not be recorded."""
    to_train = {first_of(job["id"]) for job in left(plan, jobs, len(plan.seeds))}
    wanted = [one for one in plan.sources if to_train & set(one.variants)]
    for source in wanted:
        replay = "1 variant replays" if len(source.variants) == 1 else f"{len(source.variants)} variants replay"
        desk.view.say(f"{source.name} trains once, {source.plan.text}; {replay} it")
        slots.submit(source.job(desk.folder))
    for name, outcome in slots.wait([source.name for source in wanted]).items():
        if outcome["state"] != COMPLETE:
            raise SweepFailed(f"{name} could not be recorded: {outcome['error']}")


def dropped(plan: AblationPlan, jobs: Jobs, count: int) -> dict[str, int]:
    """Variants that get no more seeds, by the first `count` of them: variant -> seeds after which."""
    curves = {name: validated(found, plan.metric) for name, found in jobs.items()}
    return given_up(plan.ablation, curves, plan.seeds[:count], plan.as_sweep.sweep.mode)


def validated(jobs: Sequence[Job], metric: str) -> dict[int, float | None]:
    """Seed -> the validation metric of the runs that have ended; None of those that failed, or have no finite one."""
    found: dict[int, float | None] = {}
    for job in filter(ended, jobs):
        try:
            value = read_outcome(Path(job["folder"]))[2].get(metric) if complete(job) else None
        except UserError:  # damaged: as good as failed
            value = None
        found[int(job["config"]["seed"])] = value if is_value(value) else None
    return found


def ended(job: Job) -> bool:
    return ended_trial(Path(job["folder"])) is not None


def complete(job: Job) -> bool:
    trial = ended_trial(Path(job["folder"]))
    return trial is not None and trial["state"] == COMPLETE


def note_seeds(jobs: Sequence[Job], trained: Sequence[Job]) -> None:
    """The first run of a variant says how many seeds it has, as that of a trial does: after more seeds, or fewer."""
    first = Path(jobs[0]["folder"])
    trial, seeds = trial_of(first), [job["config"]["seed"] for job in trained]
    if trial is not None and (len(seeds) > 1 or (seeds and SEEDS in trial)) and trial.get(SEEDS) != seeds:
        write_trial_file(first, trial | {SEEDS: seeds})


def no_reference(plan: AblationPlan, jobs: Jobs) -> str:
    first = plan.variants[0]
    trials = [ended_trial(Path(job["folder"])) for job in jobs[first.name]]
    errors = [trial["error"] for trial in trials if trial is not None and trial["error"]]
    why = errors[0] if errors else "the budget was spent before"
    return f"no run of {first.label} trained to its end, so nothing can be compared with it: {why}"
