"""The trials of a study as a Gaussian process sees them: every trial with a value, ended or not, counts as one.

A trial that was stopped, or has got, after epoch e gets the value that it would be expected to reach: its value then,
and what others gained from there, but no better than the best complete trial. The gains are added up from one epoch at
which trials were stopped to the next: of each stretch the median over all trials that went through it, so that a trial
counts long before any is complete. How much they differ is the estimate's variance. A failed trial gets the worst value
of all, so that the model stays away from it; and one of which no measure is known breaks each constraint as far as the
trial that breaks it most.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeps.samplers.history import CONSTRAINTS, WARM, by_index

MIN_GAINS = 3  # whose variance is taken for one
END = math.inf  # beyond the last epoch
MOST = 1e100  # of a value that is learnt from


class Target(NamedTuple):
    """value: None if nothing is known of the trial yet. variance: of the value, beyond the noise of a training.

    gain: the part of the value that the trial has not trained for.
    """

    trial: FrozenTrial
    value: float | None
    variance: float = 0.0
    gain: float = 0.0


def targets(study: optuna.Study) -> list[Target]:
    """The trials of this sweep and of earlier ones, in the study's order. The study has one objective."""
    whole = drawn_whole(study)
    complete = [trial for trial in whole if trial.state == TrialState.COMPLETE]
    worse, better = (min, max) if study.direction == StudyDirection.MAXIMIZE else (max, min)
    gained = functools.cache(Gains(whole).after)
    found = [bounded(expected(trial, gained)) for trial in whole]
    if complete:
        best = better(one.value for one in found if one.trial.state == TrialState.COMPLETE and one.value is not None)
        found = [one if one.value is None else one._replace(value=worse(one.value, best)) for one in found]
    worst = worse((one.value for one in found if one.value is not None), default=None)
    return [one._replace(value=worst) if one.value is None and one.trial.state.is_finished() else one for one in found]


def drawn_whole(study: optuna.Study) -> list[FrozenTrial]:
    """All trials but those that were not drawn completely, and earlier attempts at a trial that was retried."""
    own = {trial.number for trial in by_index(study)}
    return [t for t in study.get_trials(deepcopy=False) if t.number in own or WARM in t.user_attrs]


def estimated(study: optuna.Study) -> list[FrozenTrial]:
    """Those trials for Optuna's process, with one objective: one that was stopped or failed has its target's value."""
    if len(study.directions) > 1:
        return drawn_whole(study)
    ended_early, found = (TrialState.PRUNED, TrialState.FAIL), targets(study)
    worst = worst_excesses(one.trial for one in found)
    return [
        one.trial
        if one.value is None or one.trial.state not in ended_early
        else ended_with(one.trial, one.value, worst)
        for one in found
    ]


def worst_excesses(trials: Iterable[FrozenTrial]) -> list[float]:
    """The largest excess of each constraint; empty without constraints, and before any trial has been measured."""
    known = [excesses for trial in trials if (excesses := trial.system_attrs.get(CONSTRAINTS))]
    return [max(column) for column in zip(*known, strict=True)]


def ended_with(trial: FrozenTrial, value: float, worst: list[float]) -> FrozenTrial:
    """The trial as if it were complete. worst: its excesses, if it has none; Optuna wants those of every trial."""
    lacking = {CONSTRAINTS: worst} if worst and CONSTRAINTS not in trial.system_attrs else {}
    return create_trial(
        params=trial.params,
        distributions=trial.distributions,
        value=value,
        intermediate_values=trial.intermediate_values,
        user_attrs=trial.user_attrs,
        system_attrs=trial.system_attrs | lacking,
    )


class Gains:
    """What trials gain with more epochs. Complete ones end with their value, which may be a mean over seeds."""

    def __init__(self, trials: Iterable[FrozenTrial]) -> None:
        self.curves: list[dict[float, float]] = []
        stops = set[float]()
        for trial in trials:
            if trial.state != TrialState.FAIL and trial.intermediate_values:
                curve: dict[float, float] = dict(trial.intermediate_values)  # type: ignore[arg-type] # END is no epoch
                if trial.state == TrialState.PRUNED:
                    stops.add(max(curve))
                elif trial.state == TrialState.COMPLETE and trial.value is not None:
                    curve[END] = trial.value
                self.curves.append(curve)
        self.landmarks = [*sorted(stops), END]
        self.values = functools.cache(self._values)
        self.between = functools.cache(self._between)

    def after(self, epoch: int) -> tuple[float, float]:
        """The gain expected from an epoch to the last, and its variance."""
        marks = [epoch, *(mark for mark in self.landmarks if mark > epoch)]
        stretches = [self.between(start, end) for start, end in itertools.pairwise(marks)]
        return sum(gain for gain, _ in stretches), sum(variance for _, variance in stretches)

    def _between(self, start: float, end: float) -> tuple[float, float]:
        gains = self.values(end) - self.values(start)
        gains = np.clip(gains[~np.isnan(gains)], -MOST, MOST)
        variance = float(np.var(gains)) if len(gains) >= MIN_GAINS else 0.0
        return (float(np.median(gains)) if len(gains) else 0.0), variance

    def _values(self, epoch: float) -> NDArray[np.float64]:
        """(N,) of each curve at an epoch; NaN if it has none there."""
        return np.array([curve.get(epoch, math.nan) for curve in self.curves])


def bounded(target: Target) -> Target:
    """Within numbers whose squares are numbers."""
    value = None if target.value is None else min(MOST, max(-MOST, target.value))
    gain = min(MOST, abs(target.gain))
    return target._replace(value=value, variance=min(MOST, target.variance), gain=gain)


def expected(trial: FrozenTrial, gained: Callable[[int], tuple[float, float]]) -> Target:
    """The value of a complete trial, or the value that one which has got less far is expected to reach."""
    if trial.state == TrialState.COMPLETE:
        return Target(trial, trial.value)
    if trial.state == TrialState.FAIL or not trial.intermediate_values:
        return Target(trial, None)
    epoch, value = max(trial.intermediate_values.items())
    gain, variance = gained(epoch)
    return Target(trial, value + gain, variance, gain)
