"""Backfill: uploads what Weights & Biases lacks of a sweep, from the sweep's own records."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.names import SWEEP_FILE
from analysis.trial_file import begun_runs, read_outcome
from analysis.wandb_runs.tracked import SUMMARY_ROLE
from mergenet.config.yaml12 import dump_yaml_values
from mergenet.errors import ConfigError, UserError
from mergenet.records.run_record import EPOCH
from sweeps.config import SweepConfig
from sweeps.config.loading import load_sweep
from sweeps.tracking.wandb_about import config_of, ending_of, run_id, scalars
from sweeps.tracking.wandb_file import Place, is_closed, known_epochs, listed, run_files
from sweeps.tracking.wandb_mirror import why
from sweeps.tracking.wandb_run import ONLINE, NameTaken, check_key, open_run
from sweeps.tracking.wandb_whole import OfSweep, Say, Whole, fill
from sweeps.trials.files import SUMMARY_FILE, read_summary, summary_problem
from sweeps.trials.sweep_dir import SWEEP_FILES, check_metric, holds_sweep, how_to_begin, locked

if TYPE_CHECKING:
    from analysis.report.evidence import Evidence


def sync_sweep(folder: Path, mode: str, project: str | None, say: Say) -> int:
    """Bring every trial's run, and that of the sweep, to what the records say. Returns how many epochs were added.

    mode: online, or offline: into files below the sweep folder for `wandb sync`.
    Raises UserError, also if W&B has runs of other sweeps under the names of some: all others are done; RuntimeError if
    W&B refuses a run: those before it are done. A second call is safe.
    """
    if not holds_sweep(folder):
        raise ConfigError(f"{str(folder)!r} must be a sweep folder, with {SWEEP_FILES}; {how_to_begin(folder)}")
    check_project(mode, project)
    folder = folder.absolute()
    changes = [f"wandb.mode={mode}"] + ([] if project is None else [f"wandb.project={dump_yaml_values(project)}"])
    sweep = load_sweep(str(folder / SWEEP_FILE), changes)
    check_metric(sweep, folder)

    def told() -> Whole | None:
        if summary := read_summary(folder):
            return OfSweep(sweep, folder, summary, lambda: gathered(folder))
        if (folder / SUMMARY_FILE).exists():
            say(f"damaged, and left out: {summary_problem(folder)}")
        return None

    return sync_runs(sweep, folder, told, say)


def check_project(mode: str, project: str | None) -> None:
    if project is not None and mode != ONLINE:
        raise ConfigError(f"--project must go with --mode online, got {mode}; `wandb sync --project` takes one, too")


def gathered(folder: Path) -> "Evidence":
    from analysis.report.evidence import gather  # pandas, scikit-learn: seconds

    return gather(folder)


def sync_runs(sweep: SweepConfig, folder: Path, told: Callable[[], Whole | None], say: Say) -> int:
    """The same of a folder of runs that is not a sweep's. told: what its own run holds, None while there is nothing."""
    check_key(sweep)
    with locked(folder):  # not while a driver mirrors
        jobs, damaged = whole(begun_runs(folder))
        for reason in damaged:
            say(f"damaged, and left out: {reason}")
        taken: list[str] = []
        there = listed(folder)
        added = [guarded(job.name, partial(sync_run, sweep, folder, job, there), taken) for job in jobs]
        done = len(jobs) - len(taken)
        guarded(SUMMARY_ROLE, partial(sync_whole, sweep, folder, told, say), taken)
    more = f"{sum(added)} epochs were added to {sum(map(bool, added))} of them"
    say(f"{done} runs are whole {sweep.wandb.mode}, {more}")
    if taken:
        raise NameTaken("\n".join(taken))
    return sum(added)


def whole(runs: list[Path]) -> tuple[list[Path], list[str]]:
    """The run folders that can be read, and what is wrong with the others."""
    found, damaged = [], []
    for run in runs:
        try:
            read_outcome(run)
            found.append(run)
        except UserError as error:
            damaged.append(str(error))
    return found, damaged


def guarded(job: str, call: Callable[[], int], taken: list[str]) -> int:
    """taken: gets what there is to say of a name that another sweep's run has."""
    try:
        return call()
    except NameTaken as error:
        taken.append(str(error))
        return 0
    except UserError:
        raise
    except Exception as error:  # W&B raises anything from CommError to ConnectionResetError
        raise RuntimeError(
            f"W&B did not take the run {job} ({why(error)}); the same command goes on from there"
        ) from error


def sync_run(sweep: SweepConfig, folder: Path, path: Path, there: Place) -> int:
    """Syncs one run; returns how many epochs W&B lacked. there: its files, before."""
    (trial, rows, _), name = read_outcome(path), run_id(sweep, path.name)
    assert trial is not None
    if sweep.wandb.mode != ONLINE and is_closed(there, name):
        lacks = {row[EPOCH] for row in rows} - known_epochs(there, name)
        if not lacks:
            return 0
    config = config_of(path)
    about = scalars(trial | {"method": config.get("method"), "config": config}, sweep)
    mirror = open_run(sweep, folder, path.name, trial["role"], about, sweep.wandb.mode)
    added = sum(mirror.log(row) for row in rows)
    mirror.finish(ending_of(sweep, folder, trial, trial["state"], trial.get("error"), mirror.project_url))
    mark_synced(sweep, folder, name)
    return added


def sync_whole(sweep: SweepConfig, folder: Path, told: Callable[[], Whole | None], say: Say) -> int:
    if (of_all := told()) is None:
        return 0
    if sweep.wandb.mode != ONLINE and is_closed(folder, run_id(sweep, SUMMARY_ROLE)):
        return 0
    fill(open_run(sweep, folder, SUMMARY_ROLE, SUMMARY_ROLE, of_all.config(), sweep.wandb.mode), of_all, say)
    mark_synced(sweep, folder, run_id(sweep, SUMMARY_ROLE))
    return 0


def mark_synced(sweep: SweepConfig, folder: Path, name: str) -> None:
    """Sets W&B's own mark, so that a later `wandb sync` does not upload the files a second time."""
    if sweep.wandb.mode == ONLINE:
        for path in run_files(folder, name):
            path.with_suffix(".wandb.synced").touch()
