"""How far one more run of a configuration may lie from those that there are: a prediction interval over seeds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from analysis.comparison.recipes import read_recipe, recipe, varying
from analysis.names import COMPLETE, CONFIRM_BEST, REPLICATE, TRIAL
from analysis.seeds import first_of
from analysis.trial_file import read_outcome
from analysis.verification.original import Original, beside
from mergenet.errors import UserError
from mergenet.records.run_record import CONFIG_FILE, FINISHED, METRIC, STATUS, read_result, test_column

LEVEL = 0.05  # for all metrics together


def prediction_interval(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """Where one more value of a normal sample lies: mean -+ t s sqrt(1 + 1/n), t of n - 1 degrees of freedom.

    NaN with fewer than two values.
    """
    n = len(values)
    if n < 2:
        return np.nan, np.nan
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * np.std(values, ddof=1) * (1 + 1 / n) ** 0.5
    return float(np.mean(values) - half), float(np.mean(values) + half)


def spread(original: Original, again: Path) -> pd.DataFrame:
    """Whether the new run's selecting metric, and its counterpart on test, lie where one more seed would.

    The interval is that of the same recipe with other seeds, finished and beside the original; Bonferroni over the
    metrics. The original's own value is left out: of a sweep it was selected for its luck as well.
    Columns metric, recorded, again, n (other seeds), mean, low, high, within.
    """
    recorded, new = original.record.result, read_result(again)
    metrics = [name for name in (recorded[METRIC], test_column(recorded[METRIC])) if name in recorded and name in new]
    others = [read_result(folder) for folder in other_seeds(original)]
    rows = []
    for name in metrics:
        values = [result[name] for result in others if result.get(name) is not None]
        low, high = prediction_interval(values, 1 - LEVEL / len(metrics))
        mean = float(np.mean(values)) if values else np.nan
        found = {"metric": name, "recorded": recorded[name], "again": new[name], "n": len(values), "mean": mean}
        rows.append(found | {"low": low, "high": high, "within": bool(low <= new[name] <= high)})
    return pd.DataFrame(rows)


def other_seeds(original: Original) -> list[Path]:
    """The finished runs beside the original that differ from it in their seeds only."""
    own = recipe(original.config)
    return [folder for folder in beside(original.folder) if _may_be_one(folder, original.folder) and _same(folder, own)]


def _may_be_one(folder: Path, original: Path) -> bool:
    """Of a sweep only the confirmation of the best, and the trial's own seeds: others need not be read."""
    try:
        trial, _, result = read_outcome(folder)
    except (UserError, OSError):
        return False
    if result[STATUS] != FINISHED or not (folder / CONFIG_FILE).is_file():
        return False
    if trial is None:
        return True
    own = trial["role"] in (TRIAL, REPLICATE) and first_of(folder.name) == first_of(original.name)
    return trial["state"] == COMPLETE and (trial["role"] == CONFIRM_BEST or own)


def _same(folder: Path, own: dict[str, object]) -> bool:
    found = read_recipe(folder)
    return found["method"] == own["method"] and not varying([found, own])
