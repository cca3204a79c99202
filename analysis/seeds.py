"""Trials with several seeds: a run folder for each seed, and their mean as the trial's value.

trials/trial-003          the first seed, role trial; its trial.json lists all `seeds`
trials/trial-003-seed-2   the next one, role replicate

Only a trial that reaches its last epoch has its other seeds trained. Each folder's trial.json is about its own run, and
the state of the trial follows from all of them. With one seed per trial, trial.json lists none.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.measures import STEP_SECONDS
from analysis.names import BASELINE, COMPLETE, FAILED, PRUNED, REPLICATE, RUNNING, TRIAL
from mergenet.records.run_record import MEASURE, METRIC, STOPPED, is_value

SEEDS = "seeds"  # in trial.json of the first run: all seeds of the trial; in a table: how many a row is the mean of
EPOCHS_TRAINED = "epochs_trained"  # in a table: of all runs of the trial together
SD = "sd"  # standard deviation (n - 1) of the selecting metric over a trial's seeds
_MARK = "-seed-"


def replicate_name(trial: str, place: int) -> str:
    """place: of the seed, from 2."""
    return f"{trial}{_MARK}{place}"


def replicate_pattern(trial: str) -> str:
    """Matches the names of the run folders of its other seeds."""
    return f"{trial}{_MARK}*"


def last_run(first: Path, count: int) -> Path:
    """The run folder of a trial's last seed. first: that of its first. count: how many seeds have trained."""
    return first.with_name(replicate_name(first.name, count)) if count > 1 else first


def first_of(name: str) -> str:
    """The trial that a run belongs to; its own name unless it is a replicate."""
    return name.partition(_MARK)[0]


def is_replicate(name: str) -> bool:
    return _MARK in name


def combined(states: Sequence[str], count: int) -> str:
    """The state of a trial from those of its runs, the first seed's first; count: how many seeds it should have.

    The first run decides alone until it is complete. A trial is complete only if all its runs are.
    """
    first, *others = states
    if first != COMPLETE or count == 1:
        return first
    for state in (FAILED, PRUNED, STOPPED):
        if state in others:
            return state
    return COMPLETE if list(states).count(COMPLETE) >= count else RUNNING


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation over seeds; of one seed None."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def failure(runs: Iterable[Mapping[str, Any]]) -> str | None:
    """The error of the first run that failed, with its seed. Each run: seed, state, error."""
    return next((f"seed {run['seed']}: {run['error']}" for run in runs if run["state"] == FAILED), None)


def folded(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any] | None]:
    """One row per run -> one row per trial, that of its first seed; None in place of its replicates.

    The measures of a complete trial become the mean over seeds. If a seed is missing they are removed, because the mean
    of the others would not be comparable. A trial that stopped before keeps those of its first seed.
    """
    replicates: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["role"] == REPLICATE:
            replicates.setdefault(first_of(row["trial"]), []).append(row)
    return [None if row["role"] == REPLICATE else _fold(row, replicates.get(row["trial"], [])) for row in rows]


def unfolded(row: dict[str, Any]) -> dict[str, Any]:
    """The row of a run by itself: that of another seed under the name and the role of its trial."""
    if row["role"] != REPLICATE:
        return row | {SEEDS: None}
    name = first_of(row["trial"])
    return row | {"trial": name, "role": BASELINE if name == BASELINE else TRIAL, SEEDS: None}


def _fold(first: dict[str, Any], others: list[dict[str, Any]]) -> dict[str, Any]:
    if first[SEEDS] is None:
        return first
    runs = [first, *others]
    state = combined([run["state"] for run in runs], first[SEEDS])
    steps = [run[STEP_SECONDS] for run in runs if run.get(STEP_SECONDS) is not None]
    cost = {
        EPOCHS_TRAINED: sum(run["epochs_done"] for run in runs),
        "seconds": sum(run["seconds"] for run in runs),
        STEP_SECONDS: statistics.fmean(steps) if steps else None,
    }
    if first["state"] != COMPLETE:
        return first | cost | {SEEDS: 1}
    names = [name for name in first if MEASURE.fullmatch(name)]
    if state != COMPLETE:
        return first | cost | dict.fromkeys(names) | {"state": state, "error": failure(others), SEEDS: 0}
    values = {name: [run[name] for run in runs] for name in names if all(is_value(run.get(name)) for run in runs)}
    means = {name: statistics.fmean(found) for name, found in values.items()}
    sd = {SD: mean_and_sd(values[first[METRIC]])[1]} if first[METRIC] in values else {}
    return first | cost | dict.fromkeys(names) | means | sd | {SEEDS: len(runs)}
