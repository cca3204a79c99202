"""The steps of a sweep, which all train in its slots: record the source, search, confirm."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.names import (
    COMPLETE,
    CONFIRM_ADAPTER,
    CONTROL_OF,
    FAILED,
    SOURCE,
    TRIALS_FOLDER,
    portable_config,
)
from analysis.trial_file import folders_in, state_of, trial_of
from mergenet.config import Config
from mergenet.config.loading import load_config
from mergenet.errors import UserError
from mergenet.records.provenance import config_hash
from mergenet.records.run_deletion import delete_run
from mergenet.records.run_record import CONFIG_FILE
from sweeps.config.choices import SAMPLER_FACTS
from sweeps.execution.scratch import scratch_folder
from sweeps.planning.plan import Plan, adapter_seeds, fresh_seeds
from sweeps.report.live import View
from sweeps.report.page import load_page
from sweeps.report.plan_text import warm_lines
from sweeps.study.warm_start import load_warm_start
from sweeps.tracking.wandb_file import forget
from sweeps.trials.errors import SweepFailed
from sweeps.trials.files import read_state
from sweeps.trials.jobs import Jobs, no_controls
from sweeps.trials.messages import Job
from sweeps.trials.results import best_record

if TYPE_CHECKING:
    from sweeps.execution.worker_pool import WorkerPool  # ray, which reads its environment when it is imported


FOR_SEARCH = (
    "ray.tune",
    "sweeps.driver.rebuild_study",
    "sweeps.execution.relay",
    "sweeps.execution.tune_callbacks",
    "sweeps.execution.tune_searcher",
    "sweeps.schedulers.early_stopping",
    "sweeps.study.study",
    "sqlalchemy.orm",  # these two by Optuna, once it makes a study
    "alembic.command",
)


def submit_source(plan: Plan, jobs: Jobs, slots: "WorkerPool", view: View) -> None:
    """Submit the training of the source, if it can be recorded, and print what happens."""
    if not plan.source.record:
        view.say(f"the source {plan.source.reason}")
        return
    view.say(f"the source trains once, {plan.source.text}; all trials replay it")
    slots.submit(jobs.source(plan.source))


def wait_source(plan: Plan, slots: "WorkerPool") -> None:
    """Raises SweepFailed if the source could not be recorded."""
    if not plan.source.record:
        return
    outcome = slots.wait([SOURCE])[SOURCE]
    if outcome["state"] == FAILED:
        raise SweepFailed(f"the source could not be recorded: {outcome['error']}")


def load_search() -> None:
    """Import what `search` needs: seconds, which the training of the source hides."""
    for module in FOR_SEARCH:
        import_module(module)
    gc.collect()  # before `heap_apart`


@contextmanager
def heap_apart() -> Iterator[None]:
    """Inside, garbage collection passes over what is there already, mostly modules.

    With Ray and torch loaded it would take half a second each time, in which no trial hears whether it may go on.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def search(
    plan: Plan,
    jobs: Jobs,
    slots: "WorkerPool",
    spent: Callable[[], bool],
    shared: Path | None,
    say: Callable[[str], None],
) -> None:
    """The trials, drawn by Optuna until the budget is spent, scheduled by Tune, trained in the slots."""
    from ray import tune

    from sweeps.driver.rebuild_study import lost_trials
    from sweeps.execution.relay import light, relay_for  # after Tune
    from sweeps.execution.seeds import mark_stopped, outcome_of
    from sweeps.execution.tune_callbacks import Silent, Started, StopJobs, StopWhenDead
    from sweeps.execution.tune_searcher import StudySearch
    from sweeps.schedulers.early_stopping import build_scheduler
    from sweeps.study.storage import storage_errors
    from sweeps.study.study import SweepStudy

    sweep = plan.sweep
    warm = load_warm_start(jobs.folder)
    for line in warm_lines(warm.facts()):
        say(line)
    study = SweepStudy(sweep, plan.space, sweep.mode, jobs.folder, warm.trials)
    with storage_errors(sweep.storage, jobs.folder):
        if lost := lost_trials(jobs.folder, plan.space, {drawn.index for drawn in study.known()}):
            study.restore(lost)
            again = "; its generations begin again" if SAMPLER_FACTS[sweep.sampler].generations else ""
            say(f"the study lacked {len(lost)} trials, which are made again from their records{again}")
        study.reconcile(lambda drawn: outcome_of(jobs, jobs.trial(drawn.index, drawn.params), sweep))
        searcher = StudySearch(
            study,
            sweep.mode,
            sweep.num_trials,
            slots.closed,
            slots.paused,
            spent=spent,
            trouble=slots.suspend,
            lost=slots.die,
        )

    def mark() -> None:
        if jobs.seeds:
            mark_stopped(jobs.trial(drawn.index, drawn.params) for drawn in study.pruned())

    mark()  # what a killed driver had no time for

    with scratch_folder(shared) as scratch, light(), heap_apart():
        tuner = tune.Tuner(
            relay_for(jobs, slots.name, sweep),
            tune_config=tune.TuneConfig(
                num_samples=sweep.num_trials,
                max_concurrent_trials=sweep.slots,
                search_alg=searcher,
                scheduler=build_scheduler(study, plan.epochs, say),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=sweep.name,
                storage_path=str(scratch),
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # a relay has nothing to save
                callbacks=[StopJobs(slots.queue, sweep.seeds_per_trial), Started(searcher.on_trial_start), Silent()],
                stop=StopWhenDead(lambda: slots.died is not None),
            ),
        )
        tuner.fit()
    with searcher.kept():
        study.flush()
    slots.wait_unfinished()
    mark()


