"""What a result depends on beside its configuration, by hash: data, starting weights, the user's own modules.

A hash is compared where both sides have one: older records have none of the modules, and data may be out of reach.
"""

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mergenet.config import Config
from mergenet.config.registry import import_from_here
from mergenet.config.user_code import source_hashes
from mergenet.errors import CheckpointError

DATA, CODE, WEIGHTS = "data_hashes", "code_hashes", "weights_hashes"  # in provenance.json; of a sweep, in sweep.json
MOST = 3  # changes that a message lists

Hashes = Mapping[str, Mapping[str, str]]


def users_modules(config: Config, roles: Sequence[str] = ("target", "source")) -> list[str]:
    """The modules of each "module:object" in a configuration, of those of the networks that it uses."""
    used = roles if config.method != "none" and config.source.kind != "self" else ("target",)
    networks = [getattr(config, role) for role in roles if role in used]
    names = [name for network in networks for name in (network.task, network.model.name, network.data.name)]
    return sorted({name.partition(":")[0] for name in names if ":" in name})


def code_hashes(
    config: Config, roles: Sequence[str] = ("target", "source"), known: Iterable[str] = ()
) -> dict[str, str]:
    """Module -> hash of the source of the user's own modules and what they import; see `config/user_code.py`.

    known: modules of a record to compare with, of which some may not be imported yet in this process.
    """
    if not (modules := users_modules(config, roles)):
        return {}
    import_from_here()
    return source_hashes([*modules, *known])


def changes(first: Hashes, now: Hashes, kinds: tuple[str, ...] = (DATA, CODE, WEIGHTS)) -> list[str]:
    """What was one thing and is another now, each with both hashes."""
    found = []
    for kind in kinds:
        was, new = first.get(kind) or {}, now.get(kind) or {}
        word = kind.partition("_")[0]
        for name in sorted(was.keys() & new.keys()):
            what = f"code of {name}" if kind == CODE else f"{name}'s {word}"
            if was[name] != new[name]:
                ends = short(new[name]), short(was[name])
                mine, theirs = (new[name], was[name]) if ends[0] == ends[1] else ends
                found.append(f"{what} {mine} (was {theirs})")
    return found


def code_changes(first: Hashes, config: Config) -> list[str]:
    """Which of the user's modules are others now than in a record of this configuration."""
    return changes(first, {CODE: code_hashes(config, known=first.get(CODE) or ())}, (CODE,))


def check_unchanged(record: Path, first: Hashes, now: Hashes, *kinds: str) -> None:
    """Raises CheckpointError, with the way out, if a folder's results come from other code or data than there is now.

    record: the file in it that has the hashes. kinds: of hashes, all if none are given.
    """
    if found := changes(first, now, kinds or (DATA, CODE, WEIGHTS)):
        more = f" and {len(found) - MOST} more" if len(found) > MOST else ""
        raise CheckpointError(
            f"{record.parent} was begun with other code or data ({record.name}): {', '.join(found[:MOST])}{more}; go "
            "back to those, or begin anew with overwrite=True (--overwrite), which deletes what is there"
        )


def warn_of_other_code(place: object, first: Hashes, config: Config) -> None:
    """Where weights of a run meet the user's modules as they are now."""
    for change in code_changes(first, config):
        warnings.warn(f"{place} was trained with other code: {change}", stacklevel=3)


def short(value: Any) -> Any:
    """A hash as messages show it; anything else as it is."""
    return value[:12] if isinstance(value, str) and len(value) == hashlib.sha256().digest_size * 2 else value
