"""Single points of a search space, by Optuna's names, and all of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from sweeps.samplers.history import note, trial_key
from sweeps.space.space import Labels, Space


class PointSampler(BaseSampler):
    """Suggests one point, given by Optuna's names. attributes: stored with the trial as it begins."""

    def __init__(self, point: dict[str, Any], attributes: dict[str, Any] | None = None) -> None:
        self.point, self.attributes = point, attributes or {}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        for name, value in self.attributes.items():
            note(study, trial_key(trial), name, value)

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


class Answers(ABC):
    """Stands in for a trial in a space: every suggested value comes from `answer`, given the distribution."""

    @abstractmethod
    def answer(self, name: str, distribution: BaseDistribution) -> Any: ...

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return self.answer(name, CategoricalDistribution(choices))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self.answer(name, IntDistribution(low, high, step=step, log=log)))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(self.answer(name, FloatDistribution(low, high, log=log)))


def first_choice(distribution: BaseDistribution) -> Any:
    """The first choice, or the lower bound."""
    return distribution.choices[0] if isinstance(distribution, CategoricalDistribution) else distribution.low  # type: ignore[attr-defined] # numbers have one


class Undecided(Exception):
    """A walk through the space has reached a name that its point does not hold."""

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.name, self.values = name, values


class Walker:
    """Suggests a point's values, and stops where it ends. Without distributions: a space may have 100,000 points."""

    def __init__(self, point: Labels) -> None:
        self.point = point

    def _answer(self, name: str, values: Sequence[Any]) -> Any:
        if name not in self.point:
            raise Undecided(name, values)
        return self.point[name]

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return self._answer(name, choices)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        del log
        return int(self._answer(name, range(low, high + 1, step)))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        del log
        return float(self._answer(name, [low, high]))  # whoever lists points makes sure that there is no such range


def grid_points(space: Space) -> Iterator[Labels]:
    """Every draw of a space of choices and whole numbers, by Optuna's names, in the order of the file, one by one: a
    range may have more numbers than fit into memory.
    """
    stack = [iter([Labels()])]
    while stack:
        point = next(stack[-1], None)
        if point is None:
            stack.pop()
            continue
        try:
            space(Walker(point))
        except Undecided as where:
            stack.append(with_each(point, where.name, where.values))
        else:
            yield point


def with_each(point: Labels, name: str, values: Iterable[Any]) -> Iterator[Labels]:
    for value in values:
        yield {**point, name: value}
