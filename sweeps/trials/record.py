"""A trial's objective from the record of one run; writing a job's trial.json."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from analysis.names import mode_of
from analysis.seeds import SEEDS
from analysis.trial_file import write_trial_file
from mergenet.records.run_record import EPOCH, is_value
from sweeps.trials.messages import Job, Row


def write_trial(job: Job, state: str, error: str | None = None) -> None:
    """trial.json beside the run's own files; not before its first epoch, because a run starts in an empty folder."""
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    write_trial_file(folder, trial_values(job, state, error))


def trial_values(job: Job, state: str, error: str | None = None) -> dict[str, Any]:
    """What trial.json says of a job."""
    trial = {
        "trial_id": job["id"],
        "role": job["role"],
        "params": job["params"],
        "number": job["number"],
        "seed": job["config"]["seed"],
        "state": state,
        "error": error,
    }
    return trial | ({SEEDS: job["seeds"]} if "seeds" in job else {})


def best_value(rows: Iterable[Mapping[str, Any]], metric: str) -> float | None:
    """The best value so far, because the best epoch's network is kept; None before the first finite one."""
    values = [value for row in rows if is_value(value := row.get(metric))]
    return (max if mode_of(metric) == "max" else min)(values, default=None)


def mean(values: Sequence[float | None]) -> float | None:
    """The mean over a trial's seeds; None if one of them has no value."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


class CurvePoint(TypedDict):
    """The best value of the objective up to an epoch."""

    epoch: int
    value: float | None


def curve(rows: list[Row], metric: str) -> list[CurvePoint]:
    """The objective epoch by epoch."""
    return [{"epoch": row[EPOCH], "value": best_value(rows[:count], metric)} for count, row in enumerate(rows, start=1)]
