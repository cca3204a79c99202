"""Builds a search space and checks that paths, values and combinations of values fit the configuration."""

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

from mergenet.config import Config
from mergenet.config.loading import set_by_path
from mergenet.config.rules import rule, shown
from mergenet.errors import ConfigError, UserError
from sweeps.space.conditions import ancestors, countable, walk
from sweeps.space.entry import Entry, Scalar
from sweeps.space.possible_values import possible
from sweeps.space.space import CYCLE, MAX_COMBINATIONS, PAIRS, RANK, SHARED, Labels, Space, get_by_path, transfers


def build_space(base: Config, entries: dict[str, Entry]) -> Space:
    """A space whose paths, values and combinations of values fit the configuration. Raises ConfigError.

    Layers are not looked at here: see layer_choices.py.
    """
    space = Space(base.model_dump(mode="json"), entries)
    for path in entries:
        check_path(path)
    check_rank_first(space)
    check_drawn_once(space)
    for path in sorted(entries, key=lambda path: -len(ancestors(entries, [path]))):  # a bad value before its branch
        check_values(space, path, entries[path])
    check_cycles(space)
    for labels in probes(space):
        try:
            space.config(labels)
        except ConfigError as error:
            drawn = ", ".join(f"{path}={label}" for path, label in labels.items())
            raise ConfigError(f"search must allow only valid combinations, but with {drawn}: {error}") from None
    return space


def check_path(path: str) -> None:
    """Raises ConfigError for a path that the schema lacks, or that all trials must share."""
    if path in SHARED:
        raise ConfigError(f"search.{path} must not be searched, all trials share it; set it under set")
    try:
        set_by_path({}, path, None)
    except ConfigError as error:
        raise ConfigError(f"search.{error}") from None


def check_rank_first(space: Space) -> None:
    """The layers limit the rank, so choices of layers cannot depend on it. Raises ConfigError."""
    for path in space.shaping:
        if RANK in ancestors(space.entries, [path]):
            raise ConfigError(f"search.{path}.when must not depend on {RANK}, which the layers limit; drop it")


def check_drawn_once(space: Space) -> None:
    """Raises ConfigError if a choice of mappings or lists gives a setting that another entry draws, and overwrites."""
    for path, inner in itertools.permutations(space.entries, 2):
        if not inner.startswith(f"{path}."):
            continue
        keys = inner.removeprefix(f"{path}.").split(".")
        for number, value in enumerate(space.entries[path].listed):
            if (given := setting_in(value, keys)) is not None:
                must = f"leave {'.'.join(keys)} to search.{inner}, which would overwrite it"
                raise rule_error(f"search.{path}.choice.{number}", must, given)


def setting_in(value: Any, keys: Sequence[str]) -> Any:
    """What a mapping or list gives for the setting at these keys; None if nothing."""
    for key in keys:
        if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def check_values(space: Space, path: str, entry: Entry) -> None:
    """Try each choice, or both bounds and a value between them, in the base configuration."""
    if entry.layers is not None and path != PAIRS:
        raise rule_error(f"search.{path}.layers", f"be used for {PAIRS} only", entry.listed[0][0])
    if entry.choice is not None and len(space.options(path)) < len(entry.choice):
        raise rule_error(f"search.{path}.choice", "list each value once", list(entry.choice))
    if path == RANK and entry.choice is not None and not all(isinstance(rank, int) for rank in entry.choice):
        raise rule_error(f"search.{path}.choice", "be whole numbers", list(entry.choice))
    seen: list[Any] = []
    for label in samples(space, path):
        try:
            seen.append(get_by_path(space.config(space.example(path, label)), path))
        except ConfigError as error:
            lines = str(error).replace(" (in a draw of the search space)", "").splitlines()
            raise ConfigError("\n".join(about_search(line, path) for line in lines)) from None
        if entry.choice is not None and seen[-1] in seen[:-1]:  # one written with its defaults, say
            raise rule_error(f"search.{path}.choice", "list each value once", list(entry.choice))


def about_search(line: str, path: str) -> str:
    """The message about a drawn value, which may name the value's own path, something inside it or another value."""
    name = line.partition(" ")[0]
    return f"search.{line}" if name == path or name.startswith(f"{path}.") else f"search.{path}: {line}"


def samples(space: Space, path: str) -> list[Scalar]:
    """All choices, or the ends of a range; of a range of numbers also a point between them that is no whole number."""
    entry = space.entries[path]
    if entry.bounds is None:
        return list(space.options(path))
    if entry.whole is not None:
        whole = countable(entry)
        return [whole[0], whole[-1]]
    assert entry.real is not None
    low, high = entry.real
    return [low, high, low + 0.381966 * (high - low)]


def probes(space: Space) -> Iterator[Labels]:
    """Combinations of the samples of all paths: all if they are few, else a fixed random selection."""
    columns = {path: samples(space, path) for path in space.order}
    few = list(itertools.islice(walk(space.entries, space.order, columns), MAX_COMBINATIONS + 1))
    if len(few) <= MAX_COMBINATIONS:
        yield from few
        return
    draw = random.Random(0)
    for _ in range(MAX_COMBINATIONS):
        yield from walk(space.entries, space.order, {path: [draw.choice(columns[path])] for path in space.entries})


def check_cycles(space: Space) -> None:
    """A pair's own `every` must be a multiple of every t_cycle that can be drawn: bounds alone do not show it."""
    searched = [path for path in space.entries if path.endswith(".every")]
    deciding = [path for path in (CYCLE, *searched) if path in space.entries]
    for labels in filter(transfers, space.branches(space.shaping, deciding)):
        cycles = possible(space, CYCLE, labels)
        fixed = [pair["every"] for pair in pairs_of(space, labels)]
        drawn = [every for path in searched for every in possible(space, path, labels)]
        for every in [*fixed, *drawn]:
            bad = next((cycle for cycle in cycles if every is not None and every % cycle), None)
            if bad is not None:
                must = f"be a multiple of every t_cycle that can be drawn ({bad} is one)"
                raise rule_error("transfer.pairs: every", must, every)


def pairs_of(space: Space, labels: Labels) -> list[dict[str, Any]]:
    pairs = space.config(space.filled(labels)).transfer.pairs
    return [] if isinstance(pairs, str) else [pair.model_dump() for pair in pairs]  # auto has no cycle of its own


def rule_error(path: str, must: str, value: Any) -> UserError:
    return ConfigError(str(rule(path, must, shown(value) if isinstance(value, dict) else value)))
