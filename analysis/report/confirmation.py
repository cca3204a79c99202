"""The paired differences on fresh seeds, from a table of runs: the same numbers as in a finished sweep's summary.json.

    {"seeds": [...], METRIC: {"gain": ...}, "controls": {"shuffled": ...}, "adapter": ...}

gain: best minus no transfer, whatever the direction of the metric. controls: of each control that was trained its gain,
and best_minus_control; adapter: of the trained adapter its gain, and minus_best. Of a sweep that still runs it has the
seeds that both sides have finished. A seed of which a side has no finite value is left out, see `without_value`.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.best import confirmed_gain
from analysis.names import COMPLETE, CONFIRM_ADAPTER, CONFIRM_BEST, CONFIRM_NONE, CONFIRM_ROLES, CONTROL_OF
from analysis.report.verdict import as_gain
from analysis.statistics.paired_tests import PairedDifference
from mergenet.errors import UserError
from mergenet.records.run_record import METRIC, test_column


def confirmation(table: pd.DataFrame, best: pd.Series) -> dict[str, Any]:
    """The above for the best trial. Raises UserError if no seed has finished with it and without transfer."""
    metrics = (str(best[METRIC]), test_column(str(best[METRIC])))
    seeds = _seeds(table, CONFIRM_BEST, metrics) & _seeds(table, CONFIRM_NONE, metrics)
    if not seeds:
        gone = "".join(f"; {name} has no finite value" for name in without_value(table, metrics))
        raise UserError(f"no seed has been trained to its end both with the best settings and without transfer{gone}")
    out: dict[str, Any] = {"seeds": sorted(seeds)}
    for metric in metrics:
        out[metric] = {"gain": _gain(table, best, metric, CONFIRM_BEST, CONFIRM_NONE, seeds)}
    trained = {control: role for role, control in CONTROL_OF.items() if (table["role"] == role).any()}
    sides = {name: _side(table, best, role, seeds, "best_minus_control") for name, role in trained.items()}
    if sides:
        out["controls"] = sides
    if (table["role"] == CONFIRM_ADAPTER).any():
        out["adapter"] = _side(table, best, CONFIRM_ADAPTER, seeds, "minus_best")
    return out


def _side(table: pd.DataFrame, best: pd.Series, role: str, seeds: set[int], key: str) -> dict[str, Any]:
    """A control or the trained adapter beside no transfer and beside the best; only its seeds if there are none."""
    metrics = (str(best[METRIC]), test_column(str(best[METRIC])))
    own = seeds & _seeds(table, role, metrics)
    out: dict[str, Any] = {"seeds": sorted(own)}
    sides = (role, CONFIRM_BEST) if key == "minus_best" else (CONFIRM_BEST, role)
    for metric in metrics if own else ():
        out[metric] = {
            "gain": _gain(table, best, metric, role, CONFIRM_NONE, own),
            key: _gain(table, best, metric, *sides, own),
        }
    return out


def _gain(
    table: pd.DataFrame, best: pd.Series, metric: str, variant: str, baseline: str, seeds: set[int]
) -> dict[str, Any]:
    return as_gain(paired(table, best, metric, seeds, variant, baseline))


def paired(
    table: pd.DataFrame,
    best: pd.Series,
    metric: str,
    seeds: Collection[int],
    variant: str = CONFIRM_BEST,
    baseline: str = CONFIRM_NONE,
) -> PairedDifference:
    """`confirmed_gain` over some of the seeds."""
    return confirmed_gain(table[table["seed"].isin(seeds)], best, metric, variant, baseline)


def without_value(table: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """The confirmations that trained to their end and lack a finite value of a metric: they pair with nothing."""
    ended = table["role"].isin(CONFIRM_ROLES) & (table["state"] == COMPLETE)
    return list(table["trial"][ended & ~_measured(table, metrics)])


def _seeds(table: pd.DataFrame, role: str, metrics: Sequence[str]) -> set[int]:
    """Those of a role's runs that trained to their end, and have finite values."""
    return set(table["seed"][(table["role"] == role) & (table["state"] == COMPLETE) & _measured(table, metrics)])


def _measured(table: pd.DataFrame, metrics: Sequence[str]) -> np.ndarray:
    found = table.reindex(columns=list(metrics)).to_numpy(dtype=float)
    return np.asarray(np.isfinite(found).all(axis=1))
