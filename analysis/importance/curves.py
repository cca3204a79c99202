"""Epochs against the last one: when the ranking is settled, what early stopping saved, and what it risked.

All curves are the metric at the best epoch so far by the metric that selects, of each trial's first seed; of that one
they are what the search compares. Epochs are counted over all seeds.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata, spearmanr

from analysis.importance.evaluators import RNG_SEED
from analysis.importance.search import Search
from analysis.measures import STEP_SECONDS
from analysis.names import COMPLETE, PRUNED
from analysis.seeds import EPOCHS_TRAINED
from analysis.tables.load import BREAKS, is_missing
from mergenet.errors import UserError
from mergenet.records.run_record import ADAPTER_PARAMETERS

RESAMPLES = 200
MIN_WHOLE = 3  # complete trials of a rank correlation
MIN_INTERVAL = 10  # of its interval: of 5 trials whose true correlation is 0.95 the interval holds it in 65 % only
LASTING = (ADAPTER_PARAMETERS, STEP_SECONDS)  # measures that more epochs do not change


def agreement(trials: Sequence[Mapping[int, float]], epochs: int) -> list[float]:
    """Spearman's correlation of each epoch's values with those of the last, over trials that have all epochs.

    0 where all values are equal, because such an epoch gives no ranking.
    """
    table = np.array([[curve[epoch] for epoch in range(1, epochs + 1)] for curve in trials])
    last = table[:, -1]
    if np.ptp(last) == 0:
        return [0.0] * epochs
    return [0.0 if np.ptp(column) == 0 else float(spearmanr(column, last).statistic) for column in table.T]


def rank_correlations(search: Search, confidence: float = 0.95) -> pd.DataFrame:
    """How well each epoch ranks the complete trials as the last one does: epoch, n, correlation, low, high.

    The interval resamples trials; NaN with fewer than MIN_INTERVAL. Where the sweep stopped trials early, the complete
    ones are those that were ahead: among them ranks differ by less, and the correlation of all trials would be higher.
    Raises UserError with fewer than three complete trials that have a value at every epoch.
    """
    whole = [search.curves[name] for name in whole_trials(search)["trial"]]
    if len(whole) < MIN_WHOLE:
        raise UserError(f"rank correlations must have at least {MIN_WHOLE} complete trials, got {len(whole)}")
    epochs = search.last_epoch
    found = {"epoch": range(1, epochs + 1), "n": len(whole), "correlation": agreement(whole, epochs)}
    if len(whole) < MIN_INTERVAL:
        return pd.DataFrame({**found, "low": np.nan, "high": np.nan})
    rows = np.random.default_rng(RNG_SEED).integers(len(whole), size=(RESAMPLES, len(whole)))
    table = np.array([[curve[epoch] for epoch in range(1, epochs + 1)] for curve in whole])
    last = _ranks(table[rows, -1])
    again = np.array([_correlation(_ranks(table[rows, epoch]), last) for epoch in range(epochs)])
    low, high = np.quantile(again, [(1 - confidence) / 2, (1 + confidence) / 2], axis=1)
    return pd.DataFrame({**found, "low": low, "high": high})


def whole_trials(search: Search) -> pd.DataFrame:
    """The complete trials with a value at every epoch."""
    done = search.trials[search.trials["state"] == COMPLETE]
    return done[done["trial"].map(lambda name: len(search.curves[name]) == search.last_epoch).astype(bool)]


def _ranks(values: np.ndarray) -> np.ndarray:
    """Of each row, around their mean."""
    ranks = rankdata(values, axis=1)
    return np.asarray(ranks - ranks.mean(axis=1, keepdims=True))


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Row by row; 0 where a row is constant."""
    size = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return np.asarray((one * other).sum(axis=1) / np.where(size > 0, size, 1.0))


def stopped_trials(search: Search) -> pd.DataFrame:
    """What is known of each trial that was stopped early; no more is, because it was never finished.

    Columns: trial, epoch (its last), value, behind (how much worse it was than the best of all trials at that epoch),
    excluded (it breaks a constraint on what more epochs do not change), needed (what it would have had to gain from
    there on to equal the best complete trial that breaks no constraint; NaN without one, or if it is excluded itself),
    n (complete trials), mean_gain and most_gain (what these gained from that epoch on; NaN without one), possible
    (needed is at most most_gain). Differences and gains are positive for the better, in the metric's own unit.
    """
    columns = ["trial", "epoch", "value", "behind", "excluded", "needed", "n", "mean_gain", "most_gain", "possible"]
    stopped, whole = search.trials[search.trials["state"] == PRUNED], whole_trials(search)
    ahead, gains = _ahead(search), _gains(search, whole)
    kept = [search.curves[name][search.last_epoch] for name in whole["trial"][whole[BREAKS].isna()]]
    best = max((search.sign * value for value in kept), default=np.nan)
    rows = []
    for name, breaks in zip(stopped["trial"], stopped[BREAKS], strict=True):
        if not (curve := search.curves[name]):
            continue
        epoch, excluded = max(curve), _excluded(breaks)
        value = search.sign * curve[epoch]
        needed = np.nan if excluded else best - value
        mean, most = gains.get(epoch, (np.nan, np.nan))
        known = name, epoch, curve[epoch], ahead[epoch] - value, excluded
        rows.append((*known, needed, len(whole), mean, most, bool(needed <= most)))
    return pd.DataFrame(rows, columns=columns)


def _ahead(search: Search) -> dict[int, float]:
    """The best of all trials at each epoch, positive for the better."""
    found: dict[int, float] = {}
    for curve in search.curves.values():
        for epoch, value in curve.items():
            found[epoch] = max(search.sign * value, found.get(epoch, -np.inf))
    return found


def _gains(search: Search, whole: pd.DataFrame) -> dict[int, tuple[float, float]]:
    """From each epoch to the last, of the complete trials: the mean and the most. Empty without one."""
    if whole.empty:
        return {}
    epochs = range(1, search.last_epoch + 1)
    table = search.sign * np.array([[search.curves[name][epoch] for epoch in epochs] for name in whole["trial"]])
    gains = table[:, -1:] - table
    return dict(zip(epochs, zip(gains.mean(axis=0).tolist(), gains.max(axis=0).tolist(), strict=True), strict=True))


def _excluded(breaks: object) -> bool:
    """Whether a trial breaks a constraint on what more epochs do not change."""
    return not is_missing(breaks) and any(rule.startswith(LASTING) for rule in str(breaks).split("; "))


def early_stopping(search: Search, stopped: pd.DataFrame) -> dict[str, float]:
    """stopped: of `stopped_trials`.

    trained and whole: epochs trained, and those of whole trainings, over all seeds of complete and stopped trials.

    stopped, excluded: trials, as in `stopped_trials`. possible: those that could have won had they gained as much as
    the complete trial that gained most; risked: by how much the best of them would then lead, 0 if none does. An
    estimate: the complete trials are those that were ahead, and what they gained need not be what the stopped ones
    would have.
    """
    ended = search.trials[search.trials["state"].isin((COMPLETE, PRUNED))]
    lead = (stopped["most_gain"] - stopped["needed"]).max()
    return {
        "trained": int(ended[EPOCHS_TRAINED].sum()),
        "whole": len(ended) * search.last_epoch * search.seeds,
        "stopped": len(stopped),
        "excluded": int(stopped["excluded"].sum()),
        "possible": int(stopped["possible"].sum()),
        "risked": max(float(lead), 0.0) if len(stopped) and np.isfinite(lead) else 0.0,
    }
