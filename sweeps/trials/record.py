"""What the record of one run says of a trial's objective, and whether the run has ended."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.names import RUNNING, TRIAL_FILE, mode_of
from sweeps.trials.jobs import EPOCH, Message

KEYS = {"trial_id", "role", "params", "number", "state"}  # of trial.json


def settled(folder: Path) -> Message | None:
    """trial.json of a run that has ended, for good or ill; None of one that is still to train."""
    trial = trial_of(folder)
    return trial if trial is not None and trial["state"] != RUNNING else None


def trial_of(folder: Path) -> Message | None:
    """trial.json of a run; None if it is not there, or damaged: the run itself knows how far it is."""
    try:
        trial: Message = json.loads((folder / TRIAL_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return trial if isinstance(trial, dict) and trial.keys() >= KEYS else None


def best_value(rows: Iterable[Mapping[str, Any]], metric: str) -> float | None:
    """The best so far is what counts, because the best epoch's network is what is kept; None before the first."""
    values = [row[metric] for row in rows if row.get(metric) is not None]
    return (max if mode_of(metric) == "max" else min)(values, default=None)


def mean(values: Sequence[float | None]) -> float | None:
    """Of a trial's seeds; None if one of them has no value."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def curve(rows: list[Message], metric: str) -> list[Message]:
    """The objective epoch by epoch: {"epoch", "value"}."""
    return [{EPOCH: row[EPOCH], "value": best_value(rows[:count], metric)} for count, row in enumerate(rows, start=1)]
