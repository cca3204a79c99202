"""Which runs are compared: folders, roles and trials of sweeps -> runs, each with the side that it belongs to."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.comparison.recipes import Recipe, in_words, varying
from analysis.formatting import setting
from analysis.load import load_trials
from analysis.names import CONFIRM_BEST, CONFIRM_NONE, CONFIRM_ROLES, ROLES, RUN, SWEEP_FILE
from mergenet.errors import UserError, unknown_name

SIDE, FOLDER, GIVEN = "side", "folder", "given"  # columns: the side, the run's folder, the folder that was given


def gather(folders: Sequence[Path], roles: Sequence[str] = (), trials: Sequence[str] = ()) -> pd.DataFrame:
    """The runs of all folders, as `load_trials` per seed has them, with the columns GIVEN and SIDE.

    Of a sweep: the runs with one of `roles` and those of `trials`; if neither is given its confirmation: no transfer,
    the best and its controls of a sweep that is alone, the best where there are several folders. The side is the role
    or the trial of a folder that is alone, else the folder.
    Raises UserError for a folder without such runs, or one that is given twice.
    """
    if not folders:
        raise UserError("folders must name at least one folder of runs, got none")
    names = folder_names(folders)
    asked = [*roles, *trials]
    for role in roles:
        if role not in ROLES:
            raise UserError(unknown_name("roles (--role)", role, ROLES))
    parts = []
    for folder, name in zip(folders, names, strict=True):
        runs = chosen(folder, load_trials(folder, per_seed=True), roles, trials, len(folders) == 1)
        inside = selected_by(runs, trials)
        several = len(folders) > 1
        side = inside if not several and (inside != RUN).any() else pd.Series(name, index=runs.index)
        if several and len(asked) > 1:
            side = f"{name} " + inside
        parts.append(runs.assign(**{GIVEN: name, SIDE: side}))
    found = pd.concat(parts, ignore_index=True)
    order = list(dict.fromkeys([*asked, CONFIRM_NONE, *found[SIDE]]))
    if len(folders) == 1:  # in the order that was asked for; no transfer before the best
        found = found.sort_values(SIDE, key=lambda sides: sides.map(order.index), kind="stable", ignore_index=True)
    return found


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
