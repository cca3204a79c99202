"""Values of a search with which a pair never transfers: all its steps lie beyond the end of the transfer phase.

Found by trying out every combination of what decides when a pair transfers; of more than MOST, evenly spaced ones.
"""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mergenet.config import Config
from mergenet.errors import ConfigError
from sweeps.space.conditions import ancestors, countable, groups, walk
from sweeps.space.entry import Scalar
from sweeps.space.space import METHOD, PAIRS, Labels, Space, transfers

START = "transfer.start_step"
TIMING = re.compile(
    r"transfer\.(t_cycle|start_step|stop_fraction|pairs(\.\d+(\.every)?)?)|target\.(batch_size|task|data\..*)"
)
MOST = 512
OF_A_RANGE = 33  # values of a continuous range that are tried out


@dataclass(frozen=True)
class Tried:
    labels: Labels
    never: str | None  # why a pair never transfers; None if all do


def check_transfers(space: Space, begun: bool = False) -> list[str]:
    """A line for what is drawn in vain.

    Raises ConfigError if a pair never transfers, whatever is drawn; not of a sweep that has begun, which goes on.
    """
    paths = [path for path in space.order if any(TIMING.fullmatch(name) for name in space.names(path))]
    columns = {path: thinned(values_of(space, path), 1024) for path in paths}
    while math.prod(map(len, columns.values())) > MOST:
        longest = max(paths, key=lambda path: len(columns[path]))
        if len(columns[longest]) == 2:
            break
        columns[longest] = thinned(columns[longest], -(-len(columns[longest]) // 2))
    steps: dict[str, int] = {}
    tried = [Tried(labels, never(space.config(space.filled(labels)), steps)) for labels in combinations(space, columns)]
    if (idle := [one for one in tried if one.never is not None]) and len(idle) == len(tried) and not begun:
        where = f"search.{START}" if START in space.entries else START
        raise ConfigError(
            f"{where} must leave steps to transfer at, got none with any value of the search: {idle[0].never}; lower "
            "it, or raise transfer.stop_fraction or epochs"
        )
    return list(told(space, columns, tried, idle))


def told(
    space: Space, columns: dict[str, list[Scalar]], tried: Sequence[Tried], idle: Sequence[Tried]
) -> Iterator[str]:
    explained: list[Tried] = []
    for path, column in columns.items():
        moving = {repr(one.labels[path]) for one in tried if one.never is None and path in one.labels}
        values = [value for value in column if repr(value) not in moving]
        found = [one for one in idle if one.labels.get(path) in values]
        if found:
            explained += found
            yield f"warning: a pair never transfers with {path} {listed(space, path, values)}: {found[0].never}"
    rest = [one for one in idle if one not in explained]
    if rest:
        drawn = ", ".join(f"{path}={label}" for path, label in rest[0].labels.items())
        share = f"{len(rest)} of {len(tried)} combinations"
        yield f"warning: a pair never transfers in {share}, as {drawn}: {rest[0].never}"


def listed(space: Space, path: str, values: Sequence[Scalar]) -> str:
    if space.entries[path].bounds is None:
        return ", ".join(map(str, values))
    return f"from {values[0]} to {values[-1]}" if len(values) > 1 else str(values[0])


def never(config: Config, steps: dict[str, int]) -> str | None:
    """Why a pair of this run never transfers. steps: cache of optimizer steps per epoch, filled here."""
    from mergenet.learner.learner import steps_per_epoch
    from mergenet.transfer.phase import beyond_the_end, transfer_steps

    target = config.target.model_dump_json(include={"task", "data", "batch_size"})
    if target not in steps:
        steps[target] = steps_per_epoch(config)
    total = steps[target] * config.epochs
    for pair in config.transfer.written_pairs:
        every = pair.every or config.transfer.t_cycle
        if not transfer_steps(config.transfer, every, total):
            return beyond_the_end(config.transfer, every, total)
    return None


def combinations(space: Space, columns: dict[str, list[Scalar]]) -> Iterator[Labels]:
    """All of the columns, in each kind of branch that they lie on, with transfer."""
    deciding = ancestors(space.entries, columns)
    paths = [path for path in space.order if path in columns or path in deciding]
    others = {
        path: list(space.options(path)) if path == METHOD else [group[0] for group in groups(space.entries, path)]
        for path in deciding
    }
    found = walk(space.entries, paths, others | columns)
    return itertools.islice(filter(transfers, found), 2 * MOST)


def values_of(space: Space, path: str) -> Sequence[Scalar]:
    """As labels; of pairs one for each way to set their own cycles."""
    entry = space.entries[path]
    if entry.real is not None:
        return [float(value) for value in np.linspace(*entry.real, OF_A_RANGE)]
    if entry.bounds is not None:
        return countable(entry)
    if path != PAIRS:
        return list(space.options(path))
    cycles: dict[tuple[int | None, ...], Scalar] = {}
    for label in space.options(path):
        pairs = space.config(space.example(path, label)).transfer.written_pairs
        cycles.setdefault(tuple(pair.every for pair in pairs), label)
    return list(cycles.values())


def thinned(values: Sequence[Scalar], count: int) -> list[Scalar]:
    """So many at most, evenly spaced, the first and the last among them."""
    if len(values) <= count:
        return list(values)
    places = np.linspace(0, len(values) - 1, max(2, count)).round().astype(int)
    return [values[place] for place in dict.fromkeys(places.tolist())]
