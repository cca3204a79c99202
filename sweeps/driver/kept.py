"""`keep_checkpoints`: of a run that has ended, only what is still needed stays on the disk."""

from contextlib import suppress
from pathlib import Path

from analysis.names import COMPLETE, PRUNED, TRIALS_FOLDER
from analysis.trial_file import ended_trial, trial_folders
from mergenet.errors import ConfigError, UserError
from sweeps.trials.messages import JobEvent
from sweeps.trials.sweep_dir import SWEEP_FILES, holds_ablation, holds_sweep, how_to_begin, locked

ENDED = (COMPLETE, PRUNED)  # a run that failed may train again from its checkpoint


class Keeper:
    """Tidies each run as it ends. A listener of the worker pool: what it cannot delete is left, training goes on."""

    def __init__(self, folder: Path, keep: str) -> None:
        self.folder, self.keep = folder / TRIALS_FOLDER, keep

    def __call__(self, event: JobEvent) -> None:
        if event["event"] == "ended" and event["state"] in ENDED:
            tidy_run(self.folder / event["job"], self.keep)


def prune(folder: Path, keep: str) -> tuple[int, int]:
    """Tidies all runs of a sweep folder that have ended: how many runs gave something, and the bytes freed.

    For the folder's one driver: what a killed one had no time for, and `mergenet sweep prune`.
    """
    freed = [tidy_run(run, keep) for run in trial_folders(folder) if _has_ended(run)]
    return sum(size > 0 for size in freed), sum(freed)


def prune_sweep(folder: Path, keep: str) -> tuple[int, int]:
    """`prune` for a folder that nobody works on. Raises ConfigError if there is no sweep, or a driver has it."""
    if not (holds_sweep(folder) or holds_ablation(folder)):
        raise ConfigError(f"{str(folder)!r} must be a sweep folder, with {SWEEP_FILES}; {how_to_begin(folder)}")
    with locked(folder):
        return prune(folder, keep)


def _has_ended(run: Path) -> bool:
    trial = ended_trial(run)
    return trial is not None and trial["state"] in ENDED


def tidy_run(run: Path, keep: str) -> int:
    from mergenet.records.kept import keep_only  # torch

    if keep == "all" or not run.is_dir():
        return 0
    with suppress(UserError, OSError):
        return keep_only(run, keep)
    return 0
