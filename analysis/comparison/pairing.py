"""Pairs of runs: of each side the finished run of a seed and data split, and which pairs may be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison.recipes import PAIR_KEY, TASK, Recipe, in_words, other_inputs, varying
from analysis.comparison.sides import FOLDER, SIDE
from analysis.names import COMPLETE, RUN
from analysis.tables.load import canonical
from mergenet.errors import UserError
from mergenet.records.provenance import environment_changes
from mergenet.records.run_record import read_provenance

Key = tuple[int, ...]  # the values of PAIR_KEY
LISTED = 8  # seeds, and 4 settings, that a message lists


@dataclass(frozen=True)
class Pairs:
    """runs: side -> key -> row; every side has the same keys, in order. left_out: label of a seed -> why."""

    runs: dict[str, dict[Key, pd.Series]]
    labels: dict[Key, str]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> list[Key]:
        return list(next(iter(self.runs.values())))

    def values(self, side: str, metric: str) -> np.ndarray:
        return np.array([float(row[metric]) for row in self.runs[side].values()])


def pair(runs: pd.DataFrame, recipes: Mapping[str, Recipe], metric: str, common: bool = False) -> Pairs:
    """The finished runs of each side by seed and data split.

    recipes: by the run's folder. common: leaves out seeds that a side lacks.
    Raises UserError if a seed occurs twice in a side, or, unless `common`, is missing in one.
    """
    keys = {folder: tuple(found[path] for path in PAIR_KEY) for folder, found in recipes.items()}
    labels = _labels(set(keys.values()))
    sides: dict[str, dict[Key, pd.Series]] = {side: {} for side in runs[SIDE].unique()}
    why: dict[tuple[str, Key], str] = {}
    for _, row in runs.iterrows():
        side, key = row[SIDE], keys[row[FOLDER]]
        if key in sides[side]:
            both = f"{_place(sides[side][key])} and {_place(row)}"
            raise UserError(f"{side} must have one run a seed, got two of seed {labels[key]}: {both}; leave one out")
        if problem := _unusable(row, metric):
            why[side, key] = problem
        else:
            sides[side][key] = row
    for side, found in sides.items():
        if not found:
            got = ", ".join(sorted({text for (name, _), text in why.items() if name == side}))
            raise UserError(f"{side} must hold a finished run with a {metric}, got only {got}")
    return _aligned(sides, labels, why, common)


def _labels(keys: set[Key]) -> dict[Key, str]:
    """`3`; `3 (target.seed 5, target.data.split_seed 1)` where these are not the same for all, or the run's."""
    own = any(key[0] != key[1] for key in keys)
    splits = len({key[2] for key in keys}) > 1
    labels = {}
    for key in sorted(keys):
        more = [f"{PAIR_KEY[1]} {key[1]}"] * own + [f"{PAIR_KEY[2]} {key[2]}"] * splits
        labels[key] = f"{key[0]} ({', '.join(more)})" if more else str(key[0])
    return labels


def _unusable(row: pd.Series, metric: str) -> str:
    """Why a run has no value to compare; empty if it has one."""
    if row["state"] != COMPLETE:
        return str(row["state"])
    value = row.get(metric)
    return "" if value is not None and np.isfinite(float(value)) else f"{metric} {value}"


def _place(row: pd.Series) -> str:
    path = Path(row[FOLDER])
    return path.name if row["role"] != RUN else "/".join(path.parts[-2:])


def _aligned(
    sides: dict[str, dict[Key, pd.Series]], labels: dict[Key, str], why: dict[tuple[str, Key], str], common: bool
) -> Pairs:
    every = [key for key in labels if any(key in found for found in sides.values()) or any(key == k for _, k in why)]
    shared = [key for key in every if all(key in found for found in sides.values())]
    lacking = {side: [key for key in every if key not in found] for side, found in sides.items()}
    told = [
        f"{side} lacks seed {_listed([_with(labels[key], why.get((side, key))) for key in keys])}"
        for side, keys in lacking.items()
        if keys
    ]
    if told and not common:
        left = f", {len(shared)} of {len(every)}" if shared else ", but there are none"
        raise UserError(
            f"seeds must pair: {'; '.join(told)}; train these, or compare the seeds that all sides have{left}, with "
            "common=True (--common)"
        )
    if not shared:
        raise UserError(f"the sides must share a seed: {'; '.join(told)}; train the same seeds on each side")
    gone = {
        labels[key]: ", ".join(_with(side, why.get((side, key))) for side, found in sides.items() if key not in found)
        for key in every
        if key not in shared
    }
    return Pairs({side: {key: found[key] for key in shared} for side, found in sides.items()}, labels, gone)


def _with(text: str, reason: str | None) -> str:
    return f"{text} ({reason})" if reason else text


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - LISTED} more" if len(texts) > LISTED else ""
    return f"{', '.join(texts[:LISTED])}{more}"


def compared_settings(pairs: Pairs, recipes: Mapping[str, Recipe], by: Sequence[str] = ()) -> dict[str, list[Any]]:
    """The settings in which runs of one seed differ, each with its values in the order of the sides.

    by: what is compared; if it is not given, whatever differs is, but for task and data.
    Raises UserError, with fields and values, if the runs differ in anything else.
    """
    found: dict[str, dict[str, Any]] = {}
    for key in pairs.keys:
        own = [recipes[runs[key][FOLDER]] for runs in pairs.runs.values()]
        for name in varying(own, PAIR_KEY):
            found.setdefault(name, {}).update({canonical(one[name]): one[name] for one in own if name in one})
    values = {name: list(inside.values()) for name, inside in found.items()}
    wrong = [name for name in values if name not in by] if by else [n for n in values if n.startswith(TASK)]
    if wrong:
        texts = ", ".join(in_words(name, values[name]) for name in wrong[:4])
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        alike = f"all but {', '.join(by)}" if by else "task and data"
        both = [*by, wrong[0]]
        raise UserError(
            f"the runs of a seed must be alike in {alike}, got {texts}{more}; "
            f"by={both} ({' '.join(f'--by {name}' for name in both)}) compares that too"
        )
    return values


def check_inputs(pairs: Pairs, baseline: str, compared: Sequence[str]) -> None:
    """Raises UserError if the runs of a pair come from other data, starting weights or code of the user."""
    for side, runs in pairs.runs.items():
        for key, row in runs.items():
            first = pairs.runs[baseline][key]
            if found := other_inputs(Path(first[FOLDER]), Path(row[FOLDER]), compared):
                raise UserError(
                    f"the runs of a seed must come from the same data and code, got at seed {pairs.labels[key]} "
                    f"of {side}: {', '.join(found)}, the other being {baseline}'s; train them again from one state"
                )


def trained_elsewhere(pairs: Pairs, baseline: str) -> list[str]:
    """A line for each side whose runs ended with another version, machine or number of threads than the baseline's."""
    lines = []
    for side, runs in pairs.runs.items():
        found: dict[str, None] = {}
        for key, row in runs.items():
            first = read_provenance(Path(pairs.runs[baseline][key][FOLDER]))
            found |= dict.fromkeys(environment_changes(first, read_provenance(Path(row[FOLDER]))))
        if found:
            more = f" and {len(found) - 4} more" if len(found) > 4 else ""
            changed = f"{', '.join(list(found)[:4])}{more}"
            lines.append(f"{side} was trained with another version or machine than {baseline}: {changed}")
    return lines
