"""Draws by a Gaussian process that learns from every trial, ended or not (gp_targets.py, gaussian_process.py).

What is worth most is looked for among draws of the space itself, so that each is valid whatever the conditions: random
ones, and mutants of the best trials and then of the best draws found, of which some values are drawn anew or moved a
little. Trials that have reported nothing yet count as what the process expects of them, so that no draw repeats theirs.
"""

import json
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.study import StudyDirection

from sweeps.samplers.coordinates import Coordinates, from_unit, labels_of, unit
from sweeps.samplers.gaussian_process import GaussianProcess, log_expected_improvement
from sweeps.samplers.gp_targets import Target, targets
from sweeps.space.space import Labels, Space

Array = NDArray[np.float64]

MIN_TRIALS = 3  # with a value; before that draws are random
MODELLED = 200  # trials that are learnt from at most: a draw's time grows with their third power
MAX_VARIANCE = 4.0  # of a standardised value
MAX_UNTRAINED = 10.0  # likewise, of the part of it that is an estimate
OUTLIER = 5.0  # how far below the median a value counts at most, in distances of the best from it
RANDOM = 1000  # draws
PARENTS, CHILDREN = 5, 24  # mutants of the best trials, for each of WIDTHS
WIDTHS = (0.02, 0.1, 0.3)  # standard deviations of moves, as shares of a range
ROUNDS, KEPT, LITTER = 3, 8, 20  # then of the best draws, ever closer: WIDTHS[1] * 2^-round
CHANGED = 0.5  # share of a parent's numbers that a mutant moves; its labels change with probability `width`

Drawn = tuple[Labels, Labels]  # by Optuna's names, and by path


class Mutant:
    """Suggests a parent's values, some of them changed; without a parent, at random. point: by Optuna's names."""

    def __init__(self, generator: random.Random, parent: Labels | None = None, width: float = 0.0) -> None:
        self.generator, self.parent, self.width, self.point = generator, parent or {}, width, Labels()

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        kept = name in self.parent and self.parent[name] in choices and self.generator.random() >= self.width
        self.point[name] = value = self.parent[name] if kept else self.generator.choice(choices)
        return value

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        value = self._number(name, low - 0.5 * step, high + 0.5 * step, log)
        self.point[name] = whole = min(high, max(low, low + step * round((value - low) / step)))
        return whole

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.point[name] = value = self._number(name, low, high, log)
        return value

    def _number(self, name: str, low: float, high: float, log: bool) -> float:
        own: Any = self.parent.get(name)
        if own is None or not low <= own <= high:
            return from_unit(self.generator.random(), low, high, log)
        if self.generator.random() >= CHANGED:
            return float(own)
        moved = unit(own, low, high, log) + self.generator.gauss(0.0, self.width)
        return from_unit(min(1.0, max(0.0, moved)), low, high, log)


def gp_point(space: Space, study: optuna.Study, seed: int) -> Labels | None:
    """The draw that promises the largest improvement, by Optuna's names; None with too few trials to tell.

    Draws that some trial has had are left out where there are others.
    """
    known = targets(study)
    valued = [one for one in known if one.value is not None]
    if len(valued) < MIN_TRIALS:
        return None
    generator, coordinates = random.Random(seed), Coordinates(space)
    valued = some_of(valued, study.direction, generator)
    values, variances, untrained = standardised(valued, study.direction)
    rows = coordinates.rows([labels_of(one.trial) for one in valued])
    model = GaussianProcess.fitted(rows, values, variances, untrained, coordinates.groups)
    if pending := [labels_of(one.trial) for one in known if one.value is None]:
        more = coordinates.rows(pending)
        nothing = np.zeros(len(more))
        model = model.given(
            np.vstack([rows, more]),
            np.append(values, model(more)[0]),
            np.append(variances, nothing),
            np.append(untrained, nothing),
        )
    parents = [space.named(labels_of(valued[i].trial)) for i in np.argsort(-model(rows)[0], kind="stable")[:PARENTS]]
    seen = {json.dumps(labels_of(one.trial), sort_keys=True) for one in known}
    return most_promising(space, coordinates, model, float(values.max()), parents, seen, generator)


def some_of(valued: list[Target], direction: StudyDirection, generator: random.Random) -> list[Target]:
    """All, or of more than MODELLED the better half of as many and a sample of the others, in the same order."""
    if len(valued) <= MODELLED:
        return valued
    sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
    order = sorted(range(len(valued)), key=lambda i: sign * float(valued[i].value or 0.0))
    half = MODELLED // 2
    chosen = {*order[:half], *generator.sample(order[half:], MODELLED - half)}
    return [one for i, one in enumerate(valued) if i in chosen]


def standardised(valued: Sequence[Target], direction: StudyDirection) -> tuple[Array, Array, Array]:
    """Values, more is better, of mean 0 and standard deviation 1, their variances, and the parts that are estimates.

    A value that lies farther below the median than OUTLIER times the best one lies above it counts as one that lies so
    far: next to a loss of a million all others would look the same.
    """
    sign = 1.0 if direction == StudyDirection.MAXIMIZE else -1.0
    values = np.array([sign * float(one.value or 0.0) for one in valued])
    middle = float(np.median(values))
    if (above := float(values.max()) - middle) > 0:
        values = np.maximum(values, middle - OUTLIER * above)
    scale = float(values.std()) or 1.0
    variances = np.array([one.variance for one in valued]) / scale**2
    untrained = np.minimum(np.array([one.gain for one in valued]) / scale, MAX_UNTRAINED)
    return (values - values.mean()) / scale, np.minimum(variances, MAX_VARIANCE), untrained


def most_promising(
    space: Space,
    coordinates: Coordinates,
    model: GaussianProcess,
    best: float,
    parents: Sequence[Labels],
    seen: set[str],
    generator: random.Random,
) -> Labels | None:
    """Of random draws, mutants of the parents, and mutants of the best of these; None if all have been seen."""

    def drawn(parent: Labels | None = None, width: float = 0.0) -> Drawn:
        labels = space(mutant := Mutant(generator, parent, width))
        return mutant.point, labels

    def ranked(draws: Sequence[Drawn]) -> list[tuple[float, Labels]]:
        new = [one for one in draws if json.dumps(one[1], sort_keys=True) not in seen]
        if not new:
            return []
        worth = log_expected_improvement(*model(coordinates.rows([labels for _, labels in new])), best)
        return list(zip(worth.tolist(), [point for point, _ in new], strict=True))

    found = ranked(
        [drawn() for _ in range(RANDOM)]
        + [drawn(parent, width) for width in WIDTHS for parent in parents for _ in range(CHILDREN)]
    )
    for again in range(ROUNDS):
        found = sorted(found, key=lambda one: -one[0])[:KEPT]
        found += ranked([drawn(point, WIDTHS[1] / 2**again) for _, point in found for _ in range(LITTER)])
    return max(found, key=lambda one: one[0])[1] if found else None
