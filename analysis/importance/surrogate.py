"""A random forest that predicts a trial's value from what it drew, and how far to trust it; marginal curves.

The forest answers for configurations that never trained. Where its predictions of left-out trials are no better than
their mean (`r2` of 0 or below), it has learned nothing. Its spread is that of forests fitted to resampled trials.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.importance.evaluators import RNG_SEED
from analysis.importance.search import Search
from analysis.importance.space import Label

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor

TREES, RESAMPLED_TREES, RESAMPLES = 100, 30, 40
BACKGROUND = 100  # trials over which a marginal curve is averaged


@dataclass(frozen=True)
class Surrogate:
    """forest: of the trials of `Search.sampled`; resampled: of as many drawn with replacement. They predict its
    `standard_goal`.

    r2: coefficient of determination of the predictions for each trial by the trees that did not see it (out of bag).
    """

    search: Search
    forest: "RandomForestRegressor"
    resampled: list["RandomForestRegressor"]
    r2: float

    def predictions(self, points: np.ndarray) -> np.ndarray:
        """points: (points, parameters) as `codes` gives them -> (1 + forests, points), the whole forest's first.

        In the metric's own unit.
        """
        found = [forest.predict(points) for forest in (self.forest, *self.resampled)]
        return self.search.sign * self.search.sampled.spread * np.array(found)


def fit_surrogate(search: Search, resamples: int = RESAMPLES) -> Surrogate:
    """Raises UserError as `Search.check`."""
    search.check()
    told = search.sampled
    points, goal, rng = codes(search, told.used), told.standard_goal, np.random.default_rng(RNG_SEED)
    drawn = rng.integers(len(goal), size=(resamples, len(goal)))
    forest = _forest(TREES).fit(points, goal)
    resampled = [_forest(RESAMPLED_TREES).fit(points[rows], goal[rows]) for rows in drawn]
    return Surrogate(search, forest, resampled, float(forest.oob_score_))


def _forest(trees: int) -> "RandomForestRegressor":
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(trees, oob_score=trees == TREES, random_state=RNG_SEED)


def codes(search: Search, labels: pd.DataFrame) -> np.ndarray:
    """Labels as numbers, (rows, parameters); of a parameter that was not drawn the base's own value, which holds then.

    NaN where that is no value of the search.
    """
    columns = []
    for path, parameter in search.parameters.items():
        own = search.base_labels.get(path)
        columns.append([_code(parameter.code, label, own) for label in labels[path]])
    return np.array(columns, dtype=float).T


def _code(code: Any, label: Label | None, own: Label | None) -> float:
    shown = own if label is None else label
    return float("nan") if shown is None else code(shown)


def marginal_curves(surrogate: Surrogate, confidence: float = 0.95) -> pd.DataFrame:
    """The mean prediction for each value of a parameter, the others as up to BACKGROUND trials drew them.

    Columns: parameter, value, mean, low, high (over the resampled forests), n (trials that drew the parameter). Only of
    trials that drew it, where it has conditions. In the metric's own unit.
    """
    rows, search = [], surrogate.search
    for place, path in enumerate(search.parameters):
        drew = search.used[search.used[path].notna()]
        if path not in search.varied:
            continue
        grid = search.parameters[path].grid()
        spaced = np.unique(np.linspace(0, len(drew) - 1, BACKGROUND).astype(int))
        background = codes(search, drew.iloc[spaced])
        points = np.repeat(background[None], len(grid), axis=0)
        points[:, :, place] = np.array([search.parameters[path].code(value) for value in grid])[:, None]
        found = surrogate.predictions(points.reshape(-1, len(search.parameters)))
        curves = found.reshape(len(found), len(grid), -1).mean(axis=2)  # (1 + forests, grid)
        low, high = np.quantile(curves[1:], [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
        rows += [(path, *row, len(drew)) for row in zip(grid, curves[0], low, high, strict=True)]
    return pd.DataFrame(rows, columns=["parameter", "value", "mean", "low", "high", "n"])
