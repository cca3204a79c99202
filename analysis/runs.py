"""One run as a table has it: its row and its hyper-parameters, from the files of its folder alone."""

import math
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict

from analysis.measures import STEP_SECONDS, step_seconds
from analysis.names import COMPLETE, FAILED, RUN, RUNNING, TRIALS_FOLDER
from analysis.seeds import SEEDS
from analysis.trial_file import TRIAL_FILE, named_values, read_outcome
from mergenet.errors import UserError
from mergenet.records.mixed import Inputs, inputs_of
from mergenet.records.run_record import (
    ADAPTER_PARAMETERS,
    BEST_EPOCH,
    CONFIG_FILE,
    EPOCH,
    EPOCHS_FILE,
    ERROR,
    FINISHED,
    MEASURE,
    METRIC,
    PROVENANCE_FILE,
    RESULT_FILE,
    SOURCE_BEST_EPOCH,
    STATUS,
    STOPPED,
    RunRecord,
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


def read_table_run(path: Path) -> Run:
    """Reads a run folder. Raises UserError if it is none, or if it is damaged."""
    trial, rows, result = read_outcome(path, whole=False)
    if trial is None and path.parent.name == TRIALS_FOLDER:
        raise UserError(f"{path} must hold a {TRIAL_FILE}, as in every trial of a sweep after its first epoch")
    if trial is not None and trial["state"] == FAILED and not (path / CONFIG_FILE).exists():
        record = RunRecord(path, {}, {}, [], {})  # it failed before its first epoch: a result too
    else:
        record = RunRecord(path, *read_settings(path), rows, result)
    about = trial or _as_trial(record)
    return {
        "is_plain": trial is None,
        "row": _row(record, about),
        "params": named_values(about["params"]),
        "inputs": inputs_of(record.provenance, record.config),
    }


def _as_trial(record: RunRecord) -> dict[str, Any]:
    """What trial.json would say of a run of no sweep."""
    status = record.result.get(STATUS)
    return {
        "trial_id": None,
        "role": RUN,
        "state": COMPLETE if status == FINISHED else status,
        "number": None,
        "seed": record.config.get("seed"),
        "params": {k: v for k, v in record.config.items() if k not in _OWN_COLUMNS},
    }


def _row(record: RunRecord, trial: dict[str, Any]) -> dict[str, Any]:
    outcome = _outcome(record)
    if trial["state"] == FAILED:
        outcome = {name: value for name, value in outcome.items() if name not in CHOSEN and not MEASURE.fullmatch(name)}
    paused = trial["state"] == RUNNING and record.result.get(STATUS) == STOPPED
    return {
        "trial": trial["trial_id"],
        "role": trial["role"],
        "state": STOPPED if paused else trial["state"],  # it continues when its sweep is resumed
        "number": trial["number"],
        "seed": trial["seed"],
        "method": record.config.get("method"),
        "config_hash": record.provenance.get("config_hash"),
        METRIC: record.result.get(METRIC),
        **outcome,
        SEEDS: len(trial[SEEDS]) if SEEDS in trial else None,
        "error": trial.get("error") or record.result.get(ERROR),
    }


def _outcome(record: RunRecord) -> dict[str, Any]:
    best = _best_row(record)
    values: dict[str, Any] = {BEST_EPOCH: best.get(EPOCH), ADAPTER_PARAMETERS: best.get(ADAPTER_PARAMETERS)}
    values |= {name: value for name, value in best.items() if name.startswith("target_val_")}
    # result.json holds the epoch that the run selected; a killed run may have only its epochs
    told = {name: value for name, value in record.result.items() if name in CHOSEN or MEASURE.fullmatch(name)}
    values |= {name: value for name, value in told.items() if value is not None}
    cost = {STEP_SECONDS: step_seconds(record.epochs), "seconds": _seconds(record.epochs)}
    return {"epochs_done": len(record.epochs), **values, **cost}


def _seconds(epochs: list[dict[str, Any]]) -> float:
    """All times of all epochs, without those that are no finite number."""
    times = [row[name] for row in epochs for name in _phases(tuple(row)) if row[name] is not None]
    whole: float = sum(times)
    return whole if math.isfinite(whole) else sum(filter(math.isfinite, times))


@lru_cache(maxsize=64)
def _phases(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Of the columns of a row, asked once for all rows that have the same."""
    return tuple(name for name in columns if name.startswith("seconds_"))


def _best_row(record: RunRecord) -> dict[str, Any]:
    """The epoch that the run selected, or else the first best one by its metric; {} before the first."""
    chosen, metric = record.result.get(BEST_EPOCH), record.result.get(METRIC) or ""
    for row in record.epochs:
        if chosen is not None and row.get(EPOCH) == chosen:
            return row
    scored = [row for row in record.epochs if row.get(metric) is not None and not math.isnan(row[metric])]
    return max(scored, key=lambda row: row[metric], default={})
