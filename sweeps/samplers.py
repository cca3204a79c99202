"""How the next configuration is drawn, by name.

A sampler is made anew for every draw, so that a draw is a function of the sweep's seed, its index and the study, and
not of how often the driver was started. Those whose randomness is a generator get a seed of their own for each draw;
`grid` and `qmc` are sequences that the index alone looks up; `cmaes` is replayed from the trials (evolution.py).

All of it is readable state: Optuna's own CMA-ES unpickles what it finds in the database, which we do not allow.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from sweeps.config import SweepConfig
from sweeps.cube import Cube
from sweeps.estimates import estimated
from sweeps.space import Labels, Space
from sweeps.studied import INDEX, by_index, first_value, violation

MODELLED = 200  # trials: with more of them the draws of a Gaussian process become slow, and TPE's good enough

Build = Callable[[SweepConfig, Space, optuna.Study, int], BaseSampler]


def build_sampler(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> BaseSampler:
    """The sampler for draw number `index`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS[sweep.sampler](sweep, space, study, index)


def seed_of(sweep: SweepConfig, index: int) -> int:
    return int(np.random.SeedSequence([sweep.seed, index]).generate_state(1)[0])


def startup(sweep: SweepConfig) -> int:
    """How many random draws come before a model of them."""
    return min(10, max(3, sweep.num_trials // 3))


def tpe(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> BaseSampler:
    """Univariate and without constant liar: the best of the variants measured with few trials and ASHA."""
    del space, study
    return optuna.samplers.TPESampler(
        n_startup_trials=startup(sweep), multivariate=False, constant_liar=False, seed=seed_of(sweep, index)
    )


def random(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> BaseSampler:
    del space, study
    return RandomSampler(seed=seed_of(sweep, index))


def gp(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> BaseSampler:
    """A Gaussian process draws what every trial draws, TPE what only some of them do.

    With one objective it learns from trials that were stopped early or failed, too (estimates.py).
    """
    sampler = optuna.samplers.GPSampler(
        n_startup_trials=startup(sweep),
        seed=seed_of(sweep, index),
        independent_sampler=tpe(sweep, space, study, index),
        warn_independent_sampling=False,
    )
    model = optuna.create_study(directions=study.directions, sampler=sampler)
    model.add_trials(estimated(study))
    with one_thread():
        space(trial := model.ask())
    return PointSampler(trial.params)


@contextmanager
def one_thread() -> Iterator[None]:
    """So that a draw takes no core from the training, and has the same bits on any machine's number of them."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def auto(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> BaseSampler:
    """The best of those measured: GP for one objective without constraints and the first 200 trials, else TPE."""
    plain = len(study.directions) == 1 and not sweep.constraints
    return (gp if plain and index < MODELLED else tpe)(sweep, space, study, index)


def nsga2(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> BaseSampler:
    """At least four generations. A generation is of complete trials."""
    del space, study
    population = max(4, min(50, sweep.num_trials // 4))
    return optuna.samplers.NSGAIISampler(population_size=population, seed=seed_of(sweep, index))


def qmc(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> BaseSampler:
    """Point number `index` of a scrambled Sobol' sequence."""
    from scipy.stats.qmc import Sobol

    del study
    cube = Cube.of(space)
    sequence = Sobol(len(cube.distributions), rng=np.random.default_rng(sweep.seed))
    if index > 0:  # by 0 it raises
        sequence.fast_forward(index)
    return PointSampler(cube.point(sequence.random(1)[0]))


def cmaes(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> BaseSampler:
    from sweeps.evolution import GENERATION, next_point

    point, generation = next_point(Cube.of(space), study, seed_of(sweep, index))
    return PointSampler(point, {GENERATION: generation})


def grid(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> BaseSampler:
    """Point number `index` of the grid in an order shuffled once, but the points of the first trials come first.

    A prefix of the grid is then a fair sample of it.
    """
    del study
    points = list(grid_points(space))
    np.random.default_rng(sweep.seed).shuffle(points)
    first = space.first_points()
    return PointSampler([*first, *(point for point in points if point not in first)][index])


def top_k(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> BaseSampler:
    """Random draws for the first epoch; then again the best of them, which now train in full (arXiv 2307.15422).

    What breaks a constraint comes after what does not. A random draw takes the place of one that is missing because
    too few trials reached their first epoch's end.
    """
    rank = index - num_short(sweep)
    if rank < 0:
        return random(sweep, space, study, index)
    known = [trial for trial in by_index(study) if trial.user_attrs[INDEX] < num_short(sweep)]
    sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
    values = [(violation(trial), sign * value, trial) for trial in known if (value := first_value(trial)) is not None]
    best = sorted(values, key=lambda row: row[:2])  # stable: of equals the earlier one
    return PointSampler(best[rank][2].params) if rank < len(best) else random(sweep, space, study, index)


def num_short(sweep: SweepConfig) -> int:
    """How many trials, the first ones, train for one epoch only; only `top_k` has such."""
    return sweep.num_trials - sweep.top_k if sweep.sampler == "top_k" else 0


SAMPLERS: dict[str, Build] = {
    "auto": auto,
    "tpe": tpe,
    "gp": gp,
    "cmaes": cmaes,
    "nsga2": nsga2,
    "qmc": qmc,
    "random": random,
    "grid": grid,
    "top_k": top_k,
}


class PointSampler(BaseSampler):
    """Gives one point, whose values are known by Optuna's names. attributes: noted with the trial as it begins."""

    def __init__(self, point: dict[str, Any], attributes: dict[str, Any] | None = None) -> None:
        self.point, self.attributes = point, attributes or {}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        for name, value in self.attributes.items():
            study._storage.set_trial_user_attr(trial._trial_id, name, value)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        del study, trial
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        del study, trial, search_space
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        del study, trial, param_distribution
        return self.point[param_name]


class Undecided(Exception):
    """A walk through the space has come to a name that its point does not hold."""

    def __init__(self, name: str, values: list[Any]) -> None:
        self.name, self.values = name, values


class Walker:
    """Answers from a point, and stops where the point ends."""

    def __init__(self, point: Labels) -> None:
        self.point = point

    def _answer(self, name: str, values: list[Any]) -> Any:
        if name not in self.point:
            raise Undecided(name, values)
        return self.point[name]

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return self._answer(name, choices)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        del log
        return int(self._answer(name, list(range(low, high + 1, step))))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        del log
        return float(self._answer(name, [low, high]))  # a plan refuses a grid with such a range


def grid_points(space: Space) -> Iterator[Labels]:
    """Every draw of a space of choices and whole numbers, by Optuna's names, in the order of the file."""
    stack: list[Labels] = [{}]
    while stack:
        point = stack.pop()
        try:
            space(Walker(point))
        except Undecided as where:
            stack += [{**point, where.name: value} for value in reversed(where.values)]
        else:
            yield point
