"""Draws of a search space as rows of numbers, for models that work on distances."""

import functools
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from sweeps.samplers.history import PARAMS
from sweeps.space.entry import Entry
from sweeps.space.space import Labels, Space

NOWHERE = 0.5  # the coordinate of a value that a draw's branch does not have


@dataclass(frozen=True)
class Coordinates:
    """Ranges and choices of numbers are one column from 0 to 1, logarithmic where the entry is, choices by their order.

    Two labels of another choice are at distance 1, two layer pairs that share a layer at half the squared distance.
    A value that a draw does not have lies in the middle: what decides whether it is drawn has columns of its own.
    """

    space: Space

    @functools.cached_property
    def coders(self) -> "dict[str, Coder]":
        return {path: _coder(entry, list(self.space.options(path))) for path, entry in self.space.entries.items()}

    @property
    def groups(self) -> NDArray[np.int64]:
        """(D,) which entry of the space a column belongs to."""
        widths = [len(missing) for _, missing in self.coders.values()]
        return np.repeat(np.arange(len(widths)), widths)

    def rows(self, draws: Iterable[Mapping[str, Any]]) -> NDArray[np.float64]:
        """(N, D) of draws as labels by path."""
        columns = [(path, *coder) for path, coder in self.coders.items()]
        rows = [[(code(draw[path]) if path in draw else missing) for path, code, missing in columns] for draw in draws]
        return np.array([list(itertools.chain.from_iterable(row)) for row in rows])


def labels_of(trial: FrozenTrial) -> Labels:
    """What a trial has drawn, by path; of a trial of an earlier sweep from Optuna's names (Space.rank_name)."""
    if PARAMS in trial.user_attrs:
        return dict(json.loads(trial.user_attrs[PARAMS]))
    return {Space.path_of(name): label for name, label in trial.params.items()}


def unit(value: float, low: float, high: float, log: bool) -> float:
    """Where a value lies between the bounds, 0 to 1."""
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low) if high > low else NOWHERE


def from_unit(x: float, low: float, high: float, log: bool) -> float:
    """The inverse of unit."""
    if log:
        return min(high, max(low, math.exp(math.log(low) + x * (math.log(high) - math.log(low)))))
    return min(high, low + x * (high - low))


Coder = tuple[Callable[[Any], list[float]], list[float]]  # label -> coordinates, and the coordinates of no label


def _coder(entry: Entry, labels: Sequence[Any]) -> Coder:
    if entry.bounds is not None:
        low, high = entry.bounds
        return lambda label: [unit(label, low, high, entry.log)], [NOWHERE]
    if all(isinstance(label, int | float) and not isinstance(label, bool) for label in labels):
        places = {label: [unit(place, 0, len(labels) - 1, False)] for place, label in enumerate(sorted(labels))}
        return places.__getitem__, [NOWHERE]
    parts = [label.split(">") if isinstance(label, str) else [label] for label in labels]
    if any(len(part) != 2 for part in parts):
        parts = [[label] for label in labels]
    sides = [_one_hot([part[side] for part in parts]) / math.sqrt(2 * len(parts[0])) for side in range(len(parts[0]))]
    columns = np.hstack(sides)
    return dict(zip(labels, columns.tolist(), strict=True)).__getitem__, [0.0] * columns.shape[1]


def _one_hot(values: Sequence[Any]) -> NDArray[np.float64]:
    known = list(dict.fromkeys(values))
    return np.eye(len(known))[[known.index(value) for value in values]]
