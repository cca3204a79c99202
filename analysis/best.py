"""The best trial of a table as a configuration file that `mergenet train` accepts."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.names import (
    ADAPTER_PATH,
    BASE_FILE,
    COMPLETE,
    CONFIRM_ADAPTER,
    CONFIRM_BEST,
    CONFIRM_NONE,
    CONTROL_OF,
    CONTROL_PATH,
    RECORDS,
    RUN,
    TRIAL,
    best_first,
    mode_of,
    portable_config,
)
from analysis.seeds import SEEDS, last_run
from analysis.tables.load import (
    BREAKS,
    canonical,
    is_missing,
    load_trials,
    measure_columns,
    param_columns,
    selecting_metrics,
)
from mergenet.config.loading import dump_yaml, parse_config
from mergenet.errors import UserError, unknown_name
from mergenet.records.atomic import write_text
from mergenet.records.run_record import ADAPTER_PARAMETERS, CONFIG_FILE, METRIC, is_record, read_trained, test_column

if TYPE_CHECKING:
    from analysis.statistics.paired_tests import PairedDifference


def best_trial(folder: Path, metric: str | None = None) -> pd.Series:
    """The row of `load_trials` that `choose_best` takes."""
    return choose_best(load_trials(folder), metric)


def choosing_metric(table: pd.DataFrame, metric: str | None = None) -> str:
    """The metric that ranks the runs: the given one, or the one that selects their best epochs.

    Raises UserError if it is not measured on the validation split, or the runs are of tasks with different metrics.
    """
    selecting = selecting_metrics(table[table["role"].isin((TRIAL, RUN))])
    if len(selecting) > 1 and metric not in selecting:
        raise UserError(
            "the runs must have one metric to choose by, got "
            + ", ".join(f"{name} ({count} run{'s' if count > 1 else ''})" for name, count in selecting.items())
            + "; they are of different tasks: choose among those of one with --metric"
        )
    known = [name for name in measure_columns(table) if name.startswith("target_val_")]
    if metric is not None and metric not in known:
        why = "the validation split chooses, the test split only reports"
        if metric in measure_columns(table):
            why += (
                ": the best of many runs is selected for its luck on the split that chooses, so its number is too good"
            )
        raise UserError(f"metric must be one of {', '.join(known) or '(none measured)'}, got {metric!r}; {why}")
    if metric is None and not selecting:
        raise UserError("there must be a run that has reported to choose from, got none")
    return metric or next(iter(selecting))


def choose_best(table: pd.DataFrame, metric: str | None = None) -> pd.Series:
    """The best finished trial by validation that breaks no constraint of its sweep, in the order of `best_first`.

    metric: as for `choosing_metric`. Raises UserError also if there is no such trial.
    """
    metric = choosing_metric(table, metric)
    candidates = searched(table, metric)
    if candidates.empty:
        states = table["state"][table["role"].isin((TRIAL, RUN))].value_counts()
        found = ", ".join(f"{count} {state}" for state, count in states.items()) or "no trial"
        if broke := int(table[BREAKS].notna().sum()):
            found += f"; {broke} break a constraint"
        raise UserError(f"there must be a finished trial with a {metric} to choose from, got {found}")
    return first_of_best(candidates, metric, mode_of(metric))


def first_of_best(candidates: pd.DataFrame, column: str, mode: str) -> pd.Series:
    """The row that comes first in the order of `best_first`. column: of the values; mode: "max" or "min"."""
    columns = (column, ADAPTER_PARAMETERS, "number")
    keys = [
        best_first(value, mode, 0 if is_missing(parameters) else parameters, number)
        for value, parameters, number in zip(*(candidates[name] for name in columns), strict=True)
    ]
    return candidates.iloc[min(range(len(keys)), key=keys.__getitem__)]


def named(table: pd.DataFrame, trial: str) -> pd.Series:
    """The row of a trial by its name. Raises UserError if there is none, or if it has no configuration."""
    found = table[table["trial"] == trial]
    if found.empty:
        raise UserError(unknown_name("--trial", trial, map(str, table["trial"])))
    row = found.iloc[0]
    if not (Path(row["folder"]) / CONFIG_FILE).is_file():
        raise UserError(f"--trial must be a trial that began to train, got {trial!r}, which failed before")
    return row


def searched(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The finished search trials that measured the metric and break no constraint; of plain runs, the finished ones.

    Where tasks are mixed, only those that select by it: the same name means another metric in another task.
    """
    finished = table[(table["state"] == COMPLETE) & table[BREAKS].isna()]
    role = TRIAL if (table["role"] == TRIAL).any() else RUN
    found = finished[finished["role"] == role]
    if metric not in found.columns:
        return found.iloc[:0]
    if len(selecting_metrics(found)) > 1:
        found = found[found[METRIC] == metric]
    return found[np.isfinite(found[metric].astype(float))]


