"""`keep_checkpoints`: of a run that has ended, only what is still needed stays. Recordings go by command."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from analysis.names import COMPLETE, PRUNED, SOURCE, TRIALS_FOLDER
from analysis.trial_file import ended_trial, trial_folders
from mergenet.config.loading import parse_config
from mergenet.errors import ConfigError, UserError
from mergenet.records.run_record import CONFIG_FILE, FINISHED, RECORDING_FILE, STATUS, read_mapping, read_result
from sweeps.trials.messages import JobEvent
from sweeps.trials.sweep_dir import (
    BASE_FILE,
    SWEEP_FILES,
    holds_ablation,
    holds_sweep,
    how_to_begin,
    locked,
    resume_command,
    status_of,
)

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
    check_sweep(folder)
    with locked(folder):
        return prune(folder, keep)


def check_sweep(folder: Path) -> None:
    if not (holds_sweep(folder) or holds_ablation(folder)):
        raise ConfigError(f"{str(folder)!r} must be a sweep folder, with {SWEEP_FILES}; {how_to_begin(folder)}")


def prune_recordings(folder: Path) -> tuple[int, int]:
    """Deletes the recordings of a sweep or an ablation that has finished: how many, and the bytes freed.

    Raises ConfigError, and deletes nothing, if it has not finished, if a driver has it, or if something unfinished
    beside it replays a recording of it.
    """
    from mergenet.records.kept import size_of  # torch

    check_sweep(folder)
    with locked(folder):
        if (status := status_of(folder)) != FINISHED:
            raise ConfigError(
                f"{str(folder)!r} must have finished before its recordings go, which its trials replay, got status "
                f"{status}; `{resume_command(folder)}` goes on with it"
            )
        if (user := next(unfinished_users(folder), None)) is not None:
            raise ConfigError(
                f"{str(folder)!r} must hold no recording that is needed, and {str(user)!r}, which has not finished, "
                "replays one; finish or delete that first"
            )
        found = [path.parent for path in folder.glob(f"{SOURCE}*/{RECORDING_FILE}")]
        freed = sum(map(size_of, found))
        for recording in found:
            (recording / RECORDING_FILE).unlink()  # first: without it the rest is no recording
            shutil.rmtree(recording)
    return len(found), freed


def unfinished_users(folder: Path) -> Iterator[Path]:
    """Sweeps, ablations and runs beside the folder that have not finished and whose source is a recording in it."""
    for other in sorted(folder.absolute().parent.iterdir()):
        for name in (BASE_FILE, CONFIG_FILE):
            if other == folder.absolute() or not (other / name).is_file():
                continue
            used = _recording_of(other / name)
            done = status_of(other) if name == BASE_FILE else _run_status(other)
            if used is not None and used.is_relative_to(folder.resolve()) and done != FINISHED:
                yield other


def _recording_of(file: Path) -> Path | None:
    """What a configuration replays. None if it cannot be read: then nothing can go on from it, either."""
    with suppress(UserError, OSError):
        used = parse_config(read_mapping(file), str(file)).source.recording
        return None if used is None else Path(used).resolve()
    return None


def _run_status(run: Path) -> str | None:
    with suppress(UserError, OSError):
        return str(read_result(run)[STATUS])
    return None


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
