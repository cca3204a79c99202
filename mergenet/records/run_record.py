"""The record of a run: its files, their columns, and reading them back. Imports no torch.

A run folder holds

    config.yaml       the resolved configuration
    provenance.json   versions, commit, machine, seeds, hashes of configuration and data, counts of each split
    epochs.jsonl      one JSON object an epoch (Python's JSON: a diverged loss is NaN or Infinity)
    result.json       status and, when finished, the metrics on the test split
    checkpoints/      what a resumed run goes on from (checkpoint.py)
    best.safetensors  the target network at its best epoch
    adapter.safetensors    of a finished run with transfer, the adapters as they ended: LINK/PARAMETER

provenance.json and result.json are sealed (sealed.py). Every file is replaced atomically (atomic.py), but for
epochs.jsonl, which grows by lines. Whenever a run is killed, config.yaml was written first, and `train_run` resumes
from what exists.

Columns of epochs.jsonl; metrics are fractions, losses are means over examples:

    epoch, step                       counted from 1; optimizer steps done
    {target,source}_train_loss        over the epoch; of a source only if it takes steps
    {target,source}_val_loss          on the validation split, as are
    {target,source}_val_METRIC        the task's metrics, from 0 to 1, higher is better
    target_lr                         at the epoch's last step
    seconds_{transfer,source,target,adapter,evaluate}    wall time of each phase; the answers of a
                                      source that teaches by distillation count as transfer
    num_transfers                     so far
    gate, source_dependence           means over the links, as are
    source_share                      share of the source's weight that its factor shows, at the last transfer
    source_change_share               the same of what the source has learned; not of one that does not learn
    align_r2                          of an estimated map between the layers' spaces
    adapter_loss                      mean over the epoch's updates of the adapters
    adapter_parameters                of all adapters together
    distillation_loss                 of a method that distils, without its weight; mean over the epoch

Keys of result.json:

    status        running, finished, stopped or failed
    error         one line if it failed, else null
    epochs_done   with a checkpoint behind them: so many lines of epochs.jsonl are there at least
    epochs_sha256 of these lines without their times, so that equal runs have equal results; earlier versions lack it
    metric        the column that selects the best epoch, such as target_val_top1
    best_epoch    by that metric, whose value is there as well; null before the first that has one
    target_test_{loss,METRIC}         of a finished run, by the network of the best epoch
    source_best_epoch, source_val_METRIC, source_test_{loss,METRIC}    of a source that also receives
"""

import functools
import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import yaml

from mergenet.errors import CheckpointError, WriteError
from mergenet.records.atomic import read_bytes, read_if_any, write_synced, write_text
from mergenet.records.models import EpochRow, Numbers, Provenance, Result, checked
from mergenet.records.provenance import ADAPTER_FILE as ADAPTER_FILE
from mergenet.records.provenance import config_hash as config_hash
from mergenet.records.provenance import differences as differences
from mergenet.records.provenance import provenance as provenance
from mergenet.records.provenance import resumed as resumed
from mergenet.records.quick.columns import Columns, quick_columns
from mergenet.records.quick.rows import quick_rows, text_hash
from mergenet.records.quick.yaml import quick_yaml
from mergenet.records.sealed import read_record, read_record_if_any
from mergenet.records.sealed import write_record as write_record

CONFIG_FILE = "config.yaml"
PROVENANCE_FILE = "provenance.json"
EPOCHS_FILE = "epochs.jsonl"
RESULT_FILE = "result.json"
CHECKPOINT_FOLDER = "checkpoints"
CHECKPOINT_FILES = ("tensors.safetensors", "state.json")  # of each; the second is written last
RECORDING_FILE = "recording.json"  # in the folder of a recorded source; written last
BEST_FILE = "best.safetensors"
RECORDS = (CONFIG_FILE, PROVENANCE_FILE, EPOCHS_FILE, RESULT_FILE, BEST_FILE, ADAPTER_FILE, "trial.json")
SPEC = "spec"  # in the metadata of best.safetensors: Spec.to_json()

# Columns of epochs.jsonl and keys of result.json that are read by name; the module's docstring has all of them
EPOCH = "epoch"
STEP = "step"
ADAPTER_PARAMETERS = "adapter_parameters"
STATUS = "status"
ERROR = "error"
EPOCHS_DONE = "epochs_done"
EPOCHS_HASH = "epochs_sha256"
BEST_EPOCH = "best_epoch"
SOURCE_BEST_EPOCH = "source_best_epoch"
METRIC = "metric"

RUNNING, FINISHED, STOPPED, FAILED = "running", "finished", "stopped", "failed"  # values of STATUS

BEGIN_ANEW = "restore it or train anew into another folder"
UNNAMED_METRIC = "target_val_top1"  # of records that were written before result.json named its metric

