"""CMA-ES without any state of its own: the evolution is replayed from the trials of the study.

A trial records the generation in which it was drawn. Once as many trials of a generation as the population size have
ended, the next one begins; trials that end later are ignored, so that every later replay gives the same.
"""

import math
from typing import Any

import numpy as np
import optuna
from cmaes import CMA
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweeps.samplers.history import violation
from sweeps.samplers.unit_cube import Cube

GENERATION = "generation"  # user attribute
SIGMA = 1 / 6  # in the unit cube, as in Optuna: the cube's edge is six standard deviations
EPSILON = 1e-8


def next_point(cube: Cube, study: optuna.Study, seed: int) -> tuple[dict[str, Any], int]:
    """A point of the current generation, as its values, and the number of that generation."""
    size = len(cube.distributions)
    bounds = np.tile([0.0, 1.0], (size, 1))
    optimizer = CMA(mean=np.full(size, 0.5), sigma=SIGMA, bounds=bounds, seed=seed)
    trials = study.get_trials(deepcopy=False)  # with failed attempts, which belong to no generation
    while len(ended := ended_of(trials, optimizer.generation)) >= optimizer.population_size:
        told = sorted(ended[: optimizer.population_size], key=lambda trial: merit(trial, study.direction))
        optimizer.tell([(inside(cube, trial), float(rank)) for rank, trial in enumerate(told)])
    return cube.point(optimizer.ask()), optimizer.generation


def ended_of(trials: list[FrozenTrial], generation: int) -> list[FrozenTrial]:
    """The ended trials of a generation, in the order in which they ended."""
    found = [trial for trial in trials if trial.user_attrs.get(GENERATION) == generation and trial.state.is_finished()]
    return sorted(found, key=lambda trial: (trial.datetime_complete, trial.number))


def inside(cube: Cube, trial: FrozenTrial) -> np.ndarray:
    return np.clip(cube.coordinates(trial.params), EPSILON, 1 - EPSILON)


def merit(trial: FrozenTrial, direction: StudyDirection) -> tuple[float, int, float]:
    """Sort key, best first: trials that keep the constraints, then those that trained longer; failures come last.
    CMA-ES looks at ranks only.
    """
    if trial.state == TrialState.FAIL or trial.value is None:
        return math.inf, 1, 0.0
    epochs = -max(trial.intermediate_values, default=0)
    return violation(trial), epochs, -trial.value if direction == StudyDirection.MAXIMIZE else trial.value
