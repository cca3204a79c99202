"""trial.json, beside a run's own files: a run's role in its sweep, and its state. Read and written here only, sealed.

trial_id    its folder's name                  number    place in the order of draws; else of its role
role        as in names.py                     seed      of its target
params      what the search drew, by path      state     as in names.py; error: one line if it failed
"""

import os
from collections.abc import Callable, Mapping, Sized
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field

from analysis.names import COMPLETE, FAILED, PRUNED, ROLES, RUNNING, TRIALS_FOLDER
from mergenet.errors import CheckpointError, UserError
from mergenet.records.models import Record, checked
from mergenet.records.run_record import (
    EPOCHS_FILE,
    FINISHED,
    PROVENANCE_FILE,
    RESULT_FILE,
    STATUS,
    read_epochs,
    read_provenance,
    read_result,
)
from mergenet.records.sealed import read_record_if_any, write_record

TRIAL_FILE = "trial.json"
AGAIN = "`mergenet sweep resume` makes it again"

Trial = dict[str, Any]
Epochs = TypeVar("Epochs", bound=Sized)


def named_values(params: Mapping[str, Any]) -> dict[str, Any]:
    """What was drawn, by setting: of a mapping what it names, unless that was drawn by itself.

    >>> named_values({"transfer.adapter": {"kind": "linear", "rank": 4}, "transfer.adapter.rank": 8})
    {'transfer.adapter.kind': 'linear', 'transfer.adapter.rank': 8}
    """
    found: dict[str, Any] = {}
    for path, value in params.items():
        if isinstance(value, Mapping):
            inside = named_values({f"{path}.{name}": inner for name, inner in value.items()})
            found |= {name: inner for name, inner in inside.items() if name not in params}
        else:
            found[path] = value
    return found


class TrialFile(Record):
    """The types of the above."""

    trial_id: str = Field(description="text")
    role: str = Field(description=f"one of {', '.join(ROLES)}")
    params: dict[str, Any] = Field(description="a mapping")
    seed: int = Field(description="a whole number")
    number: int = Field(description="a whole number")
    state: Literal["complete", "pruned", "failed", "running"] = Field(
        description=f"one of {', '.join((COMPLETE, PRUNED, FAILED, RUNNING))}"
    )
    error: str | None = Field(None, description="text or null")
    seeds: list[int] = Field(default_factory=list, description="whole numbers")


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, by name; none if it does not exist."""
    with (
        suppress(FileNotFoundError, NotADirectoryError),
        os.scandir(folder) as entries,
    ):  # several times as fast as comparing paths
        return [folder / name for name in sorted(entry.name for entry in entries if entry.is_dir())]
    return []


def trial_folders(sweep: Path) -> list[Path]:
    """The run folders of a sweep folder that have the file, by name: what a driver goes by, who makes it again."""
    return [path.parent for path in sorted((sweep / TRIALS_FOLDER).glob(f"*/{TRIAL_FILE}"))]


def begun_runs(sweep: Path) -> list[Path]:
    """Those, and the run folders that have epochs and have lost the file, by name: what a reader goes by."""
    return [run for run in folders_in(sweep / TRIALS_FOLDER) if (run / TRIAL_FILE).exists() or _has_epochs(run)]


def _has_epochs(run: Path) -> bool:
    with suppress(OSError):
        return (run / EPOCHS_FILE).stat().st_size > 0
    return False


def read_outcome(run: Path) -> tuple[Trial | None, list[dict[str, Any]], dict[str, Any]]:
    """trial.json, the epochs and result.json of a run: what every command goes by.

    Raises CheckpointError if one of them or provenance.json is damaged, or they disagree, or a sweep's run has epochs
    and no trial.json: such a run is left out of all that is counted.
    """
    found = read_parts(run, read_epochs)
    if (run / PROVENANCE_FILE).exists():
        read_provenance(run)
    return found


def read_parts(
    run: Path, read: Callable[[Path, dict[str, Any]], Epochs]
) -> tuple[Trial | None, Epochs, dict[str, Any]]:
    """`read_outcome` with another reader of the epochs; provenance.json is left to the caller."""
    trial = read_trial_file(run)  # in this order: a run that trains writes them in the opposite one
    result = read_result(run)
    epochs = read(run, result)
    if trial is None and len(epochs) and run.parent.name == TRIALS_FOLDER:
        raise CheckpointError(
            f"{run} must hold a {TRIAL_FILE}, as in every trial of a sweep after its first epoch; {AGAIN}"
        )
    if trial is not None and trial["state"] == COMPLETE and result[STATUS] != FINISHED:
        raise CheckpointError(
            f"{run / RESULT_FILE} must say {FINISHED}, as {TRIAL_FILE} says {COMPLETE}, got {result[STATUS]} or no "
            f"file; {AGAIN}"
        )
    return trial, epochs, result


def write_trial_file(run: Path, trial: Trial) -> None:
    write_record(run / TRIAL_FILE, trial)


def trial_of(run: Path) -> Trial | None:
    """The content of the file; None if it is missing or damaged: the run's own record shows how far it got."""
    try:
        return read_trial_file(run)
    except (OSError, UserError):
        return None


def ended_trial(run: Path) -> Trial | None:
    """The same for a run that has ended, well or not; None for one that still has to train."""
    trial = trial_of(run)
    return trial if trial is not None and trial["state"] != RUNNING else None


def state_of(run: Path) -> str:
    """The state of a run; running if its file is missing or damaged."""
    trial = trial_of(run)
    return RUNNING if trial is None else str(trial["state"])


def read_trial_file(run: Path) -> Trial | None:
    """The content of the file; None if there is none. Raises CheckpointError if it is damaged or lacks a key."""
    path = run / TRIAL_FILE
    trial = read_record_if_any(path, AGAIN)
    if trial is None:
        return None
    checked(TrialFile, trial, str(path), f"the file is damaged, {AGAIN}")
    if trial["role"] not in ROLES:
        raise CheckpointError(f"{path}: role must be one of {', '.join(ROLES)}, got {trial['role']!r}; {AGAIN}")
    if run.parent.name == TRIALS_FOLDER and trial["trial_id"] != run.name:
        raise CheckpointError(f"{path} must be of {run.name}, got that of {trial['trial_id']!r}; {AGAIN}")
    return trial