MEASURE = re.compile(r"(target|source)_(val|test)_(\w+)")  # network, split, what was measured


def is_record(file: Path) -> bool:
    """Whether it is, or would be taken for, a file that a run folder has of its own."""
    return file.name in RECORDS and (file.parent / CONFIG_FILE).is_file()


@functools.cache
def is_measured(column: str) -> bool:
    """Whether a column holds what was measured on a validation or test split."""
    return MEASURE.fullmatch(column) is not None


def is_loss(name: str) -> bool:
    """Whether a column or metric is a loss: lower is better."""
    return name == "loss" or name.endswith("_loss")


def is_metric(column: str) -> bool:
    """Whether a column holds a task's metric: a fraction, higher is better."""
    return is_measured(column) and not is_loss(column)


def is_value(number: float | None) -> TypeGuard[float]:
    """Whether a metric has a value: one that is not a finite number counts nowhere, least of all as the best."""
    return number is not None and math.isfinite(number)


def test_column(column: str) -> str:
    """The test split's counterpart of a validation column: target_val_top1 -> target_test_top1."""
    return column.replace("_val_", "_test_", 1)


def measured(column: str) -> str:
    """What a column measures: target_val_top1 -> top1."""
    found = MEASURE.fullmatch(column)
    return column if found is None else found[3]


@dataclass(frozen=True)
class EpochResult:
    """The results of one epoch. epoch: from 1; step: optimizer steps done; metrics: the other columns above."""

    epoch: int
    step: int
    metrics: dict[str, float]

    def row(self) -> dict[str, float]:
        return {EPOCH: self.epoch, STEP: self.step, **self.metrics}


