"""One run as a table has it: its row and its hyper-parameters, from the files of its folder alone."""

import math
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypedDict

from analysis.measures import PHASES, STEP_SECONDS, median_step
from analysis.names import COMPLETE, FAILED, RUN, RUNNING, TRIALS_FOLDER
from analysis.seeds import SEEDS
from analysis.trial_file import TRIAL_FILE, named_values, read_parts
from mergenet.errors import UserError
from mergenet.records.mixed import Inputs, inputs_of
from mergenet.records.quick.columns import Columns
from mergenet.records.run_record import (
    ADAPTER_PARAMETERS,
    BEST_EPOCH,
    CONFIG_FILE,
    EPOCH,
    EPOCHS_FILE,
    ERROR,
    FINISHED,
    METRIC,
    PROVENANCE_FILE,
    RESULT_FILE,
    SOURCE_BEST_EPOCH,
    STATUS,
    STOPPED,
    is_measured,
    read_columns,
    read_settings,
)

RUN_FILES = (CONFIG_FILE, PROVENANCE_FILE, EPOCHS_FILE, RESULT_FILE)
CHOSEN = (BEST_EPOCH, SOURCE_BEST_EPOCH)
_OWN_COLUMNS = ("name", "method", "seed")  # top-level settings that are not a plain run's hyper-parameters


class Run(TypedDict):
    """What the files of a run folder say, wherever it lies.

    row: a row of the table; of a run without trial.json (is_plain) neither its name nor its number is known.
    params: its hyper-parameters, by dotted path; inputs: hashes of its code and data.
    """

    is_plain: bool
    row: dict[str, Any]
    params: dict[str, Any]
    inputs: Inputs


@dataclass(frozen=True)
class Files:
    """What is in the files of a run folder, beside trial.json."""

    config: dict[str, Any]
    provenance: dict[str, Any]
    epochs: Columns
    result: dict[str, Any]


def read_table_run(path: Path) -> Run:
    """Reads a run folder. Raises UserError if it is none, or if it is damaged."""
    trial, epochs, result = read_parts(path, read_columns)
    if trial is None and path.parent.name == TRIALS_FOLDER:
        raise UserError(f"{path} must hold a {TRIAL_FILE}, as in every trial of a sweep after its first epoch")
    if trial is not None and trial["state"] == FAILED and not (path / CONFIG_FILE).exists():
        files = Files({}, {}, Columns([], {}, {}, {}, {}), {})  # it failed before its first epoch: a result too
    else:
        files = Files(*read_settings(path), epochs, result)
    about = trial or _as_trial(files)
    return {
        "is_plain": trial is None,
        "row": _row(files, about),
        "params": named_values(about["params"]),
        "inputs": inputs_of(files.provenance, files.config),
    }


def _as_trial(run: Files) -> dict[str, Any]:
    """What trial.json would say of a run of no sweep."""
    status = run.result.get(STATUS)
    return {
        "trial_id": None,
        "role": RUN,
        "state": COMPLETE if status == FINISHED else status,
        "number": None,
        "seed": run.config.get("seed"),
        "params": {k: v for k, v in run.config.items() if k not in _OWN_COLUMNS},
    }


def _row(run: Files, trial: dict[str, Any]) -> dict[str, Any]:
    outcome = _outcome(run)
    if trial["state"] == FAILED:
        outcome = {name: value for name, value in outcome.items() if name not in CHOSEN and not is_measured(name)}
    paused = trial["state"] == RUNNING and run.result.get(STATUS) == STOPPED
    return {
        "trial": trial["trial_id"],
        "role": trial["role"],
        "state": STOPPED if paused else trial["state"],  # it continues when its sweep is resumed
        "number": trial["number"],
        "seed": trial["seed"],
        "method": run.config.get("method"),
        "config_hash": run.provenance.get("config_hash"),
        METRIC: run.result.get(METRIC),
        **outcome,
        SEEDS: len(trial[SEEDS]) if SEEDS in trial else None,
        "error": trial.get("error") or run.result.get(ERROR),
    }


def _outcome(run: Files) -> dict[str, Any]:
    best, epochs = run.epochs.best, run.epochs
    values: dict[str, Any] = {BEST_EPOCH: best.get(EPOCH), ADAPTER_PARAMETERS: best.get(ADAPTER_PARAMETERS)}
    values |= {name: value for name, value in best.items() if name.startswith("target_val_")}
    # result.json holds the epoch that the run selected; a killed run may have only its epochs
    told = {name: value for name, value in run.result.items() if name in CHOSEN or is_measured(name)}
    values |= {name: value for name, value in told.items() if value is not None}
    step = median_step(epochs.steps, [epochs.times.get(phase, [None] * len(epochs)) for phase in PHASES])
    return {"epochs_done": len(epochs), **values, STEP_SECONDS: step, "seconds": _seconds(epochs)}


def _seconds(epochs: Columns) -> float:
    """All times of all epochs, without those that are no finite number."""
    times = list(chain.from_iterable(zip(*epochs.times.values(), strict=True)))
    whole = math.nan if None in times else float(sum(times))
    return whole if math.isfinite(whole) else sum(time for time in times if time is not None and math.isfinite(time))
