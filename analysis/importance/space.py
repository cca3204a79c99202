"""What a sweep searched, read from its sweep.yaml and base.yaml, and every value as a number from 0 to 1.

A value that is no plain scalar has a label: layer pairs as in mergenet/config/pair_labels.py, anything else as JSON.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.names import BASE_FILE, SWEEP_FILE
from analysis.sweep_file import read_sweep_file
from analysis.tables.load import canonical
from mergenet.config.pair_labels import in_a_word
from mergenet.config.yaml12 import load_yaml
from mergenet.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Label = str | int | float | bool


def label_of(value: Any) -> Label:
    label = in_a_word(value)
    return "null" if label is None else label  # None itself: not drawn


@dataclass(frozen=True)
class Parameter:
    """One entry of `search`. choices: the labels of a choice; else a range from low to high, both included.

    whole: of whole numbers, `step` apart. log: drawn uniformly in its logarithm. when: the labels that other parameters
    must have for this one to be drawn; empty if it always is.
    """

    path: str
    choices: tuple[Label, ...] = ()
    low: float = 0.0
    high: float = 1.0
    whole: bool = False
    log: bool = False
    step: int = 1
    when: Mapping[str, tuple[Label, ...]] = field(default_factory=dict)

    def code(self, label: Label) -> float:
        """The value as a number from 0 to 1, such that equal lengths are drawn equally often; NaN for a foreign one.

        A choice lies in the middle of its share, in the order of the sweep file; whole numbers have half a step on
        either side.
        """
        if self.choices:
            return (self.choices.index(label) + 0.5) / len(self.choices) if label in self.choices else math.nan
        if not isinstance(label, int | float) or isinstance(label, bool):
            return math.nan
        half = self.step / 2 if self.whole else 0.0
        low, high, value = (self._scaled(x) for x in (self.low - half, self.high + half, label))
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def _scaled(self, value: float) -> float:
        return math.log(max(value, 1e-300)) if self.log else float(value)

    def grid(self, count: int = 20) -> list[Label]:
        """All choices, or up to `count` values of the range, evenly spaced as it is drawn."""
        if self.choices:
            return list(self.choices)
        low, high = self._scaled(self.low), self._scaled(self.high)
        values = [low + (high - low) * i / (count - 1) for i in range(count)]
        plain = [min(max(math.exp(value) if self.log else value, self.low), self.high) for value in values]
        if not self.whole:
            return list(plain)
        return list(dict.fromkeys(int(self.low + self.step * round((value - self.low) / self.step)) for value in plain))

    def distribution(self) -> "BaseDistribution":
        """As Optuna knows it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=self.step)
        return FloatDistribution(self.low, self.high, log=self.log)


def read_parameters(folder: Path, drawn: Mapping[str, Iterable[Label]]) -> dict[str, Parameter]:
    """The entries of `search` in a sweep folder's sweep.yaml, by path.

    drawn: what the trials drew of each path: patterns of layers are known by the pairs that they stood for.
    Raises UserError if there is no sweep file, or it is damaged.
    """
    path = folder / SWEEP_FILE
    if not path.is_file():
        raise UserError(
            f"{folder} must be a sweep folder, whose {SWEEP_FILE} says what was searched; there is no such file"
        )
    search = read_sweep_file(folder).get("search")
    try:
        assert isinstance(search, dict)
        return {str(name): _parameter(str(name), entry, drawn.get(name, ())) for name, entry in search.items()}
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError):
        must = f"{path} must be a sweep file, and its search a mapping of entries"
        raise UserError(f"{must}; the file is damaged") from None


def _parameter(path: str, entry: dict[str, Any], drawn: Iterable[Label]) -> Parameter:
    when = {name: tuple(map(label_of, values)) for name, values in entry.get("when", {}).items()}
    for kind in ("int", "float"):
        if kind in entry:
            low, high = map(float, entry[kind])
            step = int(entry.get("step") or 1)
            return Parameter(path, (), low, high, kind == "int", bool(entry.get("log")), step, when)
    listed = list(dict.fromkeys(map(label_of, entry.get("choice", []))))
    seen = sorted(set(drawn), key=canonical)
    return Parameter(path, tuple(listed if set(seen) <= set(listed) else seen), when=when)


def read_base(folder: Path) -> Any:
    """The base configuration in a sweep folder as plain values; an empty one if it is missing. Raises UserError."""
    path = folder / BASE_FILE
    return load_yaml(path.read_text(encoding="utf-8", errors="replace"), str(path)) if path.is_file() else {}


def base_labels(base: Any, paths: Iterable[str]) -> dict[str, Label]:
    """The base's own labels of these paths; without those that it does not have."""
    found = {name: _at(base, name) for name in paths}
    return {name: label_of(value) for name, value in found.items() if value is not _ABSENT}


_ABSENT = object()


def _at(values: Any, path: str) -> Any:
    for key in path.split("."):
        if isinstance(values, list) and key.isdigit() and int(key) < len(values):
            values = values[int(key)]
        elif isinstance(values, dict) and key in values:
            values = values[key]
        else:
            return _ABSENT
    return values