def write_epochs(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write epochs.jsonl anew, atomically (a resumed run drops the epochs after its checkpoint)."""
    write_text(folder / EPOCHS_FILE, "".join(json.dumps(row) + "\n" for row in rows))


def epochs_hash(rows: Iterable[dict[str, Any]]) -> str:
    """What result.json says of the rows of epochs.jsonl."""
    timeless = [{name: value for name, value in row.items() if not name.startswith("seconds_")} for row in rows]
    return hashlib.sha256(json.dumps(timeless).encode()).hexdigest()


def append_epoch(folder: Path, row: dict[str, Any]) -> None:
    """Append one line to epochs.jsonl; a line torn by an earlier kill is removed first.

    Raises WriteError if the disk refuses.
    """
    path = folder / EPOCHS_FILE
    if path.exists() and not (data := path.read_bytes()).endswith(b"\n"):
        write_epochs(folder, _parsed(path, data))
    try:
        write_synced(path, (json.dumps(row) + "\n").encode(), mode="ab")
    except OSError as error:
        raise WriteError(f"{path} could not be written: {error.strerror}") from error


@dataclass(frozen=True)
class RunRecord:
    folder: Path
    config: dict[str, Any]
    provenance: dict[str, Any]
    epochs: list[dict[str, Any]]
    result: dict[str, Any]


def read_run(folder: Path) -> RunRecord:
    """Read a run folder; a run that has not reported yet has no epochs and the status "running".

    Raises CheckpointError if the folder was not written by a run, or a file in it is damaged.
    """
    folder = Path(folder)
    config, provenance = read_settings(folder)
    result = read_result(folder)
    return RunRecord(folder, config, provenance, read_epochs(folder, result), result)


def read_trained(folder: Path) -> RunRecord:
    """`read_run`, for who trains its configuration again: config.yaml must be what the run was trained with.

    Raises CheckpointError if it was edited since, ConfigError if it is no configuration.
    """
    from mergenet.config.loading import parse_config  # pydantic

    record = read_run(folder)
    trained = record.provenance.get("config_hash")
    found = config_hash(parse_config(record.config, str(record.folder / CONFIG_FILE)))
    if trained is not None and trained != found:
        raise CheckpointError(
            f"{record.folder / CONFIG_FILE} must be what the run was trained with ({trained}), got other settings "
            f"({found}); undo what was edited in it"
        )
    return record


def read_settings(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """config.yaml and provenance.json of a run folder. Raises CheckpointError if one is missing or damaged."""
    for name in (CONFIG_FILE, PROVENANCE_FILE):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} must be a run folder, but has no {name}; `mergenet train` writes one")
    return read_mapping(folder / CONFIG_FILE), read_provenance(folder)


def read_result(folder: Path) -> dict[str, Any]:
    """result.json; where it is missing, that of a run that has not reported yet.

    Raises CheckpointError if it is damaged.
    """
    path, way_out = folder / RESULT_FILE, "remove it and train on to have it again"
    written = read_record_if_any(path, way_out)
    if written is None:
        return {STATUS: RUNNING, ERROR: None, EPOCHS_DONE: 0, BEST_EPOCH: None, METRIC: None}
    result = {METRIC: UNNAMED_METRIC} | written
    way_out = f"the file is damaged, {way_out}"
    checked(Result, result, str(path), way_out)
    numbers = {key: value for key, value in result.items() if is_measured(key) or key == SOURCE_BEST_EPOCH}
    checked(Numbers, numbers, str(path), way_out)
    return result


def read_provenance(folder: Path) -> dict[str, Any]:
    """provenance.json. Raises CheckpointError if it is missing or damaged."""
    path = folder / PROVENANCE_FILE
    values = read_record(path, BEGIN_ANEW)
    checked(Provenance, values, str(path), f"the file is damaged, {BEGIN_ANEW}")
    return values


def read_epochs(folder: Path, result: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The rows of epochs.jsonl, none if there is no such file; a torn last line is dropped.

    result: of `read_result`, if it was read already. Raises CheckpointError if any other line is damaged, or lines are
    not those that result.json counts.
    """
    if result is None:  # read first: beside a run that trains, the lines may be more by now
        result = read_result(folder)
    return _checked_rows(folder, result, read_if_any(folder / EPOCHS_FILE) or b"")


def read_columns(folder: Path, result: dict[str, Any], names: Sequence[str] = ()) -> Columns:
    """The same rows by column, many times faster where they are as a run writes them.

    names: of those that are asked for beside step and times. Raises what `read_epochs` does.
    """
    data = read_if_any(folder / EPOCHS_FILE) or b""
    if result.get(EPOCHS_HASH) and result[BEST_EPOCH]:
        found = quick_columns(data, result[EPOCHS_DONE], result[EPOCHS_HASH], result[BEST_EPOCH], names)
        if found is not None:
            return found
    rows = _checked_rows(folder, result, data)
    times = dict.fromkeys(name for row in rows for name in row if name.startswith("seconds_"))
    steps, told, values = ({name: [row.get(name) for row in rows] for name in each} for each in ((STEP,), times, names))
    return Columns(steps[STEP], told, values, best_row(rows, result), rows[-1] if rows else {})


def best_row(rows: list[dict[str, Any]], result: dict[str, Any]) -> dict[str, Any]:
    """The epoch that the run selected, or else the first best one by its metric; {} before the first."""
    chosen, metric = result.get(BEST_EPOCH), result.get(METRIC) or ""
    for row in rows:
        if chosen is not None and row.get(EPOCH) == chosen:
            return row
    scored = [row for row in rows if is_value(row.get(metric))]
    return max(scored, key=lambda row: row[metric], default={})


def _checked_rows(folder: Path, result: dict[str, Any], data: bytes) -> list[dict[str, Any]]:
    rows = quick_rows(data)
    if rows is None:
        rows = _parsed(folder / EPOCHS_FILE, data)
    check_epochs(folder, result, rows, data)
    return rows


def check_epochs(folder: Path, result: dict[str, Any], rows: list[dict[str, Any]], data: bytes | None = None) -> None:
    """Raises CheckpointError unless the rows of epochs.jsonl are those that result.json counts.

    A run that was killed may have one more. Earlier versions counted an epoch that was not written yet, but not of a
    run that finished. data: the file, if there is one: its text has the hash more cheaply than its rows.
    """
    path, count, written = folder / EPOCHS_FILE, result[EPOCHS_DONE], result.get(EPOCHS_HASH)
    finished = result[STATUS] == FINISHED
    lacks = len(rows) < count and (finished or written is not None)
    if lacks or (finished and len(rows) > count):
        raise CheckpointError(f"{path} must hold {count} epochs by {RESULT_FILE}, got {len(rows)}; it is damaged")
    if written is None or (data is not None and text_hash(data, count) == written):
        return
    if epochs_hash(rows[:count]) != written:
        raise CheckpointError(f"{path} must hold the epochs of which {RESULT_FILE} has the SHA-256; it was altered")


def _parsed(path: Path, data: bytes) -> list[dict[str, Any]]:
    """The rows of the file with these bytes, line by line. Raises CheckpointError."""
    lines = data.splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            if type(row.get(EPOCH)) is not int:
                raise CheckpointError(f"{path} line {number} must hold an epoch, got {line[:60]!r}; it is damaged")
            checked(EpochRow, row, f"{path} line {number}", "it is damaged")
            rows.append(row)
        elif number < len(lines):
            raise CheckpointError(f"{path} line {number} must be a JSON object, got {line[:60]!r}; it is damaged")
    return rows


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file that holds one mapping. Raises CheckpointError."""
    text = read_bytes(path)
    try:
        values = quick_yaml(text)
    except (ValueError, RecursionError, yaml.YAMLError):
        values = None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold one mapping, got {text[:60]!r}; the file is damaged")
    return values
