"""From the base to the best trial, one parameter at a time: which of the changes were worth something.

Ablation with a surrogate [Biedenkapp et al. 2017, AAAI]: of the parameters in which both differ, the one whose change
alone is predicted to gain most is changed first, then the next from there, until the best is reached.
"""

import numpy as np
import pandas as pd

from analysis.importance.search import Search
from analysis.importance.space import Label
from analysis.importance.surrogate import Surrogate, codes

Point = dict[str, Label | None]


def ablation_path(surrogate: Surrogate, confidence: float = 0.95) -> pd.DataFrame:
    """A row for each step, the base itself first.

    Columns: parameter, before, after (its labels), predicted (of the configuration reached), worth (of the step), low
    and high (of the worth, over forests fitted to resampled trials, on this same path), in the metric's own unit.
    attrs: "best" names the trial and "value" is what it reached; "held": parameters whose value in the base is not one
    of the search, which have the best's throughout.
    Without a step if the best has the base's own values.
    """
    search = surrogate.search
    base, best, held = endpoints(search)
    points: list[Point] = [base]
    changed = []
    while left := differing(search, points[-1], best):
        options = [points[-1] | {path: best[path]} for path in left]
        predicted = surrogate.predictions(_coded(search, options))[0] * search.sign
        place = int(np.argmax(predicted))
        changed.append(left[place])
        points.append(options[place])
    found = surrogate.predictions(_coded(search, points))  # (1 + forests, points)
    worth = np.diff(found, axis=1)
    low, high = np.quantile(worth[1:], [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    nothing = [float("nan")]
    table = pd.DataFrame(
        {
            "parameter": ["", *changed],
            "before": _labels([None, *(point[path] for point, path in zip(points, changed, strict=False))]),
            "after": _labels([None, *(best[path] for path in changed)]),
            "predicted": found[0],
            "worth": [*nothing, *worth[0]],
            "low": [*nothing, *low],
            "high": [*nothing, *high],
        }
    )
    table.attrs = {"best": search.best["trial"], "value": float(search.best["value"]), "held": held}
    return table


def _labels(values: list[Label | None]) -> pd.Series:
    return pd.Series(values, dtype=object)  # numbers of two parameters are not to become one type


def endpoints(search: Search) -> tuple[Point, Point, list[str]]:
    """The base, the best trial, and the parameters whose base value is not one of the search."""
    best: Point = {path: search.best[path] for path in search.parameters}
    own = search.base_labels
    held = [
        path
        for path, parameter in search.parameters.items()
        if best[path] is not None and (path not in own or np.isnan(parameter.code(own[path])))
    ]
    base: Point = {path: best[path] if path in held else own.get(path) for path in search.parameters}
    return base, best, held


def differing(search: Search, at: Point, best: Point) -> list[str]:
    """What is still to be changed; of conditional parameters first only those that are drawn at this point."""
    left = [path for path in search.parameters if best[path] is not None and best[path] != at[path]]
    active = [path for path in left if all(at[name] in values for name, values in search.parameters[path].when.items())]
    return active or left


def _coded(search: Search, points: list[Point]) -> np.ndarray:
    return codes(search, pd.DataFrame(points, columns=list(search.parameters), dtype=object))
