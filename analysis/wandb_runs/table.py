"""`wandb:...` instead of a folder: the table of a sweep whose folder is elsewhere, from W&B alone."""

import re
import tempfile
from pathlib import Path

import pandas as pd

from analysis.names import RUNNING
from analysis.tables.load import load_trials
from analysis.wandb_runs.folder import ENDED, is_own, state_of, write_sweep
from analysis.wandb_runs.notes import notes
from analysis.wandb_runs.offline import read_offline
from analysis.wandb_runs.online import read_online
from analysis.wandb_runs.tracked import TRIAL_ID, TrackedRun
from mergenet.errors import UserError

PREFIX = "wandb:"
PLACE = re.compile(r"([\w.-]+)/([\w.-]+)/([\w.-]+)")


def load_wandb(place: str, per_seed: bool = False) -> pd.DataFrame:
    """The table of a sweep on W&B, as `analysis.load_trials` has it of a folder.

    place: "ENTITY/PROJECT/GROUP", or a folder with the client's `.wandb` files; "wandb:" may stand before it. The group
    of a sweep is its name. Column `folder` has each run's URL, or its file, and `state` also what only W&B knows, such
    as crashed. `table.attrs["mixed"]` has a sentence for the runs that still train, crashed, were renamed or lack
    epochs, and for those that are not of the sweep. Settings that were not searched are not on W&B.
    Raises UserError if there is no such group or folder, or W&B cannot be read.
    """
    place = place.removeprefix(PREFIX)
    found = read(place)
    runs = own_runs(place, found)
    with tempfile.TemporaryDirectory() as scratch:
        write_sweep(list(runs.values()), Path(scratch))
        table = load_trials(Path(scratch), per_seed, cache=False)
    names = [Path(folder).name for folder in table["folder"]]
    table["state"] = [shown_state(own, state_of(runs[name])) for own, name in zip(table["state"], names, strict=True)]
    table["folder"] = [runs[name].place for name in names]
    table.attrs["mixed"] = [*table.attrs["mixed"], *notes(found, list(runs.values()))]
    return table


def read(place: str) -> list[TrackedRun]:
    """All runs there. Raises UserError."""
    if (folder := Path(place).expanduser()).is_dir():
        return read_offline(folder)
    if (parts := PLACE.fullmatch(place)) is None:
        raise UserError(
            f"{PREFIX}{place} must be {PREFIX}ENTITY/PROJECT/GROUP, or {PREFIX}DIR with a folder of .wandb files; no "
            "such folder is there"
        )
    return read_online(*parts.groups())


def own_runs(place: str, found: list[TrackedRun]) -> dict[str, TrackedRun]:
    """The runs of the sweep by trial_id; of several with one the sweep's own, the others being copies.

    Raises UserError if there is none, or the runs are those of several sweeps.
    """
    runs = [run for run in found if is_own(run)]
    groups = sorted({run.group for run in runs})
    if len(groups) != 1:
        got = f"runs of {', '.join(groups)}; name the folder of one" if groups else f"{len(found)} runs of other origin"
        raise UserError(f"{PREFIX}{place} must hold the runs of one sweep, got {got}")
    first = sorted(runs, key=lambda run: run.id != f"{run.group}-{run.config[TRIAL_ID]}")
    return {run.config[TRIAL_ID]: run for run in reversed(first)}


def shown_state(own: str, on_wandb: str) -> str:
    """own: of the trial, by all its seeds; on_wandb: of its first run."""
    return on_wandb if own == RUNNING and on_wandb not in ENDED else own
