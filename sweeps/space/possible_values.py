"""Which values the settings of a sweep can have, over all branches of its search space."""

from collections.abc import Sequence
from typing import Any

from sweeps.space.conditions import countable, groups, holds
from sweeps.space.space import METHOD, Labels, Space, transfers, value_at


def possible(space: Space, path: str, labels: Labels) -> Sequence[Any]:
    """Every value that a setting can have in a branch of `Space.branches`, except those of a continuous range."""
    entry = space.entries.get(path)
    if entry is None or not holds(entry, labels):
        return undrawn(space, path, labels)
    if path not in labels:
        return countable(entry)
    if path in space.shaping or path == METHOD:
        return [space.values(labels)[path]]
    return next(group for group in groups(space.entries, path) if labels[path] in group)


def undrawn(space: Space, path: str, labels: Labels) -> list[Any]:
    """What a setting that is not drawn by itself can have: the base's value, or that of a mapping that names it."""
    own, found = value_at(space.base, path), list[Any]()
    for parent, entry in space.entries.items():
        mappings = {label: value for label, value in space.options(parent).items() if isinstance(value, dict)}
        if not path.startswith(f"{parent}.") or not mappings:
            continue
        drawn = [mappings[labels[parent]]] if parent in labels else [*mappings.values(), *([{}] if entry.when else [])]
        given = [value_at(value, path.removeprefix(f"{parent}.")) for value in drawn]
        found += [own if value is None else value for value in given]
    return list(dict.fromkeys(found)) or [own]


def drawn(space: Space, path: str, labels: Labels) -> Any:
    """A setting's value in a draw: its own, that of the innermost mapping around it that names it, or the base's."""
    keys = path.split(".")
    for depth in range(len(keys), 0, -1):
        parent, inside = ".".join(keys[:depth]), ".".join(keys[depth:])
        if parent in labels:
            value = space.options(parent).get(labels[parent], labels[parent])
            found = value_at(value, inside) if inside else value
            if found is not None or not inside:
                return found
    return value_at(space.base, path)


def reachable(space: Space, path: str, transferring: bool = False) -> Sequence[Any]:
    """Every value that a setting can have, also the base's if it is not always drawn; no continuous ranges.

    transferring: only in runs with transfer.
    """
    entry = space.entries.get(path)
    if entry is None or not entry.when:
        return undrawn(space, path, {}) if entry is None else countable(entry)
    found = []
    for labels in space.branches([], [path]):
        if not transferring or transfers(labels):
            found += [value for value in possible(space, path, labels) if value not in found]
    return found