def confirmed_gain(
    table: pd.DataFrame,
    best: pd.Series,
    metric: str | None = None,
    variant: str = CONFIRM_BEST,
    baseline: str = CONFIRM_NONE,
) -> "PairedDifference":
    """The gain of the best trial's settings over no transfer, on seeds that the search did not see.

    metric: the best trial's own on the test split if not given.
    variant, baseline: roles; controls and the trained adapter also have the best trial's settings, except
    transfer.control or transfer.adapter.init.
    Raises UserError if there are no such runs, they have other settings, or their seeds do not pair.
    """
    metric = metric or test_column(best[METRIC])
    confirmed = table[(table["state"] == COMPLETE) & table["role"].isin((variant, baseline))]
    if confirmed.empty:
        raise UserError("there are no finished confirmation runs")
    own = {CONFIRM_ADAPTER: ADAPTER_PATH} | dict.fromkeys(CONTROL_OF, CONTROL_PATH)
    params = [name for name in param_columns(table) if name not in (own.get(variant), own.get(baseline))]
    names = ["method", *params]
    # a search that was resumed after its confirmation may have another best trial by now
    other = [
        row["role"] != CONFIRM_NONE and any(canonical(row[name]) != canonical(best[name]) for name in names)
        for _, row in confirmed.iterrows()
    ]
    if variant not in set(confirmed["role"][[not is_other for is_other in other]]):
        raise UserError(f"there is no finished confirmation run with the settings of trial {best['trial']}")
    from analysis.statistics.paired_tests import paired_gain  # here, because SciPy is half of the time of a small table

    kept = confirmed[[not is_other for is_other in other]]
    return paired_gain(kept, baseline, variant, metric, by="role")


def write_best(folder: Path, out: Path, metric: str | None = None) -> pd.Series:
    """Write the best trial's configuration to `out`, which `mergenet train` accepts; returns its row.

    Raises UserError if there is no finished trial or `out` cannot be written.
    """
    best = best_trial(folder, metric)
    write_config(best, out)
    return best


def write_config(best: pd.Series, out: Path, comment: str = "") -> None:
    """Write a row's configuration to `out`, `comment` above it. Raises UserError if `out` cannot be written."""
    write_file(Path(out), config_text(best, comment))


def write_file(out: Path, content: str) -> None:
    """Write a text file atomically, creating its folders.

    Raises UserError if that is not possible, or would replace a record of a run or a sweep.
    """
    if is_record(out) or (out.name in RECORDS and (out.parent / BASE_FILE).is_file()):
        raise UserError(f"{out} is part of what a run or a sweep has recorded; choose another file")
    if out.is_dir():
        raise UserError(f"{out} must be a file to write, got a folder; add a file name to it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out.parent} must be a folder to write in: {error.strerror}") from error
    write_text(out, content)


def config_text(best: pd.Series, comment: str = "") -> str:
    """A row's configuration as YAML, after the lines of `comment` as YAML comments.

    Of several seeds it has the last: an ablation around it takes later ones, which did not choose it.
    """
    seeds = best.get(SEEDS, 1)
    folder = last_run(Path(best["folder"]), 1 if is_missing(seeds) else int(seeds))
    config = parse_config(portable_config(read_trained(folder).config), str(folder / CONFIG_FILE))
    return "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines()) + dump_yaml(config)
