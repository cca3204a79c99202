"""Conditions of a search space: which values are drawn in which branch.

    transfer.t_cycle: {choice: [4, 8], when: {method: mergenet}}

An entry is drawn if each path that its `when` names was drawn, with one of the values listed there; else the base's
value is used. So a point of the space has a value for exactly the paths that its branch draws.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mergenet.config.rules import rule
from mergenet.errors import unknown_name
from sweeps.space.entry import Entry, Scalar, is_plain

Entries = Mapping[str, Entry]


def holds(entry: Entry, labels: Mapping[str, Any]) -> bool:
    """Whether the entry is drawn, given what was drawn before it."""
    return all(path in labels and labels[path] in values for path, values in entry.when.items())


def ordered(entries: Entries, paths: Iterable[str]) -> list[str]:
    """The paths and those that they depend on, each after its dependencies, else in the order given."""
    found: dict[str, None] = {}

    def visit(path: str) -> None:
        for parent in entries[path].when:
            if parent not in found:
                visit(parent)
        found[path] = None

    for path in paths:
        visit(path)
    return list(found)


def ancestors(entries: Entries, paths: Iterable[str]) -> list[str]:
    """The paths that decide whether these paths are drawn, in an order in which they can be drawn."""
    return ordered(entries, dict.fromkeys(parent for path in paths for parent in entries[path].when))


def needs(entries: Entries, path: str) -> dict[str, list[Scalar]]:
    """What must have been drawn for a path to be drawn, through all ancestors: path -> its allowed values.

    An empty list: the conditions exclude each other.
    """
    found: dict[str, list[Scalar]] = {}
    for child in [*ancestors(entries, [path]), path]:
        for parent, values in entries[child].when.items():
            found[parent] = [value for value in found.get(parent, values) if value in values]
    return found


def walk(
    entries: Entries, paths: Sequence[str], columns: Mapping[str, Sequence[Scalar]]
) -> Iterator[dict[str, Scalar]]:
    """Every combination of the columns, each once: a path that a branch does not draw has no value in it.

    paths: as `ordered` gives them. The last one varies fastest.
    """

    stack: list[tuple[dict[str, Scalar], int]] = [({}, 0)]
    while stack:
        labels, done = stack.pop()
        if done == len(paths):
            yield labels
        elif not holds(entries[path := paths[done]], labels):
            stack.append((labels, done + 1))
        else:
            stack += [({**labels, path: value}, done + 1) for value in reversed(columns[path])]


def countable(entry: Entry) -> Sequence[Any]:
    """The values of a choice of plain values or of whole numbers; empty for a continuous range."""
    if entry.whole is not None:
        return range(entry.whole[0], entry.whole[1] + 1, entry.step or 1)
    return entry.listed


def groups(entries: Entries, path: str) -> list[list[Scalar]]:
    """The values of a path, grouped by what the conditions distinguish."""
    conditions = [entry.when[path] for entry in entries.values() if path in entry.when]
    found: dict[tuple[bool, ...], list[Scalar]] = {}
    for value in countable(entries[path]):
        found.setdefault(tuple(value in values for values in conditions), []).append(value)
    return list(found.values())


def size(entries: Entries) -> tuple[int, int]:
    """How many points there are, apart from continuous ranges; and how many of those a branch has at most."""
    deciding = ancestors(entries, entries)
    grouped = {path: {group[0]: len(group) for group in groups(entries, path)} for path in deciding}
    points, ranges = 0, 0
    for labels in walk(entries, deciding, {path: list(members) for path, members in grouped.items()}):
        drawn = [entry for path, entry in entries.items() if path not in deciding and holds(entry, labels)]
        times = math.prod(grouped[path][value] for path, value in labels.items())
        points += times * math.prod(len(countable(entry)) for entry in drawn if entry.real is None)
        ranges = max(ranges, sum(entry.real is not None for entry in drawn))
    return points, ranges


def check_conditions(entries: Entries) -> None:
    """Checks that conditions name other searched paths and their values, form no circle and can hold.

    Raises ValueError, one line.
    """
    for path, entry in entries.items():
        for parent, values in entry.when.items():
            if parent not in entries:
                others = entries.keys() - {path}
                raise ValueError(
                    unknown_name(f"search.{path}.when", parent, others)
                    if others
                    else f"search.{path}.when must name another searched path, got {parent!r}, which is not searched; "
                    f"add search.{parent}, or leave the condition out"
                )
            check_condition(entries, f"search.{path}.when", parent, values)
    for path in entries:
        check_circle(entries, (path,))
    for path in entries:
        check_possible(entries, path)


def check_condition(entries: Entries, where: str, parent: str, values: Sequence[Scalar]) -> None:
    known = countable(entries[parent])
    if not known or not all(is_plain(value) for value in known):
        kind = "choice of lists or mappings" if known else "range of numbers"
        raise rule(where, "name paths with a choice of plain values or an int", parent, f"that one is a {kind}")
    for value in values:
        if any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in known):
            continue
        shown = [str(one) for one in itertools.islice(known, 20)]
        if isinstance(value, str):
            raise ValueError(unknown_name(f"{where}.{parent}", value, shown))
        of = f"one of {', '.join(shown)}" if len(known) <= len(shown) else f"a value of search.{parent}"
        raise rule(f"{where}.{parent}", f"be {of}", value)


def check_circle(entries: Entries, way: tuple[str, ...]) -> None:
    """way: from a path along its dependencies."""
    for parent in entries[way[-1]].when:
        if parent in way:
            circle = " -> ".join((*way[way.index(parent) :], parent))
            raise ValueError(
                f"search.{parent}.when must not lead back to {parent}, got {circle}; drop one of these conditions"
            )
        check_circle(entries, (*way, parent))


def check_possible(entries: Entries, path: str) -> None:
    for parent, values in needs(entries, path).items():
        if not values:
            asked = [
                f"{child} needs {parent} to be {' or '.join(map(str, entries[child].when[parent]))}"
                for child in [*ancestors(entries, [path]), path]
                if parent in entries[child].when
            ]
            raise ValueError(f"search.{path}.when must be possible, but {' and '.join(asked)}; drop one of these")
