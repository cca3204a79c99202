"""Run folders -> one table, one row per run. Reads only records, so that results outlive Ray, W&B and the machine."""

import json
import math
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.measures import STEP_SECONDS, Bounds, broken
from analysis.names import RUN, SWEEP_FILE, TRIAL, TRIALS_FOLDER
from analysis.seeds import EPOCHS_TRAINED, SD, SEEDS, folded, unfolded
from analysis.sweep_file import edited_settings, read_sweep_file
from analysis.tables.runs import RUN_FILES, Run, read_table_run
from analysis.trial_file import TRIAL_FILE, folders_in
from mergenet.errors import UserError
from mergenet.records.many_runs import Reader, read_many
from mergenet.records.mixed import mixed_inputs
from mergenet.records.run_record import (
    ADAPTER_PARAMETERS,
    BEST_EPOCH,
    MEASURE,
    METRIC,
    SOURCE_BEST_EPOCH,
    is_loss,
    measured,
)

# Every table has these columns. Between OUTCOME and COST are the measured metrics: target_val_* at the best epoch
# and target_test_* of its weights (finished runs only); of a source that also receives, source_val_METRIC and
# source_test_*. All others are hyper-parameters, by dotted path.
BREAKS = "breaks"  # the sweep's constraints that a run does not keep, as text; missing if it keeps all
ABOUT = ("trial", "role", "state", "number", "seed", "method", "config_hash", METRIC)
OUTCOME = ("epochs_done", BEST_EPOCH, SOURCE_BEST_EPOCH)  # of a source that also receives
COST = (ADAPTER_PARAMETERS, STEP_SECONDS, "seconds", BREAKS, "error", "folder")
# behind OUTCOME, only in the table of a sweep whose trials train with several seeds each
REPEATED = (SEEDS, EPOCHS_TRAINED, SD)
COLUMNS = (*ABOUT, *OUTCOME, *REPEATED, *COST)

READER = Reader(read_table_run, (*RUN_FILES, TRIAL_FILE), "table", ("analysis", "analysis.tables"))
PER_SEED = "per_seed"  # in the attributes of a table: whether its rows are the seeds of trials


def load_trials(folder: Path, per_seed: bool = False, cache: bool = True) -> pd.DataFrame:
    """One row per run of a sweep folder, of a folder of run folders, or of one run folder.

    A trial of several seeds is one row: the mean of its runs, see `analysis.seeds.folded`. per_seed: a row for each of
    its runs, of one name and told apart by `seed`, the one that trained: so trials, and no transfer, pair by seed.
    Columns: ABOUT, OUTCOME, what was measured (of each split the selecting metric first, the loss last; NaN where a
    run's task has no such metric, or the run failed), COST, then a column for each hyper-parameter: those that
    trial.json names or, where there is no trial.json, the settings in which the runs differ. Metrics are fractions (0
    to 1), seconds the sum of all phases of all epochs, step_seconds as in measures.py. Runs that cannot be read are
    left out, and reported on stderr and in `table.attrs["problems"]`; `table.attrs["mixed"]` says which code or data
    changed between the runs, and what of sweep.yaml was edited since. cache: runs whose files have not changed since
    the last look are not read again, see mergenet/records/many_runs.py.
    Raises UserError if there is no run that can be read.
    """
    folder = Path(folder)
    candidates, bounds = run_folders(folder), read_bounds(folder)
    runs, problems = _read_runs(candidates, cache)
    rows = [_row(path, number, runs[path]) for number, path in enumerate(candidates) if path in runs]
    params = [{name: value for name, value in run["params"].items() if name not in COLUMNS} for run in runs.values()]
    for problem in problems:
        print(problem, file=sys.stderr)
    if not rows and is_new(folder, candidates):
        raise UserError(no_trial(folder))
    if not rows:
        raise UserError(f"{folder} must hold a run that can be read, got {len(candidates)} broken; first {problems[0]}")
    if candidates != [folder]:
        whole = list(map(unfolded, rows)) if per_seed else folded(rows)
        params = [values for values, row in zip(params, whole, strict=True) if row is not None]
        rows = [row for row in whole if row is not None]
    rows = [row | {BREAKS: _breaks(row, bounds) if row["role"] == TRIAL and not per_seed else None} for row in rows]
    table = _table(rows, params, problems)
    table.attrs[PER_SEED] = per_seed
    changed = mixed_inputs(candidates, {path: run["inputs"] for path, run in runs.items()})
    table.attrs["mixed"] = [*edited_settings(folder), *changed]
    return table


def _read_runs(candidates: list[Path], cache: bool) -> tuple[dict[Path, Run], list[str]]:
    """The runs that can be read, in their order, and why the others cannot."""
    found = dict(zip(candidates, read_many(candidates, READER, cache), strict=True))
    problems = [f"skipped a run: {_one_line(run)}" for run in found.values() if isinstance(run, UserError)]
    return {path: run for path, run in found.items() if not isinstance(run, UserError)}, problems


def _row(path: Path, number: int, run: Run) -> dict[str, Any]:
    """number: the run's place in the folder."""
    named = {"trial": path.resolve().name, "number": number} if run["is_plain"] else {}
    return run["row"] | named | {"folder": str(path)}


def selecting_metrics(table: pd.DataFrame) -> dict[str, int]:
    """The metrics that select the runs' best epochs, with the number of runs; several where tasks are mixed."""
    return {str(name): int(count) for name, count in table[METRIC].dropna().value_counts().items()}