def adapter_trainings(plan: Plan, jobs: Jobs, best: dict[str, Any]) -> list[Job]:
    """The runs that train the best configuration's adapter, in order; none if it has no adapter that learns."""
    config = portable_config(best_record(jobs.folder, best).config)
    return [] if no_controls(config) else jobs.adapter_trainings(config, best["params"], adapter_seeds(plan))


def train_adapter(
    trainings: list[Job], wanted: list[Job], slots: "WorkerPool", say: Callable[[str], None]
) -> list[Job]:
    """Train the adapter, one run after another. Returns those of the wanted confirmations that can be trained then.

    What confirmed an adapter of other seeds, as before confirm_seeds was raised, is forgotten with it.
    """
    if any(map(is_other, trainings)):
        for job in wanted:
            if job["role"] == CONFIRM_ADAPTER and Path(job["folder"]).exists():
                forget_run(Path(job["folder"]))
    for job in trainings:
        forget_other(job)
        names = submit_unless_failed([job], slots)
        state = slots.wait(names)[job["id"]]["state"] if names else FAILED
        if state != COMPLETE:
            say(f"no adapter was trained over adapter_seeds: {job['id']} has {state}; the rest is confirmed")
            return [other for other in wanted if other["role"] != CONFIRM_ADAPTER]
    return wanted


def confirmations(plan: Plan, jobs: Jobs, best: dict[str, Any], trainings: Sequence[Job] = ()) -> list[Job]:
    """The best configuration, no transfer, the trained adapter and the controls, each with the same fresh seeds."""
    config = portable_config(best_record(jobs.folder, best).config)
    possible = {role: not no_controls(config) for role in CONTROL_OF} | {CONFIRM_ADAPTER: bool(trainings)}
    roles = [role for role in plan.sweep.confirm_roles if possible.get(role, True)]
    adapter = trainings[-1]["folder"] if trainings else None
    return [
        jobs.confirmation(role, config, best["params"], number, seed, adapter)
        for number, seed in enumerate(fresh_seeds(plan), start=1)
        for role in roles
    ]


def confirm(wanted: list[Job], folder: Path, slots: "WorkerPool") -> None:
    """wanted: of `confirmations`; folder: the sweep's."""
    forget_variants(folder, {job["id"] for job in wanted})
    for job in wanted:
        forget_other(job)
    names = submit_unless_failed(wanted, slots)
    load_page()  # for the end of the sweep: seconds, which the confirmation hides
    slots.wait(names)


def submit_unless_failed(wanted: Sequence[Job], slots: "WorkerPool") -> list[str]:
    """Submit all but those that failed before, as a failed trial is not trained again. Returns their names."""
    jobs = [job for job in wanted if state_of(Path(job["folder"])) != FAILED]
    for job in jobs:
        slots.submit(job)
    return [job["id"] for job in jobs]


def forget_variants(folder: Path, wanted: set[str]) -> None:
    """Delete the controls and the trained adapter of an earlier best trial, where the best can have none."""
    for run in folders_in(folder / TRIALS_FOLDER):
        if run.name not in wanted and role_of(run) in (*CONTROL_OF, CONFIRM_ADAPTER):
            forget_run(run)


def role_of(run: Path) -> str:
    """By trial.json, or by its name if it has lost that, as where an earlier version was killed deleting it."""
    trial = trial_of(run)
    return run.name.rpartition("-")[0].replace("-", "_") if trial is None else str(trial["role"])


def forget_other(job: Job) -> None:
    """Delete a confirmation of an earlier best trial: after a retry another one may be the best."""
    if is_other(job):
        forget_run(Path(job["folder"]))


def is_other(job: Job) -> bool:
    """Whether a job's folder holds a run of another configuration, or of one that is damaged."""
    file = Path(job["folder"]) / CONFIG_FILE
    if not file.is_file():
        return False
    try:
        return config_hash(load_config(str(file))) != config_hash(Config.model_validate(job["config"]))
    except UserError:
        return True


def forget_run(run: Path) -> None:
    """Delete a run folder, and what W&B's files hold of it: a run that trains anew has other epochs."""
    folder = run.parent.parent
    forget(folder, f"{read_state(folder).get('name')}-{run.name}")
    delete_run(run, folder)
