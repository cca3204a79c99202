"""The search space: what a sweep draws, in an order that makes every draw a valid configuration.

Optuna calls the space with a trial (define-by-run). Values that decide shapes, the layer pairs above all, are drawn
first; the rank is then drawn within what the layers of the drawn pairs allow. An entry with conditions is drawn after
what they name, and only if they hold (conditions.py). Optuna sees values that are not plain scalars as labels,
e.g. a list of pairs as "layer3.0.conv1>features.2.conv".
"""

import copy
import functools
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Any, Protocol

from analysis.trial_file import named_values
from mergenet.config import Config
from mergenet.config.loading import parse_config, set_by_path
from mergenet.config.pair_labels import are_pairs, pairs_label
from mergenet.errors import ConfigError
from sweeps.space.conditions import ancestors, groups, holds, needs, ordered, walk
from sweeps.space.entry import Entry, Scalar

METHOD = "method"
KIND = "transfer.adapter.kind"
RANK = "transfer.adapter.rank"
PAIRS = "transfer.pairs"
CYCLE = "transfer.t_cycle"
SHARED = ("name", "seed", "epochs", "device", "threads", "source.recording", "target.seed")
SHAPING = re.compile(
    r"(source|target)\.(task|model\..*|data\..*)|source\.kind|transfer\.adapter\.(kind|encoding)|transfer\.align"
    r"|transfer\.pairs(\.\d+(\.(source|target|align|direction))?)?"
)
MAX_COMBINATIONS = 512
MAX_LISTED = 100_000  # points of a space that are gone through one by one

Labels = dict[str, Scalar]  # dotted path -> the value as Optuna sees it


class Suggests(Protocol):
    """The part of optuna.Trial that a space needs."""

    def suggest_categorical(self, name: str, choices: list[Scalar]) -> Scalar: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...
    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...


