"""Which runs are compared: folders, roles and trials of sweeps -> runs, each with the side that it belongs to."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.comparison.recipes import Recipe, in_words, varying
from analysis.names import CONFIRM_BEST, CONFIRM_NONE, CONFIRM_ROLES, ROLES, RUN, SWEEP_FILE
from analysis.tables.formatting import setting
from analysis.tables.load import load_trials
from mergenet.errors import UserError, unknown_name

SIDE, FOLDER = "side", "folder"  # columns: the side that a run belongs to, its folder


def gather(folders: Sequence[Path], roles: Sequence[str] = (), trials: Sequence[str] = ()) -> pd.DataFrame:
    """The runs of all folders, as `load_trials` per seed has them, with the column SIDE.

    Of a sweep: the runs with one of `roles` and those of `trials`; if neither is given its confirmation: no transfer,
    the best and its controls of a sweep that is alone, the best where there are several folders. The side is the role
    or the trial in a folder that is alone, else the folder, and where several are asked for both.
    Raises UserError for a folder without such runs, or one that is given twice.
    """
    if not folders:
        raise UserError("folders must name at least one folder of runs, got none")
    for role in roles:
        if role not in ROLES:
            raise UserError(unknown_name("roles (--role)", role, ROLES))
    alone, asked = len(folders) == 1, [*roles, *trials]
    parts: list[pd.DataFrame] = []
    for folder, name in zip(folders, folder_names(folders), strict=True):
        runs = chosen(folder, load_trials(folder, per_seed=True), roles, trials, alone)
        inside = selected_by(runs, trials)
        if (inside == RUN).all() or (not alone and len(asked) < 2):
            sides = dict.fromkeys(inside, name)
        else:
            sides = {what: what if alone else f"{name} {what}" for what in [*asked, CONFIRM_NONE, *inside]}
        order = list(sides)  # as asked for; no transfer before the best
        places = sorted(range(len(runs)), key=[order.index(what) for what in inside].__getitem__)
        parts.append(runs.assign(**{SIDE: inside.map(sides)}).iloc[places])
    return pd.concat(parts, ignore_index=True)


def folder_names(folders: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as tell them apart. Raises UserError for a folder that is given twice."""
    whole = [folder.resolve() for folder in folders]
    for folder in whole:
        if whole.count(folder) > 1:
            way_out = "roles (--role) or trials (--trial) are sides of one folder"
            raise UserError(f"each folder must be given once, got {folder.name} twice; {way_out}")
    most = max((len(folder.parts) for folder in whole), default=1)
    for count in range(1, most + 1):
        names = ["/".join(folder.parts[-count:]) for folder in whole]
        if len(set(names)) == len(names):
            break
    return names


def chosen(folder: Path, runs: pd.DataFrame, roles: Sequence[str], trials: Sequence[str], alone: bool) -> pd.DataFrame:
    """The runs of a folder that are compared; of a folder of plain runs all, unless `trials` names some."""
    if (runs["role"] == RUN).all() and not trials:
        return runs
    wanted = tuple(roles)
    if not roles and not trials:
        wanted = CONFIRM_ROLES if alone else (CONFIRM_BEST,)
    found = runs[runs["role"].isin(wanted) | runs["trial"].isin(trials)]
    for trial in trials:
        if trial not in set(runs["trial"]):
            raise UserError(unknown_name(f"trials (--trial) in {folder}", trial, map(str, runs["trial"].unique())))
    if found.empty:
        there = ", ".join(f"{count} {role}" for role, count in runs["role"].value_counts().items())
        waiting = f"; `mergenet sweep status {shlex.quote(str(folder))}` says how it stands"
        raise UserError(
            f"{folder} must hold runs of role {' or '.join(wanted[:2])}, got {there}; name others by roles=[...] "
            f"(--role ROLE) or trials=[...] (--trial NAME){waiting if (folder / SWEEP_FILE).is_file() else ''}"
        )
    return found


def selected_by(runs: pd.DataFrame, trials: Sequence[str]) -> pd.Series:
    """What each run was selected by: its trial's name, or its role."""
    return runs["trial"].where(runs["trial"].isin(trials), runs["role"])


def split_by(runs: pd.DataFrame, recipes: Sequence[Recipe], fields: Sequence[str]) -> pd.Series:
    """Sides by the values of settings, whatever folder the runs are in. What a run's method does not
    read is left out.

    recipes: of each run. A side is named by the value, or with several fields by `field value, ...`.
    """

    def name(found: Recipe) -> str:
        texts = [setting(found[field]) if field in found else "-" for field in fields]
        if len(fields) == 1:
            return texts[0] if texts[0] != "-" else f"method {found['method']}"
        ends = [field.rpartition(".")[2] for field in fields]
        return ", ".join(f"{end} {text}" for end, text in zip(ends, texts, strict=True) if text != "-")

    return pd.Series([name(found) for found in recipes], index=runs.index)


def check_one_recipe(runs: pd.DataFrame, recipes: Sequence[Recipe]) -> None:
    """Raises UserError, with fields and values, if the runs of a side differ in more than their seeds."""
    for side, places in runs.groupby(SIDE, sort=False).indices.items():
        own = [recipes[place] for place in places]
        if fields := varying(own):
            texts = [in_words(field, (r[field] for r in own if field in r)) for field in fields[:3]]
            more = f" and {len(fields) - 3} more" if len(fields) > 3 else ""
            raise UserError(
                f"{side} must hold runs that differ in their seeds only, got {', '.join(texts)}{more}; "
                f"by={fields[0]!r} (--by {fields[0]}) compares them, trials (--trial) or roles (--role) choose"
            )
