"""The samplers by name: how the next configuration is drawn.

A sampler is built anew for every draw, so that a draw is a function of the sweep's seed, its index and the study, and
does not depend on how often the driver was started. Samplers with a random generator get a new seed for each draw;
`grid` and `qmc` are sequences that the index alone looks up; `cmaes` is replayed from the trials (cmaes.py).

No state is pickled: Optuna's own CMA-ES unpickles what it finds in the database, which we do not allow.
"""

import itertools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import threadpool_limits

from sweeps.config import SweepConfig
from sweeps.config.choices import SAMPLER_FACTS
from sweeps.samplers.deduplicate import distinct, known_key, unseen_point
from sweeps.samplers.fixed import PointSampler, grid_points
from sweeps.samplers.gp import gp_point
from sweeps.samplers.gp_targets import estimated
from sweeps.samplers.history import INDEX, PARAMS, WARM, by_index, first_value, reported, violation
from sweeps.samplers.unit_cube import Cube
from sweeps.space.space import Labels, Space

MODEL_TRIES, RANDOM_TRIES = 10, 50  # attempts at a draw that no trial has had
FIRST_RANDOM = 5  # draws before the Gaussian process's first

Build = Callable[[SweepConfig, Space, optuna.Study, int], BaseSampler]


def build_sampler(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> BaseSampler:
    """The sampler for draw number `index`, with deduplication."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if SAMPLER_FACTS[sweep.sampler].repeats or sweep.sampler == "grid":
            return SAMPLERS[sweep.sampler](sweep, space, study, index)
        if (chosen := one_of_top_k(sweep, space, study, index)) is not None:
            return PointSampler(chosen)
        last = seed_of(sweep, index, MODEL_TRIES + RANDOM_TRIES)
        return PointSampler(unseen_point(sweep, space, study, tries(sweep, space, study, index), last))


def tries(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> Iterator[BaseSampler]:
    """The samplers to ask in turn for draw number `index`: the sampler itself, TPE with other seeds, random."""
    yield SAMPLERS[sweep.sampler](sweep, space, study, index)
    for attempt in range(1, MODEL_TRIES + RANDOM_TRIES):
        seed = seed_of(sweep, index, attempt)
        by_chance = sweep.sampler in ("random", "top_k") or attempt >= MODEL_TRIES
        yield RandomSampler(seed=seed) if by_chance else tpe_with(sweep, seed)


def seed_of(sweep: SweepConfig, *which: int) -> int:
    """which: the index of the draw, and the number of the attempt."""
    return int(np.random.SeedSequence([sweep.seed, *which]).generate_state(1)[0])


def startup(sweep: SweepConfig) -> int:
    """How many random draws come before the first model-based one."""
    return min(10, max(3, sweep.num_trials // 3))


def tpe(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> BaseSampler:
    del space, study
    return tpe_with(sweep, seed_of(sweep, index))


def tpe_with(sweep: SweepConfig, seed: int) -> BaseSampler:
    """Univariate and without constant liar: the best of the variants that were benchmarked with few trials and ASHA."""
    return optuna.samplers.TPESampler(
        n_startup_trials=startup(sweep), multivariate=False, constant_liar=False, seed=seed
    )


def random(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> BaseSampler:
    del space, study
    return RandomSampler(seed=seed_of(sweep, index))


def gp(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> BaseSampler:
    """With one objective our Gaussian process, which learns from all trials (gp.py); with several, or constraints,
    Optuna's.
    """
    if len(study.directions) > 1 or sweep.constraints:
        return optunas_gp(sweep, space, study, index)
    seed = seed_of(sweep, index)
    if index + sum(WARM in trial.user_attrs for trial in study.get_trials(deepcopy=False)) < FIRST_RANDOM:
        return RandomSampler(seed=seed)
    with threadpool_limits(1):  # bitwise the same whatever the number of cores
        point = gp_point(space, study, seed)
    return RandomSampler(seed=seed) if point is None else PointSampler(point)


def optunas_gp(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> BaseSampler:
    """A process each for objectives and constraints draws the values that every trial has, TPE the others."""
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
    """So that a draw takes no core from training, and is bitwise the same whatever the number of cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def auto(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> BaseSampler:
    """The best in our benchmarks: a Gaussian process for one objective without constraints, else TPE."""
    plain = len(study.directions) == 1 and not sweep.constraints
    return (gp if plain else tpe)(sweep, space, study, index)


def nsga2(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> BaseSampler:
    """At least four generations. A generation counts complete trials."""
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
    from sweeps.samplers.cmaes import GENERATION, next_point

    point, generation = next_point(Cube.of(space), study, seed_of(sweep, index))
    return PointSampler(point, {GENERATION: generation})


def grid(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> BaseSampler:
    """Point number `index` of the grid in a fixed shuffled order, after the points of the first trials. A prefix of the
    grid is then a fair sample of it.
    """
    del study
    found, left = space.grids.setdefault(sweep.seed, ([], _shuffled_grid(space, sweep.seed)))
    found.extend(itertools.islice(left, max(0, index + 1 - len(found))))
    return PointSampler(found[index])


def _shuffled_grid(space: Space, seed: int) -> Iterator[Labels]:
    points = list(grid_points(space))
    np.random.default_rng(seed).shuffle(points)
    yield from distinct(space, [*space.first_points(), *points])


def one_of_top_k(sweep: SweepConfig, space: Space, study: optuna.Study, index: int) -> Labels | None:
    """top_k: random draws train for one epoch; then the best of them train in full (arXiv 2307.15422).

    Trials that break a constraint come after those that do not. None before, and once none is left because too few
    finished their first epoch: then random draws fill up.

    Of a sweep that was resumed with more trials some of the first have trained in full already: they are not taken.
    """
    rank = index - sweep.num_short
    if sweep.sampler != "top_k" or rank < 0:
        return None
    known = [trial for trial in by_index(study) if trial.user_attrs[INDEX] < sweep.num_short]
    sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
    values = [(violation(trial), sign * value, trial) for trial in known if (value := first_value(trial)) is not None]
    best: dict[str, FrozenTrial] = {}
    for _, _, trial in sorted(values, key=lambda row: row[:2]):  # stable: of equals the earlier one
        best.setdefault(known_key(space, trial.user_attrs[PARAMS]), trial)
    for trial in filter(trained_in_full, known):
        best.pop(known_key(space, trial.user_attrs[PARAMS]), None)
    left = list(best.values())
    return dict(left[rank].params) if rank < len(left) else None


def trained_in_full(trial: FrozenTrial) -> bool:
    """Whether a trial of top_k has trained beyond the first epoch, to its end."""
    return trial.state == TrialState.COMPLETE and max(reported(trial), default=0) > 1


SAMPLERS: dict[str, Build] = {  # the names are those of config/choices.py
    "auto": auto,
    "tpe": tpe,
    "gp": gp,
    "cmaes": cmaes,
    "nsga2": nsga2,
    "qmc": qmc,
    "random": random,
    "grid": grid,
    "top_k": random,  # and then `one_of_top_k`
}
