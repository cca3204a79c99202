"""The search space: what a sweep draws, in an order in which every draw is a valid configuration.

Optuna calls the space with a trial (define-by-run). Values that decide shapes, the layer pairs above all, are drawn
first; the rank is then drawn within what the layers of the drawn pairs allow. Values that are not plain scalars are
known to Optuna by a label, e.g. a list of pairs as "layer3.0.conv1>features.2.conv".
"""

import copy
import itertools
import json
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mergenet.config import Config, rule, shown
from mergenet.configfile import parse_config, set_by_path
from mergenet.errors import ConfigError, UserError
from sweeps.config import Entry, Scalar

RANK = "transfer.adapter.rank"
PAIRS = "transfer.pairs"
SHARED = ("name", "seed", "epochs", "device", "threads", "source.recording", "target.seed")
SHAPING = re.compile(
    r"(source|target)\.(task|model\..*|data\..*)|source\.kind|transfer\.adapter\.kind"
    r"|transfer\.pairs(\.\d+(\.(source|target))?)?"
)
MAX_COMBINATIONS = 512

Labels = dict[str, Scalar]  # dotted path -> what Optuna knows the value as


class Suggests(Protocol):
    """The part of optuna.Trial that a space needs."""

    def suggest_categorical(self, name: str, choices: list[Scalar]) -> Scalar: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...
    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...


@dataclass(frozen=True)
class Space:
    """base: the base configuration as plain values. limits: labels of the shaping choices -> largest rank."""

    base: dict[str, Any]
    entries: dict[str, Entry]
    limits: dict[tuple[Scalar, ...], int] = field(default_factory=dict)

    def __call__(self, trial: Suggests) -> Labels:
        """Draw one configuration, as labels by path."""
        labels: Labels = {}
        for path in self.order:
            labels[path] = self._draw(trial, path, self._limit(labels) if path == RANK else None)
        return labels

    @property
    def shaping(self) -> list[str]:
        return [path for path in self.entries if SHAPING.fullmatch(path)]

    @property
    def order(self) -> list[str]:
        """Shaping choices first, a list of pairs before what lies inside it, the rest as in the file."""
        first = sorted(self.shaping, key=lambda path: path.count("."))
        return first + [path for path in self.entries if path not in first]

    def values(self, labels: Labels) -> dict[str, Any]:
        """What the labels stand for, by path."""
        return {path: self.options(path).get(label, label) for path, label in labels.items()}

    def options(self, path: str) -> dict[Scalar, Any]:
        """Label -> value of a choice; empty for a range."""
        return {label_of(value): value for value in self.entries[path].listed}

    def config(self, labels: Labels, origin: str = "a draw of the search space") -> Config:
        """The base with the drawn values. Raises ConfigError."""
        values = json.loads(json.dumps(self.base))
        for path in sorted(labels, key=self.order.index):
            value = copy.deepcopy(self.options(path).get(labels[path], labels[path]))  # set_by_path reaches into it
            set_by_path(values, path, value)
        return parse_config(values, origin)

    def combinations(self) -> Iterator[Labels]:
        """Every combination of the shaping choices; one empty combination if there are none."""
        for labels in itertools.product(*(self.options(path) for path in self.shaping)):
            yield dict(zip(self.shaping, labels, strict=True))

    def first_point(self) -> Labels | None:
        """The base's own values, if all of them lie in the space: a good first trial."""
        labels: Labels = {}
        base = self.config({})
        for path, entry in self.entries.items():
            value = get_by_path(base, path)
            if entry.bounds is not None:
                low, high = entry.bounds
                inside = isinstance(value, int | float) and low <= value <= high
                if not inside or (entry.whole is not None and (value - low) % (entry.step or 1)):
                    return None
                labels[path] = value
                continue
            same = [o for o in self.options(path) if get_by_path(self.config({path: o}), path) == value]
            if not same:
                return None
            labels[path] = same[0]
        limit = self._limit(labels)
        if RANK in labels and get_by_path(base, RANK) > limit:
            return None
        name = self.rank_name(limit)
        return {name if path == RANK else path: label for path, label in labels.items()}

    def rank_name(self, limit: float) -> str:
        """Optuna refuses a categorical whose choices change, so ranks that are cut short have a name of their own."""
        choice = self.entries[RANK].choice if RANK in self.entries else None
        allowed = [rank for rank in choice or () if rank <= limit]
        return RANK if choice is None or len(allowed) == len(choice) else f"{RANK} (up to {max(allowed)})"

    def _limit(self, labels: Labels) -> float:
        return self.limits.get(tuple(labels[path] for path in self.shaping), math.inf)

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
    """A scalar as it is, a list of pairs as "source>target + ...", anything else as JSON."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    plain = {"source", "target"}
    if isinstance(value, list | tuple) and value and all(isinstance(v, dict) and set(v) == plain for v in value):
        return " + ".join(f"{pair['source']}>{pair['target']}" for pair in value)
    return json.dumps(value)


def get_by_path(config: Config, path: str) -> Any:
    """The value at a dotted path; None where it does not exist (an item of a list that is not there)."""
    value: Any = config.model_dump(mode="json")
    for key in path.split("."):
        if isinstance(value, list):
            value = value[int(key)] if int(key) < len(value) else None
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def build_space(base: Config, entries: dict[str, Entry]) -> Space:
    """A space whose paths, values and combinations of values fit the configuration. Raises ConfigError.

    Layers are not looked at here: see layers.py.
    """
    space = Space(base.model_dump(mode="json"), entries)
    for path in entries:
        check_path(path)
    for path, entry in entries.items():
        check_values(space, path, entry)
    check_cycles(space)
    for labels in probes(space):
        try:
            space.config(labels)
        except ConfigError as error:
            drawn = ", ".join(f"{path}={label}" for path, label in labels.items())
            raise ConfigError(f"search must allow only valid combinations, but with {drawn}: {error}") from None
    return space


def check_path(path: str) -> None:
    """Raises ConfigError for a path that the schema lacks, or that all trials have to share."""
    if path in SHARED:
        raise ConfigError(f"search.{path} must not be searched, all trials share it; set it under set")
    try:
        set_by_path({}, path, None)
    except ConfigError as error:
        raise ConfigError(f"search.{error}") from None


def check_values(space: Space, path: str, entry: Entry) -> None:
    """Try each choice, or both bounds and a value between them, in the base configuration."""
    if entry.layers is not None and path != PAIRS:
        raise rule_error(f"search.{path}.layers", f"be used for {PAIRS} only", entry.listed[0][0])
    if entry.choice is not None and len(space.options(path)) < len(entry.choice):
        raise rule_error(f"search.{path}.choice", "list each value once", list(entry.choice))
    if path == RANK and entry.choice is not None and not all(isinstance(rank, int) for rank in entry.choice):
        raise rule_error(f"search.{path}.choice", "be whole numbers", list(entry.choice))
    for label in samples(space, path):
        try:
            space.config({path: label})
        except ConfigError as error:
            lines = str(error).replace(" (in a draw of the search space)", "").splitlines()
            raise ConfigError("\n".join(about_search(line, path) for line in lines)) from None


def about_search(line: str, path: str) -> str:
    """A problem of a drawn value, which may name the value's own path, something inside it or another value."""
    name = line.partition(" ")[0]
    return f"search.{line}" if name == path or name.startswith(f"{path}.") else f"search.{path}: {line}"


