"""From a table of trials back to a configuration: the best trial as a file that `mergenet train` accepts."""

from pathlib import Path

import pandas as pd

from analysis.compare import PairedDifference, paired_gain
from analysis.load import VALIDATION, canonical, is_missing, load_trials, param_columns
from analysis.trials import COMPLETE, CONFIRM_BEST, CONFIRM_NONE, RUN, TRIAL, best_first, portable_config
from mergenet.configfile import dump_yaml, parse_config
from mergenet.errors import UserError
from mergenet.files import write_text
from mergenet.record import (
    ADAPTER_PARAMETERS,
    CONFIG_FILE,
    TARGET_TEST_TOP1,
    TARGET_VAL_LOSS,
    TARGET_VAL_TOP1,
    read_run,
)


def best_trial(folder: Path, metric: str = TARGET_VAL_TOP1) -> pd.Series:
    """The row of `load_trials` that `choose_best` takes."""
    return choose_best(load_trials(folder), metric)


def choose_best(table: pd.DataFrame, metric: str = TARGET_VAL_TOP1) -> pd.Series:
    """The best finished trial by validation, in the order of `best_first`.

    Raises UserError if the metric is not measured on the validation split, or if no trial finished.
    """
    if metric not in VALIDATION:
        raise UserError(
            f"metric must be one of {', '.join(VALIDATION)}, got {metric!r}; "
            "the validation split chooses, the test split only reports"
        )
    candidates = searched(table).dropna(subset=[metric])
    if candidates.empty:
        states = table["state"][table["role"].isin((TRIAL, RUN))].value_counts()
        found = ", ".join(f"{count} {state}" for state, count in states.items()) or "no trial"
        raise UserError(f"there must be a finished trial with a {metric} to choose from, got {found}")
    mode = "min" if metric == TARGET_VAL_LOSS else "max"

    def key(place: int) -> tuple[float, float, int]:
        row = candidates.iloc[place]
        parameters = row[ADAPTER_PARAMETERS]
        return best_first(row[metric], mode, 0 if is_missing(parameters) else parameters, row["number"])

    return candidates.iloc[min(range(len(candidates)), key=key)]


def searched(table: pd.DataFrame) -> pd.DataFrame:
    """The finished search trials; in a folder of plain runs, the finished runs."""
    finished = table[table["state"] == COMPLETE]
    role = TRIAL if (table["role"] == TRIAL).any() else RUN
    return finished[finished["role"] == role]


def confirmed_gain(table: pd.DataFrame, best: pd.Series, metric: str = TARGET_TEST_TOP1) -> PairedDifference:
    """The gain of the best trial's settings over no transfer, on seeds that the search did not see.

    Raises UserError if there are no such runs, they confirm other settings, or their seeds do not pair.
    """
    confirmed = table[(table["state"] == COMPLETE) & table["role"].isin((CONFIRM_BEST, CONFIRM_NONE))]
    if confirmed.empty:
        raise UserError("there are no finished confirmation runs")
    names = param_columns(table)
    # a search that went on after its confirmation may have another best trial by now
    other = [
        row["role"] == CONFIRM_BEST and any(canonical(row[name]) != canonical(best[name]) for name in names)
        for _, row in confirmed.iterrows()
    ]
    if CONFIRM_BEST not in set(confirmed["role"][[not is_other for is_other in other]]):
        raise UserError(f"there is no finished confirmation run with the settings of trial {best['trial']}")
    kept = confirmed[[not is_other for is_other in other]]
    return paired_gain(kept, CONFIRM_NONE, CONFIRM_BEST, metric, by="role")


def write_best(folder: Path, out: Path, metric: str = TARGET_VAL_TOP1) -> pd.Series:
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
    """Write a text file atomically, its folders made. Raises UserError if that is not possible."""
    if out.is_dir():
        raise UserError(f"{out} must be a file to write, got a folder; add a file name to it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out.parent} must be a folder to write in: {error.strerror}") from error
    write_text(out, content)


def config_text(best: pd.Series, comment: str = "") -> str:
    """A row's configuration as YAML, each line of `comment` above it behind a #."""
    folder = Path(best["folder"])
    config = parse_config(portable_config(read_run(folder).config), str(folder / CONFIG_FILE))
    return "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines()) + dump_yaml(config)
