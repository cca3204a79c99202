"""What the results of a sweep depend on beside its file and its base: data, starting weights, the user's modules."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mergenet.config import Config
from mergenet.config.registry import import_from_here
from mergenet.config.user_code import source_hashes
from mergenet.records.inputs import CODE, DATA, WEIGHTS, Hashes, users_modules
from mergenet.records.provenance import weights_hashes
from sweeps.space.entry import Entry
from sweeps.trials.files import STATE_FILE, read_state

INPUTS = "inputs"  # in sweep.json
OWN = re.compile(r"([A-Za-z_][\w.]*):\w+")  # module:object

Search = Mapping[str, Entry]


def inputs_of(base: Config, search: Search) -> Hashes:
    """Hashes of the base's data and weights, and of every module of the user's that the sweep can draw."""
    from mergenet.training.unchanged import data_hashes  # torch

    return {DATA: data_hashes(base), WEIGHTS: weights_hashes(base), CODE: code_of(base, search)}


def check_sweep_unchanged(folder: Path, base: Config, search: Search, fixed: bool = False) -> None:
    """Raises CheckpointError if the sweep in the folder began with other code or data than there is now.

    fixed: the code may be other, for trials that failed. Older sweeps have not noted theirs.
    """
    from mergenet.training.unchanged import check_inputs  # torch

    first = read_state(folder).get(INPUTS)
    if isinstance(first, dict):
        check_inputs(folder / STATE_FILE, first, base, {} if fixed else code_of(base, search, first.get(CODE) or ()))


def code_of(base: Config, search: Search, known: Iterable[str] = ()) -> dict[str, str]:
    """Of all modules of the user's that the sweep can draw. known: those of a record to compare with."""
    drawn = {found[1] for entry in search.values() for text in _texts(entry.listed) if (found := OWN.fullmatch(text))}
    if not (modules := drawn.union(users_modules(base))):
        return {}
    import_from_here()
    return source_hashes([*modules, *known])


def _texts(value: Any) -> Iterator[str]:
    """All texts in nested lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(tuple(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