def samples(space: Space, path: str) -> list[Scalar]:
    """All choices, or both bounds; of a range of numbers a point between them too, which is no whole number."""
    entry = space.entries[path]
    if entry.bounds is None:
        return list(space.options(path))
    if entry.whole is not None:
        return [*entry.whole]
    assert entry.real is not None
    low, high = entry.real
    return [low, high, low + 0.381966 * (high - low)]


def probes(space: Space) -> Iterator[Labels]:
    """Combinations of the samples of all paths: all of them if they are few, else a fixed random selection."""
    columns = [samples(space, path) for path in space.entries]
    rows: Iterator[tuple[Scalar, ...]] | list[list[Scalar]] = itertools.product(*columns)
    if math.prod(map(len, columns)) > MAX_COMBINATIONS:
        draw = random.Random(0)
        rows = [[draw.choice(column) for column in columns] for _ in range(MAX_COMBINATIONS)]
    for row in rows:
        yield dict(zip(space.entries, row, strict=True))


def reachable(space: Space, path: str) -> Sequence[Any]:
    """Every value that a setting can take; not for ranges of numbers that are not whole."""
    entry = space.entries.get(path)
    if entry is None:
        return [get_by_path(space.config({}), path)]
    if entry.whole is not None:
        return range(entry.whole[0], entry.whole[1] + 1, entry.step or 1)
    return list(entry.listed)


def check_cycles(space: Space) -> None:
    """A pair's own `every` must be a multiple of every t_cycle that can be drawn: bounds alone do not show it."""
    cycles = reachable(space, "transfer.t_cycle")
    fixed = [pair["every"] for labels in space.combinations() for pair in pairs_of(space, labels)]
    searched = [v for path in space.entries if path.endswith(".every") for v in reachable(space, path)]
    for every in [*fixed, *searched]:
        bad = next((cycle for cycle in cycles if every is not None and every % cycle), None)
        if bad is not None:
            must = f"be a multiple of every t_cycle that can be drawn ({bad} is one)"
            raise rule_error("transfer.pairs: every", must, every)


def pairs_of(space: Space, labels: Labels) -> list[dict[str, Any]]:
    pairs = space.config(labels).transfer.pairs
    return [] if isinstance(pairs, str) else [pair.model_dump() for pair in pairs]  # auto has no cycle of its own


def rule_error(path: str, must: str, value: Any) -> UserError:
    return ConfigError(str(rule(path, must, shown(value) if isinstance(value, dict) else value)))
