"""What the sides of benchmarks/search.py and search_pairs.py search: a space, and how long a whole trial is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.surrogate import EPOCHS, SEARCH
from sweeps.config.loading import parse_sweep
from sweeps.space.entry import Scalar
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


class Given:
    """Suggests what has been drawn already."""

    def __init__(self, flat: Mapping[str, Any]) -> None:
        self.flat = flat

    def suggest_categorical(self, name: str, choices: list[Scalar]) -> Scalar:
        value = self.flat[name.split(" (")[0]]
        return next((choice for choice in choices if choice == value), choices[-1])  # Python's, where NumPy's was drawn

    def suggest_int(self, name: str, *bounds: int, **_: Any) -> int:
        return min(bounds[1], int(self.flat[name]))

    def suggest_float(self, name: str, *_: float, **__: Any) -> float:
        return float(self.flat[name])


MakeSide = Callable[[int, Problem], Side]  # of a seed
LCBENCH = Problem(
    SEARCH, PlainSpace({}, parse_sweep({"name": "search", "base": "none", "search": SEARCH}, "LCBench").search), EPOCHS
)