@dataclass(frozen=True)
class Space:
    """base: the base configuration as plain values.

    limits: labels of the shaping choices -> largest rank; `...` instead of a label where none is drawn.
    """

    base: dict[str, Any]
    entries: dict[str, Entry]
    limits: dict[tuple[Scalar | EllipsisType, ...], int] = field(default_factory=dict)

    def __call__(self, trial: Suggests) -> Labels:
        """Draw one configuration, as labels by path, of only those paths that its branch draws."""
        labels: Labels = {}
        for path in self.order:
            if holds(self.entries[path], labels):
                labels[path] = self._draw(trial, path, self.limit(labels) if path == RANK else None)
        return labels

    @functools.cached_property
    def training_keys(self) -> dict[str, str]:
        """What samplers/deduplicate.py remembers of draws, by their labels as JSON."""
        return {}

    @functools.cached_property
    def grids(self) -> dict[int, tuple[list[Labels], Iterator[Labels]]]:
        """What samplers/registry.py remembers of the shuffled grid, by its seed: the points drawn, and what is left."""
        return {}

    @functools.cached_property
    def shaping(self) -> list[str]:
        """A rank inside a mapping is drawn with it, so what the layers allow must be known for each mapping."""
        return [
            path
            for path in self.entries
            if any(SHAPING.fullmatch(name) or name == RANK != path for name in self.names(path))
        ]

    def names(self, path: str) -> list[str]:
        """The settings that a path stands for: itself and, of a choice of mappings, what these name."""
        mappings = [value for value in self.entries[path].listed if isinstance(value, dict)]
        return list(dict.fromkeys([path, *(name for value in mappings for name in named_values({path: value}))]))

    @functools.cached_property
    def order(self) -> list[str]:
        """Shaping choices first, a list of pairs before what lies inside it, the rest as in the file.

        Paths that a condition names come before the entry that has it.
        """
        first = sorted(self.shaping, key=lambda path: path.count("."))
        return ordered(self.entries, [*first, *self.entries])

    def values(self, labels: Labels) -> dict[str, Any]:
        """The values of the labels, by path."""
        return {path: self.options(path).get(label, label) for path, label in labels.items()}

    def options(self, path: str) -> dict[Scalar, Any]:
        """Label -> value of a choice; empty for a range."""
        return {label_of(value): value for value in self.entries[path].listed}

    def config(self, labels: Labels, origin: str = "a draw of the search space") -> Config:
        """The base with the drawn values. Raises ConfigError."""
        values = json.loads(json.dumps(self.base))
        for path in sorted(sorted(labels, key=self.order.index), key=lambda path: path.count(".")):
            value = copy.deepcopy(self.options(path).get(labels[path], labels[path]))  # set_by_path reaches into it
            set_by_path(values, path, value)
        return parse_config(values, origin)

    def combinations(self) -> Iterator[Labels]:
        """Every combination of the shaping choices; one empty combination if there are none.

        With a value of each kind for the paths that decide whether they, and the rank, are drawn.
        """
        return self.branches(self.shaping, [RANK] if RANK in self.entries else [])

    def branches(self, whole: Sequence[str], deciding: Iterable[str] = ()) -> Iterator[Labels]:
        """Every combination of the paths in `whole`, and one of each kind of branch that they and `deciding` lie on.

        Whole numbers that no condition distinguishes are one kind; methods are always distinguished.
        """
        others = ancestors(self.entries, [*whole, *deciding])
        paths = [path for path in self.order if path in whole or path in others]
        columns = {
            path: list(self.options(path))
            if path in whole or path == METHOD
            else [group[0] for group in groups(self.entries, path)]
            for path in paths
        }
        return walk(self.entries, paths, columns)

    def filled(self, labels: Labels) -> Labels:
        """The labels, and one for each path that their branch draws as well: the base's own value where it may be."""
        out = dict(labels)
        for path in self.order:
            if path not in out and self.entries[path].when and holds(self.entries[path], out):
                own, entry = value_at(self.base, path), self.entries[path]
                if entry.bounds is not None:
                    out[path] = own if in_range(entry, own) else entry.bounds[0]
                else:
                    known = list(self.options(path))
                    out[path] = own if any(same(own, label) for label in known) else known[0]
        return out

    def example(self, path: str, label: Scalar) -> Labels:
        """Labels under which a path is drawn with this label, and as few others as possible."""
        labels: Labels = {path: label}
        for parent, values in needs(self.entries, path).items():
            own = value_at(self.base, parent)
            labels[parent] = own if any(same(own, value) for value in values) else values[0]
        return self.filled(labels)

    @functools.cached_property
    def _known(self) -> dict[str, list[tuple[Any, Scalar]]]:
        """Value as a configuration has it, without what other entries draw inside it, and its label, of each choice."""

        def known(path: str, label: Scalar) -> Any:
            return self._own(dumped(self.config(self.example(path, label))), path)

        choices = [path for path, entry in self.entries.items() if entry.bounds is None]
        return {path: [(known(path, label), label) for label in self.options(path)] for path in choices}

    @functools.cached_property
    def _inside(self) -> dict[str, list[str]]:
        """The entries that lie inside another, by its path, written from there."""
        return {
            path: [name.removeprefix(f"{path}.") for name in self.entries if name.startswith(f"{path}.")]
            for path in self.entries
        }

    def _own(self, values: dict[str, Any], path: str) -> Any:
        """The value at a path, without what other entries draw inside it."""
        value = value_at(values, path)
        if self._inside[path]:
            value = copy.deepcopy(value)
            for inner in self._inside[path]:
                remove(value, inner)
        return value

    def locate(self, config: Config) -> Labels | None:
        """Where the values of a configuration lie in the space; None if one of them does not.

        Looks only at the paths that their branch draws; the caller must know that the rest equals the base.
        """
        values = dumped(config)
        columns: dict[str, list[Scalar]] = {}
        for path, entry in self.entries.items():
            if entry.bounds is not None:
                value = value_at(values, path)
                columns[path] = [as_drawn(entry, value)] if in_range(entry, value) else []
            else:
                own = self._own(values, path)
                columns[path] = [label for known, label in self._known[path] if same(known, own)]
        return next((found for found in walk(self.entries, self.order, columns) if self._is_drawn(found, values)), None)

    def _is_drawn(self, labels: Labels, values: dict[str, Any]) -> bool:
        """Whether a draw of these labels has the values, where mappings may differ in what lies inside them only."""
        if RANK in labels and value_at(values, RANK) > self.limit(labels):
            return False
        if not any(self._inside[path] for path in labels):
            return True
        try:
            drawn = dumped(self.config(labels))
        except ConfigError:
            return False
        return all(same(value_at(drawn, path), value_at(values, path)) for path in labels)

    def can_draw(self, labels: Labels) -> bool:
        """Whether the labels are a draw of this space: of each path of their branch one that may be drawn, no other."""
        drawn = Labels()
        for path in self.order:
            entry = self.entries[path]
            if not holds(entry, drawn):
                continue
            if path not in labels:
                return False
            drawn[path] = label = labels[path]
            ranged = entry.bounds is not None
            if not (in_range(entry, label) if ranged else any(same(label, known) for known in self.options(path))):
                return False
        rank: Any = drawn.get(RANK, 0)
        return bool(rank <= self.limit(drawn)) and drawn.keys() == labels.keys()

    def first_point(self) -> Labels | None:
        """The base's own values, by Optuna's names, if all of them lie in the space: a good first trial."""
        labels = self.locate(self.config({}))
        return None if labels is None else self.named(labels)

    def first_points(self) -> list[Labels]:
        """The first trials: the base's own values and, where methods are searched, no transfer, perhaps both in one."""
        points = [self.first_point()]
        if METHOD in self.entries and "none" in self.options(METHOD):
            labels = self.locate(self.config({METHOD: "none"}))
            points.append(None if labels is None else self.named(labels))
        return [point for point in points if point is not None]

    def named(self, labels: Labels) -> Labels:
        """The labels by Optuna's names instead of paths."""
        return {self.rank_name(self.limit(labels)) if path == RANK else path: label for path, label in labels.items()}

    def rank_name(self, limit: float) -> str:
        """Optuna refuses a categorical whose choices change, so limited choices of ranks have a name of their own."""
        choice = self.entries[RANK].choice if RANK in self.entries else None
        allowed = [rank for rank in choice or () if rank <= limit]
        return RANK if choice is None or len(allowed) == len(choice) else f"{RANK} (up to {max(allowed)})"

    @staticmethod
    def path_of(name: str) -> str:
        """The path of a value by its name for Optuna."""
        return RANK if name.startswith(f"{RANK} (") else name

    def limit(self, labels: Labels) -> float:
        """The largest rank that the layers drawn allow."""
        return self.limits.get(self.key(labels), math.inf)

    def key(self, labels: Labels) -> tuple[Scalar | EllipsisType, ...]:
        """The key of `limits`."""
        return tuple(labels.get(path, ...) for path in self.shaping)

    def _draw(self, trial: Suggests, path: str, limit: float | None) -> Scalar:
        entry = self.entries[path]
        if entry.real is not None:
            return trial.suggest_float(path, *entry.real, log=entry.log)
        if entry.whole is not None:
            low, high = entry.whole
            high = high if limit is None else int(min(high, limit))
            step = entry.step or 1
            return trial.suggest_int(path, low, high - (high - low) % step, step=step, log=entry.log)
        if limit is None:
            return trial.suggest_categorical(path, list(self.options(path)))
        allowed = [label for label, rank in self.options(path).items() if rank <= limit]
        return trial.suggest_categorical(self.rank_name(limit), allowed)


