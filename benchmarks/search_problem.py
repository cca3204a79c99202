"""What the sides of benchmarks/search.py and search_pairs.py search: a space, and how long a whole trial is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from optuna.distributions import BaseDistribution, CategoricalDistribution

from benchmarks.surrogate import EPOCHS, SEARCH
from sweeps.config.loading import parse_sweep
from sweeps.samplers.fixed import Answers
from sweeps.space.space import Labels, Space

Values = dict[str, Any]


class Curve(Protocol):
    """Of a trial. seen: what it showed when it had trained to its end. best: what that is worth, without noise."""

    def __call__(self, epoch: int) -> float: ...
    @property
    def seen(self) -> float: ...
    @property
    def best(self) -> float: ...


class Curves(Protocol):
    """Of the trials of a task. epochs: of a whole one."""

    @property
    def epochs(self) -> int: ...
    def curve(self, values: Mapping[str, Any]) -> Curve: ...


class Side(Protocol):
    def suggest(self, name: str) -> Values:
        """The values of a new trial."""

    def report(self, name: str, epoch: int, value: float) -> bool:
        """Reports the value after an epoch, and whether the trial has ended; returns whether it is stopped."""


class PlainSpace(Space):
    """No trial comes first for being the base's: other packages know of none, and LCBench has none."""

    def first_points(self) -> list[Labels]:
        return []


@dataclass(frozen=True)
class Problem:
    """search: as a sweep file has it, which the space is of. epochs: of a whole trial."""

    search: Values
    space: PlainSpace
    epochs: int

    @property
    def is_flat(self) -> bool:
        """Whether every trial draws every value, whatever the others are."""
        return not self.space.limits and not any(entry.when for entry in self.space.entries.values())

    def drawn(self, flat: Mapping[str, Any]) -> Labels:
        """What a package without conditions has drawn, as a user would read it: values that do not matter are left out,
        a rank that the layers do not allow becomes the largest that they do."""
        return self.space(Given(flat))


class Given(Answers):
    """Suggests what has been drawn already."""

    def __init__(self, flat: Mapping[str, Any]) -> None:
        self.flat = flat

    def answer(self, name: str, distribution: BaseDistribution) -> Any:
        value = self.flat[Space.path_of(name)]
        if isinstance(distribution, CategoricalDistribution):  # its own value, where an equal one of NumPy's was drawn
            return next((choice for choice in distribution.choices if choice == value), distribution.choices[-1])
        return min(value, distribution.high)  # type: ignore[attr-defined] # numbers have one


MakeSide = Callable[[int, Problem], Side]  # of a seed
LCBENCH = Problem(
    SEARCH, PlainSpace({}, parse_sweep({"name": "search", "base": "none", "search": SEARCH}, "LCBench").search), EPOCHS
)