def run_folders(folder: Path) -> list[Path]:
    """The run folders that `folder` is or holds, by name. Raises UserError if there is none."""
    if not folder.is_dir():
        raise UserError(f"{folder} must be a sweep folder, a run folder or a folder of runs; there is no such folder")
    if _looks_like_run(folder):
        return [folder]
    trials = folder / TRIALS_FOLDER
    inside = folders_in(trials if trials.is_dir() else folder)
    # in trials/ every folder is meant to be a run, so that an empty one is reported
    found = inside if trials.is_dir() else [path for path in inside if _looks_like_run(path)]
    if not found and is_new(folder, found):
        raise UserError(no_trial(folder))
    if not found:
        raise UserError(
            f"{folder} must hold runs, found none; looked for {', '.join(RUN_FILES)} in it and in each of its "
            f"folders, and for a sweep's trials/*/{TRIAL_FILE}"
        )
    return found


def is_new(folder: Path, runs: Iterable[Path]) -> bool:
    """Whether a folder is that of a sweep of which no run has ended its first epoch."""
    return (folder / SWEEP_FILE).is_file() and not any((run / TRIAL_FILE).exists() for run in runs)


def no_trial(folder: Path) -> str:
    way_out = f"`mergenet sweep status {shlex.quote(str(folder))}` says how it stands"
    return f"{folder} must hold a trial, and this sweep has none yet: each is a row after its first epoch; {way_out}"


def read_bounds(folder: Path) -> Bounds:
    """The constraints in a sweep folder's sweep.yaml; none elsewhere. Raises UserError if it is damaged."""
    bounds = read_sweep_file(folder).get("constraints", {})
    if not isinstance(bounds, dict) or not all(isinstance(limits, dict) for limits in bounds.values()):
        must = f"{folder / SWEEP_FILE} must be a sweep file, and its constraints a mapping"
        raise UserError(f"{must}; the file is damaged")
    return bounds


def measure_columns(table: pd.DataFrame) -> list[str]:
    """The columns that hold what the runs measured on validation and test split."""
    return [column for column in table.columns if MEASURE.fullmatch(column)]


def param_columns(table: pd.DataFrame) -> list[str]:
    """The columns that hold hyper-parameters."""
    return [column for column in table.columns if column not in COLUMNS and not MEASURE.fullmatch(column)]


def varying(table: pd.DataFrame) -> list[str]:
    """The method and the hyper-parameters that differ between searched trials; one that some trials lack differs."""
    searched = table[table["role"].isin((TRIAL, RUN))]
    method = ["method"] if searched["method"].nunique() > 1 else []  # a trial that failed at once has none
    return method + [column for column in param_columns(table) if _differ(list(searched[column]))]


def _differ(values: list[Any]) -> bool:
    return any(canonical(value) != canonical(values[0]) for value in values[1:])


def is_missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def canonical(value: object) -> str:
    """A text that is equal for equal settings, including lists and mappings; 8 and 8.0 are equal."""
    if is_missing(value):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True, default=lambda v: v.item() if hasattr(v, "item") else str(v))


def _looks_like_run(path: Path) -> bool:
    return any((path / name).is_file() for name in (*RUN_FILES, TRIAL_FILE))


def _breaks(row: Mapping[str, Any], bounds: Bounds) -> str | None:
    """The constraints that a trial breaks, by the mean of its runs if it has several."""
    return "; ".join(broken(bounds, {name: row.get(name) for name in bounds})) or None


def _table(rows: list[dict[str, Any]], params: list[dict[str, Any]], problems: list[str]) -> pd.DataFrame:
    measures = _measures(rows)
    repeated = REPEATED if any(row[SEEDS] is not None for row in rows) else ()
    table = pd.DataFrame(rows, columns=[*ABOUT, *OUTCOME, *repeated, *measures, *COST])
    for column in (*measures, STEP_SECONDS, "seconds"):
        table[column] = table[column].astype(float)
    for column in (BEST_EPOCH, SOURCE_BEST_EPOCH, ADAPTER_PARAMETERS, *repeated[:2]):
        table[column] = table[column].astype("Float64").round().astype("Int64")  # whole numbers, some missing
    plain = [values for row, values in zip(rows, params, strict=True) if row["role"] == RUN]
    same = {name for values in plain for name in values if len({canonical(v.get(name)) for v in plain}) == 1}
    for row, values in zip(rows, params, strict=True):
        if row["role"] == RUN:
            for name in same:
                values.pop(name, None)
    for name in dict.fromkeys(name for values in params for name in values):
        cells = [values.get(name) for values in params]
        table[name] = pd.Series(cells, dtype=object).infer_objects()
    table.attrs["problems"] = problems
    return table


def _measures(rows: list[dict[str, Any]]) -> list[str]:
    """The columns of metrics: target before source, validation before test, selecting metrics first, losses last."""
    found = {name: match.groups() for row in rows for name in row if (match := MEASURE.fullmatch(name))}
    selecting = {measured(row[METRIC]) for row in rows if row[METRIC] is not None}

    def key(name: str) -> tuple[bool, bool, bool, bool]:
        network, split, what = found[name]
        return network == "source", split == "test", is_loss(what), what not in selecting

    return sorted(found, key=key)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
