"""Backfill: uploads what Weights & Biases lacks of a sweep, from the sweep's own records."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from analysis.names import SWEEP_FILE
from analysis.trial_file import begun_runs, read_outcome
from analysis.wandb_runs.tracked import SUMMARY_ROLE
from mergenet.config.yaml12 import dump_yaml_values
from mergenet.errors import CheckpointError, ConfigError, UserError
from mergenet.records.run_record import EPOCH, read_run
from sweeps.config import SweepConfig
from sweeps.config.loading import load_sweep
from sweeps.tracking.wandb_about import ending_of, run_id, scalars
from sweeps.tracking.wandb_artifacts import log_artifacts
from sweeps.tracking.wandb_file import is_closed, known_epochs, run_files
from sweeps.tracking.wandb_mirror import one_line
from sweeps.tracking.wandb_run import ONLINE, check_key, open_run
from sweeps.tracking.wandb_summary import how_it_ended, log_summary, table_config
from sweeps.tracking.wandb_workspace import make_workspace
from sweeps.trials.files import SUMMARY_FILE, read_summary, summary_problem
from sweeps.trials.sweep_dir import SWEEP_FILES, check_metric, holds_sweep, how_to_begin, locked


def sync_sweep(folder: Path, mode: str, project: str | None, say: Callable[[str], None]) -> int:
    """Bring every trial's run, and that of the sweep, to what the records say. Returns how many epochs were added.

    mode: online, or offline: into files below the sweep folder for `wandb sync`.
    Raises UserError; RuntimeError if W&B refuses a run: those before it are done, and a second call is safe.
    """
    if not holds_sweep(folder):
        raise ConfigError(f"{str(folder)!r} must be a sweep folder, with {SWEEP_FILES}; {how_to_begin(folder)}")
    if project is not None and mode != ONLINE:
        raise ConfigError(f"--project must go with --mode online, got {mode}; `wandb sync --project` takes one, too")
    folder = folder.absolute()
    changes = [f"wandb.mode={mode}"] + ([] if project is None else [f"wandb.project={dump_yaml_values(project)}"])
    sweep = load_sweep(str(folder / SWEEP_FILE), changes)
    check_metric(sweep, folder)
    check_key(sweep)
    with locked(folder):  # not while a driver mirrors
        jobs, damaged = whole(begun_runs(folder))
        for reason in damaged:
            say(f"damaged, and left out: {reason}")
        added = [guarded(job.name, partial(sync_run, sweep, folder, job)) for job in jobs]
        if summary := read_summary(folder):
            guarded(SUMMARY_ROLE, lambda: sync_summary(sweep, folder, summary, say))
        elif (folder / SUMMARY_FILE).exists():
            say(f"damaged, and left out: {summary_problem(folder)}")
    say(f"{len(jobs)} runs are whole {mode}, {sum(added)} epochs were added to {sum(map(bool, added))} of them")
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


def guarded(job: str, call: Callable[[], int]) -> int:
    try:
        return call()
    except UserError:
        raise
    except Exception as error:  # W&B raises anything from CommError to ConnectionResetError
        raise RuntimeError(
            f"W&B did not take the run {job} ({one_line(error)}); the same command goes on from there"
        ) from error


def sync_run(sweep: SweepConfig, folder: Path, path: Path) -> int:
    """Syncs one run; returns how many epochs W&B lacked."""
    (trial, rows, _), name = read_outcome(path), run_id(sweep, path.name)
    assert trial is not None
    if sweep.wandb.mode != ONLINE and is_closed(folder, name):
        lacks = {row[EPOCH] for row in rows} - known_epochs(folder, name)
        if not lacks:
            return 0
    try:
        config = read_run(path).config
    except CheckpointError:  # failed before its run began
        config = {}
    about = scalars(trial | {"method": config.get("method"), "config": config}, sweep)
    mirror = open_run(sweep, folder, path.name, trial["role"], about, sweep.wandb.mode)
    added = sum(mirror.log(row) for row in rows)
    mirror.finish(ending_of(sweep, folder, trial, trial["state"], trial["error"], mirror.project_url))
    mark_synced(sweep, folder, name)
    return added


def sync_summary(sweep: SweepConfig, folder: Path, summary: dict[str, Any], say: Callable[[str], None]) -> int:
    if sweep.wandb.mode != ONLINE and is_closed(folder, run_id(sweep, SUMMARY_ROLE)):
        return 0
    mirror = open_run(sweep, folder, SUMMARY_ROLE, SUMMARY_ROLE, table_config(summary), sweep.wandb.mode)
    log_summary(mirror.run, summary)
    if not mirror.run.offline:
        log_artifacts(mirror.run, sweep, folder, summary, say)
        make_workspace(mirror.run, sweep, summary, say)
    mirror.finish(how_it_ended(summary, sweep, folder, mirror.project_url))
    mark_synced(sweep, folder, run_id(sweep, SUMMARY_ROLE))
    return 0


def mark_synced(sweep: SweepConfig, folder: Path, name: str) -> None:
    """Sets W&B's own mark, so that a later `wandb sync` does not upload the files a second time."""
    if sweep.wandb.mode == ONLINE:
        for path in run_files(folder, name):
            path.with_suffix(".wandb.synced").touch()
