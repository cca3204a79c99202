"""Deduplication: draws a configuration that no trial has had, with an adapter that is not too large.

The same configuration with the same seed trains to the same bits, and the size of an adapter is known before training.
In a space of few values samplers draw the same configurations again and again.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState, create_trial

from analysis.measures import broken
from mergenet.config.choices import KINDS, unused_settings
from mergenet.records.run_record import ADAPTER_PARAMETERS
from sweeps.config import SweepConfig
from sweeps.samplers.fixed import Answers, Walker, first_choice, grid_points
from sweeps.samplers.history import PARAMS, by_index, reopened
from sweeps.space.possible_values import drawn
from sweeps.space.space import KIND, MAX_LISTED, METHOD, RANK, Labels, Space


def unseen_point(
    sweep: SweepConfig, space: Space, study: optuna.Study, samplers: Iterable[BaseSampler], seed: int
) -> Labels:
    """A new point, by Optuna's names: from the first sampler that draws one, else any of the remaining points.

    If there is none: the first new draw, and then any draw. seed: for the choice among the remaining points.
    """
    seen = {known_key(space, trial.user_attrs[PARAMS]) for trial in by_index(study)}
    current = reopened(study)
    fits = within_size(sweep, space)
    found = []
    for sampler in samplers:
        found.append(ask_sampler(space, current, sampler))
        if is_new(space, found[-1], seen) and fits(found[-1]):
            return found[-1]
    left = [point for point in listed(space) if is_new(space, point, seen)]
    np.random.default_rng(seed).shuffle(left)
    new = [point for point in found if is_new(space, point, seen)]
    return next(filter(fits, left), [*new, *left, *found][0])


def is_new(space: Space, point: Labels, seen: set[str]) -> bool:
    return training_key(space, space(Walker(point))) not in seen


def training_key(space: Space, labels: Labels) -> str:
    """A key of everything in a draw that the training depends on."""

    unused = unused_settings(str(drawn(space, METHOD, labels)))
    used = {path: label for path, label in labels.items() if not path.startswith(unused)}
    kind = KINDS.get(str(drawn(space, KIND, labels)))
    if kind is not None and kind.shows_whole:
        used.pop(RANK, None)
    return json.dumps(used, sort_keys=True)


def known_key(space: Space, params: str) -> str:
    """The same of a trial's labels as the study has them; a draw looks at those of all trials before it."""
    known = space.training_keys
    if params not in known:
        known[params] = training_key(space, json.loads(params))
    return known[params]


def within_size(sweep: SweepConfig, space: Space) -> Callable[[Labels], bool]:
    """Whether the adapters at a point keep the constraint on their parameters."""
    bounds = {name: bound for name, bound in sweep.bounds.items() if name == ADAPTER_PARAMETERS}
    if not bounds:
        return lambda _: True
    from sweeps.space.adapter_size import adapter_parameters, decides  # torch

    known: dict[str, bool] = {}  # many points do not differ in what determines it

    def fits(point: Labels) -> bool:
        labels = space(Walker(point))
        key = json.dumps({path: label for path, label in labels.items() if decides(space, path)}, sort_keys=True)
        if key not in known:
            known[key] = not broken(bounds, {ADAPTER_PARAMETERS: adapter_parameters(space.config(labels))})
        return known[key]

    return fits


def endless(space: Space) -> bool:
    return any(entry.real is not None for entry in space.entries.values())


def listed(space: Space) -> Iterator[Labels]:
    """The points of the space, MAX_LISTED at most; none if it has a range of numbers."""
    return iter(()) if endless(space) else islice(grid_points(space), MAX_LISTED)


def distinct(space: Space, points: Iterable[Labels]) -> Iterator[Labels]:
    """The points, without those that train the same as an earlier one."""
    seen: set[str] = set()
    for point in points:
        if is_new(space, point, seen):
            seen.add(training_key(space, space(Walker(point))))
            yield point


def num_trainings(space: Space, enough: int) -> int:
    """How many different trainings the space holds, counted up to `enough`; a space with a range, or with too many
    points to go through, counts as having `enough`.
    """
    looked, seen = 0, set[str]()
    for point in listed(space):
        looked += 1
        seen.add(training_key(space, space(Walker(point))))
        if len(seen) == enough:
            break
    return enough if endless(space) or looked == MAX_LISTED else len(seen)


def ask_sampler(space: Space, study: optuna.Study, sampler: BaseSampler) -> Labels:
    """Asks a sampler for a draw without adding a trial to the study."""
    space(asking := SamplerTrial(study, sampler))
    return asking.point


class SamplerTrial(Answers):
    """Suggests values from a sampler one by one, as a trial of the study would, and records them."""

    def __init__(self, study: optuna.Study, sampler: BaseSampler) -> None:
        self.study, self.sampler, self.point = study, sampler, Labels()
        self.trial = create_trial(state=TrialState.RUNNING)

    def answer(self, name: str, distribution: BaseDistribution) -> Any:
        if distribution.single():  # Optuna does not ask a sampler if there is only one value
            self.point[name] = first_choice(distribution)
        else:
            self.point[name] = self.sampler.sample_independent(self.study, self.trial, name, distribution)
        return self.point[name]