def label_of(value: Any) -> Scalar:
    """The label of a value in the study, always the same: a scalar, plain pairs as a word, anything else as JSON.

    For a reader it is mergenet/config/pair_labels.py that writes values.
    """
    if value is None or isinstance(value, str | int | float | bool):
        return value
    plain = are_pairs(value) and all(set(pair) == {"source", "target"} for pair in value)
    return pairs_label(value) if plain else json.dumps(value)


def dumped(config: Config) -> dict[str, Any]:
    """A configuration as plain values."""
    return config.model_dump(mode="json")


def get_by_path(config: Config, path: str) -> Any:
    """The value at a dotted path; None where it does not exist (an item of a list that is not there)."""
    return value_at(dumped(config), path)


def value_at(values: Any, path: str) -> Any:
    """The same for plain values."""
    for key in path.split("."):
        if isinstance(values, list):
            values = values[int(key)] if int(key) < len(values) else None
        else:
            values = values.get(key) if isinstance(values, dict) else None
    return values


def remove(values: Any, path: str) -> None:
    """Take the value at a dotted path, if it exists, out of plain values."""
    parent, _, last = path.rpartition(".")
    inside = value_at(values, parent) if parent else values
    if isinstance(inside, dict):
        inside.pop(last, None)


def same(value: Any, other: Any) -> bool:
    """Equal, where 1 and 0 do not equal true and false."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


def in_range(entry: Entry, value: Any) -> bool:
    """Whether a range can draw the value."""
    assert entry.bounds is not None
    low, high = entry.bounds
    inside = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    return inside and (entry.whole is None or (value - low) % (entry.step or 1) == 0)


def as_drawn(entry: Entry, value: float) -> Scalar:
    """A value of a range as a draw has it: a float setting holds a whole number as 5.0, which is drawn as 5."""
    return float(value) if entry.whole is None else int(value)


def transfers(labels: Labels) -> bool:
    """Whether the labels may stand for runs with transfer: no other method is drawn with them."""
    return labels.get(METHOD, "mergenet") == "mergenet"
