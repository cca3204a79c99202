"""Measures of a run beside the selecting metric, and whether it satisfies the bounds of a sweep's constraints.

    adapter_parameters   of all adapters together; 0 without any
    step_seconds         wall time of one optimizer step with its transfer, the source's own step unless that is
                         replayed, and the adapter's, without validation: the median over the epochs, because the
                         first one warms up. Comparable only on equal machines under equal load
    target_val_*         at the run's best epoch by the selecting metric

All of it comes from the rows of epochs.jsonl (mergenet/records/run_record.py), while a trial trains and afterwards.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.names import POINTS, mode_of
from mergenet.records.run_record import ADAPTER_PARAMETERS, EPOCH, STEP, is_metric, is_value

STEP_SECONDS, VAL_LOSS = "step_seconds", "target_val_loss"
COSTS = (ADAPTER_PARAMETERS, STEP_SECONDS, VAL_LOSS)  # what a sweep can minimize beside its metric
PHASES = ("seconds_transfer", "seconds_source", "seconds_target", "seconds_adapter")
SIDES = {"min": ">=", "max": "<="}

Rows = Sequence[Mapping[str, Any]]
Bounds = Mapping[str, Mapping[str, float | None]]  # name -> {"min", "max"}, None where there is none


def amount(name: str, value: float, sign: str = "") -> str:
    """A measure or a difference, without its unit: fractions in percent or points, anything else to four digits.

    sign: "+" to have it in front of a positive one, too.

    >>> amount("target_val_top1", 0.5), amount("target_val_loss", 0.00012), amount("adapter_parameters", 1234567)
    ('50.00', '0.00012', '1234567')
    """
    if is_metric(name):
        return f"{POINTS * value:{sign}.2f}"
    return f"{value:{sign}.0f}" if name == ADAPTER_PARAMETERS else f"{value:{sign}.4g}"


def measure(name: str, rows: Rows, metric: str) -> float | None:
    """One of the above after these epochs; None where it was not measured. metric: the selecting one."""
    if name == ADAPTER_PARAMETERS:
        return float(rows[-1].get(ADAPTER_PARAMETERS, 0)) if rows else None
    if name == STEP_SECONDS:
        return step_seconds(rows)
    best = best_row(rows, metric)
    return None if best is None else best.get(name)


def step_seconds(rows: Rows) -> float | None:
    """Seconds of a step: the median over epochs of their means."""
    return median_step([row.get(STEP) for row in rows], [[row.get(phase) for row in rows] for phase in PHASES])


def median_step(steps: Iterable[int | None], phases: Iterable[Iterable[float | None]]) -> float | None:
    """The same by column: steps done after each epoch, and the seconds of each phase in it; None where missing."""
    before, means = 0, []
    for step, *seconds in zip(steps, *([time or 0.0 for time in times] for times in phases), strict=True):
        if step is not None and step > before:
            means.append(sum(seconds) / (step - before))
        before = before if step is None else step
    return statistics.median(means) if means else None


def best_row(rows: Rows, metric: str) -> Mapping[str, Any] | None:
    """The first best epoch by the metric, whose weights are kept."""
    scored = [row for row in rows if is_value(row.get(metric))]
    return (max if mode_of(metric) == "max" else min)(scored, key=lambda row: row[metric], default=None)


def best_so_far(rows: Rows, metric: str) -> dict[int, float]:
    """The objective of a trial: the best finite value up to each epoch that has one."""
    better = max if mode_of(metric) == "max" else min
    found: dict[int, float] = {}
    for row in rows:
        value = row.get(metric)
        if is_value(value):
            found[int(row[EPOCH])] = better([value, *found.values()])
    return found


def at_best_so_far(rows: Rows, name: str, metric: str) -> dict[int, float]:
    """Another measure, at the best epoch by the metric up to each epoch that has a finite value of it.

    >>> rows = [{"epoch": 1, "top1": 0.5, "loss": 1.0}, {"epoch": 2, "top1": 0.6, "loss": 2.0}]
    >>> at_best_so_far(rows, "loss", "top1")
    {1: 1.0, 2: 2.0}
    """
    best: Mapping[str, Any] = {}
    found: dict[int, float] = {}
    for row in rows:
        if not is_value(row.get(metric)):
            continue
        best = best_row([best, row] if best else [row], metric) or row
        if is_value(value := best.get(name)):
            found[int(row[EPOCH])] = value
    return found


def excesses(bounds: Bounds, measured: Mapping[str, float | None]) -> dict[str, float]:
    """Each bound as a rule, and the share of itself by which a run exceeds it; satisfied at 0 and below.

    Infinite where nothing, or no number, was measured.

    >>> excesses({"adapter_parameters": {"min": None, "max": 1000}}, {"adapter_parameters": 1500})
    {'adapter_parameters <= 1000': 0.5}
    """
    found = {}
    for name, sides in bounds.items():
        for side, sign in SIDES.items():
            if (limit := sides.get(side)) is None:
                continue
            value = measured.get(name)
            over = math.inf if value is None else (value - limit) if side == "max" else (limit - value)
            found[f"{name} {sign} {limit:.15g}"] = math.inf if math.isnan(over) else over / (abs(limit) or 1.0)
    return found


def broken(bounds: Bounds, measured: Mapping[str, float | None]) -> list[str]:
    """The rules that a run breaks."""
    return [rule for rule, excess in excesses(bounds, measured).items() if excess > 0]
